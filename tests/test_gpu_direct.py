"""Views, dense flow and direct alignment on the GPU, against the CPU's and against the truth."""

import cv2
import numpy as np
import pytest
from kernel_cases import textured

from howard.align import direct, gpu_direct, gpu_view, view
from howard.align.geometry import corners, project, scaling

SIZE = (240, 136)
"""Half a view: a motion of 8 pixels in a view is one of 4 here."""
MOTION = 4.0

MEANS = 1e-6
"""Of the largest value, by which means may differ: both sum in double and round to float32."""
COLOUR_LEVELS = 1
"""The resizing in floats and OpenCV's in fixed point part at ties."""
TEXTURE_LEVELS = COLOUR_LEVELS * view.CONTRAST / view.CONTRAST_FLOOR + 1
"""What a level of colour is worth in flat places, and a rounding down."""
DIFFERENT_TEXTURE = 0.05
"""Share of the pixels whose texture is off by more than a level: a few times what was seen."""
TEXTURE_TIES = 1e-3
"""Share of the pixels that fall to the other side of a level from one colour."""
AGREEMENT = 1e-3
"""Differences of means of squares, in float32, over a spread of at least 144 squared levels."""
SLOPE = 1e-4
"""Levels a pixel: a square root in float32."""


def at(picture, size):
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)


def place(seed=0, size=SIZE):
    """A textured picture without jagged edges."""
    wide = textured(2 * size[1], 2 * size[0], seed)
    return at(cv2.GaussianBlur(wide, (0, 0), 1.2), size)


# Views


@pytest.mark.parametrize(
    ("shape", "side"), [((40, 70), 31), ((40, 70, 3), 5), ((90, 33, 2), 8), ((17, 16), 31)]
)
def test_box_means_are_opencvs(host_gpu, shape, side):
    picture = (np.random.default_rng(0).random(shape) * 255**2).astype(np.float32)
    found = gpu_view.box_mean(host_gpu.asarray(picture), side)
    expected = cv2.blur(picture, (side, side))
    np.testing.assert_allclose(found.get(), expected, rtol=0, atol=MEANS * picture.max())


@pytest.mark.parametrize("size", [(640, 360), (497, 281), (300, 480), (200, 40)])
def test_a_view_is_the_cpus(host_gpu, size):
    pixels = textured(size[1], size[0])
    found, expected = gpu_view.view_of(host_gpu.asarray(pixels)), view.view_of(pixels)
    assert found.size == expected.size
    colour, texture = found.colour.get().astype(int), found.texture.get().astype(int)
    assert np.abs(colour - expected.colour).max() <= COLOUR_LEVELS
    off = np.abs(texture - expected.texture)
    assert off.max() <= TEXTURE_LEVELS
    assert (off > 1).mean() < DIFFERENT_TEXTURE
    small = at(found.texture.get(), view.half(found.size))
    assert np.abs(found.coarse.get().astype(int) - small).max() <= COLOUR_LEVELS


def test_the_texture_of_one_colour_is_the_cpus(host_gpu):
    colour = place()
    colour[:30, :60] = 90  # without any contrast
    found = gpu_view.texture_of(host_gpu.asarray(colour)).get().astype(int)
    off = np.abs(found - view.texture_of(colour))
    assert off.max() <= 1
    assert (off > 0).mean() < TEXTURE_TIES


def test_agreement_and_gradient_are_the_cpus(host_gpu):
    a, b = view.texture_of(place()), view.texture_of(place(1))
    b[:, :120] = a[:, :120] // 2 + b[:, :120] // 2
    found = gpu_view.agreement(host_gpu.asarray(a), host_gpu.asarray(b)).get()
    expected = view.agreement(a, b)
    assert 0.1 < expected.mean() < 0.9
    np.testing.assert_allclose(found, expected, atol=AGREEMENT)
    slope = gpu_view.gradient(host_gpu.asarray(a)).get()
    np.testing.assert_allclose(slope, direct.gradient(a), atol=SLOPE)


# Flow

EDGE = 8
"""Pixels at the picture's edge where part of what is looked for is not in the other picture."""
OF_OPENCVS = 1.3
"""How much larger than OpenCV's the error may be, of the median and of the worst twentieth."""


def shaken(seed, size=SIZE, pixels=MOTION):
    """A homography that moves the corners of a picture by up to some pixels."""
    moved = corners(*size) + np.random.default_rng(seed).uniform(-pixels, pixels, (4, 2))
    return cv2.getPerspectiveTransform(corners(*size).astype(np.float32), np.float32(moved))


def flow_of(homography):
    """(h, w, 2): where it takes each pixel, from there."""
    ys, xs = np.mgrid[: SIZE[1], : SIZE[0]]
    points = np.column_stack([xs.ravel(), ys.ravel()])
    return (project(homography, points) - points).reshape(*SIZE[::-1], 2).astype(np.float32)


def smooth_flow(seed):
    random = np.random.default_rng(seed)
    flow = cv2.resize(random.normal(0, 1, (4, 6, 2)), SIZE, interpolation=cv2.INTER_CUBIC)
    return (flow * MOTION / np.abs(flow).max()).astype(np.float32)


def moved_pair(flow, seed=0):
    """Textures a and b of pictures with noise, such that a at x is b at x + flow."""
    margin, fine = 10, 3  # drawn larger, so that resampling is no source of errors
    wide = (SIZE[0] + 2 * margin, SIZE[1] + 2 * margin)
    scene = cv2.GaussianBlur(textured(fine * wide[1], fine * wide[0], seed), (0, 0), 0.7 * fine)
    ys, xs = np.mgrid[: SIZE[1], : SIZE[0]].astype(np.float32)
    x, y = ((v + margin + 0.5) * fine - 0.5 for v in (xs + flow[..., 0], ys + flow[..., 1]))
    a = cv2.remap(scene, x, y, cv2.INTER_CUBIC) * 0.8 + 15
    x, y = ((v + margin + 0.5) * fine - 0.5 for v in (xs, ys))
    b = cv2.remap(scene, x, y, cv2.INTER_CUBIC).astype(float)
    noisy = np.stack([a, b]) + np.random.default_rng(seed).normal(0, 2, (2, *a.shape))
    return [view.texture_of(p) for p in noisy.clip(0, 255).astype(np.uint8)]


def errors(found, truth):
    """Median and 95th percentile of the distances, in pixels."""
    off = np.hypot(*(found - truth).transpose(2, 0, 1))[EDGE:-EDGE, EDGE:-EDGE]
    return np.median(off), np.percentile(off, 95)


@pytest.mark.parametrize("finest", [0, 1])
@pytest.mark.parametrize("kind", ["homography", "smooth"])
def test_flow_is_as_exact_as_opencvs(host_gpu, kind, finest):
    truth = flow_of(shaken(1)) if kind == "homography" else smooth_flow(1)
    a, b = moved_pair(truth, seed=2)
    found = gpu_direct.dense_flow(host_gpu.asarray(a), host_gpu.asarray(b)[None], finest)[0].get()
    ours, theirs = errors(found, truth), errors(direct.dense_flow(a, b, finest), truth)
    assert ours[0] <= OF_OPENCVS * theirs[0]
    assert ours[1] <= OF_OPENCVS * theirs[1]
    assert ours[0] < 0.1 * MOTION


def test_plates_of_a_batch_do_not_know_of_each_other(host_gpu):
    a, b = (host_gpu.asarray(view.texture_of(place(s, (96, 64)))) for s in (0, 1))
    both = host_gpu.stack([a, b])
    together = gpu_direct.dense_flow(a, both, 0)
    assert together.dtype == np.float32
    for n in range(2):
        alone = gpu_direct.dense_flow(a, both[n : n + 1], 0)
        np.testing.assert_array_equal(together[n], alone[0])
    assert np.abs(together[0]).max() < 1e-6  # the same picture


@pytest.mark.parametrize("size", [(16, 16), (63, 17), (33, 64)])
def test_small_pictures_have_fewer_levels(host_gpu, size):
    a = host_gpu.asarray(view.texture_of(place(0, size)))
    flow = gpu_direct.dense_flow(a, a[None], 3)
    assert flow.shape == (1, *size[::-1], 2)
    assert np.abs(flow).max() < 1e-6


# Direct alignment

PARITY_PIXELS = 0.1
"""Between the corners of both devices' homographies: each is fitted to two thousand vectors, good
to a fifth of a pixel or so, in which the two searches err differently. Seen: up to 0.03 with the
flow at full size, 0.08 at half; either is off from the truth by more."""
COUNTS = 0.03
"""Of the points: those near a bound on slope, difference or distance."""
SUPPORT = 0.03


def scene(seed):
    """Textures of a frame and a plate of half the exposure, where the person is in the frame, and
    frame_from_plate."""
    plate, truth = place(seed), shaken(seed)
    frame = cv2.warpPerspective(
        plate, truth, SIZE, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
    )
    person = np.zeros(SIZE[::-1], np.uint8)
    person[45:, 90:150] = 1
    frame[person == 1] = place(seed + 7)[person == 1]
    dark = (plate * 0.5 + 5).astype(np.uint8)
    return view.texture_of(frame), view.texture_of(dark), person, truth


def apart(a, b):
    """The largest distance between the corners that two homographies map to."""
    return np.hypot(*(project(a, corners(*SIZE)) - project(b, corners(*SIZE))).T).max()


@pytest.mark.parametrize("finest", [0, 1])
@pytest.mark.parametrize("is_person_known", [False, True])
def test_homographies_are_the_cpus(host_gpu, finest, is_person_known):
    frame, plate, person, truth = scene(3)
    starts = [np.eye(3), shaken(8, pixels=1) @ truth]
    where = host_gpu.asarray(person) if is_person_known else None
    plates = host_gpu.stack([host_gpu.asarray(plate)] * 2)
    found = gpu_direct.refine(host_gpu.asarray(frame), plates, starts, where, finest)
    hidden = person if is_person_known else None
    wanted = direct.refine(frame, [plate] * 2, starts, hidden, finest)
    for fit, expected in zip(found, wanted, strict=True):
        assert apart(fit.homography, expected.homography) < PARITY_PIXELS
        assert apart(fit.homography, truth) < apart(expected.homography, truth) + PARITY_PIXELS / 2
        for name in ("points", "matches", "inliers"):
            ours, theirs = getattr(fit, name), getattr(expected, name)
            assert abs(ours - theirs) <= COUNTS * expected.points, name
        assert abs(fit.support - expected.support) < SUPPORT


def test_the_person_hardly_counts(host_gpu):
    frame, plate, person, _ = (host_gpu.asarray(v) for v in scene(3))
    (without,) = gpu_direct.refine(frame, plate[None], [np.eye(3)], None, 1)
    (with_person,) = gpu_direct.refine(frame, plate[None], [np.eye(3)], person, 1)
    assert with_person.points == without.points
    assert with_person.support > without.support + 0.05


def test_a_plate_of_another_size_is_aligned(host_gpu):
    frame, plate, _, truth = scene(4)
    small = (180, 102)
    start = scaling(SIZE[0] / small[0], SIZE[1] / small[1])
    plate = at(plate, small)
    (fit,) = gpu_direct.refine(
        host_gpu.asarray(frame), [host_gpu.asarray(plate)], [start], None, finest=0
    )
    (expected,) = direct.refine(frame, [plate], [start], None, finest=0)
    back = np.linalg.inv(start)
    assert apart(fit.homography @ back, truth) < 0.3
    assert apart(fit.homography @ back, expected.homography @ back) < PARITY_PIXELS


def test_one_small_download_for_all_candidates(host_gpu):
    frame, plate, _, truth = scene(5)
    plates = [host_gpu.asarray(p) for p in (plate, scene(6)[1], plate)]
    elsewhere = np.array([[1, 0, 5000], [0, 1, 0], [0, 0, 1.0]])
    starts = [truth, np.eye(3), elsewhere]
    host_gpu.downloads.clear()
    fits = gpu_direct.refine(host_gpu.asarray(frame), plates, starts, None)
    assert host_gpu.downloads == [3 * gpu_direct.FIT * 8]
    assert apart(fits[0].homography, truth) < 0.3
    assert fits[1].support < 0.25  # another place
    assert fits[2] is None  # nothing of it is to be seen


def test_nothing_to_see_is_none(host_gpu):
    flat = host_gpu.asarray(np.full((64, 96), 128, np.uint8))
    assert gpu_direct.refine(flat, flat[None], [np.eye(3)]) == [None]
    assert gpu_direct.refine(flat, [], []) == []
