"""The footage benchmark: people put before places, and judged against what was put there."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks import footage
from engine.training import textures
from engine.training.people import drawn
from howard.decode.images import read_image

FRAMES = 6
SIZE = WIDTH, HEIGHT = 256, 160


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder of pictures: a camera that pans over a photograph."""
    folder = tmp_path_factory.mktemp("place")
    rng = np.random.default_rng(2)
    picture = textures.package_photographs()[0]
    wide = textures.crop(rng, picture, HEIGHT, WIDTH + 8 * FRAMES, 0.9)
    for index in range(FRAMES):
        seen = wide[:, 4 * index : 4 * index + WIDTH]
        cv2.imwrite(str(folder / f"{index}.png"), np.rint(255 * seen[..., ::-1]).astype(np.uint8))
    return folder


@pytest.fixture(scope="module")
def people(tmp_path_factory) -> Path:
    """A folder of cut-outs."""
    folder = tmp_path_factory.mktemp("people")
    for number in range(2):
        person = drawn(np.random.default_rng(number), 128, 96)
        straight = person[..., :3] / np.maximum(person[..., 3:], 1e-3)
        rgba = np.dstack([straight[..., ::-1], person[..., 3:]]).clip(0, 1)
        cv2.imwrite(str(folder / f"{number}.png"), np.rint(255 * rgba).astype(np.uint8))
    return folder


def config(place: Path, people: Path, **options: int) -> footage.FootageConfig:
    return footage.FootageConfig((place,), people, **options)


@pytest.mark.parametrize(
    ("gap", "plates", "around"), [(0, 24, [0, 1, 4, 5]), (1, 24, [0, 5]), (0, 1, [1])]
)
def test_a_clean_plate_lies_on_either_side_of_its_take(place, people, gap, plates, around):
    found = footage.Place(place, config(place, people, frames=2, gap=gap, plates=plates))
    assert found.around(2) == around


def test_a_place_that_is_too_short_is_named(place, people, capsys):
    assert footage.main([str(place), "--people", str(people), "--frames", "7"]) == 2
    assert f"{place} has 6 frames" in capsys.readouterr().err


def test_the_truth_is_what_was_put_there(place, people):
    frames = footage.Place(place, config(place, people, frames=2, gap=0)).frames
    person = footage.people_of(people).pick(np.random.default_rng(0))
    truths = footage.put_before(frames[:2], person, seed=5)
    for pixels, truth in zip(frames, truths, strict=False):
        nobody = truth.alpha == 0
        assert 0.05 < truth.alpha.mean() < 0.5
        assert np.array_equal(footage.levels(truth.picture)[nobody], pixels[nobody])
        assert np.abs(truth.picture - pixels / 255)[truth.alpha == 1].mean() > 0.02
    assert not np.array_equal(truths[0].alpha, truths[1].alpha)  # they walk


def test_what_howard_makes_of_a_take_is_judged(place, people, tmp_path, capsys):
    file, kept = tmp_path / "footage.json", tmp_path / "kept"
    own = [str(place), "--people", str(people), "--takes", "1", "--frames", "2", "--gap", "0"]
    own += ["--json", str(file), "--pictures", str(kept)]
    assert footage.main([*own, "--", "--plate-search", "nearest"]) == 0
    assert place.stem in capsys.readouterr().out
    record = json.loads(file.read_text())
    summary = record["results"]["summary"]
    rows = record["results"]["frames"][place.stem]
    assert record["config"]["options"] == ["--plate-search", "nearest"]
    assert [row["index"] for row in rows] == [2, 3]
    assert summary["all places"] == summary[place.stem]
    assert summary["all places"]["mad"] == pytest.approx(np.mean([row["mad"] for row in rows]))
    # A plane, aligned: a matte of nothing would be wrong by the person's share, 50 or more.
    assert 0 < summary["all places"]["mad"] < 25
    pictures = sorted(kept.iterdir())
    assert [read_image(p).shape for p in pictures] == [(HEIGHT, 3 * WIDTH, 3)] * 2
