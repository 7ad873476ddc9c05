"""howard.Matting: arrays of any kind in, arrays of the same kind out, on either device."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

import howard
from howard import cuda
from howard.errors import ConfigError, DeviceError, InputError
from howard.matte import default_weights

HALF_ERROR = 2e-2
"""Of alpha in half precision, at most."""


def scene(height=96, width=160):
    rng = np.random.default_rng(0)
    cells = rng.integers(0, 255, (12, 20, 3), np.uint8)
    plate = cv2.resize(cells, (width, height), interpolation=cv2.INTER_CUBIC)
    frame = plate.copy()
    cv2.ellipse(frame, (80, 70), (20, 50), 0, 0, 360, (250, 60, 40), -1, cv2.LINE_AA)
    return frame, plate


@pytest.fixture(scope="module")
def on_cpu():
    return howard.Matting(device="cpu", threads=1)


def test_importing_howard_loads_nothing_heavy():
    heavy = "torch cupy cv2 onnxruntime av tensorrt nvidia numpy".split()
    code = f"import sys, howard; print([m for m in {heavy} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
    with pytest.raises(AttributeError, match="Mating"):
        howard.Mating  # noqa: B018


def test_nothing_is_told_to_anyone(tmp_path):
    code = "import howard; howard.Matting(device='cpu', network='howard-fast', threads=1)"
    # A clean environment: ONNX Runtime keeps silent by itself where a CI is at work.
    here = str(Path(howard.__file__).parents[1])
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": here}
    subprocess.run([sys.executable, "-c", code], env=environment, cwd=tmp_path, check=True)
    assert list(tmp_path.iterdir()) == []


def test_the_person_is_cut_out(on_cpu):
    frame, plate = scene()
    alpha, foreground = on_cpu(frame, plate)
    assert alpha.shape == (96, 160)
    assert foreground.shape == (96, 160, 3)
    assert alpha.dtype == foreground.dtype == np.float32
    assert alpha[70, 80] > 0.9
    assert alpha[:, :40].mean() < 0.05
    assert foreground[70, 80] * 255 == pytest.approx(frame[70, 80], abs=3)


def test_a_batch_is_each_picture_by_itself(on_cpu):
    frame, plate = scene()
    alpha, foreground = on_cpu(np.stack([frame, plate]), np.stack([plate, plate]))
    single, colour = on_cpu(frame, plate)
    assert alpha.shape == (2, 96, 160)
    np.testing.assert_allclose(alpha[0], single, atol=1e-5)
    np.testing.assert_allclose(foreground[0], colour, atol=1e-5)


@pytest.mark.parametrize("of", [np.uint8(255), np.uint8(7), np.True_])
def test_coverage_may_be_any_mask(on_cpu, of):
    frame, plate = scene()
    coverage = np.ones(plate.shape[:2], np.uint8)
    coverage[:, 120:] = 0
    for mask, ones in zip(
        on_cpu(frame, plate, coverage * of), on_cpu(frame, plate, coverage), strict=True
    ):
        np.testing.assert_array_equal(mask, ones)


def test_arrays_that_have_nothing_but_dlpack_are_taken(on_cpu):
    frame, plate = scene()
    only = [
        SimpleNamespace(__dlpack__=a.__dlpack__, __dlpack_device__=a.__dlpack_device__)
        for a in (frame, plate)
    ]
    np.testing.assert_array_equal(on_cpu(*only)[0], on_cpu(frame, plate)[0])


def test_weights_may_be_named_in_text(on_cpu):
    frame, plate = scene()
    named = howard.Matting(device="cpu", weights=str(default_weights()), threads=1)
    np.testing.assert_array_equal(named(frame, plate)[0], on_cpu(frame, plate)[0])


def test_what_is_not_covered_is_not_compared(on_cpu):
    frame, plate = scene()
    coverage = np.ones(plate.shape[:2], np.uint8)
    coverage[:, 120:] = 0
    spoilt = plate.copy()
    spoilt[:, 120:] = 200
    black = plate * coverage[..., None]
    for one, other in zip(
        on_cpu(frame, spoilt, coverage), on_cpu(frame, black, coverage), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_torch_tensors_come_back_as_torch_tensors(on_cpu):
    torch = pytest.importorskip("torch")
    frame, plate = scene()
    alpha, foreground = on_cpu(torch.from_numpy(frame), torch.from_numpy(plate))
    assert isinstance(alpha, torch.Tensor)
    np.testing.assert_array_equal(foreground.numpy(), on_cpu(frame, plate)[1])


@pytest.mark.parametrize(
    ("frame", "plate", "words"),
    [
        (np.zeros((8, 8, 3), np.float32), None, "frame is float32"),
        (np.zeros((8, 8), np.uint8), None, r"frame is uint8\[8, 8\]"),
        (None, np.zeros((8, 8, 3), np.uint8), r"plate is uint8\[8, 8, 3\]"),
        (np.zeros((0, 8, 8, 3), np.uint8), None, "not empty"),
        (np.zeros((0, 8, 3), np.uint8), None, "not empty"),
    ],
)
def test_other_shapes_and_types_are_refused(on_cpu, frame, plate, words):
    good_frame, good_plate = scene()
    frame = good_frame if frame is None else frame
    plate = (frame if frame is not good_frame else good_plate) if plate is None else plate
    with pytest.raises(InputError, match=words):
        on_cpu(frame, plate)


def test_a_network_of_another_kind_is_refused():
    with pytest.raises(ConfigError, match="context-switching"):
        howard.Matting(device="cpu", network="context-switching")


@pytest.mark.parametrize(
    ("option", "value"),
    [("device", "cuda"), ("network", "none"), ("runner", "x"), ("threads", -1), ("threads", 999)],
)
def test_words_that_are_no_choice_are_refused(option, value):
    with pytest.raises(ConfigError, match=f"{option} is "):
        howard.Matting(**{option: value})


def test_a_gpus_runner_is_not_passed_over_on_the_cpu(no_gpu):
    for device in ("cpu", "auto"):
        with pytest.raises(ConfigError, match="runner torch is for a GPU"):
            howard.Matting(device=device, runner="torch")


def test_arrays_of_a_gpu_are_refused_on_the_cpu(on_cpu):
    there = SimpleNamespace(__cuda_array_interface__={"shape": (8, 8, 3)})
    with pytest.raises(DeviceError, match="device='gpu'"):
        on_cpu(there, there)


def test_without_a_gpu_auto_takes_the_cpu_and_gpu_is_an_error(no_gpu):
    frame, plate = scene()
    assert howard.Matting(threads=1)(frame, plate)[0].shape == frame.shape[:2]
    with pytest.raises(DeviceError, match="no NVIDIA GPU"):
        howard.Matting(device="gpu")


def test_device_arrays_stay_on_the_device(host_gpu, host_runner, on_cpu):
    frame, plate = scene()
    matting = howard.Matting(device="gpu")
    there = [host_gpu.asarray(x) for x in (frame, plate)]
    host_gpu.downloads.clear()
    alpha, foreground = matting(*there)
    assert isinstance(alpha, host_gpu.ndarray)
    assert not host_gpu.downloads
    expected = on_cpu(frame, plate)
    assert np.abs(alpha.get() - expected[0]).max() < HALF_ERROR
    on_host = matting(frame, plate)
    assert type(on_host[1]) is np.ndarray
    np.testing.assert_array_equal(on_host[1], foreground.get())


def test_a_call_waits_for_the_one_before_on_another_stream(
    host_gpu, host_runner, on_cpu, monkeypatch
):
    told = []

    class Noted(host_gpu.cuda.Stream):
        def wait_event(self, event):
            told.append((self, event))

        def record(self, event=None):
            told.append(self)
            return f"after {len(told)}"

    a, b = Noted(), Noted()
    matting = howard.Matting(device="gpu")
    arrays = [host_gpu.asarray(x) for x in scene()]
    for stream in (a, b):
        monkeypatch.setattr(host_gpu.cuda, "get_current_stream", lambda stream=stream: stream)
        matting(*arrays)
    assert told == [a, (b, "after 1"), b]


def test_tensors_of_the_host_go_to_the_device_and_come_back(host_gpu, host_runner, on_cpu):
    torch = pytest.importorskip("torch")
    frame, plate = scene()
    alpha, _ = howard.Matting(device="gpu")(torch.from_numpy(frame), torch.from_numpy(plate))
    assert isinstance(alpha, torch.Tensor)
    assert np.abs(alpha.numpy() - on_cpu(frame, plate)[0]).max() < HALF_ERROR


class Foreign:
    """Memory of the device in the hands of another library: all that it tells is where."""

    def __init__(self, array):
        self.__cuda_array_interface__ = array.__cuda_array_interface__
        self.array = array


def taken(matting, monkeypatch):
    """Addresses of the arrays that the network is given from now on, and their kinds."""
    side, seen = matting._side, []
    take = side.take

    def spy(array):
        seen.append(take(array))
        return seen[-1]

    monkeypatch.setattr(side, "take", spy)
    return seen


def test_what_only_tells_where_it_lies_is_not_copied(host_gpu, host_runner, on_cpu, monkeypatch):
    frame, plate = scene()
    there = [host_gpu.asarray(x) for x in (frame, plate)]
    matting = howard.Matting(device="gpu")
    seen = taken(matting, monkeypatch)
    host_gpu.downloads.clear()
    alpha, _ = matting(*map(Foreign, there))
    assert [x.data.ptr for x in seen] == [x.data.ptr for x in there]
    assert isinstance(alpha, host_gpu.ndarray)
    assert not host_gpu.downloads
    assert np.abs(alpha.get() - on_cpu(frame, plate)[0]).max() < HALF_ERROR


def test_foreign_memory_with_padded_rows_is_read_as_it_lies(host_gpu, host_runner, on_cpu):
    frame, plate = scene()
    padded = host_gpu.zeros((96, 192, 3), np.uint8)
    padded[:, :160] = host_gpu.asarray(frame)
    alpha, _ = howard.Matting(device="gpu")(Foreign(padded[:, :160]), host_gpu.asarray(plate))
    assert np.abs(alpha.get() - on_cpu(frame, plate)[0]).max() < HALF_ERROR


def test_a_pycuda_array_goes_in_without_a_copy(on_cpu, monkeypatch):
    pytest.importorskip("pycuda")
    try:
        cp = cuda.cupy()
    except DeviceError as error:
        if os.environ.get("HOWARD_REQUIRE_GPU") == "1":
            raise
        pytest.skip(str(error))
    from pycuda import autoprimaryctx, gpuarray  # the context that CuPy has, too

    frame, plate = scene()
    there = [gpuarray.to_gpu(x) for x in (frame, plate)]
    autoprimaryctx.context.synchronize()  # PyCUDA fills them on a stream of its own
    matting = howard.Matting(device="gpu")
    seen = taken(matting, monkeypatch)
    alpha, _ = matting(*there)
    assert [x.data.ptr for x in seen] == [int(x.gpudata) for x in there]
    assert isinstance(alpha, cp.ndarray)
    assert np.abs(alpha.get() - on_cpu(frame, plate)[0]).max() < HALF_ERROR


def test_a_tensor_on_another_gpu_is_refused_with_the_remedy(host_gpu, host_runner, monkeypatch):
    from howard import matting

    monkeypatch.setattr(matting, "is_torch", lambda array: True)
    there = SimpleNamespace(is_cuda=True, device=SimpleNamespace(index=1))
    with pytest.raises(DeviceError, match=r"GPU 1, and GPU 0 .*Device\(1\)"):
        howard.Matting(device="gpu")._side.stream(there)
