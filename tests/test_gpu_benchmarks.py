"""The GPU's benchmarks without one: that they judge rightly and time what they say they time. What
the times are, only a GPU can tell."""

from __future__ import annotations

import ctypes
import json
import os
import stat
import subprocess
import sys
import types
from pathlib import Path

import cv2
import fakecupy
import numpy as np
import pytest

from benchmarks import device_clock, kernel_counterparts, kernels
from benchmarks.device_clock import FEWEST_COPIES, MOST_COPIES, DeviceClock
from benchmarks.kernel_counterparts import COUNTERPARTS, Missing
from benchmarks.kernel_work import EXACT, OnDevice, Tolerance, check
from benchmarks.measure import WrongResult
from howard import cuda
from howard.errors import DeviceError

SIZE = kernels.QUICK_SIZE
WIDE = 960, 540
"""A frame that is twice its view, so that something is resized, and its edges are a small part."""
SCRIPT = Path(__file__).parent / "gpu" / "run.sh"


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    """What a quick run of all kernels wrote."""
    path = tmp_path_factory.mktemp("kernels") / "kernels.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cuda, "loaded", lambda: fakecupy)
        cuda.module.cache_clear()
        assert kernels.main(["--quick", "--json", str(path)]) == 0
        cuda.module.cache_clear()
    return json.loads(path.read_text())


def test_every_kernel_is_right_and_timed(record):
    speeds = record["results"]["kernels"]
    assert list(speeds) == list(kernels.WORKS)
    assert record["results"]["wrong"] == []
    for speed in speeds.values():
        milliseconds = speed["milliseconds"]
        assert milliseconds["count"] == 2
        assert milliseconds["median"] > 0
        ceiling = speed["copy_milliseconds"]["median"] / milliseconds["median"]
        assert speed["memory_ceiling_share"] == pytest.approx(ceiling)
        per_second = speed["bytes_moved"] / milliseconds["median"] / 1e6
        assert speed["gigabytes_per_second"] == pytest.approx(per_second)


def test_bytes_are_those_of_the_arrays(record):
    width, height = SIZE
    moved = {name: s["bytes_moved"] for name, s in record["results"]["kernels"].items()}
    matrix = 48
    assert moved["nv12_to_rgb"] == width * height * (1.5 + 3) + matrix
    assert moved["p010_to_rgb"] == width * height * (3 + 3) + matrix
    # The picture and its coverage are read and written; the weight is as large, in floats.
    assert moved["lay_over"] == width * height * (3 + 1 + 4 + 2 * (3 + 1)) + 4


def test_counterparts_are_timed_or_named(record):
    for name, speed in record["results"]["kernels"].items():
        libraries = [c.library for c in COUNTERPARTS.get(name, ())]
        assert sorted([*speed["counterparts"], *speed["left_out"]]) == sorted(libraries)
        assert "cupy" not in speed["left_out"]


@pytest.mark.parametrize("size", [SIZE, WIDE])
def test_a_chain_of_kernels_shares_its_arrays(host_gpu, size):
    work = kernels.WORKS["box_mean"](size)
    assert len(work.arrays()) == 3
    assert work.bytes_moved == 2 * sum(a.nbytes for a in work.arrays().values()) * 2 // 3


class NdImage:
    """SciPy's, with the arrays of the stand-in."""

    def __getattr__(self, name):
        function = getattr(pytest.importorskip("scipy.ndimage"), name)
        return lambda *args, **kwargs: np.asarray(function(*args, **kwargs)).view(fakecupy.Array)


@pytest.fixture
def scipys(monkeypatch):
    """cupyx.scipy.ndimage is SciPy's."""
    monkeypatch.setattr(kernel_counterparts, "ndimage", NdImage)


class HostMatrix:
    """cv2.cuda on the CPU."""

    INSTEAD = types.SimpleNamespace(
        wrapStream=lambda pointer: pointer,
        createGpuMatFromCudaMemory=lambda rows, cols, kind, pointer: HostMatrix.at(
            rows, cols, {cv2.CV_8UC1: 1, cv2.CV_8UC3: 3}[kind], pointer
        ),
        resize=lambda source, size, out, fx, fy, how, stream: cv2.resize(
            source, size, out, fx, fy, how
        ),
        warpPerspective=lambda source, matrix, size, out, how, stream: cv2.warpPerspective(
            source, matrix, size, out, how
        ),
        cvtColor=lambda source, code, out, channels, stream: cv2.cvtColor(
            source, code, out, channels
        ),
    )

    @staticmethod
    def at(rows: int, cols: int, channels: int, pointer: int) -> np.ndarray:
        memory = (ctypes.c_uint8 * (rows * cols * channels)).from_address(pointer)
        shape = (rows, cols, channels) if channels > 1 else (rows, cols)
        return np.frombuffer(memory, np.uint8).reshape(shape)


@pytest.fixture
def opencvs(monkeypatch):
    """cv2.cuda is OpenCV's code for the CPU."""
    monkeypatch.setattr(kernel_counterparts, "opencv", lambda: HostMatrix.INSTEAD)


@pytest.mark.parametrize("name", COUNTERPARTS)
def test_counterparts_do_what_the_kernel_does(name, host_gpu, scipys, opencvs):
    size = WIDE if name in ("resize_area", "draw_plate_plain") else SIZE
    work = kernels.WORKS[name](size)
    ours, given = OnDevice(work), OnDevice(work)
    ours.run()
    for counterpart in COUNTERPARTS[name]:
        kernels.checked(counterpart, given, ours.outputs())


def test_a_counterpart_that_does_something_else_is_not_timed(host_gpu):
    work = kernels.WORKS["luma_from_rgb"](SIZE)
    not_run = OnDevice(work)
    with pytest.raises(WrongResult, match="cupy is off"):
        kernels.checked(COUNTERPARTS["luma_from_rgb"][0], not_run, not_run.outputs())


def test_a_library_that_fails_is_named(host_gpu):
    broken = types.SimpleNamespace(make=lambda a: lambda: 1 / 0)
    work = OnDevice(kernels.WORKS["luma_from_rgb"](SIZE))
    with pytest.raises(Missing, match="ZeroDivisionError"):
        kernels.checked(broken, work, {})


def test_a_wrong_kernel_is_named_and_not_timed(host_gpu, monkeypatch, tmp_path, capsys):
    def wrong(size):
        work = luma(size)
        work.steps[0].args[0][:] = 0
        expected = {"luma": np.full_like(work.steps[0].args[3], 9)}
        return type(work)(work.steps, work.tolerances, lambda: expected)

    def failing(size):
        raise RuntimeError("it does not compile")

    luma, path = kernels.WORKS["luma_from_rgb"], tmp_path / "kernels.json"
    monkeypatch.setitem(kernels.WORKS, "luma_from_rgb", wrong)
    monkeypatch.setitem(kernels.WORKS, "blur", failing)
    only = ["--only", "luma_from_rgb", "blur", "corner_score"]
    assert kernels.main(["--quick", *only, "--json", str(path)]) == 1
    results = json.loads(path.read_text())["results"]
    assert list(results["kernels"]) == ["corner_score"]
    assert results["wrong"] == [
        "luma_from_rgb: luma is off by up to 9, 100.00% of it too far",
        "blur: RuntimeError: it does not compile",
    ]
    assert results["wrong"][0] in capsys.readouterr().err


@pytest.mark.parametrize(
    ("got", "tolerance", "is_right"),
    [
        ([1.0, 2.0, 3.0], EXACT, True),
        ([1.0, 2.0, 3.5], EXACT, False),
        ([1.0, 2.0, 3.5], Tolerance(0.5), True),
        ([1.0, 2.0, 3.5], Tolerance(0.1, relative=0.2), True),
        ([1.0, 2.0, 9.0], Tolerance(0.1, beyond=0.34), True),
        ([1.0, 2.0, np.nan], Tolerance(100.0), False),
    ],
)
def test_what_is_off_is_counted(got, tolerance, is_right):
    want = np.array([1.0, 2.0, 3.0])
    if is_right:
        check("it", np.array(got), want, tolerance)
    else:
        with pytest.raises(WrongResult, match=r"33\.33% of it too far"):
            check("it", np.array(got), want, tolerance)


def test_a_part_may_stand_for_the_whole():
    check("it", np.arange(12).reshape(3, 4), np.array([[0, 1], [4, 5]]), EXACT)


class BusyDevice:
    """CuPy of a device that is at its ballast until it has less of it than `needed`."""

    def __init__(self, needed: int) -> None:
        self.needed, self.copied, self.seconds = needed, 0, 0.0
        self.cuda = types.SimpleNamespace(
            Event=lambda: types.SimpleNamespace(
                record=lambda: None, synchronize=self.synchronize, done=False
            ),
            get_elapsed_time=lambda begin, end: 6.0,
        )
        self.uint8, self.zeros, self.begin = np.uint8, np.zeros, None

    def copyto(self, there, here):
        self.copied += 1
        self.begin.done = self.copied < self.needed

    def synchronize(self):
        self.measured, self.copied = self.copied, 0


@pytest.mark.parametrize(
    ("needed", "copies"), [(1, FEWEST_COPIES), (9, 16), (10 * MOST_COPIES, MOST_COPIES)]
)
def test_the_clock_lets_the_host_get_ahead(monkeypatch, needed, copies):
    device, calls = BusyDevice(needed), []
    monkeypatch.setattr(device_clock, "cupy", lambda: device)
    clock = DeviceClock(repeats=3, ballast_bytes=8)
    device.begin = clock.begin
    call = lambda: calls.append(device.copied)  # noqa: E731
    assert clock(call) == 2.0
    assert device.measured == clock.copies[call] == copies
    assert calls[-3:] == [copies] * 3
    clock(call)  # which now begins with as many
    assert len(calls) % 3 == 0
    assert calls[-3:] == [copies] * 3


def test_without_a_gpu_kernels_say_so_in_a_line(monkeypatch, capsys):
    def none() -> None:
        raise DeviceError("no NVIDIA GPU can be used")

    monkeypatch.setattr(cuda, "loaded", none)
    assert kernels.main(["--device", "gpu"]) == 2
    assert capsys.readouterr().err == "no NVIDIA GPU can be used\n"


def test_names_of_kernels_and_of_groups(host_gpu, capsys):
    assert kernels.names_of([]) == list(kernels.WORKS)
    assert kernels.names_of(["blur", "frames"]) == [*kernels.GROUPS["frames"], "blur"]
    assert kernels.main(["--only", "blurr"]) == 2
    assert "blurr: no such kernel" in capsys.readouterr().err


# tests/gpu/run.sh

STUB = """#!/bin/sh
echo "$@" >> "$CALLS"
case "$*" in *"{}"*) [ -n "$HANGS" ] && sleep 60; echo broken; exit 3;; esac
"""


@pytest.fixture
def script(tmp_path):
    """Runs run.sh with a Python that only notes how it is called; and what it noted."""
    calls, python = tmp_path / "calls", tmp_path / "python"

    def run(*steps: str, fails: str = "nothing", **more: str) -> tuple[int, str, str]:
        python.write_text(STUB.format(fails))
        python.chmod(python.stat().st_mode | stat.S_IXUSR)
        calls.write_text("")
        # No /usr/local/bin, where CUDA's tools may be.
        known = {"PATH": "/usr/bin:/bin", "PYTHON": str(python), "CALLS": str(calls)}
        done = subprocess.run(
            ["bash", SCRIPT, str(tmp_path / "out"), *steps],
            env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | known | more,
            capture_output=True,
            text=True,
        )
        assert not done.stderr
        summary = (tmp_path / "out" / "summary.txt").read_text()
        assert summary == done.stdout
        return done.returncode, summary, calls.read_text()

    return run


def test_every_step_runs_whatever_became_of_the_others(script):
    code, summary, calls = script(fails="-m pytest")
    assert code == 1
    ended = {line.split()[0]: line.split(None, 1)[1] for line in summary.splitlines()}
    ended = {name: words.split(",")[0] for name, words in ended.items()}
    assert ended.pop("suite") == ended.pop("device") == "status 3"
    for name in ("compile", "memcheck", "racecheck", "synccheck"):  # as this machine's tools allow
        assert ended.pop(name).startswith(("status", "left out: there is no"))
    assert set(ended.values()) == {"status 0"}
    assert "build_engine.py --plan" in calls
    benchmarks = {"kernels-1080p", "kernels-2160p", "stages-1080p"}
    benchmarks |= {f"end-to-end-{size}" for size in ("480p", "1080p", "2160p")}
    assert benchmarks <= set(ended)
    for name in benchmarks:
        assert f"/{name}.json" in calls
    assert "-c import importlib, sys" in calls


def test_a_step_that_hangs_is_ended(script):
    code, summary, _ = script("golden", fails="golden.py", HOWARD_STEP_SECONDS="1", HANGS="1")
    assert code == 1
    assert summary.split()[:3] == ["golden", "status", "124,"]


def test_named_steps_run_alone(script):
    code, summary, calls = script("golden", "kernels-1080p")
    assert code == 0
    assert [line.split()[0] for line in summary.splitlines()] == ["kernels-1080p", "golden"]
    assert len(calls.splitlines()) == 2


def test_a_plan_is_left_out_without_tensorrt(script):
    code, summary, calls = script("plan", fails="importlib.util")
    assert code == 0
    assert "left out: there is no TensorRT" in summary
    assert "--plan" not in calls


def test_wheels_are_installed_one_by_one_if_not_together(script, tmp_path):
    folder = tmp_path / "wheels"
    folder.mkdir()
    for name in ("a.whl", "b.whl"):
        (folder / name).touch()
    _, summary, calls = script("golden", fails="a.whl", HOWARD_WHEELS=str(folder))
    installs = [line.split(" --target ")[1].split()[1:] for line in calls.splitlines()[:3]]
    a, b = str(folder / "a.whl"), str(folder / "b.whl")
    assert installs == [[a, b], [a], [b]]
    assert "wheels" in summary


@pytest.mark.parametrize("size", ["1080p", "2160p"])
def test_the_scripts_benchmarks_take_their_options(size, monkeypatch):
    """Options that are misspelt would show on a GPU only."""
    text = SCRIPT.read_text().replace("\\\n", " ")
    commands = [line.split("-m benchmarks.")[1] for line in text.splitlines() if "-m bench" in line]
    assert len(commands) == 4
    for command in commands:
        words = command.replace("$size", size).replace("$frames", "9").replace('"', "").split()
        module = sys.modules.get(f"benchmarks.{words[0]}") or __import__(
            f"benchmarks.{words[0]}", fromlist=["main"]
        )
        monkeypatch.setattr(module, "environment", lambda: pytest.fail("parsed"))
        with pytest.raises(pytest.fail.Exception, match="parsed"):
            module.main(words[1:])
