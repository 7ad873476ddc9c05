"""Plans: their names, what is refused, how they are built and run, on a stand-in for TensorRT."""

import functools
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import fakecupy
import faketrt
import numpy as np
import pytest
from test_matte import ALIGNMENT, scene

from howard import cuda
from howard.errors import ConfigError, DeviceError, WeightsError
from howard.frames import Frame, Plate
from howard.matte import default_weights
from howard.matte.cpu import OnnxMattingNetwork
from howard.matte.plan import (
    Machine,
    PlanInfo,
    Profile,
    Wanted,
    find_plan,
    load_tensorrt,
    read_sidecar,
    sha256,
    sidecar,
    this_machine,
    write_sidecar,
)

HERE = Path(__file__).parent
WEIGHTS = default_weights()
WIDTH, HEIGHT = 160, 90
MACHINE = Machine("NVIDIA H100 80GB HBM3", "11.4.0.106", "linux-x86_64")
PROFILE = Profile(8, (640, 360), (1920, 1080), (3840, 2160))
WANTED = Wanted("howard", WEIGHTS, 4, 1920, 1080)
HALVES = {"fp16": 2e-2, "fp32": 1e-2}
"""Largest difference of alpha: the issue's bound for fp16. Of fp32, what halves as inputs make."""
MEAN = 1e-3
"""The issue's bound for fp16, on average."""


def info(**changes):
    return replace(PlanInfo("howard", sha256(WEIGHTS), "fp16", PROFILE, MACHINE), **changes)


def planted(folder, about, age=0):
    """A plan with its sidecar, `age` seconds old."""
    file = folder / about.name
    file.write_bytes(b"a plan")
    write_sidecar(file, about)
    os.utime(file, (1e9 - age, 1e9 - age))
    return file


@pytest.fixture
def tensorrt(host_gpu, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", faketrt)
    return faketrt


def test_a_plans_name_says_what_it_depends_on():
    expected = "howard_fp16_1x360x640-8x2160x3840_NVIDIA-H100-80GB-HBM3_trt11.4.plan"
    assert info().name == expected


def test_a_sidecar_comes_back_as_it_went(tmp_path):
    assert read_sidecar(planted(tmp_path, info())) == info()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"network": "howard", "profile": 3}'])
def test_a_sidecar_that_is_none_says_nothing(tmp_path, text):
    file = planted(tmp_path, info())
    sidecar(file).write_text(text)
    assert read_sidecar(file) is None


def test_the_latest_plan_that_can_serve_is_taken(tmp_path):
    older, other = tmp_path / "older", tmp_path / "other"
    older.mkdir(), other.mkdir()
    planted(older, info(), age=9)
    planted(older, info(machine=replace(MACHINE, gpu="NVIDIA A100")))
    planted(older, info(network="howard-fast"))
    latest = planted(other, info(precision="int8"), age=5)
    assert find_plan(WANTED, MACHINE, [older, other]) == latest


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"machine": replace(MACHINE, gpu="NVIDIA A100")}, "built for the GPU NVIDIA A100, not"),
        ({"machine": replace(MACHINE, tensorrt="11.3.9")}, "built for the TensorRT 11.3.9, not"),
        ({"machine": replace(MACHINE, platform="linux-aarch64")}, "platform linux-aarch64, not"),
        ({"onnx_sha256": "0" * 64}, "was not built from"),
        ({"profile": replace(PROFILE, batch=2)}, "in batches of up to 2, not 1920x1080 in batches"),
        ({"profile": replace(PROFILE, largest=(1280, 720))}, "takes 640x360 to 1280x720"),
    ],
)
def test_a_plan_of_something_else_is_refused_with_the_remedy(tmp_path, change, reason):
    planted(tmp_path, info(**change))
    with pytest.raises(DeviceError, match=re.escape(reason)) as caught:
        find_plan(WANTED, MACHINE, [tmp_path])
    command = "python build_engine.py --plan --network howard --opt 1920x1080 --batch 4"
    assert command in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_plan_without_its_sidecar_is_refused(tmp_path):
    sidecar(planted(tmp_path, info())).unlink()
    with pytest.raises(DeviceError, match=r"howard_fp16.* has no .*\.json"):
        find_plan(WANTED, MACHINE, [tmp_path])


def test_no_plan_at_all_names_the_command(tmp_path):
    with pytest.raises(DeviceError, match="there is no TensorRT plan of howard: build one with"):
        find_plan(WANTED, MACHINE, [tmp_path])


def test_this_machine_is_the_gpu_and_the_version(tensorrt):
    machine = this_machine()
    assert (machine.gpu, machine.tensorrt) == ("NVIDIA Stand-In (80GB)", "11.4.0.106")
    assert info(machine=machine).name.endswith("_NVIDIA-Stand-In-80GB_trt11.4.plan")


def test_tensorrt_that_is_missing_or_old_is_named(host_gpu, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(DeviceError, match="TensorRT is not installed: pip install"):
        load_tensorrt()
    monkeypatch.setattr(faketrt, "__version__", "10.9.0")
    monkeypatch.setitem(sys.modules, "tensorrt", faketrt)
    with pytest.raises(DeviceError, match=r"TensorRT is 10\.9\.0, Howard needs 11"):
        load_tensorrt()


# Building. Needs the `build` extra.


@pytest.fixture
def engine_plan():
    pytest.importorskip("onnx")
    pytest.importorskip("torch")
    from engine import plan

    return plan


def test_sizes_that_are_not_given_agree_with_those_that_are(engine_plan):
    profile_of = engine_plan.profile_of
    assert profile_of(None, None, None, 4) == Profile(4, (640, 360), (1920, 1080), (1920, 1080))
    assert profile_of(None, (320, 240), None, 1).smallest == (320, 240)
    portrait = profile_of(None, (1080, 2160), None, 1)
    assert (portrait.smallest, portrait.largest) == ((640, 360), (1920, 2160))
    with pytest.raises(ConfigError, match="contradict"):
        profile_of((640, 360), None, (320, 240), 1)


def test_the_small_inputs_of_a_plan_hold_those_of_any_frame_that_it_takes(engine_plan):
    from howard.matte.device_inputs import needs_of

    needs, profile = needs_of(WEIGHTS), Profile(4, (640, 360), (1920, 1080), (3840, 2160))
    shapes = engine_plan.shapes_of(needs, profile)
    assert shapes["frame"] == ((1, 3, 360, 640), (4, 3, 1080, 1920), (4, 3, 2160, 3840))
    assert shapes["small_coverage"][1] == (4, 1, 320, 576)
    for width in range(640, 3841, 97):
        for height in range(360, 2161, 93):
            for name, shape in needs.shapes(2, width, height).items():
                low, _, high = shapes[name]
                assert all(a <= v <= b for a, v, b in zip(low, shape, high, strict=True)), name


PLAN_PROFILE = Profile(2, (128, 64), (WIDTH, HEIGHT), (256, 128))


@pytest.fixture(scope="module")
def plans(tmp_path_factory):
    """Builds a plan in a precision, once."""
    pytest.importorskip("onnx")
    pytest.importorskip("torch")
    from engine.plan import plan_from_onnx

    @functools.cache
    def built(precision):
        folder = tmp_path_factory.mktemp(precision)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cuda, "loaded", lambda: fakecupy)
            patch.setitem(sys.modules, "tensorrt", faketrt)
            return plan_from_onnx(WEIGHTS, "howard", PLAN_PROFILE, precision, folder)

    return built


def test_a_plan_is_built_with_its_sidecar_and_found(plans, tensorrt):
    file = plans("fp16")
    folder = file.parent
    assert file.name.startswith("howard_fp16_1x64x128-2x128x256_NVIDIA-Stand-In")
    wanted = Wanted("howard", WEIGHTS, 2, WIDTH, HEIGHT)
    assert find_plan(wanted, this_machine(), [folder]) == file
    timings = folder / "timings_NVIDIA-Stand-In-80GB_trt11.4.cache"
    assert sorted(folder.iterdir()) == sorted([file, sidecar(file), timings])
    assert timings.read_bytes() == b"timed "


def test_a_build_begins_with_the_timings_of_the_one_before(engine_plan, tensorrt, tmp_path):
    timings = tmp_path / "timings.cache"
    for expected in (b"timed ", b"timed timed "):
        engine_plan.built(WEIGHTS.read_bytes(), WEIGHTS, {}, timings)
        assert timings.read_bytes() == expected


def test_a_model_that_tensorrt_cannot_take_is_refused(engine_plan, tensorrt, tmp_path):
    with pytest.raises(WeightsError, match=r"TensorRT 11\.4\.0\.106 cannot take .*: "):
        engine_plan.built(b"no model", WEIGHTS, {}, tmp_path / "timings.cache")


@pytest.mark.parametrize(("precision", "stream"), [("fp16", 7), ("fp32", 0)])
def test_a_plan_gives_the_mattes_of_the_cpu(
    plans, tensorrt, host_gpu, monkeypatch, precision, stream
):
    """With a CUDA graph, and without on the default stream."""
    from howard.matte.device_inputs import needs_of
    from howard.matte.gpu import DeviceMattingNetwork
    from howard.matte.tensorrt_runner import TensorRTRunner

    monkeypatch.setattr(host_gpu.Stream, "ptr", stream)
    runner = TensorRTRunner(plans(precision))
    network, cpu = DeviceMattingNetwork(runner, needs_of(WEIGHTS)), OnnxMattingNetwork(WEIGHTS, 2)
    there, covered = host_gpu.asarray, np.ones((HEIGHT, WIDTH), np.uint8)
    for seed in (0, 1, 2):
        frame, plate, _ = scene(WIDTH, HEIGHT, seed)
        here = cpu([Frame(0, 0.0, frame)], [Plate(plate, covered, ALIGNMENT)])[0]
        plates = [Plate(there(plate), there(covered), ALIGNMENT)]
        matte = network([Frame(0, 0.0, there(frame))], plates)[0]
        alpha = host_gpu.asnumpy(matte.alpha)[0, :HEIGHT, :WIDTH]
        difference = np.abs(alpha.astype(np.float32) - here.alpha)
        assert difference.max() < HALVES[precision]
        assert difference.mean() < MEAN
        assert host_gpu.asnumpy(matte.confidence)[0] == pytest.approx(here.confidence, abs=1e-3)
    (execution,) = runner.prepared.held.values()
    assert (execution.graph is None) == (stream == 0)


def test_frames_that_a_plan_does_not_take_are_refused(plans, tensorrt, host_gpu):
    from howard.matte.tensorrt_runner import TensorRTRunner

    runner = TensorRTRunner(plans("fp16"))
    frame = host_gpu.zeros((3, 3, HEIGHT, WIDTH), np.float16)
    with pytest.raises(DeviceError, match=r"takes no frame of 3x3x90x160"):
        runner({"frame": frame})


@pytest.mark.parametrize("content", [b"", b"not a plan"])
def test_a_file_that_is_no_plan_is_refused(tensorrt, tmp_path, content):
    from howard.matte.tensorrt_runner import TensorRTRunner

    (tmp_path / "bad.plan").write_bytes(content)
    with pytest.raises(DeviceError, match=r"bad\.plan is no plan for this machine"):
        TensorRTRunner(tmp_path / "bad.plan")


def tiny_model(file):
    """A network with one convolution that may be quantised; alpha is what frame and plate differ
    by."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    shape, one = ["n", 3, "h", "w"], np.ones((1, 3, 1, 1), np.float32)
    stored = {"weight": one, "bias": one[0, :1, 0, 0] * 0}
    nodes = [
        helper.make_node("Sub", ["frame", "plate"], ["difference"]),
        helper.make_node("Conv", ["difference", "weight", "bias"], ["sum"], "/base/Conv"),
        helper.make_node("Relu", ["sum"], ["alpha"], "/base/Relu"),
        helper.make_node("Identity", ["frame"], ["foreground"]),
    ]
    ends = [
        [
            helper.make_tensor_value_info(n, TensorProto.FLOAT, [*shape[:1], c, *shape[2:]])
            for n, c in names
        ]
        for names in ((("frame", 3), ("plate", 3)), (("alpha", 1), ("foreground", 3)))
    ]
    tensors = [numpy_helper.from_array(value, name) for name, value in stored.items()]
    graph = helper.make_graph(nodes, "tiny", *ends, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    model.metadata_props.add(key="full_multiple", value="2")
    onnx.save_model(model, str(file))
    return file


def test_int8_is_signed_and_symmetric_as_tensorrt_takes_it(engine_plan, tmp_path, monkeypatch):
    pytest.importorskip("skimage")
    import onnx
    from onnx import TensorProto, numpy_helper

    monkeypatch.setattr(engine_plan, "SCENES", 4)
    tiny = tiny_model(tmp_path / "tiny.onnx")
    model = onnx.load_from_string(engine_plan.typed_model(tiny, "int8"))
    stored = {t.name: t for t in model.graph.initializer}
    assert TensorProto.FLOAT not in {t.data_type for t in stored.values()}
    pairs = [n for n in model.graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert len(pairs) >= 3  # of the input a pair, of the weights what takes them back
    for node in pairs:
        zero = stored[node.input[2]]
        assert zero.data_type == TensorProto.INT8
        assert not numpy_helper.to_array(zero).any()


def test_a_model_that_loses_too_much_is_refused(engine_plan, tmp_path, monkeypatch):
    from engine import precision

    monkeypatch.setattr(precision, "ALPHA_BOUND", {"fp16": 1e-9})
    with pytest.raises(WeightsError, match=r"tiny\.onnx: alpha would differ by"):
        precision.with_precision(tiny_model(tmp_path / "tiny.onnx"), "fp16")


def test_the_command_line_builds_a_plan(engine_plan, tensorrt, tmp_path, monkeypatch, capsys):
    import build_engine

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(engine_plan, "typed_model", lambda model, precision: model.read_bytes())
    options = ["--plan", "--min", "128x64", "--opt", "160x90", "--max", "256x128", "--batch", "2"]
    monkeypatch.setattr("sys.argv", ["build_engine.py", *options])
    assert build_engine.main() == 0
    (plan,) = Path("engine/built").glob("*.plan")
    assert read_sidecar(plan).profile == PLAN_PROFILE
    assert "for 128x64 to 256x128 in batches of up to 2" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ([], "give one checkpoint"),
        (["a.pt", "--weights", "b.onnx"], "give one checkpoint, or --weights"),
        (["--plan", "--opt", "1080p"], "'1080p' is no size: give WIDTHxHEIGHT"),
        (["--chekpoint", "a.pt"], "there is no option --chekpoint: did you mean --checkpoint?"),
        (["--plan", "--precision", "fp7"], "--precision is 'fp7': give fp16, fp32, int8"),
        (["a.pt", "b.pt"], "b.pt"),
        (["--exported", "--out", "x.onnx"], "--out x.onnx is for a checkpoint: leave it out"),
        (["--plan", "--out", "x.onnx"], "--out x.onnx is for a checkpoint: leave it out"),
        (["a.pt", "--precision", "fp32"], "--precision fp32 is for --plan: leave it out"),
        (["--exported", "--min", "64x36"], "--min 64x36 is for --plan: leave it out"),
        (["a.pt", "--opt", "64x36"], "--opt 64x36 is for --plan: leave it out"),
        (["a.pt", "--max", "64x36"], "--max 64x36 is for --plan: leave it out"),
        (["a.pt", "--batch", "2"], "--batch 2 is for --plan: leave it out"),
        (["a.pt", "--plan", "--min", "0x36"], "'0x36' is no size: give WIDTHxHEIGHT"),
    ],
)
def test_a_command_that_cannot_be_meant_is_one_line(monkeypatch, capsys, options, error):
    import build_engine

    monkeypatch.setattr("sys.argv", ["build_engine.py", *options])
    assert build_engine.main() == 2
    told = capsys.readouterr().err.strip()
    assert "\n" not in told
    assert error in told


def test_without_cupy_a_plan_is_not_advised_what_only_a_run_has(monkeypatch, capsys):
    import build_engine

    monkeypatch.setitem(sys.modules, "cupy", None)
    cuda.loaded.cache_clear()
    monkeypatch.setattr("sys.argv", ["build_engine.py", "--plan"])
    assert build_engine.main() == 2
    told = capsys.readouterr().err
    assert "CuPy is not installed" in told
    assert "--device" not in told


# The stand-in against the real bindings


def differences(tmp_path, planted_difference=""):
    """What trt_contract.py prints, over libraries that do nothing."""
    if importlib.util.find_spec("tensorrt_bindings") is None:
        pytest.skip("needs TensorRT's bindings: pip install --no-deps tensorrt-cu13-bindings")
    if (compiler := shutil.which("gcc")) is None:
        pytest.skip("needs gcc")
    for library in ("nvinfer", "nvonnxparser", "nvinfer_plugin"):
        name = f"lib{library}.so.11"
        command = [compiler, "-shared", "-fPIC", f"-Wl,-soname,{name}", HERE / "trt_stub.c"]
        subprocess.run([*command, "-o", tmp_path / name], check=True)
    paths = {"LD_LIBRARY_PATH": tmp_path, "PYTHONPATH": f"{HERE}:{HERE.parent}"}
    paths["PYTHONPATH"] += f":{os.environ.get('PYTHONPATH', '')}"
    run = subprocess.run(
        [sys.executable, HERE / "trt_contract.py", *planted_difference.split()],
        env=os.environ | {key: str(value) for key, value in paths.items()},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    version, *lines = run.stdout.splitlines()
    assert version.startswith("TensorRT 11.")
    return lines


def test_tensorrt_has_all_that_is_called(tmp_path):
    assert differences(tmp_path) == []


def test_the_comparison_is_awake(tmp_path):
    found = differences(tmp_path, "Builder.build_engine Runtime.deserialize_cuda_engine")
    assert any(line.startswith("Builder.build_engine") for line in found)
    assert any(line.startswith("Runtime.deserialize_cuda_engine(wrong)") for line in found)
