"""Keypoints spread over the frame, matched both ways."""

import cv2
import numpy as np
import pytest

from howard.align.features import GRID, KEYPOINTS, Features, find_features, match, spread


def picture(seed=0, size=(400, 600)):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 255, (size[0] // 8, size[1] // 8, 3), np.uint8)
    return cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC)


def test_a_shifted_picture_matches_at_the_shift():
    frame = picture()
    plate = np.roll(frame, (7, -12), (0, 1))
    a, b = find_features(plate), find_features(frame)
    pairs = match(a, b)
    shift = b.keypoints[pairs[:, 1]] - a.keypoints[pairs[:, 0]]
    assert len(pairs) > 100
    assert np.median(shift, 0) == pytest.approx([12, -7], abs=0.1)


def test_keypoints_come_in_full_resolution_pixels():
    small = picture(1, (360, 640))
    large = cv2.resize(small, (1920, 1080), interpolation=cv2.INTER_CUBIC)
    a, b = find_features(small), find_features(large)
    pairs = match(a, b)
    assert len(pairs) > 100
    # (x + 0.5) * 3 - 0.5, in the median to a fraction of a full-resolution pixel.
    error = b.keypoints[pairs[:, 1]] - ((a.keypoints[pairs[:, 0]] + 0.5) * 3 - 0.5)
    assert np.median(error, 0) == pytest.approx([0, 0], abs=0.3)


def test_matches_are_mutual_and_one_to_one():
    a, b = find_features(picture(2)), find_features(picture(2))
    pairs = match(a, b)
    assert len(np.unique(pairs[:, 0])) == len(np.unique(pairs[:, 1])) == len(pairs)
    similarity = a.descriptors @ b.descriptors.T
    assert (similarity.argmax(1)[pairs[:, 0]] == pairs[:, 1]).all()
    assert (similarity.argmax(0)[pairs[:, 1]] == pairs[:, 0]).all()


def test_unrelated_pictures_hardly_match():
    a, b = find_features(picture(3)), find_features(picture(4))
    assert len(match(a, b)) < 0.05 * min(len(a), len(b))


def test_exposure_does_not_matter():
    frame = picture(5)
    dark = np.uint8(frame * 0.35)
    pairs = match(find_features(dark), find_features(frame))
    assert len(pairs) > 100


@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_flat_picture_has_no_keypoints_and_no_matches(level):
    flat = find_features(np.full((200, 300, 3), level, np.uint8))
    assert len(flat) == 0
    assert match(flat, find_features(picture())).shape == (0, 2)


def test_descriptors_are_of_unit_length():
    lengths = np.linalg.norm(find_features(picture(6)).descriptors, axis=1)
    assert lengths == pytest.approx(np.ones(len(lengths)), abs=1e-5)


def test_one_rich_corner_does_not_take_all_keypoints():
    rng = np.random.default_rng(7)
    corner = rng.uniform(0, 0.1, (5000, 2)) * (640, 360)
    rest = rng.uniform(0, 1, (2000, 2)) * (640, 360)
    xy = np.float32(np.concatenate([corner, rest]))
    kept = spread(xy, np.r_[np.full(5000, 9.0), np.full(2000, 1.0)], (640, 360))[:KEYPOINTS]
    assert len(set(kept.tolist())) == KEYPOINTS
    assert (kept >= 5000).mean() > 0.8


def test_the_strongest_of_a_cell_are_kept():
    xy = np.float32(np.random.default_rng(8).uniform(0, 1, (20000, 2)) * (640, 360))
    response = np.random.default_rng(9).random(20000)
    kept = spread(xy, response, (640, 360))[:KEYPOINTS]
    cells = GRID[0] * GRID[1]
    assert len(set(kept.tolist())) == KEYPOINTS
    assert response[kept].min() > 1 - 2.5 * KEYPOINTS / cells / (20000 / cells)


def test_where_keeps_keypoints_and_descriptors_together():
    all_of_them = find_features(picture(10))
    keep = all_of_them.keypoints[:, 0] > 300
    some = all_of_them.where(keep)
    assert isinstance(some, Features)
    assert len(some) == keep.sum()
    assert (some.descriptors == all_of_them.descriptors[keep]).all()
