"""Direct alignment, the field of displacements, the light field, the layers, the resampling."""

import cv2
import numpy as np
import pytest

from howard.align import render
from howard.align.direct import dense_flow, fit, gradient, refine
from howard.align.field import LIMIT, displaced, is_plane_by, residual_field
from howard.align.fusion import Layer, fused
from howard.align.geometry import Resolution, corners, project, scaling
from howard.align.light import is_alike, light_field
from howard.align.render import covered_by, is_inside, plate_map, relit, resampled
from howard.align.robust import robust_homography
from howard.align.view import View, agreement, texture_of, view_of

SIZE = (480, 270)
EDGE_PIXELS = 40
"""Of the border between two computations of coverage: one in ten may fall on the other side."""


def place(seed=0, size=SIZE):
    """Smooth noise in three octaves, RGB."""
    rng = np.random.default_rng(seed)
    total = np.zeros((size[1], size[0], 3))
    for cells, weight in ((9, 0.4), (30, 0.35), (110, 0.25)):
        octave = rng.uniform(0, 255, (cells, cells * 3 // 2, 3))
        total += weight * cv2.resize(octave, size, interpolation=cv2.INTER_CUBIC)
    return np.uint8(np.clip(total * 1.6 - 70, 0, 255))


def everywhere(picture):
    return np.ones(picture.shape[:2], np.uint8)


def shaken(seed, pixels=6.0):
    """A homography that moves the corners of the view by some pixels."""
    rng = np.random.default_rng(seed)
    at = corners(*SIZE).astype(np.float32)
    moved = at + rng.normal(0, pixels, (4, 2)).astype(np.float32)
    return cv2.getPerspectiveTransform(at, moved)


def warped(picture, homography):
    return cv2.warpPerspective(
        picture, homography, SIZE, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
    )


def with_person(picture, seed=7):
    """A textured block in the middle, and where it is."""
    out, where = picture.copy(), np.zeros(picture.shape[:2], np.uint8)
    where[90:, 180:300] = 1
    out[where == 1] = place(seed)[where == 1]
    return out, where


@pytest.mark.parametrize("finest", [0, 1])
@pytest.mark.parametrize("gain", [1.0, 0.5])
def test_direct_alignment_finds_a_homography_beside_a_person(finest, gain):
    plate = place()
    worst = []
    for seed in range(4):
        truth = shaken(seed)
        frame, _ = with_person(np.uint8(warped(plate, truth) * gain))
        (found,) = refine(texture_of(frame), [texture_of(plate)], [np.eye(3)], None, finest)
        error = project(found.homography, corners(*SIZE)) - project(truth, corners(*SIZE))
        worst.append(np.abs(error).max())
        assert found.inliers <= found.matches <= found.points
        assert found.support > 0.6
    # A tenth of a view pixel: the flow of thousands of points, each good to a fifth or so.
    assert max(worst) < (0.12 if finest == 0 else 0.3)


@pytest.mark.parametrize("size", [(16, 16), (40, 12), (63, 17), (90, 5), (300, 4), (11, 11)])
def test_pictures_too_small_for_the_flow_leave_the_next_ones_flow_alone(size):
    a, b = texture_of(place(0)), texture_of(warped(place(0), shaken(1)))
    before = dense_flow(a, b, 1)
    small = texture_of(place(0, size))
    assert np.abs(dense_flow(small, small, 1)).max() < 1e-6
    np.testing.assert_array_equal(dense_flow(a, b, 1), before)


def test_gradients_do_not_depend_on_where_in_memory_the_picture_lies():
    picture = texture_of(place(0, (239, 135)))
    kept = []  # so that each copy lies elsewhere
    for size in range(40):
        kept += [np.empty(1000 + 17 * size, np.uint8), gradient(picture.copy())]
    assert all(np.array_equal(kept[1], other) for other in kept[3::2])


def test_direct_alignment_says_when_there_is_nothing_to_see():
    flat = np.full(SIZE[::-1], 128, np.uint8)
    assert refine(flat, [flat], [np.eye(3)], None) == [None]


def test_direct_alignment_does_not_agree_with_another_place():
    (found,) = refine(texture_of(place(1)), [texture_of(place(2))], [np.eye(3)], None)
    assert found is None or found.support < 0.25


def test_the_fit_ignores_vectors_that_lie_elsewhere():
    rng = np.random.default_rng(3)
    truth = shaken(5)
    plate = rng.uniform(0, 1, (800, 2)) * SIZE
    frame = project(truth, plate)
    frame[:250] += rng.normal(0, 30, (250, 2))
    found = fit(plate, frame, np.ones(800), np.eye(3), SIZE)
    assert np.abs(project(found, corners(*SIZE)) - project(truth, corners(*SIZE))).max() < 0.01


def test_a_sky_without_texture_does_not_fold():
    """A thing before the lowest strip of a place, whose parallax one homography explains by folding
    all that lies above: the upper corners moved by 240 to 430 pixels."""
    rng = np.random.default_rng(0)
    near = rng.uniform((0.35, 0.8), (0.65, 1), (120, 2)) * SIZE
    far = rng.uniform((0, 0.93), 1, (60, 2)) * SIZE
    frame = np.vstack([near + (2, -6) + (near - 240) * 0.1, far + (4, 0)])
    frame += rng.normal(0, 0.4, frame.shape)
    found = fit(np.vstack([near, far]), frame, np.ones(180), np.eye(3), SIZE)
    assert np.abs(project(found, corners(*SIZE)) - corners(*SIZE)).max() < 60


def test_the_textures_of_two_exposures_agree_and_those_of_two_places_do_not():
    bright, dark = texture_of(place()), texture_of(np.uint8(place() * 0.4))
    assert agreement(bright, dark).mean() > 0.9
    assert agreement(bright, texture_of(place(5))).mean() < 0.1


def near_object(shift):
    """A frame and a plate of one place with an object that parallax moved by `shift` pixels."""
    far, near = place(), place(3)
    pictures = []
    for x in (0, shift):
        picture = far.copy()
        picture[40:200, 60 + x : 200 + x] = near[40:200, 60:200]
        pictures.append(picture)
    return pictures


def test_a_near_object_is_brought_to_its_place():
    frame, plate = near_object(8)
    field = residual_field(view_of(frame), plate, everywhere(plate), None)
    inside = np.s_[60:180, 90:180]
    before = cv2.absdiff(frame, plate)[inside].mean()
    after = cv2.absdiff(frame, displaced(plate, field))[inside].mean()
    assert after < before / 4
    assert np.median(field[inside][..., 0]) == pytest.approx(8, abs=0.5)
    # What did not move stays.
    assert np.abs(field[20:250, 380:460]).max() < 1.0


def test_the_homography_is_enough_for_a_plane():
    plate = place()
    assert residual_field(view_of(with_person(plate)[0]), plate, everywhere(plate), None) is None


@pytest.mark.parametrize(
    ("shares", "verdict"),
    [([0.03], True), ([0.1, 0.06], True), ([0.1, 0.08], False), ([0.2], False)],
)
def test_a_second_look_settles_what_the_first_leaves_in_doubt(shares, verdict):
    looks = iter(shares)
    assert is_plane_by(lambda finest, limit: next(looks)) == verdict
    assert next(looks, None) is None


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("shift", [0, 8])
def test_a_person_who_stands_still_is_not_absorbed(known, shift):
    frame, plate = near_object(shift)
    clean = frame.copy()
    frame, where = with_person(frame)
    person = where if known else None
    field = residual_field(view_of(frame), plate, everywhere(plate), person)
    bent = plate if field is None else displaced(plate, field)
    gain = light_field(view_of(frame), bent, everywhere(plate), person)
    lit = bent if gain is None else relit(bent, gain)
    inside = cv2.erode(where, np.ones((9, 9))) == 1
    before = cv2.absdiff(frame, plate)[inside].mean()
    assert cv2.absdiff(frame, lit)[inside].mean() > 0.85 * before
    # Under the person lies the place, not a copy of the person.
    assert cv2.absdiff(clean, lit)[inside].mean() < 0.6 * before


def test_the_field_is_bounded():
    frame, plate = near_object(100)
    field = residual_field(view_of(frame), plate, everywhere(plate), None)
    assert field is None or np.abs(field).max() <= LIMIT * SIZE[0] + 1e-3


def test_the_end_of_the_plate_does_not_draw_the_field():
    frame, plate = near_object(8)
    covered = everywhere(plate)
    covered[:, 440:] = plate[:, 440:] = 0
    field = residual_field(view_of(frame), plate, covered, np.zeros_like(covered))
    # What is not covered is not shown, and what is beside it did not move.
    assert np.abs(field[20:250, 380:440]).max() < 0.5


def test_stripes_are_not_taken_for_the_next_ones():
    frame, plate = near_object(8)
    for picture in (frame, plate):  # where nothing moves: as good a period further
        picture[40:220, 300:460] = np.where(np.arange(160) % 8 < 4, 90, 160)[None, :, None]
    plate = np.uint8(plate * 0.9 + place(9) * 0.1)  # dirt, light, noise: not quite the same
    field = residual_field(view_of(frame), plate, everywhere(plate), None)
    assert np.abs(field[60:200, 320:440]).max() < 1.0


def test_lamps_that_shine_otherwise_are_matched_and_a_person_is_not():
    plate = place()
    ys, xs = np.mgrid[: SIZE[1], : SIZE[0]]
    lamp = 1 - 0.6 * np.exp(-(((xs - 120) / 70) ** 2 + ((ys - 100) / 60) ** 2))
    lit = np.uint8(plate * lamp[..., None] * (1, 0.9, 0.8))
    frame, where = with_person(lit)
    gain = light_field(view_of(frame), plate, everywhere(plate), where)
    outside = where == 0
    before = cv2.absdiff(frame, plate)[outside].mean()
    assert cv2.absdiff(frame, relit(plate, gain))[outside].mean() < before / 3


def test_one_light_needs_no_field():
    plate = place()
    assert light_field(view_of(with_person(plate)[0]), plate, everywhere(plate), None) is None


def test_a_person_in_one_light_with_the_place_is_no_reason_to_look_for_a_field():
    frame, where = with_person(place())
    prior = np.where(where, 0.05, 1).astype(np.float32)
    assert is_alike((frame, place()), prior)
    assert not is_alike((frame, place()), np.ones_like(prior))
    assert not is_alike((frame, place() // 2), prior)


def layer(colour, covered):
    return Layer(None, None, None, colour, covered)


def test_each_region_is_taken_from_the_layer_that_explains_it():
    frame = place()
    left, right = frame.copy(), frame.copy()
    left[:, 240:] = place(4)[:, 240:]
    right[:, :240] = place(4)[:, :240]
    layers = [layer(x, everywhere(x)) for x in (left, right)]
    first, second = fused(layers, view_of(frame), None)
    assert first + second == pytest.approx(1, abs=1e-5)
    assert first[:, :200].min() > 0.99
    assert second[:, 280:].min() > 0.99


def test_a_hole_is_filled_from_the_layer_that_covers_it():
    frame = place()
    covered = everywhere(frame)
    covered[:, 400:] = 0
    half = np.where(covered[..., None] > 0, frame, np.uint8(0))
    weights = fused([layer(half, covered), layer(frame, everywhere(frame))], view_of(frame), None)
    assert weights[1][:, 410:].min() > 0.99
    assert weights[0][:, :340].min() > 0.99


def test_likeness_to_the_person_does_not_choose_the_layer():
    plate = place()
    frame, where = with_person(plate)
    like = plate.copy()
    like[where == 1] = frame[where == 1]
    weights = fused(
        [layer(plate, everywhere(plate)), layer(like, everywhere(plate))], view_of(frame), where
    )
    assert weights[1].max() == 0


@pytest.mark.parametrize("size", [(640, 360), (481, 271)])
def test_the_map_is_the_homography_plus_the_field(size):
    scale = scaling(size[0] / SIZE[0], size[1] / SIZE[1])
    homography = scale @ shaken(2) @ np.linalg.inv(scale)
    field = np.zeros((SIZE[1], SIZE[0], 2), np.float32)
    field[..., 0] = 3
    where = plate_map(homography, size, field)
    points = np.array([[0, 0], [100.0, 37.0], [size[0] - 1, size[1] - 1]])
    moved = points + (3 * size[0] / SIZE[0], 0)
    expected = project(np.linalg.inv(homography), moved)
    at = points.astype(int)
    assert where[at[:, 1], at[:, 0]] == pytest.approx(expected, abs=0.02)


def test_coverage_ends_where_the_plate_ends():
    where = plate_map(np.array([[1, 0, 20.5], [0, 1, 0], [0, 0, 1.0]]), SIZE, None)
    coverage = is_inside(where, SIZE)
    assert coverage[:, :21].max() == 0
    assert coverage[:, 21:].min() == 1
    drawn = resampled(place(), where)
    assert np.abs(drawn[:, 30].astype(int) - place()[:, 9:11].astype(int).mean(1)).max() <= 1


@pytest.mark.parametrize("seed", range(4))
def test_a_homography_alone_is_drawn_as_by_its_map(seed):
    homography = shaken(seed)
    homography[:2, 2] += np.random.default_rng(seed).uniform(-30, 30, 2)
    where = plate_map(homography, SIZE, None)
    coverage = covered_by(homography, SIZE, SIZE)
    assert (coverage != is_inside(where, SIZE)).sum() <= EDGE_PIXELS
    assert 0.3 < coverage.mean() < 1
    apart = cv2.absdiff(render.warped(place(), homography, SIZE), resampled(place(), where))
    # Between its nodes the map is off by a hundredth of a pixel.
    assert apart.max() <= 2


def test_a_plate_behind_the_camera_covers_nothing_there():
    # The line at infinity runs through the frame at x = 300.
    homography = np.linalg.inv([[1, 0, 0], [0, 1, 0], [-1 / 300, 0, 1.0]])
    coverage = covered_by(homography, SIZE, SIZE)
    assert coverage[:, 301:].max() == 0
    assert coverage[:40, :40].min() == 1


def test_homographies_travel_between_resolutions():
    scale = Resolution.of((1920, 1080), (1280, 720), (480, 270), (320, 180))
    full = np.array([[1.5, 0.01, 12], [0, 1.5, -7], [0, 0, 1]])
    assert scale.full(scale.small(full)) == pytest.approx(full)
    small = project(scale.small(full), scaling(0.25, 0.25)[:2, 2][None] * 0 + [[10.0, 20.0]])
    at_full = project(full, project(scaling(4, 4), np.array([[10.0, 20.0]])))
    assert small == pytest.approx(project(scaling(0.25, 0.25), at_full))


def street(motion, count=300, seed=1):
    """Matches (count, 2) xy each of points all over a deep scene, filmed from two places."""
    rng = np.random.default_rng(seed)
    points = np.column_stack([rng.uniform(-1, 1, (count, 2)), rng.uniform(1.5, 6, count)])
    points[:, :2] *= points[:, 2:] * 0.5
    project_all = lambda p: (500 + 1000 * p[:, 0] / p[:, 2], 350 + 1000 * p[:, 1] / p[:, 2])  # noqa: E731
    plate, frame = (np.column_stack(project_all(p)) for p in (points, points + motion))
    frame += rng.normal(0, 0.3, frame.shape)
    frame[: count // 5] = rng.uniform(0, 1, (count // 5, 2)) * (1000, 700)
    return plate.astype(np.float32), frame.astype(np.float32)


def test_a_deep_place_gives_the_homography_nearest_to_all_of_it():
    plate, frame = street((0.12, 0.02, 0.15))
    found, count = robust_homography(plate, frame, 2.0, (1000, 700), (1000, 700))
    off = np.hypot(*(project(found, plate[60:]) - frame[60:]).T)
    # Parallax moves these points by 20 to 90 pixels.
    assert np.median(off) < 12
    assert count > 120


def test_a_plane_gives_its_own_homography_whatever_stands_before_it():
    rng = np.random.default_rng(4)
    plate = rng.uniform(0, 1, (200, 2)).astype(np.float32) * (1000, 700)
    truth = np.array([[1.02, 0.01, 8], [-0.01, 1.01, -5], [1e-5, 0, 1]])
    frame = project(truth, plate) + rng.normal(0, 0.3, (200, 2))
    frame[:60] += (25, 3)
    found, _ = robust_homography(
        plate.astype(np.float32), frame.astype(np.float32), 2.0, (1000, 700), (1000, 700)
    )
    at = corners(1000, 700)
    assert np.abs(project(found, at) - project(truth, at)).max() < 0.5


@pytest.mark.parametrize(("count", "is_believed"), [(30, False), (90, True)])
def test_many_matches_speak_for_a_view_that_differs_much(count, is_believed):
    rng = np.random.default_rng(5)
    plate = (rng.uniform(0, 1, (count, 2)) * (1000, 700)).astype(np.float32)
    narrow = np.array([[0.5, 0, 250], [0, 1, 0], [0, 0, 1]])
    frame = (project(narrow, plate) + rng.normal(0, 0.3, (count, 2))).astype(np.float32)
    found = robust_homography(plate, frame, 2.0, (1000, 700), (1000, 700))
    right = found is not None and np.abs(project(found[0], plate) - frame).max() < 2
    assert right == is_believed


def test_too_few_matches_give_nothing():
    few = np.zeros((5, 2), np.float32)
    assert robust_homography(few, few, 2.0, SIZE, SIZE) is None
    rng = np.random.default_rng(2)
    a, b = rng.uniform(0, 500, (2, 40, 2)).astype(np.float32)
    assert robust_homography(a, b, 2.0, (500, 500), (500, 500)) is None


def test_a_view_is_small_and_keeps_the_shape():
    view = view_of(np.zeros((1080, 1920, 3), np.uint8))
    assert isinstance(view, View)
    assert view.size == (480, 270)
    assert view.coarse.shape == (135, 240)
    assert view_of(np.zeros((40, 30, 3), np.uint8)).size == (30, 40)


def test_a_place_whose_epipolar_geometry_opencv_gives_up_on_is_a_plane(monkeypatch):
    # On takes from one spot OpenCV 5.0 asserts instead of saying that there is none.
    def gives_up(*args, **options):
        raise cv2.error("Assertion failed: !model.empty() in function 'setModelParameters'")

    monkeypatch.setattr(cv2, "findFundamentalMat", gives_up)
    points = np.random.default_rng(0).uniform(0, 400, (200, 2)).astype(np.float32)
    homography, inliers = robust_homography(points, points, 2.0, (400, 400), (400, 400))
    assert np.abs(homography - np.eye(3)).max() < 1e-3
    assert inliers == 200
    monkeypatch.setattr(cv2, "findHomography", gives_up)
    assert robust_homography(points, points, 2.0, (400, 400), (400, 400)) is None
