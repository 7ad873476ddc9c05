"""The matting network on a GPU, on the CPU: its inputs, its runners, against those of the CPU."""

import sys
from dataclasses import replace
from types import SimpleNamespace

import cv2
import kernel_cases
import numpy as np
import pytest
from test_matte import ALIGNMENT, scene

from howard.config import RunConfig
from howard.errors import ConfigError, DeviceError, DeviceMemoryError, WeightsError
from howard.frames import Frame, Plate
from howard.matte import default_weights, runner
from howard.matte.cpu import OnnxMattingNetwork
from howard.matte.device_inputs import DeviceInputs, HoleFiller, Needs, needs_of
from howard.matte.gpu import DeviceMattingNetwork, open_device_network
from howard.matte.holes import REACH, SIDE, fill_holes
from howard.matte.onnxruntime_runner import CUDA, OnnxRuntimeRunner
from howard.matte.plan import Wanted, write_program_sidecar
from howard.write.gpu import Downloads
from howard.write.pack import pack_rgba

WEIGHTS = default_weights()
NEEDS = needs_of(WEIGHTS)
SIZE = WIDTH, HEIGHT = 160, 90
HALVES, HALVES_MEAN = 2e-2, 1e-3
"""The issue's bounds for fp16: largest and mean difference of alpha."""
LEVEL = 1 / 255 + 1e-3
"""OpenCV rounds resized pictures in fixed point; and a half of 1 is good to half of 1e-3."""
APART = 1.1
"""Pixels of the small picture: OpenCV's distances are those of a chamfer, which has 2 % more of
some directions, at a reach of 38 pixels; and what it shrinks is good to a level."""


@pytest.fixture(scope="module")
def cpu():
    return OnnxMattingNetwork(WEIGHTS, threads=2)


@pytest.fixture
def on_onnxruntime(host_gpu):
    return DeviceMattingNetwork(OnnxRuntimeRunner(WEIGHTS, "CPUExecutionProvider"), NEEDS)


def on_device(host_gpu, frame, plate, coverage):
    there = host_gpu.asarray
    return Frame(0, 0.0, there(frame)), Plate(there(plate), there(coverage), ALIGNMENT)


def run_both(host_gpu, network, cpu, seeds=(0,), size=SIZE, missing=0):
    """Pairs of a matte of the device, as alpha, foreground and confidence, and one of the CPU.
    missing: columns at the left that the plates do not show; what is beside them has one colour,
    for the two fill holes from pixels that are not always the same (see below)."""
    scenes = [scene(*size, seed)[:2] for seed in seeds]
    covered = np.ones(size[::-1], np.uint8)
    covered[:, :missing] = 0
    for _, plate in scenes:
        plate[covered == 0] = 0
        plate[:, missing : missing + missing // 10] = 90
    pairs = [on_device(host_gpu, frame, plate, covered) for frame, plate in scenes]
    there = network(*zip(*pairs, strict=True))
    frames = [Frame(0, 0.0, frame) for frame, _ in scenes]
    here = cpu(frames, [Plate(plate, covered, ALIGNMENT) for _, plate in scenes])
    return [(downloaded(host_gpu, a), b) for a, b in zip(there, here, strict=True)]


def downloaded(host_gpu, matte):
    planes = (host_gpu.asnumpy(p).astype(np.float32) for p in (matte.alpha, matte.foreground))
    alpha, foreground = (p[:, : matte.height, : matte.width] for p in planes)
    confidence = float(host_gpu.asnumpy(matte.confidence)[0])
    return alpha[0], foreground.transpose(1, 2, 0), confidence


def assert_alike(pair):
    (alpha, foreground, confidence), matte = pair
    difference = np.abs(alpha - matte.alpha)
    assert difference.max() < HALVES
    assert difference.mean() < HALVES_MEAN
    assert np.abs(foreground - matte.foreground).max() < HALVES
    assert confidence == pytest.approx(matte.confidence, abs=5e-3)
    assert matte.alpha.max() > 0.9  # there is somebody to compare


# The network


@pytest.mark.parametrize("size", [SIZE, (161, 91), (91, 203)])
def test_onnx_runtime_gives_the_mattes_of_the_cpu(host_gpu, on_onnxruntime, cpu, size):
    for pair in run_both(host_gpu, on_onnxruntime, cpu, size=size):
        assert_alike(pair)


def test_holes_give_the_mattes_of_the_cpu(host_gpu, on_onnxruntime, cpu):
    (pair,) = run_both(host_gpu, on_onnxruntime, cpu, size=(640, 360), missing=180)
    assert_alike(pair)


def test_batches_may_grow_shrink_and_change_their_size(host_gpu, on_onnxruntime, cpu):
    for seeds, size in (((0,), SIZE), ((1, 2, 3), SIZE), ((4, 5), SIZE), ((6,), (128, 100))):
        pairs = run_both(host_gpu, on_onnxruntime, cpu, seeds, size)
        assert len(pairs) == len(seeds)
        for pair in pairs:
            assert_alike(pair)


def test_nothing_is_waited_for_and_buffers_are_used_again(host_gpu, on_onnxruntime):
    frame, plate, _ = scene(*SIZE)
    pair = on_device(host_gpu, frame, plate, np.ones(SIZE[::-1], np.uint8))
    (first,) = on_onnxruntime([pair[0]], [pair[1]])
    held = on_onnxruntime.inputs
    (second,) = on_onnxruntime([pair[0]], [pair[1]])
    assert host_gpu.downloads == []
    assert on_onnxruntime.inputs is held
    assert first.alpha.data.ptr == second.alpha.data.ptr
    assert first.confidence.data.ptr != second.confidence.data.ptr


@pytest.mark.parametrize(
    ("made_on", "asked_on", "waits"), [(7, 7, False), (0, 0, True), (7, 8, True), (7, 0, True)]
)
def test_onnx_runtime_is_in_order_with_cupys_stream(
    host_gpu, monkeypatch, made_on, asked_on, waits
):
    """Of 0, the default stream, it knows nothing: it computes on a stream of its own."""
    told = []
    monkeypatch.setattr(host_gpu.Stream, "ptr", made_on)
    onnx_runtime = OnnxRuntimeRunner(WEIGHTS, "CPUExecutionProvider")
    onnx_runtime.device = "cuda"
    run = onnx_runtime.session.run_with_iobinding
    onnx_runtime.session = SimpleNamespace(
        run_with_iobinding=lambda binding, how: told.append(how) or run(binding, how),
        io_binding=onnx_runtime.session.io_binding,
    )
    monkeypatch.setattr(host_gpu.Stream, "ptr", asked_on)
    monkeypatch.setattr(host_gpu.Stream, "synchronize", lambda stream: told.append("waited"))
    binding = onnx_runtime.session.io_binding()
    for name, shape in NEEDS.shapes(1, *SIZE).items():
        binding.bind_cpu_input(name, np.zeros(shape, np.float32))
    for name in NEEDS.outputs:
        binding.bind_output(name)
    onnx_runtime.run(binding)
    assert told == (["waited", None] if waits else [onnx_runtime.run_options])


def test_onnx_runtime_looks_for_cuda_where_pip_puts_it(host_gpu, monkeypatch):
    import onnxruntime

    loaded = []
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA])
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: loaded.append(CUDA), raising=False)
    with pytest.raises(DeviceError, match="could not start its CUDA"):
        OnnxRuntimeRunner(WEIGHTS)
    assert loaded == [CUDA]


def test_too_little_memory_is_an_error_after_which_fewer_frames_are_taken(host_gpu, cpu):
    working = OnnxRuntimeRunner(WEIGHTS, "CPUExecutionProvider")

    def tight(inputs):
        if len(inputs["frame"]) > 1:
            raise host_gpu.cuda.memory.OutOfMemoryError(9, 99)
        return working(inputs)

    forgotten = []
    tight.forget = lambda: forgotten.append(1)
    network = DeviceMattingNetwork(tight, NEEDS)
    with pytest.raises(DeviceMemoryError, match=r"2 frames of 160x90 at once .*allocating 9 bytes"):
        run_both(host_gpu, network, cpu, seeds=(0, 1))
    assert network.inputs is None
    assert forgotten == [1]
    (pair,) = run_both(host_gpu, network, cpu)
    assert_alike(pair)


@pytest.mark.parametrize("bit_depth", [8, 16])
def test_a_matte_comes_down_as_the_cpu_packs_it(host_gpu, on_onnxruntime, bit_depth):
    frame, plate, _ = scene(*SIZE)
    pair = on_device(host_gpu, frame, plate, np.ones(SIZE[::-1], np.uint8))
    (matte,) = on_onnxruntime([pair[0]], [pair[1]])
    pending = Downloads(*SIZE, 1, bit_depth)(7, matte)
    rgba = pending.result()
    alpha, foreground, confidence = downloaded(host_gpu, matte)
    expected = pack_rgba(alpha, foreground, bit_depth)
    assert (pending.index, float(pending.confidence)) == (7, confidence)
    assert rgba.dtype == expected.dtype
    np.testing.assert_array_equal(rgba[..., 3], expected[..., 3])
    off = np.abs(rgba.astype(int) - expected)
    assert off.max() <= {8: 0, 16: kernel_cases.HALF_LEVELS}[bit_depth]


# Its inputs


def feeds_of(host_gpu, needs, frame, *plate):
    """Inputs as float32 on the host, of a picture that lies in the last slot of two."""
    inputs = DeviceInputs(needs, 2, *frame.shape[1::-1])
    inputs.put(1, *(host_gpu.asarray(a) for a in (frame, *plate)))
    return {k: host_gpu.asnumpy(v)[1].astype(np.float32) for k, v in inputs.feeds(2).items()}


def shrunk(picture, size):
    how = cv2.INTER_LINEAR if np.any(picture.shape[1::-1] < np.array(size)) else cv2.INTER_AREA
    return cv2.resize(picture, size, interpolation=how)


@pytest.mark.parametrize("size", [(1001, 563), (321, 181), (160, 90)])
def test_inputs_are_padded_and_shrunk_as_on_the_cpu(host_gpu, size):
    frame, plate, _ = scene(*size)
    coverage = np.ones(size[::-1], np.uint8)
    coverage[:, : size[0] // 4] = 0
    plate[coverage == 0] = 0
    needs = replace(NEEDS, guess_percent=50)
    feeds = feeds_of(host_gpu, needs, frame, plate, coverage)
    assert {k: (2, *v.shape) for k, v in feeds.items()} == NEEDS.shapes(2, *size)

    filled, reached = fill_holes(plate, coverage, REACH * max(size))
    beyond = [-side % NEEDS.full_multiple for side in size]
    around = (0, beyond[1], 0, beyond[0], cv2.BORDER_REPLICATE)
    pad = [cv2.copyMakeBorder(p, *around) for p in (frame, filled, coverage, reached)]
    base = NEEDS.base(*size)
    seen, within = (shrunk(p * np.uint8(255), base) == 255 for p in pad[2:])
    small = (shrunk(p, base) for p in pad[:2])
    names = ("frame", "plate", "small_frame", "small_plate")
    expected = dict(zip(names, (*pad[:2], *small), strict=True))
    expected["small_plate"] = expected["small_plate"] * within[..., None]
    guess = needs.guess_percent / 100
    expected["small_coverage"] = (guess * within + (1 - guess) * seen)[..., None] * 255
    sure = np.ones(within.shape, bool)  # beside the end of the reach, to a pixel, either is right
    edge = cv2.dilate(np.abs(np.diff(within.astype(np.uint8), axis=1)), np.ones((1, 5), np.uint8))
    sure[:, 1:][edge > 0] = False
    for name, picture in expected.items():
        difference = np.abs(
            feeds[name].transpose(1, 2, 0)
            - picture.reshape(*picture.shape[:2], -1) / np.float32(255)
        )
        if name.startswith("small"):
            difference = difference[sure]
        elif name == "plate":
            difference = difference[(pad[2] > 0) | (pad[3] == 0)]
        assert difference.max() < LEVEL, name


@pytest.mark.parametrize("size", [(1001, 563), (160, 90)])
@pytest.mark.parametrize("of_view", [(700, 420), (90, 160)])
def test_where_nothing_is_covered_the_unaligned_plate_is_seen_as_on_the_cpu(
    host_gpu, size, of_view
):
    frame, plate, _ = scene(*size)
    view = scene(*of_view, seed=1)[0]
    coverage = np.zeros(size[::-1], np.uint8)
    coverage[:, size[0] * 3 // 4 :] = 1
    plate[:] = 90 * coverage[..., None]
    needs = replace(NEEDS, takes_unaligned=1)
    there = feeds_of(host_gpu, needs, frame, plate, coverage, view)["small_plate"]
    without = feeds_of(host_gpu, replace(NEEDS, takes_unaligned=0), frame, plate, coverage, view)[
        "small_plate"
    ]
    base = there.shape[:0:-1]
    expected = shrunk(view, base).transpose(2, 0, 1) / np.float32(255)
    left, right = np.s_[..., : base[0] // 4], np.s_[..., base[0] * 7 // 8 :]
    assert np.abs(there[left] - expected[left]).max() < LEVEL
    assert np.abs(there[right] - 90 / 255).max() < LEVEL
    assert without[left].max() == 0


def test_a_network_that_knows_no_holes_has_them_all_filled(host_gpu):
    frame, plate, _ = scene(*SIZE)
    coverage = np.zeros(SIZE[::-1], np.uint8)
    coverage[-9:, -9:] = 1
    needs = Needs(("frame", "plate"), ("alpha", "foreground"), 4)
    feeds = feeds_of(host_gpu, needs, frame, plate * coverage[..., None], coverage)
    assert list(feeds) == ["frame", "plate"]
    assert feeds["plate"].shape == (3, 92, WIDTH)
    assert feeds["plate"].min() > 0.1


def holed_plate(width, height):
    """A smooth plate and its coverage: black borders as from a warp, and a hole inside."""
    random = np.random.default_rng(0)
    place = cv2.resize(random.integers(60, 200, (6, 9, 3)).astype(np.uint8), (width, height))
    corners = np.float32([[0.2, -0.1], [1.1, 0.1], [0.9, 0.9], [0.1, 1.2]]) * (width, height)
    coverage = np.zeros((height, width), np.uint8)
    cv2.fillConvexPoly(coverage, corners.astype(np.int32), 1)
    cv2.circle(coverage, (width // 2, height // 2), height // 9, 0, -1)
    return place * coverage[..., None], coverage


@pytest.mark.parametrize("size", [(960, 540), (641, 359), (200, 300)])
def test_holes_are_filled_as_on_the_cpu(host_gpu, size):
    plate, coverage = holed_plate(*size)
    reach = REACH * max(size)
    expected, reached = fill_holes(plate, coverage, reach)
    filler = HoleFiller(*size, reach)
    filled, seen = map(host_gpu.asnumpy, filler(*map(host_gpu.asarray, (plate, coverage))))
    np.testing.assert_array_equal(seen[..., 0], coverage * 255)
    np.testing.assert_array_equal(filled[coverage == 1], plate[coverage == 1])
    assert not filled[seen[..., 1] == 0].any()
    distance = cv2.distanceTransform(1 - coverage, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    apart = APART * max(1, max(size) / SIDE)
    others = (seen[..., 1] > 0) != (reached > 0)
    assert np.abs(distance[others] - reach).max(initial=0) < 2 * apart
    both = (seen[..., 1] > 0) & (reached > 0) & (coverage == 0)
    difference = np.abs(filled.astype(int) - expected)[both]
    assert both.sum() > 1000
    assert difference.mean() < 1
    assert np.quantile(difference, 0.99) < 16  # where two sides are about as near, either wins


@pytest.mark.parametrize("level", [0, 1])
def test_a_plate_that_is_whole_or_nothing_stays_as_it_is(host_gpu, level):
    plate = np.full((70, 120, 3), 80 * level, np.uint8)
    coverage = np.full((70, 120), level, np.uint8)
    for reach in (9.6, np.inf):
        filler = HoleFiller(120, 70, reach)
        filled, seen = map(host_gpu.asnumpy, filler(*map(host_gpu.asarray, (plate, coverage))))
        np.testing.assert_array_equal(filled, plate)
        np.testing.assert_array_equal(seen, np.full((70, 120, 2), 255 * level))


def test_a_network_with_other_inputs_is_refused(monkeypatch):
    from howard.matte import device_inputs

    class Session:
        def get_inputs(self):
            return [type("Input", (), {"name": n}) for n in ("frame", "plate", "coverage")]

    monkeypatch.setattr(device_inputs, "open_session", lambda weights, **options: Session())
    with pytest.raises(WeightsError, match="takes coverage, which is not prepared on a GPU"):
        needs_of(WEIGHTS)


# torch


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """The weights that ship as a program for frames of SIZE alone, which is made in a second."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnx")
    from engine.exported import ByName, network_from_onnx

    network = ByName(network_from_onnx(WEIGHTS, "howard"))
    inputs = {k: torch.zeros(shape) for k, shape in NEEDS.shapes(1, *SIZE).items()}
    file = tmp_path_factory.mktemp("torch") / "howard.pt2"
    torch.export.save(torch.export.export(network, (inputs,)), file)
    return file


def test_torch_gives_the_mattes_of_the_cpu(host_gpu, cpu, program):
    from howard.matte.torch_runner import TorchRunner

    network = DeviceMattingNetwork(TorchRunner(program, "cpu"), NEEDS)
    for seed in (0, 1):
        (pair,) = run_both(host_gpu, network, cpu, (seed,))
        assert_alike(pair)


def test_torch_computes_on_cupys_stream(host_gpu, monkeypatch):
    """Asked for the stream at 0, torch takes one of its pool's, of 32."""
    pytest.importorskip("torch")
    from howard.matte.torch_runner import TorchRunner

    on_torch = object.__new__(TorchRunner)  # no program is needed
    streams = SimpleNamespace(ExternalStream=lambda at: at, default_stream=lambda: "default")
    on_torch.torch = SimpleNamespace(cuda=streams)
    assert on_torch.stream() == "default"
    monkeypatch.setattr(host_gpu.Stream, "ptr", 7)
    assert on_torch.stream() == 7


def test_a_program_computes_in_half_throughout(program):
    import torch

    from howard.matte.torch_runner import compute_in_half

    module = torch.export.load(program).module()
    inputs = {k: torch.rand(shape) for k, shape in NEEDS.shapes(1, *SIZE).items()}
    with torch.no_grad():
        expected = module(inputs)["alpha"]
        compute_in_half(module)
        outputs = module.half()({k: v.half() for k, v in inputs.items()})
    assert {v.dtype for v in outputs.values()} == {torch.float16}
    assert (outputs["alpha"].float() - expected).abs().max() < HALVES


def test_a_program_takes_any_size_and_batch(tmp_path):
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnx")
    from engine import exported
    from engine.networks.howard import HowardNetwork, Size

    torch.manual_seed(0)
    small = Size((8, 8, 8, 8), (8, 8), (0, 0, 0), 4, 4, 16, 8, 512 * 288, both_ways=True)
    network = HowardNetwork(small).eval()
    module = exported.program_of(network).module()
    inputs = exported.named(3, 132, 256)
    with torch.no_grad():
        assert torch.equal(module(inputs)["alpha"], network(*inputs.values())[0])


def test_a_file_that_is_no_program_is_one_line(host_gpu, tmp_path):
    pytest.importorskip("torch")
    from howard.matte.torch_runner import TorchRunner

    (tmp_path / "bad.pt2").write_bytes(b"no program")
    with pytest.raises(WeightsError, match=r"bad\.pt2 is no program that torch .* can load") as e:
        TorchRunner(tmp_path / "bad.pt2", "cpu")
    assert "\n" not in str(e.value)


# Which runner


WANTED = Wanted("howard", WEIGHTS, 2, *SIZE)


@pytest.fixture
def nothing_built(tmp_path, monkeypatch):
    from howard.matte import plan

    monkeypatch.setattr(plan, "built_folders", lambda: (tmp_path,))
    return tmp_path


def test_a_runner_that_cannot_run_is_an_error_that_names_the_remedy(
    host_gpu, nothing_built, monkeypatch
):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    for choice, remedy in (
        ("tensorrt", "pip install 'tensorrt-cu13"),
        ("onnxruntime", "pip install onnxruntime-gpu"),
    ):
        with pytest.raises(DeviceError, match=remedy):
            open_device_network(choice, WANTED)
    with pytest.raises(DeviceError, match="nothing can run howard on this GPU: TensorRT is not"):
        open_device_network("auto", WANTED)


def test_a_program_of_other_weights_is_refused(nothing_built):
    from howard.matte.plan import find_program, sha256

    with pytest.raises(DeviceError, match="there is no torch program of howard: make one with"):
        find_program(WANTED)
    program = nothing_built / "howard.pt2"
    program.write_bytes(b"")
    for digest, fits in (("0" * 64, False), (sha256(WEIGHTS), True)):
        write_program_sidecar(program, "howard", digest)
        if fits:
            assert find_program(WANTED) == program
        else:
            with pytest.raises(DeviceError, match=r"was not made from .*--exported --network"):
                find_program(WANTED)


def refusing(text):
    def opener(wanted):
        raise DeviceError(text)

    return opener


def test_auto_takes_the_first_that_can_and_says_what_a_plan_would_bring(monkeypatch):
    class TorchRunner:
        pass

    openers = {
        "tensorrt": refusing("TensorRT is not installed: pip install it"),
        "torch": lambda wanted: TorchRunner(),
        "onnxruntime": refusing("never asked"),
    }
    monkeypatch.setattr(runner, "OPENERS", openers)
    taken, warnings = runner.open_runner("auto", WANTED)
    assert isinstance(taken, TorchRunner)
    (warning,) = warnings
    assert warning.startswith("howard runs with Torch.")
    assert "TensorRT is not installed: pip install it, then `python build_engine.py" in warning
    assert runner.open_runner("torch", WANTED)[1] == []
    openers["tensorrt"] = openers["torch"]
    assert runner.open_runner("auto", WANTED)[1] == []


def test_a_runner_is_for_the_gpu_alone(tmp_path):
    config = RunConfig(tmp_path, tmp_path, tmp_path, device="cpu", runner="torch")
    with pytest.raises(ConfigError, match="--runner torch is for --device gpu"):
        config.validate()


def test_a_device_that_failed_gives_its_slots_back(host_gpu, on_onnxruntime, monkeypatch):
    def failed(self):
        raise RuntimeError("cudaErrorIllegalAddress")

    frame, plate, _ = scene(*SIZE)
    pair = on_device(host_gpu, frame, plate, np.ones(SIZE[::-1], np.uint8))
    (matte,) = on_onnxruntime([pair[0]], [pair[1]])
    downloads = Downloads(*SIZE, 1, 8)
    asked, dropped = downloads(0, matte), None
    monkeypatch.setattr(host_gpu.cuda.Event, "synchronize", failed)
    with pytest.raises(RuntimeError, match="IllegalAddress"):
        asked.result()
    dropped = downloads(1, matte)  # would wait for ever if the slot had not come back
    del dropped
    downloads(2, matte)


def test_a_runner_forgets_what_it_prepared_long_ago(host_gpu):
    made = []
    prepared = runner.Prepared(lambda inputs: made.append(inputs) or len(made))
    arrays = [host_gpu.zeros((1, n), np.float16) for n in range(1, runner.KEPT + 2)]
    for array in (*arrays, arrays[-1], arrays[0]):
        prepared({"frame": array})
    assert len(made) == runner.KEPT + 2
    assert len(prepared.held) == runner.KEPT
    prepared.clear()
    prepared({"frame": arrays[0]})
    assert len(made) == runner.KEPT + 3
