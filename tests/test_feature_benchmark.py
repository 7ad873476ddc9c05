"""The benchmark of features: every method does its work, and is judged by the truth."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks import feature_methods, features
from benchmarks.alignment_scenes import Scene
from benchmarks.feature_methods import DETECTORS, METHODS, Method, mutual_nearest
from benchmarks.feature_scores import PairScore, score, score_pair, succeeded, summarise
from howard.align.features import KEYPOINTS, Features, find_features, match

SIZE = 640, 360
QUICK = [name for name in METHODS if name not in ("sift-vgg", "howard-thorough")]
"""The two others take seconds a picture."""


@pytest.fixture(scope="module")
def planar() -> Scene:
    return Scene("planar", *SIZE, 2)


def test_every_method_finds_the_plate_of_a_planar_scene(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(features, "GAPS_SECONDS", {"nearest view": 0.0})
    record = tmp_path / "features.json"
    arguments = ["--quick", "--scenes", "planar", "--json", str(record), "--methods", *QUICK]
    assert features.main(arguments) == 0
    written = json.loads(record.read_text())
    assert list(written["results"]) == ["planar", "all scenes, nearest view", "all scenes"]
    assert written["config"]["success_pixels"] == pytest.approx(5 / 3)
    assert "load_average" in written["environment"]
    for rows in written["results"].values():
        assert list(rows) == QUICK
        for row in rows.values():
            assert row.keys() >= features.COLUMNS.keys()
            assert 100 < row["matches"] < row["keypoints"] <= KEYPOINTS
            assert row["inlier_share"] > 0.6  # nothing but the person moves otherwise
            assert row["find_milliseconds"] > 0
    # GMS keeps matches at a coarse grid's word: it may miss by more.
    failed = {name for name, row in rows.items() if row["success_share"] < 1}
    assert failed <= {"orb-gms"}
    assert "orb-beblid" in capsys.readouterr().out


def test_the_preparation_is_howards_own(planar):
    picture = planar.clean_plate.picture(0).pixels
    own, howards = METHODS["sift"]().find(picture), find_features(picture)
    assert own.keypoints == pytest.approx(howards.keypoints)
    roots = np.sqrt(own.descriptors / own.descriptors.sum(1, keepdims=True))
    assert roots == pytest.approx(howards.descriptors, abs=1e-6)


def test_matches_are_howards_own(planar):
    frame, plate = (
        find_features(take.picture(0).pixels) for take in (planar.shot, planar.clean_plate)
    )
    assert {*map(tuple, mutual_nearest(plate, frame))} == {*map(tuple, match(plate, frame))}


def test_bits_are_compared_by_how_many_differ():
    rng = np.random.default_rng(0)
    plate = rng.integers(0, 256, (30, 32), np.uint8)
    frame = plate[::-1].copy()
    frame[:, 0] ^= 1  # one bit of each
    # A large difference in one byte is few bits, but far under L2.
    frame[0, 1] ^= 0x80
    index, apart = feature_methods.neighbours(plate, frame)
    assert (index[:, 0] == np.arange(30)[::-1]).all()
    assert apart[:, 0].tolist() == [1] * 29 + [2]
    bits = np.unpackbits(plate[:, None] ^ frame, axis=-1).sum(-1)
    assert (apart == np.sort(bits)[:, :2]).all()
    xy = np.zeros((30, 2), np.float32)
    assert len(mutual_nearest(Features(xy, plate), Features(xy, frame))) == 30


def none_of(pixels: np.ndarray) -> Features:
    return Features(np.zeros((0, 2), np.float32), np.zeros((0, 1), np.float32))


def test_a_method_that_finds_nothing_is_a_failure_and_not_an_error(planar):
    found = score_pair(planar, 0, 0, Method(none_of, mutual_nearest))
    assert (found.keypoints, found.matches) == (0, 0)
    assert not succeeded(found, SIZE[0])
    summary = summarise([found], SIZE[0])
    assert summary["corner_median_pixels"] == np.inf
    assert np.isnan(summary["inlier_share"])


def test_the_truth_scores_zero():
    """Keypoints that lie where they belong, and every fifth elsewhere."""
    rng = np.random.default_rng(1)
    here = rng.uniform(0, 1, (200, 2)) * SIZE
    there = here + (5, -3)
    there[::5] += rng.uniform(20, 90, (40, 2))
    given = iter([here, there])
    method = Method(
        lambda _: Features(np.float32(next(given)), np.zeros((200, 1), np.float32)),
        lambda plate, frame: np.column_stack([np.arange(200)] * 2),
    )
    picture = np.zeros((*SIZE[::-1], 3), np.uint8)
    found = score(method, picture, picture, lambda points: np.asarray(points) + (5, -3))
    assert found.true_share == pytest.approx(0.8)
    assert found.corner_errors.max() < 0.01
    assert succeeded(found, SIZE[0])


def test_summaries_by_hand():
    def pair(x: float, matches: int, share: float) -> PairScore:
        return PairScore(100, matches, share, ((x, 0.0),) * 4, 10.0 * x, 2.0, 1.0)

    summary = summarise([pair(1, 10, 0.5), pair(3, 20, np.nan), pair(5, 60, 1.0)], 1920)
    assert summary["matches"] == 30
    assert summary["inlier_share"] == 0.75
    assert summary["success_share"] == pytest.approx(2 / 3)  # 5 pixels are too many
    assert summary["corner_median_pixels"] == 3
    assert summary["corner_p90_pixels"] == 5
    assert summary["find_milliseconds"] == 30
    assert summary["pairs"] == 3


def test_pairs_are_of_the_nearest_view_and_of_one_a_second_off():
    scene = Scene("planar", 320, 180, 75)
    pairs = features.pairs_of(scene, 3)
    assert [gap for gap, *_ in pairs] == [*features.GAPS_SECONDS] * 3
    for nearest, off in zip(pairs[::2], pairs[1::2], strict=True):
        assert nearest[1] == off[1]
        assert nearest[2] == scene.nearest_plate_index(nearest[1])
        assert abs(off[2] - nearest[2]) == 30
        assert 0 <= off[2] < len(scene.clean_plate)


def test_a_method_that_does_not_work_is_not_measured(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(METHODS, "orb", lambda: Method(none_of, mutual_nearest))
    record = tmp_path / "features.json"
    arguments = ["--quick", "--scenes", "planar", "--methods", "orb", "--json", str(record)]
    assert features.main(arguments) == 2
    assert "orb does not find" in capsys.readouterr().err
    assert not record.exists()


def test_what_opencv_was_built_without_is_left_out(monkeypatch, capsys):
    monkeypatch.setitem(DETECTORS, "orb", ("NOSUCH", {}, {}))
    assert list(features.usable_methods(["orb", "sift"])) == ["sift"]
    assert "orb is left out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "name"), [(["--scenes", "moon"], "moon"), (["--methods", "luck"], "luck")]
)
def test_an_unknown_name_is_exit_status_2(arguments, name, capsys):
    assert features.main(arguments) == 2
    assert f"{name!r} is no" in capsys.readouterr().err
