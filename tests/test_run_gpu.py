"""The whole program on the GPU's engine, its kernels run by the host: from files to files."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from howard.config import RunConfig
from howard.engine import device
from howard.engine.run import run
from howard.errors import DeviceError, DeviceMemoryError
from howard.matte import plan, runner
from howard.matte.gpu import DeviceMattingNetwork
from tests.media import write_video
from tests.test_run import picture, pictures, plate_frame, report, shot_frame

FRAMES = 3
ALPHA_LEVELS = 2.0
"""Mean difference from the CPU's alpha, in levels of 255: halves, and plates a hair apart."""


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    # Nearly without a loss: else several plates, a pixel apart, fit equally well.
    shot = write_video(folder / "shot.mp4", map(shot_frame, range(FRAMES)), crf=1)
    clean = write_video(folder / "plate.mp4", map(plate_frame, range(FRAMES + 2)), crf=1)
    return shot, clean


def on_gpu(videos, out, **options):
    return run(RunConfig(*videos, out, device="gpu", **options))


@pytest.mark.parametrize("bit_depth", [8, 16])
def test_the_pictures_are_those_of_the_cpu(host_runner, host_gpu, videos, tmp_path, bit_depth):
    run(RunConfig(*videos, tmp_path / "cpu", device="cpu", bit_depth=bit_depth))
    on_gpu(videos, tmp_path / "gpu", batch=1, bit_depth=bit_depth)
    level = (2**bit_depth - 1) // 255
    assert pictures(tmp_path / "gpu") == pictures(tmp_path / "cpu")
    for i in range(FRAMES):
        here, there = (picture(tmp_path / d, i) for d in ("gpu", "cpu"))
        assert here.shape == there.shape
        assert here.dtype == there.dtype == f"uint{bit_depth}"
        assert cv2.absdiff(here[..., 3], there[..., 3]).mean() < ALPHA_LEVELS * level
    for here, there in zip(
        report(tmp_path / "gpu")["frames"], report(tmp_path / "cpu")["frames"], strict=True
    ):
        assert set(here) == set(there)
        assert here["plate_index"] == there["plate_index"]
        assert here["confidence"] == pytest.approx(there["confidence"], abs=0.02)
        assert here["milliseconds"].keys() == there["milliseconds"].keys()


def test_one_picture_comes_down_per_frame(host_runner, host_gpu, videos, tmp_path):
    on_gpu(videos, tmp_path)
    totals = report(tmp_path)["totals"]
    assert totals["downloads_per_frame"] == 1
    assert 0 < totals["read_backs_per_frame"] < 40
    whole = picture(tmp_path, 0).nbytes
    assert sum(size >= whole / 4 for size in host_gpu.downloads) == FRAMES


@pytest.mark.parametrize("whose", ["ours", "cupy's"])
def test_too_little_memory_halves_the_batch_and_goes_on(
    host_runner, host_gpu, videos, tmp_path, monkeypatch, whose
):
    usual = DeviceMattingNetwork.__call__

    def cramped(self, frames, plates):
        if len(frames) > 1 and whose == "ours":
            raise DeviceMemoryError("2 frames at once do not fit")
        if len(frames) > 1:
            raise host_gpu.cuda.memory.OutOfMemoryError(9, 99)
        return usual(self, frames, plates)

    monkeypatch.setattr(DeviceMattingNetwork, "__call__", cramped)
    assert on_gpu(videos, tmp_path, batch=2).frames == FRAMES
    assert len(pictures(tmp_path)) == FRAMES
    assert ["--batch 1" in warning for warning in report(tmp_path)["warnings"]] == [True]

    def hopeless(self, frames, plates):
        raise DeviceMemoryError("1 frame does not fit")

    monkeypatch.setattr(DeviceMattingNetwork, "__call__", hopeless)
    with pytest.raises(DeviceError, match="does not fit"):
        on_gpu(videos, tmp_path / "none")


def test_an_interrupted_run_goes_on_and_the_devices_do_not_mix(
    host_runner, host_gpu, videos, tmp_path
):
    on_gpu(videos, tmp_path)
    (tmp_path / "000001.png").unlink()
    again = on_gpu(videos, tmp_path)
    assert (again.resumed, again.frames) == (FRAMES - 1, FRAMES)
    with pytest.raises(Exception, match="another run"):
        run(RunConfig(*videos, tmp_path, device="cpu"))


def test_auto_takes_the_gpu_where_there_is_one(host_runner, host_gpu, videos, tmp_path):
    config = RunConfig(*videos, tmp_path)
    assert device.open_device(config).name == "gpu"
    run(config)
    stored = json.loads((tmp_path / "report.json").read_text())
    assert stored["run"]["device"] == "gpu"


def test_auto_takes_the_cpu_where_nothing_runs_the_network_on_the_gpu(
    host_gpu, videos, tmp_path, monkeypatch
):
    for built in ("howard.pt2", "howard_fp16_of_a_gpu.plan"):
        (tmp_path / "built").mkdir(exist_ok=True)
        (tmp_path / "built" / built).touch()
    folders: list[Path] = []
    monkeypatch.setattr(plan, "built_folders", lambda: folders)
    monkeypatch.setattr(runner, "find_spec", lambda name: name)
    report = run(RunConfig(*videos, tmp_path / "out", frames=":1"))
    (warning,) = (w for w in report.warnings if "GPU" in w)
    assert "this ran on the CPU" in warning
    assert "build_engine.py" in warning
    assert json.loads((tmp_path / "out" / "report.json").read_text())["run"]["device"] == "cpu"
    wish = RunConfig(*videos, tmp_path / "other", runner="torch")
    with pytest.raises(DeviceError, match=r"--runner torch: .* or leave --runner out"):
        device.open_device(wish)
    folders.append(tmp_path / "built")
    runner.check_runners("howard")
    (tmp_path / "built" / "howard.pt2").unlink()
    runner.check_runners("howard")
    monkeypatch.setattr(runner, "find_spec", lambda name: None)
    with pytest.raises(DeviceError, match="nothing here runs howard"):
        runner.check_runners("howard")


def test_auto_says_so_where_a_gpu_stays_idle_for_want_of_cupy(videos, tmp_path, monkeypatch):
    config = RunConfig(*videos, tmp_path)
    monkeypatch.setattr(device, "GPUS", tmp_path / "none")
    assert device.open_device(config).warnings == ()
    (tmp_path / "gpus" / "0000:01:00.0").mkdir(parents=True)
    monkeypatch.setattr(device, "GPUS", tmp_path / "gpus")
    (warning,) = device.open_device(config).warnings
    assert "this ran on the CPU: CuPy is not installed" in warning
    assert ".[gpu]" in warning


def test_the_stream_of_before_is_current_again(
    host_runner, host_gpu, videos, tmp_path, monkeypatch
):
    used, before = [], host_gpu.cuda.Stream()
    monkeypatch.setattr(host_gpu.cuda, "get_current_stream", lambda: before)
    monkeypatch.setattr(host_gpu.cuda.Stream, "use", lambda self: used.append(self))
    on_gpu(videos, tmp_path / "out", frames=":1")
    assert len(used) == 2
    assert used[1] is before
    with pytest.raises(Exception, match="does not exist"):
        on_gpu((tmp_path / "none.mp4", videos[1]), tmp_path / "other")
    assert used[-1] is before


def test_the_batch_follows_the_free_memory(host_runner, host_gpu, videos, tmp_path, monkeypatch):
    there = device.open_device(RunConfig(*videos, tmp_path, device="gpu"))
    info = there.open_video(videos[0]).info
    assert there.batch(info) == device.MOST_FRAMES
    monkeypatch.setattr(host_gpu.cuda.runtime, "memGetInfo", lambda: (2**20, 2**30))
    assert there.batch(info) == 1


def test_context_switching_is_for_the_cpu(host_gpu, videos, tmp_path):
    with pytest.raises(DeviceError, match="--device cpu"):
        on_gpu(videos, tmp_path, network="context-switching")
    auto = device.open_device(RunConfig(*videos, tmp_path, network="context-switching"))
    assert auto.name == "cpu"


def test_a_run_writes_the_same_twice(host_runner, host_gpu, videos, tmp_path):
    for name in ("a", "b"):
        on_gpu(videos, tmp_path / name)
    for i in range(FRAMES):
        assert np.array_equal(picture(tmp_path / "a", i), picture(tmp_path / "b", i))
