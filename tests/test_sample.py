"""The sample shows what its truth says: sizes, homographies, alpha, foreground, exposures."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from sample.truth import CLEAN_PLATE, SHOT, Truth, load_truth, project

SHOT_FRAMES, CLEAN_PLATE_FRAMES = 150, 120
SIZE_LIMIT_BYTES = 8_000_000
CHECKED = (0, 75, 149)

# Noise of sigma 2 in both videos and H.264 leave 2.0 to 2.4 levels of 255 on the background; a
# plate that is 3 pixels off leaves 3.4 times that, mostly on the towers.
BACKGROUND_TOLERANCE = 3.5
# Noise, H.264, and the level that swscale loses on the way to RGB: 2.4 to 2.6 were measured.
PERSON_TOLERANCE = 4.0
# At an edge of orange on blue, 4:2:0 smears chroma over two pixels: 5.4 to 5.8 were measured, and
# with alpha a pixel aside 10.6 to 14.9.
EDGE_TOLERANCE = 8.0
# At a lamp that clips in one exposure, levels do not follow the gain: leave bright pixels out.
CLIPPED_LEVEL = 235


@pytest.fixture(scope="module")
def truth() -> Truth:
    return load_truth()


@cache
def decode(path: Path) -> tuple[int, dict[int, NDArray[np.float32]], set[tuple[int, int]]]:
    """Number of frames, those in CHECKED and every tenth as (H, W, 3) RGB levels, all sizes."""
    kept, sizes, index = {}, set(), -1
    with av.open(str(path)) as container:
        container.streams.video[0].thread_type = "AUTO"
        for index, frame in enumerate(container.decode(video=0)):
            sizes.add((frame.width, frame.height))
            if index in CHECKED or index % 10 == 0:
                kept[index] = frame.to_ndarray(format="rgb24").astype(np.float32)
    return index + 1, kept, sizes


def exposed_plate(truth: Truth, shot_index: int, shift: float = 0.0) -> NDArray[np.float32]:
    """(H, W, 3) levels: the best decoded plate on a frame, exposed as the shot; NaN where empty.

    `shift` moves it aside, in pixels.
    """
    plates = decode(CLEAN_PLATE)[1]
    plate_index = max(plates, key=lambda index: truth.coverage(shot_index, index))
    homography = truth.homography_frame_from_plate(shot_index, plate_index)
    homography = np.array([[1, 0, shift], [0, 1, 0], [0, 0, 1]]) @ homography
    size = (truth.width, truth.height)
    plate = cv2.warpPerspective(plates[plate_index], homography, size, borderValue=(np.nan,) * 3)
    gain = (truth.exposure_shot / truth.exposure_clean_plate).astype(np.float32)
    return plate * gain


def background_difference(truth: Truth, shot_index: int, shift: float = 0.0) -> float:
    """Mean absolute difference of frame and plate beyond the person's outline, levels."""
    plate = exposed_plate(truth, shot_index, shift)
    frame = decode(SHOT)[1][shot_index]
    clear = cv2.dilate(truth.alpha(shot_index), np.ones((9, 9))) < 1 / 255
    clear &= (np.maximum(frame, np.nan_to_num(plate)) < CLIPPED_LEVEL).all(axis=-1)
    clear &= np.isfinite(plate).all(axis=-1)
    assert clear.mean() > 0.3
    return float(np.abs(plate - frame)[clear].mean())


def test_the_videos_have_the_stated_sizes_and_lengths(truth: Truth) -> None:
    for path, frames in ((SHOT, SHOT_FRAMES), (CLEAN_PLATE, CLEAN_PLATE_FRAMES)):
        count, _, sizes = decode(path)
        assert count == frames
        assert sizes == {(truth.width, truth.height)}
    assert len(truth.poses) == len(truth.homographies_shot_from_place) == SHOT_FRAMES
    assert len(truth.homographies_clean_plate_from_place) == CLEAN_PLATE_FRAMES


def test_the_videos_are_small_and_tagged() -> None:
    assert SHOT.stat().st_size + CLEAN_PLATE.stat().st_size <= SIZE_LIMIT_BYTES
    for path in (SHOT, CLEAN_PLATE):
        with av.open(str(path)) as container:
            codec = container.streams.video[0].codec_context
            assert (codec.name, codec.pix_fmt) == ("h264", "yuv420p")
            assert (int(codec.colorspace), int(codec.color_range)) == (1, 1)  # BT.709, limited


@pytest.mark.parametrize("shot_index", CHECKED)
def test_the_homographies_lay_the_plate_on_the_frame(truth: Truth, shot_index: int) -> None:
    difference = background_difference(truth, shot_index)
    assert difference < BACKGROUND_TOLERANCE
    assert background_difference(truth, shot_index, shift=3.0) > 2.5 * difference


@pytest.mark.parametrize("shot_index", CHECKED)
def test_the_foreground_is_what_the_shot_shows_of_the_person(truth: Truth, shot_index: int) -> None:
    frame = decode(SHOT)[1][shot_index]
    foreground = truth.foreground(shot_index) * 255
    inside = truth.alpha(shot_index) > 0.999
    assert np.abs(frame - foreground)[inside].mean() < PERSON_TOLERANCE
    # And it says where she is: half a head aside, it explains nothing.
    assert np.abs(frame - np.roll(foreground, 40, axis=1))[inside].mean() > 5 * PERSON_TOLERANCE


@pytest.mark.parametrize("shot_index", CHECKED)
def test_alpha_explains_the_edge(truth: Truth, shot_index: int) -> None:
    """Person over plate gives the frame where both show; alpha a pixel off does so less well."""
    plate, frame = exposed_plate(truth, shot_index), decode(SHOT)[1][shot_index]
    alpha, foreground = truth.alpha(shot_index), truth.foreground(shot_index) * 255
    edge = (alpha > 0.05) & (alpha < 0.95) & np.isfinite(plate).all(axis=-1)
    differences = []
    for shift in (0, -1, 1):
        opacity = np.roll(alpha, shift, axis=1)[..., None]
        composite = opacity * foreground + (1 - opacity) * plate
        differences.append(np.abs(composite - frame)[edge].mean())
    assert differences[0] < EDGE_TOLERANCE
    assert min(differences[1:]) > 1.5 * differences[0]


@pytest.mark.parametrize("shot_index", CHECKED)
def test_alpha_is_soft_whole_and_reaches_the_lower_border(truth: Truth, shot_index: int) -> None:
    alpha = truth.alpha(shot_index)
    assert alpha.shape == (truth.height, truth.width)
    assert alpha.dtype == np.float32
    assert alpha.min() == 0
    assert alpha.max() == 1
    assert 0.25 < alpha.mean() < 0.6
    assert 0.002 < ((alpha > 0.05) & (alpha < 0.95)).mean() < 0.05
    assert (alpha[-1] == 1).mean() > 0.3
    assert alpha[0].max() == alpha[:, 0].max() == alpha[:, -1].max() == 0


def test_the_person_moves_by_herself(truth: Truth) -> None:
    """Her spot seen from a camera that stands still: pixels that she goes over it."""
    spots = [
        project(np.linalg.inv(homography), np.array([pose.x, pose.y]))
        for homography, pose in zip(truth.homographies_shot_from_place, truth.poses, strict=True)
    ]
    assert np.ptp(spots, axis=0)[0] / 2 > 20
    assert np.ptp([pose.bend for pose in truth.poses]) > 10


def test_the_takes_differ_in_path_and_exposure(truth: Truth) -> None:
    centre = np.array([truth.width / 2, truth.height / 2])
    paths = [
        np.array([project(np.linalg.inv(homography), centre) for homography in homographies]) / 2
        for homographies in (
            truth.homographies_shot_from_place,
            truth.homographies_clean_plate_from_place,
        )
    ]
    for path in paths:
        assert np.ptp(path[:, 0]) > 0.1 * truth.width
    apart = np.linalg.norm(paths[0][:CLEAN_PLATE_FRAMES] - paths[1], axis=1)
    assert np.median(apart) > 10
    assert np.abs(truth.exposure_shot / truth.exposure_clean_plate - 1).max() > 0.1


def test_some_plate_covers_almost_all_of_every_frame(truth: Truth) -> None:
    for shot_index in range(0, SHOT_FRAMES, 15):
        assert truth.coverage(shot_index, truth.best_plate_index(shot_index)) > 0.93
