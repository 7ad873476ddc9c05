"""A shot made in parts: by calls of their own, or by several processes that share it."""

import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from shutil import copytree

import cv2
import pytest

from howard.config import RunConfig
from howard.decode import open_video
from howard.decode.video import VideoFile
from howard.engine import ranges
from howard.engine.__main__ import main
from howard.engine.advice import AGAIN
from howard.engine.children import Child, gpu_seats
from howard.engine.commands import parse
from howard.engine.progress import Progress
from howard.engine.ranges import Merge, parts, run_in_ranges, share_out
from howard.engine.run import run
from howard.errors import ConfigError, HowardError
from howard.write import frame_path
from tests.media import write_video
from tests.test_run import picture, pictures, plate_frame, report, shot_frame

pytestmark = pytest.mark.usefixtures("no_gpu")

FRAMES = 6
SEATS = [{}, {}]
HAIR = 2
"""Levels of 255, mean: a range begins without what the frames before it told of the person, as a
frame does in a batch."""


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    shot = write_video(folder / "shot.mp4", map(shot_frame, range(FRAMES)))
    return shot, write_video(folder / "clean_plate.mp4", map(plate_frame, range(FRAMES + 3)))


@pytest.fixture(scope="module")
def whole(videos, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole")
    run(RunConfig(*videos, out, device="cpu"))
    return out


def shared(videos, out, **options):
    with Progress() as progress:
        done = run_in_ranges(RunConfig(*videos, out, device="cpu", **options), progress, SEATS)
    return done, progress


def assert_same(out, whole, indices=range(FRAMES)):
    assert pictures(out) == [f"{i:06d}.png" for i in indices]
    for i in indices:
        assert cv2.absdiff(picture(out, i), picture(whole, i)).mean() < HAIR


def indices(out):
    return [row["index"] for row in report(out)["frames"]]


def test_a_range_makes_its_frames_and_a_later_one_adds_to_them(videos, whole, tmp_path):
    first = run(RunConfig(*videos, tmp_path, frames="3:5"))
    assert (first.frames, first.resumed) == (2, 0)
    assert_same(tmp_path, whole, range(3, 5))
    assert indices(tmp_path) == [3, 4]
    here, there = (report(out)["frames"][i] for out, i in ((tmp_path, 0), (whole, 3)))
    assert here["pts_seconds"] == there["pts_seconds"]
    for row in (here, there):  # frame 3 is made of plate 4, beside which two fit nearly as well
        assert abs(row["plate_index"] - 4) <= 1
    assert here["fallback"] is None
    with Progress() as progress:
        second = run(RunConfig(*videos, tmp_path, frames=":4"), progress.begin)
    assert (second.frames, second.resumed) == (5, 2)
    assert (progress.total, progress.resumed, progress.done) == (4, 1, 4)
    assert_same(tmp_path, whole, range(5))
    assert indices(tmp_path) == list(range(5))


def test_a_range_on_the_gpu_is_that_of_the_cpu(host_runner, host_gpu, videos, whole, tmp_path):
    run(RunConfig(*videos, tmp_path, device="gpu", frames="4:"))
    assert pictures(tmp_path) == ["000004.png", "000005.png"]
    for i in (4, 5):
        here, there = (picture(out, i)[..., 3] for out in (tmp_path, whole))
        assert cv2.absdiff(here, there).mean() < HAIR


@pytest.mark.parametrize(
    "frames", ["3", "5:2", "2:2", "a:b", "1:2:3", "", "-2:", "1.5:3", "0:7", "6:", "9:12"]
)
def test_a_range_that_makes_no_sense_is_one_line_and_exit_2(videos, tmp_path, capsys, frames):
    out = tmp_path / "out"
    assert main(["run", *map(str, videos), str(out), f"--frames={frames}"]) == 2
    error = capsys.readouterr().err.strip()
    assert "\n" not in error
    assert f"--frames is {frames}" in error
    assert not out.exists()


def test_a_frame_beyond_a_length_that_was_stated_wrongly_can_be_had(videos, tmp_path, monkeypatch):
    shot = write_video(tmp_path / "a.mpg", map(shot_frame, range(FRAMES)), codec="mpeg2video")
    monkeypatch.setattr(VideoFile, "length", lambda self: FRAMES - 1)
    with closing(open_video(shot)) as reader:
        assert reader.info.frames == FRAMES - 1
    out = tmp_path / "out"
    assert run(RunConfig(shot, videos[1], out, frames=f"{FRAMES - 1}:{FRAMES}")).frames == 1
    with pytest.raises(ConfigError, match=f"has {FRAMES} frames"):
        run(RunConfig(shot, videos[1], out, frames=f"{FRAMES}:"))


def test_folders_that_only_look_like_parts_are_left_alone(videos, tmp_path):
    for name in (".part-mine", ".part-000001.old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "notes.txt").write_text("mine")
    (tmp_path / ".part-000003").mkdir()
    assert [part.name for part in parts(tmp_path)] == [".part-000003"]


def test_two_processes_make_what_one_makes(videos, whole, tmp_path):
    done, progress = shared(videos, tmp_path)
    assert_same(tmp_path, whole)
    assert (done.frames, done.resumed, done.fallbacks) == (FRAMES, 0, 0)
    assert (progress.total, progress.done) == (FRAMES, FRAMES)
    here, there = report(tmp_path), report(whole)
    assert here["run"] == there["run"]
    assert done.device == there["run"]["device"]
    assert indices(tmp_path) == list(range(FRAMES))
    assert here["frames"][0].keys() == there["frames"][0].keys()
    assert here["totals"].keys() == there["totals"].keys()
    totals = here["totals"]
    assert totals["frames"] == FRAMES
    assert totals["frames_per_second"] == pytest.approx(FRAMES / totals["seconds"], rel=0.05)
    assert totals["peak_memory_mb"] > there["totals"]["peak_memory_mb"]
    assert sorted(p.name for p in tmp_path.iterdir()) == [*pictures(tmp_path), "report.json"]


def test_only_what_is_missing_is_made_again(videos, whole, tmp_path):
    copytree(whole, tmp_path, dirs_exist_ok=True)
    for i in (0, 3):
        frame_path(tmp_path, i).unlink()
    before = {p: p.stat().st_mtime_ns for p in tmp_path.glob("*.png")}
    done, progress = shared(videos, tmp_path)
    assert (done.frames, done.resumed, progress.done) == (FRAMES, 4, FRAMES)
    assert_same(tmp_path, whole)
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert indices(tmp_path) == list(range(FRAMES))
    stands = (tmp_path / "report.json").read_bytes()
    assert shared(videos, tmp_path)[0].resumed == FRAMES
    assert (tmp_path / "report.json").read_bytes() == stands


def test_the_error_of_a_process_is_told_and_the_others_end(videos, tmp_path, monkeypatch, capsys):
    weights = tmp_path / "text.onnx"
    weights.write_text("no model")
    with pytest.raises(HowardError, match=r"text\.onnx"):
        shared(videos, tmp_path / "out", weights=weights)
    monkeypatch.setattr(ranges, "gpu_seats", lambda count: SEATS)
    words = ["run", *map(str, videos), str(tmp_path / "out"), f"--weights={weights}"]
    assert main([*words, "--device=cpu", "--overwrite"]) == 2
    error = capsys.readouterr().err.strip()
    assert "\n" not in error
    assert "text.onnx" in error


def test_a_signal_ends_all_and_one_process_can_go_on(tmp_path):
    shot = write_video(tmp_path / "shot.mp4", map(shot_frame, range(40)))
    clean_plate = write_video(tmp_path / "clean_plate.mp4", map(plate_frame, range(60)))
    out = tmp_path / "out"
    script = tmp_path / "shared.py"
    script.write_text(
        "import sys\n"
        "from pathlib import Path\n"
        "from howard.config import RunConfig\n"
        "from howard.engine.progress import Progress\n"
        "from howard.engine.ranges import run_in_ranges\n"
        "config = RunConfig(*map(Path, sys.argv[1:]), device='cpu')\n"
        "run_in_ranges(config, Progress(), [{}, {}])\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    words = [sys.executable, script, shot, clean_plate, out]
    parent = subprocess.Popen(list(map(str, words)), env=environment, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while len(list(out.glob(".part-*/*.png"))) < 3 and time.monotonic() < deadline:
        assert parent.poll() is None
        time.sleep(0.02)
    parent.send_signal(signal.SIGTERM)
    _, error = parent.communicate(timeout=60)
    assert b"KeyboardInterrupt" in error
    made = len(list(out.glob(".part-*/*.png")))
    assert 3 <= made < 40
    time.sleep(0.5)
    assert len(list(out.glob(".part-*/*.png"))) == made
    words = ["run", shot, clean_plate, out, "--frames=:4", "--device=cpu"]
    assert main(list(map(str, words))) == 0
    stored = report(out)
    assert stored["totals"]["resumed"] == made
    assert len(indices(out)) == stored["totals"]["frames"]
    assert set(range(4)) <= set(indices(out))
    assert not list(parts(out))


@pytest.mark.parametrize(
    ("wanted", "frames", "done", "seats", "expected"),
    [
        (range(100), 100, [], 2, [(0, 50), (50, 100)]),
        (range(sys.maxsize), 100, [], 2, [(0, 50), (50, sys.maxsize)]),
        (range(10, 20), 100, [], 3, [(10, 13), (13, 16), (16, 20)]),
        (range(sys.maxsize), 2, [], 8, [(0, 1), (1, sys.maxsize)]),
        (range(100), 100, range(100), 2, []),
        (range(100), 100, [*range(40), 42, *range(50, 80)], 2, [(40, 50), (80, 90), (90, 100)]),
        (range(5, sys.maxsize), None, [5, 6], 4, [(7, sys.maxsize)]),
        (range(5, 7), None, [5, 6], 4, []),
    ],
)
def test_what_is_missing_is_shared_out_evenly(wanted, frames, done, seats, expected):
    found = share_out(wanted, frames, lambda index: index in done, seats)
    assert [(r.start, r.stop) for r in found] == expected


def test_totals_of_processes_are_taken_together():
    merge = Merge(journal=None)
    assert merge.totals() == {}
    merge.by_seat = [
        (seat, {"frames": frames, "batch": batch, "device_memory_mb": mb, "downloads_per_frame": n})
        for seat, frames, batch, mb, n in ((0, 10, 4, 100.0, 1.0), (1, 30, 2, 50.0, 2.0))
    ]
    merge.by_seat.append((1, {**merge.by_seat[1][1], "frames": 0, "device_memory_mb": 60.0}))
    expected = {"batch": 2, "device_memory_mb": 160.0, "downloads_per_frame": 1.75}
    assert merge.totals() == expected


def test_gpus_are_those_that_can_be_seen(host_gpu, monkeypatch):
    monkeypatch.setattr(host_gpu.cuda.runtime, "getDeviceCount", lambda: 3)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a, 2,5")
    assert [s["CUDA_VISIBLE_DEVICES"] for s in gpu_seats(0)] == ["GPU-a", "2", "5"]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert [s["CUDA_VISIBLE_DEVICES"] for s in gpu_seats(2)] == ["0", "1"]
    with pytest.raises(ConfigError, match="3 can be used"):
        gpu_seats(4)


@pytest.mark.parametrize(
    ("options", "told"),
    [(["--gpus=-1"], "--gpus is -1"), (["--gpus=2", "--device=cpu"], "--gpus 2 is for")],
)
def test_gpus_that_make_no_sense_are_one_line_and_exit_2(videos, tmp_path, capsys, options, told):
    assert main(["run", *map(str, videos), str(tmp_path / "out"), *options]) == 2
    error = capsys.readouterr().err.strip()
    assert "\n" not in error
    assert told in error


def test_gpus_are_refused_plainly_where_there_are_none(videos, tmp_path, capsys):
    assert main(["run", *map(str, videos), str(tmp_path / "out"), "--gpus=0"]) == 2
    error = capsys.readouterr().err.strip()
    assert "\n" not in error
    assert "leave --gpus out" in error
    assert not (tmp_path / "out").exists()


def test_a_process_is_given_its_gpu_its_range_and_the_options(videos, tmp_path, monkeypatch):
    started = []
    monkeypatch.setattr(subprocess, "Popen", lambda words, **how: started.append((words, how)))
    config = RunConfig(
        *videos, tmp_path, device="gpu", gpus=2, batch=3, bit_depth=16, steady=False, overwrite=True
    )
    Child(config, range(4, sys.maxsize), {"CUDA_VISIBLE_DEVICES": "5"})
    [(words, how)] = started
    again = parse(words[3:])
    assert again == replace(
        config, out=tmp_path / ".part-000004", frames="4:", gpus=1, overwrite=False
    )
    assert how["env"]["CUDA_VISIBLE_DEVICES"] == "5"


@pytest.mark.parametrize(
    ("does", "error", "told"),
    [
        ("kill -9 $$", HowardError, "SIGKILL"),
        ("echo Traceback: a bug >&2; exit 1", RuntimeError, "a bug"),
        ("echo some warning >&2; echo howard: no room >&2; exit 2", HowardError, "^no room$"),
    ],
)
def test_how_a_process_ended_is_told(videos, tmp_path, monkeypatch, does, error, told):
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\n{does}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    with pytest.raises(error, match=told):
        shared(videos, tmp_path / "out")


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    "does", ["kill -9 $$", f"echo 'howard: no room; {AGAIN}: it goes on from there' >&2; exit 2"]
)
def test_after_what_ended_a_process_the_parents_command_is_advised(
    videos, tmp_path, monkeypatch, does, overwrite
):
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\n{does}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    with pytest.raises(HowardError) as ended:
        shared(videos, tmp_path / "out", overwrite=overwrite)
    option = ", without --overwrite" if overwrite else ""
    assert ended.value.__notes__ == [f"{AGAIN}{option}: it goes on from there"]
    assert AGAIN not in str(ended.value)


def test_weights_that_are_not_there_are_one_line_where_parts_are_left(videos, tmp_path, capsys):
    (tmp_path / "out" / ".part-000000").mkdir(parents=True)
    wanted = ["run", *map(str, videos), str(tmp_path / "out"), "--weights", "none.onnx"]
    assert main(wanted) == 2
    assert capsys.readouterr().err.strip().startswith("howard: weights none.onnx do not exist")


def test_one_process_alone_refuses_several_gpus(videos, tmp_path):
    with pytest.raises(ConfigError, match="run_in_ranges"):
        run(RunConfig(*videos, tmp_path, gpus=2))
