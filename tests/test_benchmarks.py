"""The benchmarks' own work: they judge rightly, and refuse to time what is wrong."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from benchmarks import child, clips, end_to_end, measure, output, quality, stages

WIDTH, HEIGHT, FRAMES = 32, 24, 4


class FakeTruth:
    """A square that walks right by one pixel a frame, over a plate that moves with the frame."""

    poses = range(FRAMES)

    def alpha(self, index: int) -> np.ndarray:
        alpha = np.zeros((HEIGHT, WIDTH), np.float32)
        alpha[6:18, 8 + index : 20 + index] = 1
        return alpha

    def foreground(self, index: int) -> np.ndarray:
        return np.full((HEIGHT, WIDTH, 3), (1.0, 0.6, 0.2), np.float32)

    def homography_frame_from_plate(self, shot_index: int, plate_index: int) -> np.ndarray:
        return np.array([[1, 0, shot_index - plate_index], [0, 1, 0], [0, 0, 1.0]])


def write_result(folder: Path, shift: int = 0, fallback: str | None = None) -> Path:
    """A run's folder: the truth, rolled to the right; the plate as far off."""
    truth, rows = FakeTruth(), []
    folder.mkdir()
    for index in range(FRAMES):
        colour = np.rint(255 * truth.foreground(index)).astype(np.uint8)
        alpha = np.roll(255 * truth.alpha(index), shift, axis=1).astype(np.uint8)
        cv2.imwrite(str(folder / f"{index:06d}.png"), np.dstack([colour[..., ::-1], alpha]))
        homography = truth.homography_frame_from_plate(index, 1)
        homography[0, 2] += shift
        rows.append(
            {
                "index": index,
                "plate_index": 1,
                "fallback": fallback if index == 0 else None,
                "homography_frame_from_plate": homography.ravel().tolist(),
                "milliseconds": {"decode": 2.0, "matte": 40.0 + index},
            }
        )
    totals = {"frames": FRAMES, "seconds": 2.0, "frames_per_second": 2.0, "peak_memory_mb": 100.0}
    (folder / "report.json").write_text(json.dumps({"frames": rows, "totals": totals}))
    return folder


@pytest.fixture
def fake_sample(monkeypatch):
    """`quality.main` judges by the fake truth."""
    monkeypatch.setattr(quality, "load_truth", FakeTruth)


def test_a_perfect_result_scores_zero(tmp_path):
    scores = quality.compare(write_result(tmp_path / "result"), FakeTruth())
    summary = quality.summarise(scores)
    assert summary == pytest.approx(dict.fromkeys(summary, 0), abs=1e-4)
    assert [score.index for score in scores] == list(range(FRAMES))


def test_a_shifted_result_scores_what_the_shift_costs(tmp_path):
    result = write_result(tmp_path / "result", shift=3, fallback="identity")
    summary = quality.summarise(quality.compare(result, FakeTruth()))
    # Three columns of twelve pixels wrong on either side, of 32 x 24.
    assert summary["mad"] == pytest.approx(1000 * 72 / 768)
    assert summary["transfer_median_pixels"] == pytest.approx(3)
    assert summary["fallback_share"] == 1 / FRAMES
    assert min(summary[name] for name in ("grad", "conn", "dtssd")) > 0


def test_the_first_frame_counts_as_zero_in_dtssd(tmp_path):
    scores = quality.compare(write_result(tmp_path / "result", shift=3), FakeTruth())
    assert scores[0].dtssd == 0
    # Each later frame: four columns of twelve change that should not, by 1.
    assert scores[1].dtssd == pytest.approx(100 * (48 / 768) ** 0.5)
    assert quality.summarise(scores)["dtssd"] == pytest.approx(scores[1].dtssd * 3 / 4)


@pytest.mark.parametrize(
    ("shift", "bounds", "status"),
    [
        (0, ["--max-mad", "12", "--max-dtssd", "4", "--max-transfer", "1"], 0),
        (3, [], 0),
        (3, ["--max-mad", "12"], 1),
        (3, ["--max-mad", "200", "--max-dtssd", "4"], 1),
        (3, ["--max-transfer", "1"], 1),
    ],
)
def test_a_broken_bound_is_exit_status_1(shift, bounds, status, tmp_path, fake_sample, capsys):
    result = write_result(tmp_path / "result", shift=shift)
    assert quality.main(["--results", str(result), *bounds]) == status
    assert ("above the bound" in capsys.readouterr().err) == bool(status)


def test_a_number_that_is_missing_breaks_its_bound():
    summary = {"mad": float("nan"), "dtssd": 0.0, "transfer_median_pixels": 0.0}
    assert len(quality.broken_bounds(summary, quality.QualityConfig(max_mad=12))) == 1


def test_a_missing_picture_is_exit_status_2(tmp_path, fake_sample, capsys):
    result = write_result(tmp_path / "result")
    (result / "000002.png").unlink()
    assert quality.main(["--results", str(result)]) == 2
    assert "000002.png" in capsys.readouterr().err


def test_quality_writes_its_record(tmp_path, fake_sample, capsys):
    result, record_path = write_result(tmp_path / "result"), tmp_path / "new" / "quality.json"
    assert quality.main(["--results", str(result), "--json", str(record_path)]) == 0
    record = json.loads(record_path.read_text())
    assert {"commit", "processor", "cores", "libraries"} <= record["environment"].keys()
    assert len(record["results"]["frames"]) == FRAMES
    assert str(tmp_path) not in record_path.read_text()
    assert "worst frames" in capsys.readouterr().out


def test_check_output_accepts_a_full_result_and_refuses_others(tmp_path):
    result = write_result(tmp_path / "result")
    assert output.check_output(result, FRAMES, WIDTH, HEIGHT)["totals"]["frames"] == FRAMES
    with pytest.raises(measure.WrongResult, match="5 frames were fed"):
        output.check_output(result, FRAMES + 1, WIDTH, HEIGHT)
    with pytest.raises(measure.WrongResult, match="frame 0 is"):
        output.check_output(result, FRAMES, WIDTH, HEIGHT + 2)
    cv2.imwrite(str(result / "000001.png"), np.zeros((HEIGHT, WIDTH, 4), np.uint8))
    with pytest.raises(measure.WrongResult, match="empty"):
        output.check_output(result, FRAMES, WIDTH, HEIGHT)


def test_interleave_takes_turns_forward_and_backward():
    calls: list[str] = []
    variants = {name: lambda name=name: calls.append(name) or name for name in "ab"}
    timings = measure.interleave(variants, lambda result: result in "ab", rounds=2, warm_up=1)
    assert "".join(calls) == "ab" + "ab" + "ba" + "ab"  # check, warm-up, two rounds
    assert [timings[name].count for name in "ab"] == [2, 2]


def test_interleave_refuses_a_wrong_variant_before_it_times_any():
    calls: list[int] = []
    variants = {"right": lambda: 4, "wrong": lambda: calls.append(1) or 5}
    with pytest.raises(measure.WrongResult, match="'wrong'"):
        measure.interleave(variants, lambda result: result == 4)
    assert len(calls) == 1


def test_spread_by_hand():
    assert measure.spread([5, 1, 3, 2, 4]) == measure.Spread(3, 2, 4, 5)
    with pytest.raises(ValueError, match="no measurement"):
        measure.spread([])


def test_json_has_null_for_what_is_not_a_number(tmp_path):
    path = tmp_path / "record.json"
    measure.write_json(path, "test", {}, {}, [float("nan"), float("inf"), measure.spread([1.0])])
    assert json.loads(path.read_text())["results"][:2] == [None, None]


def test_options_after_two_dashes_are_passed_on():
    assert measure.own_and_passed_on(["--frames", "3", "--", "--device", "gpu"]) == (
        ["--frames", "3"],
        ["--device", "gpu"],
    )


def test_a_record_has_names_instead_of_paths():
    options = ["--weights", "/here/net.onnx", "--weights=./net.onnx", "--batch=2", "--overwrite"]
    expected = ["--weights", "net.onnx", "--weights=net.onnx", "--batch=2", "--overwrite"]
    assert measure.without_paths(options) == expected


def test_peak_memory_is_the_childs_not_its_parents():
    ballast = np.ones(200 * 2**20, np.uint8)
    took = child.run_child([sys.executable, "-c", "pass"])
    assert ballast.nbytes / 2**20 > 2 * took.peak_memory_mb > 0


def test_a_failing_child_says_so():
    with pytest.raises(child.ChildFailed, match="exit status 3"):
        child.run_child([sys.executable, "-c", "raise SystemExit(3)"])


def test_a_clip_turns_at_its_ends():
    assert clips.there_and_back(8, 3) == [0, 1, 2, 1, 0, 1, 2, 1]
    assert clips.there_and_back(3, 1) == [0, 0, 0]


def test_a_clip_has_the_size_and_length_asked_for(tmp_path):
    source = tmp_path / "source.mp4"
    with av.open(str(source), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for level in (40, 120, 200):
            picture = np.full((HEIGHT, WIDTH, 3), level, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    clips.make_clip(source, tmp_path / "clip.mp4", frames=5, width=64, height=48)
    assert clips.frame_count(tmp_path / "clip.mp4") == 5
    with av.open(str(tmp_path / "clip.mp4")) as container:
        levels = [frame.to_ndarray(format="rgb24").mean() for frame in container.decode(video=0)]
        assert (container.streams.video[0].width, container.streams.video[0].height) == (64, 48)
        assert container.streams.video[0].average_rate == 25
    # A level or two for the coding.
    assert levels == pytest.approx([40, 120, 200, 120, 40], abs=3)


GPU_TOTALS = {"device_memory_mb": 3000.0, "downloads_per_frame": 1.0, "read_backs_per_frame": 5.5}


def test_end_to_end_reports_both_lengths_of_each_size(tmp_path, monkeypatch, capsys):
    sizes: set[tuple[int, int]] = set()

    def fake_make(folder: Path, frames: int, width: int, height: int) -> end_to_end.Clip:
        folder.mkdir(parents=True)
        sizes.add((width, height))
        return end_to_end.Clip(frames, width, height, folder)

    def fake_run(clip: end_to_end.Clip, options: list[str]):
        assert options == ["--device", "gpu", "--batch", "2"]
        report = json.loads((result / "report.json").read_text()) | {"run": {"device": "gpu"}}
        report["totals"] |= GPU_TOTALS
        return child.ChildRun(1.0 + clip.frames / 2, 4.0, 100.0), report

    result, record = write_result(tmp_path / "result", fallback="identity"), tmp_path / "e.json"
    monkeypatch.setattr(end_to_end, "make", fake_make)
    monkeypatch.setattr(end_to_end.Clip, "run", fake_run)
    arguments = ["--frames", "4", "--work", str(tmp_path / "work"), "--json", str(record)]
    arguments += ["--device", "gpu", "--sizes", "480p", "2160p"]
    assert end_to_end.main([*arguments, "--", "--batch", "2"]) == 0
    assert sizes == {(854, 480), (3840, 2160)}
    written = json.loads(record.read_text())
    assert list(written["results"]) == ["480p", "2160p"]
    of_size = written["results"]["2160p"]
    assert of_size["device"] == "gpu"
    short, long = of_size["clips"]
    assert (short["frames"], short["frames_per_second"]) == (4, pytest.approx(4 / 3))
    assert (long["frames"], long["frames_per_second"]) == (8, pytest.approx(8 / 5))
    assert of_size["peak_memory_ratio"] == 1
    assert of_size["marginal_frames_per_second"] == pytest.approx(2)
    # Four frames of 2 ms in the 2 seconds that the report tells of.
    assert short["occupancy"]["decode"] == pytest.approx(0.004)
    assert short["on_device"] == GPU_TOTALS
    assert short["stage_milliseconds"]["matte"]["median"] == pytest.approx(41.5)
    assert written["config"]["options"] == ["--batch", "2"]


def test_a_run_on_the_cpu_says_nothing_of_a_device(tmp_path):
    report = output.read_report(write_result(tmp_path / "result"))
    assert output.on_device([report]) == {}


def test_stages_leave_out_the_first_frames():
    rows = [{"decode": 500.0, "matte": 500.0}] * stages.FIRST_FRAMES
    rows += [{"decode": 1.0, "matte": float(ms)} for ms in range(1, 22)]
    totals = {"seconds": 100.0, "frames_per_second": 0.29, "peak_memory_mb": 100.0}
    report = {"frames": [{"milliseconds": row} for row in rows], "totals": totals}
    found = stages.sum_up(report | {"run": {"device": "cpu"}}, batch=2)
    assert (found.frames, found.batch, found.on_device) == (21, 2, {})
    matte = found.stages["matte"]
    assert (matte.median_milliseconds, matte.p90_milliseconds) == (11, pytest.approx(19))
    assert matte.share == pytest.approx(231 / 252)
    assert matte.occupancy == pytest.approx((8 * 0.5 + 0.231) / 100)


def test_stages_run_once_for_each_batch(tmp_path, monkeypatch, capsys):
    asked: list[list[str]] = []

    def fake_make(folder: Path, frames: int, width: int, height: int) -> end_to_end.Clip:
        return end_to_end.Clip(frames, width, height, folder)

    def fake_run(clip: end_to_end.Clip, options: list[str]):
        asked.append(options)
        return child.ChildRun(1.0, 1.0, 100.0), report

    result, record = write_result(tmp_path / "result"), tmp_path / "s.json"
    report = output.read_report(result) | {"run": {"device": "cpu"}}
    monkeypatch.setattr(stages, "make", fake_make)
    monkeypatch.setattr(end_to_end.Clip, "run", fake_run)
    arguments = ["--device", "cpu", "--batches", "1", "4", "--json", str(record)]
    assert stages.main([*arguments, "--", "--writers", "3"]) == 0
    always = ["--device", "cpu", "--writers", "3"]
    assert asked == [always, [*always, "--batch", "1"], [*always, "--batch", "4"]]
    written = json.loads(record.read_text())
    assert [run["batch"] for run in written["results"]["runs"]] == [1, 4]
    assert written["results"]["runs"][0]["frames"] == FRAMES // 2
    assert "matte" in capsys.readouterr().out


def test_end_to_end_reports_no_time_for_a_wrong_result(tmp_path, monkeypatch, capsys):
    def refuse(*_: object) -> None:
        raise measure.WrongResult("3 pictures, but 4 frames were fed")

    monkeypatch.setattr(end_to_end, "measure", refuse)
    record = tmp_path / "e.json"
    assert end_to_end.main(["--work", str(tmp_path), "--json", str(record)]) == 2
    assert not record.exists()
    assert "fps" not in capsys.readouterr().out
