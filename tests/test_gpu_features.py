"""Keypoints, matches and homographies of the GPU code, its kernels run on the host: against truth
and against the CPU's SIFT."""

import cv2
import numpy as np
import pytest

from howard import cuda
from howard.align import gpu_features, robust
from howard.align.features import find_features as find_sift
from howard.align.features import match as match_sift
from howard.align.geometry import corners, project
from howard.align.gpu_features import SLOTS, THOROUGH, find_features, find_homographies, match
from howard.align.gpu_person import Person, nobody
from howard.align.robust import FEWEST_INLIERS, robust_homography

SIZE = (320, 180)
THRESHOLD = 2.0
NEAR = 6.0
"""Pixels at a corner of the picture, a fiftieth of its width: direct alignment mends that."""


def place(width, height, seed):
    """(H, W, 3) float32: detail at all scales, and boards that hang in it."""
    random = np.random.default_rng(seed)
    out, strength, columns = np.full((height, width, 3), 120, np.float32), 70.0, 4
    while columns < max(width, height):
        rows = max(2, columns * height // width)
        noise = random.normal(0, strength, (rows, columns, 3)).astype(np.float32)
        out += cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
        strength, columns = strength * 0.55, columns * 2
    for _ in range(60):
        middle, sides = (
            random.uniform((0, 0), (width, height)),
            random.uniform(0.02, 0.15, 2) * width,
        )
        box = cv2.boxPoints((middle, sides, random.uniform(-20, 20))).astype(np.int32)
        mask = cv2.fillPoly(np.zeros((height, width), np.uint8), [box], 1)[..., None]
        board = random.uniform(20, 235, 3) + 0.3 * (out - 120)
        out = np.where(mask, board.astype(np.float32), out)
    return out.clip(0, 255)


def turned(degrees, zoom, shift, tilt=(0, 0)):
    """frame_from_plate, about the middle."""
    width, height = SIZE
    c, s = zoom * np.cos(np.radians(degrees)), zoom * np.sin(np.radians(degrees))
    to_middle = np.array([[1, 0, width / 2], [0, 1, height / 2], [0, 0, 1]])
    about = np.array([[c, -s, shift[0]], [s, c, shift[1]], [*tilt, 1]])
    return to_middle @ about @ np.linalg.inv(to_middle)


def seen(scene, homography, light=1.0, noise=2.0, seed=0, person=False):
    """A picture of a scene three times as large, its middle moved by the homography."""
    width, height = SIZE
    scale = 1 / 1.9
    middle = [[scale, 0, width / 2 * (1 - 3 * scale)], [0, scale, height / 2 * (1 - 3 * scale)]]
    out = cv2.warpPerspective(scene, homography @ np.vstack([middle, [0, 0, 1]]), SIZE)
    if person:
        out = np.where(person_mask()[..., None], place(*SIZE, seed + 500), out)
    noisy = out * light + np.random.default_rng(seed).normal(0, noise, out.shape)
    return noisy.clip(0, 255).round().astype(np.uint8)


def person_mask():
    """(H, W) uint8: two fifths of the frame."""
    mask = np.zeros(SIZE[::-1], np.uint8)
    cv2.ellipse(mask, (150, 110), (77, 110), 0, 0, 360, 1, -1)
    return mask


def known(cp, mask):
    count = np.array([mask.sum()], np.int32)
    return Person(cp.asarray(mask), cp.asarray(count), int(0.75 * mask.size))


def hard_pair(seed, light=1.0, noise=3.0):
    """plate, frame, frame_from_plate: turned by up to 10 degrees, scaled by 0.8 to 1.25, up to half
    as bright again or as dark, a person in the way."""
    random = np.random.default_rng(seed)
    degrees, zoom = random.uniform(-10, 10), 1.25 ** random.uniform(-1, 1)
    tilt = random.uniform(-2e-4, 2e-4, 2)
    homography = turned(degrees, zoom, random.uniform(-20, 20, 2), tilt)
    scene, gain = place(960, 540, seed), 1.5 ** random.uniform(-1, 1)
    plate = seen(scene, np.eye(3), light, noise, seed)
    return plate, seen(scene, homography, light * gain, noise, seed + 50, True), homography


def corner_error(found, truth):
    apart = project(found, corners(*SIZE)) - project(truth, corners(*SIZE))
    return np.hypot(*apart.T).max()


def homography_by_sift(plate, frame):
    a, b = find_sift(plate), find_sift(frame)
    pairs = match_sift(a, b)
    points = a.keypoints[pairs[:, 0]], b.keypoints[pairs[:, 1]]
    found = robust_homography(*points, THRESHOLD, SIZE, SIZE)
    return None if found is None else found[0]


def features(cp, picture, thorough=False):
    return find_features(cp.asarray(picture), thorough)


def found_on_device(cp, plate, frame, person=None, thorough=False):
    there, here = features(cp, plate, thorough), features(cp, frame, thorough)
    (found,) = find_homographies([there], here, person or nobody(), THRESHOLD, SIZE, SIZE)
    return found


def pairs_of(cp, plate, frame):
    """(K, 4) matched points."""
    found = match([features(cp, plate)], features(cp, frame))
    return found.points[0, : int(found.counts[0])].get()


@pytest.mark.parametrize(
    ("light", "noise", "fewest"),
    # SIFT finds all by day and less than half of them at night.
    [(1.0, 3.0, 5), (0.15, 1.2, 4)],
    ids=["day", "night"],
)
def test_hard_pairs_are_found_as_by_sift(host_gpu, light, noise, fewest):
    ours, theirs = [], []
    for seed in range(5):
        plate, frame, truth = hard_pair(seed, light, noise)
        found, sift = found_on_device(host_gpu, plate, frame), homography_by_sift(plate, frame)
        ours.append(np.inf if found is None else corner_error(found.homography, truth))
        theirs.append(np.inf if sift is None else corner_error(sift, truth))
    near, near_by_sift = (sum(error < NEAR for error in errors) for errors in (ours, theirs))
    assert near >= fewest
    assert near >= near_by_sift
    assert np.median(ours) < 3


def test_a_zoom_by_half_again_is_found(host_gpu):
    scene, truth = place(960, 540, 3), turned(2, 1.5, (8, -5))
    found = found_on_device(host_gpu, seen(scene, np.eye(3)), seen(scene, truth, seed=1))
    assert corner_error(found.homography, truth) < NEAR


def test_the_thorough_search_turns_its_patches(host_gpu):
    scene, truth = place(960, 540, 4), turned(28, 1.0, (0, 0))
    plate, frame = seen(scene, np.eye(3)), seen(scene, truth, seed=1)
    found = found_on_device(host_gpu, plate, frame, thorough=True)
    assert corner_error(found.homography, truth) < NEAR


def test_unrelated_pictures_agree_on_nothing(host_gpu):
    plate, frame = (seen(place(960, 540, seed), np.eye(3), seed=seed) for seed in (5, 6))
    assert found_on_device(host_gpu, plate, frame) is None


@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_flat_picture_has_no_keypoints(host_gpu, level):
    flat = features(host_gpu, np.full((180, 320, 3), level, np.uint8))
    other = features(host_gpu, place(*SIZE, 7).astype(np.uint8))
    assert len(flat) == 0
    for there, here in ((flat, other), (other, flat)):
        assert find_homographies([there], here, nobody(), THRESHOLD, SIZE, SIZE) == [None]


@pytest.mark.parametrize(("thorough", "slots"), [(False, SLOTS), (True, THOROUGH[1])])
def test_keypoints_fill_the_first_slots_and_the_picture(host_gpu, thorough, slots):
    found = features(host_gpu, place(*SIZE, 8).astype(np.uint8), thorough)
    spots = found.spots.get()
    assert spots.shape == (slots, 3)
    assert found.descriptors.shape == (slots, 8)
    used = spots[: len(found)]
    assert (used[:, 2] > 0).all()
    assert not spots[len(found) :].any()
    assert (used[:, :2] >= 0).all()
    assert (used[:, :2] <= np.array(SIZE) - 1).all()
    cells = np.histogram2d(*used[:, :2].T, bins=(6, 4), range=((16, 304), (16, 164)))[0]
    assert cells.min() > 5
    assert cells.max() < 8 * np.median(cells)


@pytest.mark.parametrize("shape", [(1, 1), (9, 300), (40, 33)])
def test_pictures_too_small_for_patches_have_no_keypoints(host_gpu, shape):
    picture = np.random.default_rng(0).integers(0, 256, (*shape, 3)).astype(np.uint8)
    assert len(features(host_gpu, picture)) <= 8


def test_keypoints_come_in_full_resolution_pixels(host_gpu):
    small = place(640, 360, 9).astype(np.uint8)
    large = cv2.resize(small, (1280, 720), interpolation=cv2.INTER_CUBIC)
    pairs = pairs_of(host_gpu, small, large)
    assert len(pairs) > 500
    error = pairs[:, 2:] - ((pairs[:, :2] + 0.5) * 2 - 0.5)
    assert np.median(error, 0) == pytest.approx([0, 0], abs=0.1)


def test_matches_are_one_to_one(host_gpu):
    plate, frame, _ = hard_pair(0)
    pairs = pairs_of(host_gpu, plate, frame)
    assert (
        len(np.unique(pairs[:, :2], axis=0)) == len(np.unique(pairs[:, 2:], axis=0)) == len(pairs)
    )


def test_keypoints_on_the_person_do_not_count(host_gpu):
    plate, frame, truth = hard_pair(1)
    without = found_on_device(host_gpu, plate, frame)
    found = found_on_device(host_gpu, plate, frame, known(host_gpu, person_mask()))
    assert found.keypoints < 0.75 * without.keypoints
    assert found.inliers > 0.9 * without.inliers
    assert found.inliers / found.matches > without.inliers / without.matches
    assert corner_error(found.homography, truth) < NEAR


def test_a_person_nearly_everywhere_is_no_reason_to_look_nowhere(host_gpu):
    plate, frame, _ = hard_pair(1)
    mask = np.ones(SIZE[::-1], np.uint8)
    mask[:, :24] = 0
    count = host_gpu.asarray(np.array([mask.sum()], np.int32))
    everywhere = Person(host_gpu.asarray(mask), count, mask.size)
    found = found_on_device(host_gpu, plate, frame, everywhere)
    assert found.keypoints == found_on_device(host_gpu, plate, frame).keypoints


def test_several_plates_are_found_at_once_with_one_copy(host_gpu, monkeypatch):
    scene = place(960, 540, 10)
    moves = [turned(a, z, (5 * a, 3)) for a, z in ((0, 1), (4, 1.1), (-6, 0.9))]
    plates = [
        features(host_gpu, seen(scene, np.linalg.inv(m), seed=k)) for k, m in enumerate(moves)
    ]
    plates.append(features(host_gpu, seen(place(960, 540, 11), np.eye(3))))
    frame = features(host_gpu, seen(scene, np.eye(3), seed=9))
    monkeypatch.setattr(gpu_features, "SEVERAL", 0)
    host_gpu.downloads.clear()
    before = cuda.traffic.read_backs
    together = find_homographies(plates, frame, nobody(), THRESHOLD, SIZE, SIZE)
    assert len(host_gpu.downloads) == cuda.traffic.read_backs - before == 1
    assert host_gpu.downloads[0] < 1000
    assert together[3] is None
    for plate, move, found in zip(plates, moves, together, strict=False):
        (alone,) = find_homographies([plate], frame, nobody(), THRESHOLD, SIZE, SIZE)
        np.testing.assert_array_equal(found.homography, alone.homography)
        assert (found.keypoints, found.matches) == (alone.keypoints, alone.matches)
        assert FEWEST_INLIERS < found.inliers <= found.matches <= found.keypoints
        assert corner_error(found.homography, move) < 2


def test_no_plates_ask_for_nothing(host_gpu):
    frame = features(host_gpu, place(*SIZE, 8).astype(np.uint8))
    host_gpu.downloads.clear()
    assert find_homographies([], frame, nobody(), THRESHOLD, SIZE, SIZE) == []
    assert not host_gpu.downloads


def test_a_place_that_is_no_plane_is_taken_as_a_whole(host_gpu, monkeypatch):
    """Five walls at as many depths: no plane has half of the matches."""
    scene = place(960, 540, 12)
    plate = seen(scene, np.eye(3))
    frame = np.zeros_like(plate)
    for k, shift in enumerate((-9, 7, -3, 11, -6)):
        wall = seen(scene, turned(0, 1, (shift, 0)), seed=k)
        frame[:, 64 * k : 64 * k + 64] = wall[:, 64 * k : 64 * k + 64]
    asked = []

    def asked_for(*args):
        asked.append(args)
        return robust_homography(*args)

    monkeypatch.setattr(gpu_features, "robust_homography", asked_for)
    found = found_on_device(host_gpu, plate, frame)
    ((there, here, *sizes),) = asked
    assert sizes == [THRESHOLD, SIZE, SIZE]
    homography, inliers = robust_homography(there, here, *sizes)
    np.testing.assert_array_equal(found.homography, homography)
    assert (found.matches, found.inliers) == (len(there), inliers)
    assert robust.is_plausible(found.homography, SIZE, SIZE)
    middle = project(found.homography, np.array([[159.5, 89.5]]))
    assert np.abs(middle - [159.5, 89.5]).max() < robust.PARALLAX * max(SIZE)


def test_a_plate_of_another_size_is_found(host_gpu):
    scene = place(960, 540, 13)
    plate = cv2.resize(seen(scene, np.eye(3)), (640, 480), interpolation=cv2.INTER_CUBIC)
    there, here = features(host_gpu, plate), features(host_gpu, seen(scene, np.eye(3), seed=1))
    (found,) = find_homographies([there], here, nobody(), THRESHOLD, (640, 480), SIZE)
    back = project(found.homography, corners(640, 480))
    assert np.abs(back - (corners(640, 480) + 0.5) * [0.5, 0.375] + 0.5).max() < 2
