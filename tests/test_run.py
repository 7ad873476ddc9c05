"""The whole program: two videos in, RGBA pictures and a report out."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import cv2
import numpy as np
import pytest

from howard.align.cpu import OpenCVAligner
from howard.config import RunConfig
from howard.decode.video import VideoFile
from howard.engine.__main__ import main
from howard.engine.run import run
from howard.errors import ConfigError, DeviceError, InputError, OutputError, WeightsError
from howard.matte import second
from howard.matte.cpu import OnnxMattingNetwork
from tests.media import write_image, write_sound, write_video
from tests.test_random_access import read_counter
from tests.test_write import HALF_A_LEVEL

pytestmark = pytest.mark.usefixtures("no_gpu")

SIZE = (192, 128)


def place(margin=24):
    rng = np.random.default_rng(0)
    size = (SIZE[0] + 2 * margin, SIZE[1] + 2 * margin)
    cells = rng.integers(0, 255, (40, 60, 3), np.uint8)
    return cv2.resize(cells, size, interpolation=cv2.INTER_CUBIC)


def plate_frame(i, size=SIZE):
    x = 12 + i % 20
    view = place()[16 : 16 + SIZE[1], x : x + SIZE[0]]
    return np.ascontiguousarray(cv2.resize(view, size))


def shot_frame(i, size=SIZE):
    view = plate_frame(i + 1, SIZE).copy()
    cv2.ellipse(view, (96, 110), (24, 60), 0, 0, 360, (250, 60, 40), -1, cv2.LINE_AA)
    cv2.circle(view, (96, 40), 16, (240, 200, 170), -1, cv2.LINE_AA)
    return np.ascontiguousarray(cv2.resize(view, size))


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    shot = write_video(folder / "shot.mp4", map(shot_frame, range(6)))
    return shot, write_video(folder / "clean_plate.mp4", map(plate_frame, range(9)))


@pytest.fixture(scope="module")
def finished(videos, tmp_path_factory):
    out = tmp_path_factory.mktemp("finished") / "out"
    return out, run(RunConfig(*videos, out, device="cpu"))


def report(out):
    return json.loads((out / "report.json").read_text())


def picture(out, index):
    return cv2.imread(str(out / f"{index:06d}.png"), cv2.IMREAD_UNCHANGED)


def pictures(out):
    return sorted(p.name for p in out.glob("*.png"))


def test_every_frame_becomes_an_rgba_picture_of_its_size(finished):
    out, _ = finished
    assert pictures(out) == [f"{i:06d}.png" for i in range(6)]
    for i in range(6):
        assert picture(out, i).shape == (SIZE[1], SIZE[0], 4)
        assert picture(out, i).dtype == np.uint8


def test_the_colour_under_transparent_pixels_is_clean(finished):
    rgba = picture(finished[0], 3)
    assert rgba[rgba[..., 3] == 0].max(initial=0) == 0


def test_the_report_tells_of_every_frame(finished):
    out, returned = finished
    stored = report(out)
    assert [row["index"] for row in stored["frames"]] == list(range(6))
    for row in stored["frames"]:
        assert len(row["homography_frame_from_plate"]) == 9
        assert set(row["milliseconds"]) == {"decode", "align", "matte", "write"}
        assert all(v >= 0 for v in row["milliseconds"].values())
        assert row["inliers"] <= row["matches"] <= row["keypoints"]
        assert 0 <= row["coverage"] <= 1
        assert row["fallback"] is None
    totals = stored["totals"]
    assert totals["frames"] == returned.frames == 6
    assert totals["frames_per_second"] == pytest.approx(6 / totals["seconds"], rel=0.05)
    assert totals["peak_memory_mb"] > 50
    assert (returned.device, stored["run"]["device"]) == ("cpu", "cpu")
    assert "device" not in totals


def test_the_frames_keep_their_times(finished):
    times = [row["pts_seconds"] for row in report(finished[0])["frames"]]
    assert times == pytest.approx([i / 30 for i in range(6)], abs=1e-3)


def test_the_plates_follow_the_camera(finished):
    rows = report(finished[0])["frames"]
    assert [row["plate_index"] for row in rows] == pytest.approx([i + 1 for i in range(6)], abs=1)


def test_batches_give_the_same_pictures(videos, finished, tmp_path):
    # A batch learns of the person only afterwards: the plates may differ by a hair.
    run(RunConfig(*videos, tmp_path, batch=4))
    assert pictures(tmp_path) == pictures(finished[0])
    for i in range(6):
        assert cv2.absdiff(picture(tmp_path, i), picture(finished[0], i)).mean() < 2


def test_two_runs_give_the_same_bytes_with_any_number_of_threads(videos, tmp_path):
    outs = tmp_path / "a", tmp_path / "b"
    for number, out in enumerate(outs, 1):
        run(RunConfig(*videos, out, threads=number, writers=number))
    for name in pictures(outs[0]):
        assert (outs[0] / name).read_bytes() == (outs[1] / name).read_bytes()


def test_a_second_run_changes_nothing(videos, finished):
    out, _ = finished
    before = {p: p.stat().st_mtime_ns for p in out.glob("*.png")}
    again = run(RunConfig(*videos, out))
    assert again.resumed == again.frames == 6
    assert {p: p.stat().st_mtime_ns for p in out.glob("*.png")} == before


def test_a_missing_picture_alone_is_made_again(videos, finished, tmp_path):
    out, _ = finished
    kept = picture(out, 2)
    (out / "000002.png").unlink()
    again = run(RunConfig(*videos, out))
    assert (again.resumed, again.frames) == (5, 6)
    assert cv2.absdiff(picture(out, 2), kept).mean() < 2
    assert len(report(out)["frames"]) == 6


def test_what_is_finished_is_not_read_again(tmp_path, monkeypatch):
    for i in range(12):
        write_image(tmp_path / "shot" / f"{i:02d}.png", shot_frame(0))
    still = write_image(tmp_path / "plate.png", plate_frame(0))
    config = RunConfig(tmp_path / "shot", still, tmp_path / "out", device="cpu")
    run(config)
    (tmp_path / "out" / "000010.png").unlink()
    read = read_counter(monkeypatch)
    assert run(config).resumed == 11
    names = {path.name for path in read}
    assert "10.png" in names
    # What lies behind those that are read ahead when the folder is opened.
    assert not {"06.png", "07.png", "08.png", "09.png", "11.png"} & names


def test_paths_may_be_text(videos, tmp_path):
    shot, clean_plate = map(str, videos)
    config = RunConfig(shot, clean_plate, str(tmp_path / "out"), frames=":1", debug=str(tmp_path))
    assert config == RunConfig(*videos, tmp_path / "out", frames=":1", debug=tmp_path)
    assert run(config).frames == 1


def test_a_still_clean_plate_serves_every_frame(videos, tmp_path):
    still = write_image(tmp_path / "plate.png", plate_frame(3))
    run(RunConfig(videos[0], still, tmp_path / "out"))
    assert {row["plate_index"] for row in report(tmp_path / "out")["frames"]} == {0}


def test_folders_of_images_are_videos_too(tmp_path):
    for i in range(3):
        write_image(tmp_path / "shot" / f"{i}.png", shot_frame(i))
        write_image(tmp_path / "plates" / f"{i}.jpg", plate_frame(i))
    pattern = tmp_path / "plates" / "*.jpg"
    assert run(RunConfig(tmp_path / "shot", pattern, tmp_path / "out")).frames == 3


def test_an_odd_size_and_a_plate_of_another_size_and_rate(videos, tmp_path):
    odd = (161, 107)
    frames = (shot_frame(i, odd) for i in range(3))
    shot = write_video(tmp_path / "odd.mkv", frames, pix_fmt="yuv444p")
    plates = (plate_frame(i, (384, 256)) for i in range(4))
    clean_plate = write_video(tmp_path / "large.mp4", plates, rate=24)
    run(RunConfig(shot, clean_plate, tmp_path / "out"))
    assert picture(tmp_path / "out", 0).shape == (107, 161, 4)
    assert all(row["fallback"] is None for row in report(tmp_path / "out")["frames"])


def test_black_frames_do_not_end_the_run(videos, tmp_path):
    black = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
    frames = [black, shot_frame(1), black, shot_frame(3)]
    shot = write_video(tmp_path / "shot.mp4", frames)
    run(RunConfig(shot, videos[1], tmp_path / "out"))
    fallbacks = [row["fallback"] for row in report(tmp_path / "out")["frames"]]
    assert fallbacks == ["identity", None, "last_homography", None]


def test_a_truncated_shot_is_done_as_far_as_it_goes(videos, tmp_path):
    shot = write_video(tmp_path / "shot.mkv", map(shot_frame, range(40)))
    data = shot.read_bytes()
    shot.write_bytes(data[: len(data) // 2])
    done = run(RunConfig(shot, videos[1], tmp_path / "out"))
    assert 0 < done.frames < 40
    assert len(pictures(tmp_path / "out")) == done.frames
    assert "shot.mkv" in " ".join(report(tmp_path / "out")["warnings"])


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("kind", ["missing", "empty_folder", "text", "audio", "zero_bytes"])
def test_unusable_input_is_one_line_and_exit_2(videos, tmp_path, capsys, which, kind):
    bad = tmp_path / "bad.mp4"
    if kind == "empty_folder":
        bad.mkdir()
    elif kind == "text":
        bad.write_text("this is not a video\n" * 50)
    elif kind == "audio":
        write_sound(bad)
    elif kind == "zero_bytes":
        bad.touch()
    inputs = list(videos)
    inputs[which] = bad
    assert main(["run", *map(str, inputs), str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err.strip()
    assert "\n" not in error
    assert "bad.mp4" in error
    assert not (tmp_path / "out").exists()


def test_an_output_that_is_a_file_is_refused_and_kept(videos, tmp_path, capsys):
    out = tmp_path / "out"
    out.write_text("mine")
    assert main(["run", *map(str, videos), str(out)]) == 2
    assert "out" in capsys.readouterr().err
    assert out.read_text() == "mine"


LONGER_THAN_A_NAME = "x" * 300


def test_paths_that_the_system_refuses_are_one_line_and_exit_2(videos, tmp_path, capsys):
    assert main(["run", *map(str, videos), str(tmp_path / LONGER_THAN_A_NAME)]) == 2
    assert "File name too long" in capsys.readouterr().err
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    assert main(["run", *map(str, videos), str(loop)]) == 2
    assert "loop" in capsys.readouterr().err
    picture = write_image(tmp_path / "shot" / "000000.png", shot_frame(0))
    assert main(["run", str(picture), str(videos[1]), str(loop)]) == 2
    assert "loop" in capsys.readouterr().err
    weights = tmp_path / LONGER_THAN_A_NAME
    assert main(["run", *map(str, videos), str(tmp_path / "o"), "--weights", str(weights)]) == 2
    assert "--weights" in capsys.readouterr().err


def test_an_output_of_another_run_is_refused_and_kept(videos, finished, tmp_path):
    out, _ = finished
    still = write_image(tmp_path / "plate.png", plate_frame(0))
    before = picture(out, 0)
    with pytest.raises(OutputError, match="--overwrite"):
        run(RunConfig(videos[0], still, out))
    assert (picture(out, 0) == before).all()


def test_mattes_are_steadied_unless_the_user_says_no(videos, tmp_path):
    for name, steady in (("steady", True), ("as it is", False)):
        run(RunConfig(*videos, tmp_path / name, frames=":3", steady=steady))
        assert report(tmp_path / name)["run"]["steady"] is steady
    drawn, own = (
        [picture(tmp_path / name, i) for i in range(3)] for name in ("steady", "as it is")
    )
    assert (drawn[0] == own[0]).all()
    assert (drawn[2] != own[2]).any()
    with pytest.raises(OutputError, match="another run, with steady False"):
        run(RunConfig(*videos, tmp_path / "as it is", frames=":3"))


def test_the_aligner_is_told_where_somebody_may_be(videos, tmp_path, monkeypatch):
    """In doubt too: the network's is one number here, everywhere, from the second frame on."""
    told, doubts, call = [], iter([0.0, 0.5, 0.5]), OnnxMattingNetwork.__call__

    def doubtful(network, frames, plates):
        doubt = next(doubts)
        return [
            replace(m, alpha=m.alpha * (doubt == 0), doubt=np.full((9, 16), doubt, np.float32))
            for m in call(network, frames, plates)
        ]

    monkeypatch.setattr(OnnxMattingNetwork, "__call__", doubtful)
    monkeypatch.setattr(OpenCVAligner, "observe", lambda _, plate, where: told.append(where))
    monkeypatch.setattr(second, "DOUBTED", 0)
    monkeypatch.setattr(second, "UNSURE", 0)
    run(RunConfig(*videos, tmp_path / "out", frames=":3", steady=False))
    assert [where.shape for where in told] == [(9, 16)] * 2  # of the last frame nobody asks
    assert not picture(tmp_path / "out", 1)[..., 3].any()
    assert (told[0] > 0.9).any()
    assert (told[1][told[0] > 0.9] > 0.9).all()


def test_16_bits_are_the_same_pictures_in_finer_steps(videos, tmp_path):
    for bit_depth in (8, 16):
        run(RunConfig(*videos, tmp_path / str(bit_depth), frames=":2", bit_depth=bit_depth))
    assert report(tmp_path / "16")["run"]["bit_depth"] == 16
    for i in range(2):
        fine, coarse = (picture(tmp_path / bits, i) for bits in ("16", "8"))
        assert fine.dtype == np.uint16
        assert np.abs(fine.astype(int) - 257 * coarse.astype(int)).max() <= HALF_A_LEVEL
    assert len(np.unique(fine[..., 3])) > 256
    with pytest.raises(OutputError, match="another run"):
        run(RunConfig(*videos, tmp_path / "16"))
    assert picture(tmp_path / "16", 0).dtype == np.uint16


def test_bad_input_with_overwrite_loses_nothing(videos, finished, tmp_path):
    out, _ = finished
    with pytest.raises(InputError):
        run(RunConfig(tmp_path / "nothing.mp4", videos[1], out, overwrite=True))
    assert len(pictures(out)) == 6
    assert (out / "report.json").exists()


@pytest.mark.parametrize("overwrite", [False, True])
def test_pictures_that_are_read_are_never_written_over(tmp_path, overwrite):
    for i in range(3):
        write_image(tmp_path / "shot" / f"{i:06d}.png", shot_frame(i))
    still = write_image(tmp_path / "plate.png", plate_frame(0))
    before = {p.name: p.read_bytes() for p in (tmp_path / "shot").iterdir()}
    with pytest.raises(OutputError, match="which is an input"):
        run(RunConfig(tmp_path / "shot", still, tmp_path / "shot", overwrite=overwrite))
    assert {p.name: p.read_bytes() for p in (tmp_path / "shot").iterdir()} == before


@pytest.mark.parametrize("shot", ["shot", "shot/*.png"])
def test_pictures_are_not_mixed_with_those_that_are_read(tmp_path, shot):
    for i in range(2):
        write_image(tmp_path / "shot" / f"s{i}.png", shot_frame(i))
    still = write_image(tmp_path / "plate.png", plate_frame(0))
    with pytest.raises(OutputError, match=r"holds s0\.png, which is an input"):
        run(RunConfig(tmp_path / shot, still, tmp_path / "shot"))
    assert len(list((tmp_path / "shot").iterdir())) == 2


def test_what_debug_shows_does_not_replace_the_shot(tmp_path):
    for i in range(2):
        write_image(tmp_path / "shot" / f"{i:06d}.jpg", shot_frame(i))
    still = write_image(tmp_path / "000000.jpg", plate_frame(0))
    shot = tmp_path / "shot"
    for debug in (shot, tmp_path):
        before = (debug / "000000.jpg").read_bytes()
        with pytest.raises(OutputError, match=r"000000\.jpg, which is an input"):
            run(RunConfig(shot, still, tmp_path / "out", debug=debug))
        assert (debug / "000000.jpg").read_bytes() == before


def test_an_output_inside_the_shots_folder_can_be_gone_on_with(tmp_path):
    for i in range(2):
        write_image(tmp_path / "shot" / f"{i}.png", shot_frame(i))
    still = write_image(tmp_path / "plate.png", plate_frame(0))
    config = RunConfig(tmp_path / "shot", still, tmp_path / "shot" / "out")
    run(config)
    assert run(config).resumed == 2


def test_a_replaced_picture_of_the_shot_is_noticed(tmp_path):
    for i in range(2):
        write_image(tmp_path / "shot" / f"{i}.png", shot_frame(i))
    still = write_image(tmp_path / "plate.png", plate_frame(0))
    config = RunConfig(tmp_path / "shot", still, tmp_path / "out")
    run(config)
    write_image(tmp_path / "shot" / "1.png", shot_frame(5))
    with pytest.raises(OutputError, match="another run"):
        run(config)


def test_overwrite_starts_anew(videos, tmp_path):
    out = tmp_path / "out"
    run(RunConfig(*videos, out))
    again = run(RunConfig(*videos, out, overwrite=True, frames="4:"))
    assert again.resumed == 0
    assert pictures(out) == ["000004.png", "000005.png"]


def test_the_shot_is_not_its_own_clean_plate(videos, tmp_path):
    (tmp_path / "link.mp4").symlink_to(videos[0])
    with pytest.raises(InputError, match="is the shot itself"):
        run(RunConfig(videos[0], tmp_path / "link.mp4", tmp_path / "out"))
    assert not (tmp_path / "out").exists()


FULL_DISKS = {  # whether --overwrite is given, files before the disk is full, what is advised
    "later": ([], 3, "again: it goes on from there"),
    "at once": ([], 0, "again: it goes on from there"),
    "later, overwriting": (["--overwrite"], 3, "again, without --overwrite: it goes on from there"),
    "at once, overwriting": (["--overwrite"], 0, "again"),
}


@pytest.mark.parametrize("case", FULL_DISKS)
def test_a_full_disk_is_one_error_that_says_what_helps(videos, tmp_path, monkeypatch, capsys, case):
    from howard.write import files

    options, room, advice = FULL_DISKS[case]
    if options:
        run(RunConfig(*videos, tmp_path, bit_depth=16, frames=":1"))
    real, count = files.os.replace, []

    def replace(source, target):
        count.append(target)
        if len(count) > room:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(source, target)

    monkeypatch.setattr(files.os, "replace", replace)
    words = ["run", *map(str, videos), str(tmp_path)]
    assert main([*words, *options]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.endswith(
        f"No space left on device: free some space; run the same command {advice}"
    )
    made = len(pictures(tmp_path))
    monkeypatch.undo()
    assert main([*words, *(() if "without" in advice else options)]) == 0
    assert report(tmp_path)["totals"]["resumed"] == made


def test_ctrl_c_leaves_whole_files_and_says_how_to_go_on(tmp_path):
    shot = write_video(tmp_path / "shot.mp4", map(shot_frame, range(200)))
    clean_plate = write_video(tmp_path / "clean_plate.mp4", map(plate_frame, range(60)))
    out = tmp_path / "out"
    command = [sys.executable, "-m", "howard.engine", "run", shot, clean_plate, out]
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    child = subprocess.Popen(
        list(map(str, command)), stderr=subprocess.PIPE, text=True, env=environment
    )
    deadline = time.monotonic() + 60
    while len(pictures(out)) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    child.send_signal(signal.SIGINT)
    _, error = child.communicate(timeout=60)
    assert child.returncode == 130
    assert "whole; run the same command again: it goes on from there" in error
    assert "Traceback" not in error
    done = len(pictures(out))
    assert 3 <= done < 200
    assert all(picture(out, i) is not None for i in range(done))
    assert not list(out.glob(".*"))


def other_place(i):
    noise = np.random.default_rng(i + 9).integers(0, 255, (20, 20, 3), np.uint8)
    return cv2.resize(noise, SIZE, interpolation=cv2.INTER_NEAREST)


@pytest.fixture
def of_another_scene(videos, tmp_path):
    return videos[0], write_video(tmp_path / "other.mp4", map(other_place, range(4)))


def test_a_verdict_counts_the_frames_that_are_wanted_and_those_of_earlier_calls(
    of_another_scene, tmp_path
):
    config = RunConfig(*of_another_scene, tmp_path / "out", device="cpu", frames="0:3")
    for _ in range(2):  # the second call does not begin to count anew
        with pytest.raises(InputError, match=r"does not show this scene.*first 3 frames"):
            run(replace(config, on_mismatch="stop"))
    assert len(pictures(config.out)) < 3
    assert any("does not show this scene" in w for w in run(config).warnings)
    (config.out / "000002.png").unlink()
    run(config)
    (warning,) = report(config.out)["warnings"]
    assert "does not show this scene" in warning


def test_frames_that_the_shot_turns_out_not_to_have_are_told(videos, tmp_path, monkeypatch):
    length = VideoFile.length
    monkeypatch.setattr(VideoFile, "length", lambda self: length(self) + 3)  # as a file may claim
    config = RunConfig(*videos, tmp_path / "some", device="cpu", frames="4:9")
    assert any("before all of --frames 4:9: 2 of them" in w for w in run(config).warnings)
    none = replace(config, out=tmp_path / "none", frames="7:9")
    assert any("before all of --frames 7:9: 0 of" in w for w in run(none).warnings)


def test_the_same_files_by_another_name_go_on(videos, tmp_path):
    links = [tmp_path / video.name for video in videos]
    for link, video in zip(links, videos, strict=True):
        link.symlink_to(video)
    run(RunConfig(*videos, tmp_path / "out", device="cpu", frames=":3"))
    assert run(RunConfig(*links, tmp_path / "out", device="cpu", batch=2)).resumed == 3


def test_frames_that_were_finished_before_get_no_debug_pictures_and_that_is_told(videos, tmp_path):
    run(RunConfig(*videos, tmp_path / "out", frames=":2"))
    again = RunConfig(*videos, tmp_path / "out", frames=":3", debug=tmp_path / "debug")
    report = run(again)
    assert [p.name for p in (tmp_path / "debug").iterdir()] == ["000002.jpg"]
    (told,) = report.warnings
    assert told.startswith("--debug: 2 of the frames were finished before and get no picture")


@pytest.mark.parametrize("size", [(64, 32767), (40000, 64)])
def test_a_picture_too_large_to_be_warped_is_refused(videos, tmp_path, size):
    width, height = size
    wide = write_image(tmp_path / "wide.png", np.zeros((height, width, 3), np.uint8))
    with pytest.raises(InputError, match=r"wide.png is .* pixels: reduce it to 32766"):
        run(RunConfig(videos[0], wide, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_still_that_holds_several_pictures_is_told_of(videos, tmp_path):
    pages = tmp_path / "pages.tif"
    cv2.imwritemulti(str(pages), [plate_frame(0)] * 3)
    found = run(RunConfig(videos[0], pages, tmp_path / "out", device="cpu", frames=":1"))
    assert any("pages.tif holds 3 pictures, and the first" in w for w in found.warnings)


def test_a_gpu_is_refused_plainly_where_there_is_none(videos, tmp_path):
    with pytest.raises(DeviceError, match="--device cpu"):
        run(RunConfig(*videos, tmp_path, device="gpu"))


@pytest.mark.parametrize("asked", [{"runner": "tensorrt"}, {"features": "opencv-cuda"}])
def test_what_asks_for_a_gpu_is_not_ignored_where_there_is_none(videos, tmp_path, asked):
    with pytest.raises(DeviceError, match=f"leave --{next(iter(asked))} out"):
        run(RunConfig(*videos, tmp_path / "out", **asked))
    assert not (tmp_path / "out").exists()


def test_missing_and_foreign_weights_are_refused(videos, tmp_path):
    with pytest.raises(WeightsError, match="do not exist"):
        run(RunConfig(*videos, tmp_path / "out", weights=tmp_path / "no.onnx"))
    text = tmp_path / "text.onnx"
    text.write_text("no model")
    with pytest.raises(WeightsError, match=r"text\.onnx .* give one that"):
        run(RunConfig(*videos, tmp_path / "out", weights=text))
    with pytest.raises(WeightsError, match="are no file"):
        run(RunConfig(*videos, tmp_path / "out", weights=tmp_path))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["device", "network", "runner", "plate_search", "on_mismatch"])
def test_words_that_are_no_choice_name_the_choices(videos, tmp_path, name):
    with pytest.raises(ConfigError, match=f"{name} is 'cuda': give "):
        run(RunConfig(*videos, tmp_path / "out", **{name: "cuda"}))


@pytest.mark.parametrize(
    ("name", "value"),
    [("batch", -1), ("writers", 0), ("threads", -1), ("threads", 10**5), ("writers", 10**5)],
)
def test_numbers_out_of_range_name_the_option(videos, tmp_path, name, value):
    with pytest.raises(ConfigError, match=f"--{name} is {value}"):
        run(RunConfig(*videos, tmp_path, **{name: value}))
