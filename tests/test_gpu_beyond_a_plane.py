"""The device's field of displacements, light, layers and resampling, against the CPU's."""

import cv2
import numpy as np
import pytest

from howard.align import field, fusion, gpu_field, gpu_fusion, gpu_view, light
from howard.align.comparison import coverage_of
from howard.align.cpu import laid_over
from howard.align.direct import dense_flow
from howard.align.geometry import corners
from howard.align.gpu_light import light_field
from howard.align.gpu_render import Drawn, drawn, lay_over
from howard.align.gpu_smooth import smooth
from howard.align.light import in_light
from howard.align.render import is_inside, plate_map, relit, resampled
from howard.align.view import view_of

F = np.float32
SIZE = (160, 96)
VIEW = SIZE[::-1]

FIELD_PIXELS = 0.02
"""Where flow and pictures are the same, what is left is the rounding of textures to levels."""
FIELD_SHARE = 0.002
"""Of the view: a level that falls to the other side of a tie may turn a vector's trust."""
GAIN = 0.01
"""Means of levels are rounded to whole ones, and a few ties fall to the other side."""
LEVEL_SHARE = 0.02
"""Of the values, more than one level apart: the CPU's map is computed at every fourth pixel, and
its lookup table in float64."""
BENT_PIXELS, BENT_SHARE = 0.1, 0.05
"""Where flow sees pictures that differ by a level here and there: it may take another vector, and
one that is hardly worth it may be taken or not."""
BORDER_SHARE = 0.01
"""Of the pixels: those whose samples lie within a hundredth of a pixel of the plate's end."""
WEIGHT = 1e-4
"""float32 sums in another order."""
OWNER_SHARE = 0.005
"""Of the view: regions that cost the same to a ten-thousandth of a level."""


def place(seed=0, size=SIZE):
    """Smooth noise in three octaves, RGB."""
    rng = np.random.default_rng(seed)
    total = np.zeros((size[1], size[0], 3))
    for cells, weight in ((5, 0.4), (14, 0.35), (40, 0.25)):
        octave = rng.uniform(0, 255, (cells, cells * 3 // 2, 3))
        total += weight * cv2.resize(octave, size, interpolation=cv2.INTER_CUBIC)
    return np.uint8(np.clip(total * 1.6 - 70, 0, 255))


def everywhere(shape=VIEW):
    return np.ones(shape, np.uint8)


def person_at():
    out = np.zeros(VIEW, np.uint8)
    out[30:, 60:95] = 1
    return out


def near_object(shift):
    """A frame and a plate of one place with an object that parallax moved by `shift` pixels."""
    far, near = place(), place(3)
    pictures = []
    for x in (0, shift):
        picture = far.copy()
        picture[15:75, 20 + x : 70 + x] = near[15:75, 20:70]
        pictures.append(picture)
    return pictures


def lamp():
    """(h, w, 3): how much darker a place is under another lamp."""
    ys, xs = np.mgrid[: VIEW[0], : VIEW[1]]
    dark = 1 - 0.6 * np.exp(-(((xs - 40) / 25) ** 2 + ((ys - 35) / 22) ** 2))
    return dark[..., None] * (1, 0.9, 0.8)


def shaken(size, seed=2, pixels=3.0):
    """A homography that moves the corners of a picture by some pixels."""
    rng = np.random.default_rng(seed)
    at = corners(*size).astype(F)
    return cv2.getPerspectiveTransform(at, at + rng.normal(0, pixels, (4, 2)).astype(F))


def share_off(got, want, tolerance):
    """The share of values that are farther apart."""
    return (np.abs(got.astype(float) - want) > tolerance).mean()


@pytest.fixture
def device(host_gpu):
    """Copies to the device."""
    return lambda *values: [v if v is None else host_gpu.asarray(v) for v in values]


@pytest.fixture
def flow_of_cpu(host_gpu, monkeypatch):
    """Flow on the device is the CPU's, so that all else can be compared."""

    def flow(a, b, finest):
        pairs = [dense_flow(a.get(), other.get(), finest) for other in b]
        host_gpu.downloads.clear()
        return host_gpu.asarray(np.stack(pairs))

    monkeypatch.setattr(gpu_field, "dense_flow", flow)


def device_view(picture, device):
    return gpu_view.view_of(*device(picture))


@pytest.mark.parametrize(("smoothness", "edge"), [(400.0, 10.0), (30.0, 5.0)])
@pytest.mark.parametrize("size", [SIZE, (61, 97)])
def test_the_smoother_is_opencvs(device, smoothness, edge, size):
    guide, signal = place(size=size), np.random.default_rng(0).random((*size[::-1], 3)).astype(F)
    theirs = cv2.ximgproc.createFastGlobalSmootherFilter(guide, smoothness, edge)
    want = np.dstack([theirs.filter(np.ascontiguousarray(signal[..., k])) for k in range(3)])
    on_device = device(guide, signal)
    smooth(*on_device, smoothness, edge)
    # OpenCV's elimination in float32 loses two digits where the ties are strong.
    np.testing.assert_allclose(on_device[1].get(), want, rtol=3e-5)


def test_a_picture_is_displaced_as_by_opencv(device):
    flow = cv2.resize(np.random.default_rng(1).normal(0, 8, (5, 8, 2)), SIZE).astype(F)
    for picture in (place(), everywhere() * np.uint8(255)):
        got = gpu_field.displaced(*device(picture, flow)).get()
        # Ties between two levels.
        assert np.abs(got.astype(int) - field.displaced(picture, flow)).max() <= 1


@pytest.mark.parametrize("is_known", [False, True])
def test_the_field_is_the_cpus(device, flow_of_cpu, is_known):
    frame, plate = near_object(5)
    person = person_at() if is_known else None
    covered = everywhere()
    covered[:, 150:] = plate[:, 150:] = 0
    want = field.residual_field(view_of(frame), plate, covered, person)
    on_device = device_view(frame, device), *device(plate, covered, person)
    got = gpu_field.residual_field(*on_device)
    assert np.median(want[25:65, 35:60, 0]) == pytest.approx(5, abs=0.5)
    assert share_off(got.get(), want, FIELD_PIXELS) < FIELD_SHARE


@pytest.mark.parametrize("at", [(200.0, 30.0), None])
def test_what_is_plausible_is_the_cpus(device, host_gpu, at):
    """A field that moves away from a point; and one that turns, which no camera made."""
    ys, xs = np.mgrid[: SIZE[1], : SIZE[0]]
    away = np.dstack([at[0] - xs, at[1] - ys]) if at else np.dstack([48.0 - ys, xs - 80.0])
    rng = np.random.default_rng(2)
    flow = (away / 40 * rng.uniform(-1, 1, (*VIEW, 1) if at else 1)).astype(F)
    flow[30:60, 60:90] = rng.normal(0, 4, (30, 30, 2))
    trust = rng.uniform(0.05, 1, VIEW).astype(F)
    want = field.plausible(flow, trust)
    got = gpu_field.plausible(
        *device(np.concatenate([flow * trust[..., None], trust[..., None]], 2))
    )
    assert host_gpu.downloads == []
    assert (want.min() < 0.1) == (at is not None)
    np.testing.assert_allclose(got.get(), want, atol=2e-3)


def test_a_near_object_is_brought_to_its_place(device, host_gpu):
    """With the device's own flow."""
    frame, plate = near_object(5)
    on_device = device_view(frame, device), *device(plate, everywhere(), None)
    got = gpu_field.residual_field(*on_device)
    assert host_gpu.downloads == [8]
    inside = np.s_[25:65, 35:60]
    before = cv2.absdiff(frame, plate)[inside].mean()
    moved = gpu_field.displaced(on_device[1], got).get()
    assert cv2.absdiff(frame, np.asarray(moved))[inside].mean() < before / 4
    assert np.median(got.get()[inside][..., 0]) == pytest.approx(5, abs=0.5)


def test_the_homography_is_enough_for_a_plane(device, host_gpu):
    plate = place()
    on_device = device_view(plate, device), *device(plate, everywhere(), None)
    assert gpu_field.residual_field(*on_device) is None
    assert host_gpu.downloads == [8]


@pytest.mark.parametrize("shift", [0, 5])
@pytest.mark.parametrize("is_known", [False, True])
def test_a_plane_is_told_from_a_place_with_things_as_on_the_cpu(device, host_gpu, shift, is_known):
    """By textures of different sizes."""
    frame, plate = (view_of(picture).texture for picture in near_object(shift))
    plate = np.pad(plate, ((3, 0), (8, 0)))
    homography = np.array([[1, 0, -8.0], [0, 1, -3], [0, 0, 1]])
    person = person_at() if is_known else None
    assert field.is_plane(frame, plate, homography, person) == (shift == 0)
    on_device = [*device(frame, plate), homography, *device(person)]
    assert gpu_field.is_plane(*on_device) == (shift == 0)
    assert host_gpu.downloads == [8]


@pytest.mark.parametrize("is_known", [False, True])
def test_the_light_is_the_cpus(device, host_gpu, is_known):
    plate = place()
    frame = np.uint8(plate * lamp())
    frame[person_at() > 0] = place(7)[person_at() > 0]
    person = person_at() if is_known else None
    want = light.light_field(view_of(frame), plate, everywhere(), person)
    on_device = device_view(frame, device), *device(plate, everywhere(), person)
    got = light_field(*on_device)
    assert host_gpu.downloads == [16]
    assert want.min() < 0.7
    np.testing.assert_allclose(got.get(), want, rtol=GAIN)


def test_one_light_needs_no_field(device):
    plate = place()
    assert light_field(device_view(plate, device), *device(plate, everywhere(), None)) is None
    # Another light, but not on the same surface.
    other = plate.copy()
    other[person_at() > 0] = place(7)[person_at() > 0] * 0.4
    assert light.light_field(view_of(other), plate, everywhere(), None) is None
    assert light_field(device_view(other, device), *device(plate, everywhere(), None)) is None


LIGHT = np.array([[1.1, -7], [0.9, 4.4], [1.2, 2]])


@pytest.mark.parametrize("is_bent", [False, True])
@pytest.mark.parametrize("frame_size", [(640, 384), (611, 379)])
def test_a_plate_is_drawn_as_by_opencv(device, is_bent, frame_size):
    plate_size = (280, 200)
    plate = place(4, plate_size)
    scale = np.diag([frame_size[0] / plate_size[0], frame_size[1] / plate_size[1], 1])
    homography = shaken(frame_size, pixels=9) @ scale
    bend, gain = None, None
    if is_bent:
        rng = np.random.default_rng(3)
        bend = cv2.resize(rng.normal(0, 2, (5, 8, 2)), SIZE, interpolation=cv2.INTER_CUBIC)
        gain = cv2.resize(rng.uniform(0.5, 1.8, (4, 6, 3)), SIZE, interpolation=cv2.INTER_CUBIC)
        bend, gain = bend.astype(F), gain.astype(F)
    where = plate_map(homography, frame_size, bend)
    want = resampled(in_light(plate, LIGHT), where)
    want = want if gain is None else relit(want, gain)
    want_coverage = is_inside(where, plate_size)
    on_device = device(plate)[0], homography, LIGHT, frame_size, *device(bend, gain)
    pixels, coverage, covered = (x.get() for x in drawn(*on_device))
    both = (coverage == 1) & (want_coverage == 1)
    assert 0.5 < both.mean() < 1
    assert (coverage != want_coverage).mean() < BORDER_SHARE
    assert share_off(pixels[both], want[both], 1) < LEVEL_SHARE
    assert not pixels[coverage == 0].any()
    assert covered[0] == coverage.sum()


def test_a_plate_behind_the_camera_covers_nothing_there(device):
    # The line at infinity runs through the frame at x = 120.
    homography = np.linalg.inv([[1, 0, 0], [0, 1, 0], [-1 / 120, 0, 1.0]])
    layer = drawn(*device(place()), homography, LIGHT, SIZE)
    assert layer.coverage.get()[:, 121:].max() == 0
    assert layer.coverage.get()[:40, :40].min() == 1


def test_a_layer_is_laid_over_as_by_opencv(device):
    size = (301, 181)
    rng = np.random.default_rng(5)
    coverages = [np.ones(size[::-1], np.uint8) for _ in range(2)]
    coverages[0][:, 200:], coverages[1][:, :60], coverages[1][:20] = 0, 0, 0
    pictures = [place(s, size) * c[..., None] for s, c in enumerate(coverages)]
    weight = cv2.resize(rng.random((6, 9)), SIZE).astype(F)
    want, want_coverage = laid_over(pictures[0], coverages[0], pictures[1], coverages[1], weight)
    layers = [
        Drawn(*device(p, c, np.array([c.sum()], np.int32)))
        for p, c in zip(pictures, coverages, strict=True)
    ]
    lay_over(*layers, *device(weight))
    pixels, coverage, covered = (x.get() for x in layers[0])
    np.testing.assert_array_equal(coverage, want_coverage)
    assert covered[0] == coverage.sum()
    # A rounding apart: OpenCV divides by the sum of the weights, to which it adds 1e-5.
    assert np.abs(pixels.astype(int) - want).max() <= 1


def layer(colour, covered):
    return fusion.Layer(None, None, None, colour, covered)


@pytest.mark.parametrize("is_known", [False, True])
def test_a_layer_is_bent_and_lit_as_on_the_cpu(device, flow_of_cpu, is_known):
    frame, plate = near_object(5)
    frame = np.uint8(frame * lamp())
    person = person_at() if is_known else None
    # A little larger than the frame: OpenCV blends the plate's end with black, and flow sees that.
    homography = np.array([[1.06, 0, -4], [0, 1.06, -3], [0, 0, 1]])
    want = fusion.layer_of("a", view_of(frame), view_of(plate), homography, LIGHT, person, False)
    views = device_view(frame, device), device_view(plate, device)
    got = gpu_fusion.layer_of("a", *views, homography, LIGHT, *device(person), False)
    assert got.source == "a"
    assert (want.gain is not None) == (got.gain is not None) == is_known
    assert share_off(got.field.get(), want.field, BENT_PIXELS) < BENT_SHARE
    inside = (want.covered == 1) & (got.covered.get() == 1)
    assert (want.covered != got.covered.get()).mean() < BORDER_SHARE
    assert share_off(got.colour.get()[inside], want.colour[inside], 2) < BENT_SHARE


def halves():
    """A frame, and two layers that explain half of it each; the second has a hole."""
    frame = place()
    left, right = frame.copy(), frame.copy()
    left[:, 80:] = place(4)[:, 80:]
    right[:, :80] = place(4)[:, :80]
    covered = everywhere()
    covered[40:60, 120:140] = 0
    return frame, [(left, everywhere()), (right, covered), (place(9), everywhere())]


@pytest.mark.parametrize("is_known", [False, True])
def test_what_a_layer_leaves_over_is_the_cpus(device, host_gpu, is_known):
    frame, layers = halves()
    person = person_at() if is_known else None
    want = fusion.left_over(layer(*layers[1]), view_of(frame), person)
    view = device_view(frame, device)
    got = gpu_fusion.left_over(layer(*device(*layers[1])), view, *device(person))
    assert host_gpu.downloads == []
    for mine, theirs in zip(got, want, strict=True):
        assert (mine.get() != theirs).mean() < OWNER_SHARE
    assert want[1].any() == is_known
    host_gpu.downloads.clear()
    assert gpu_fusion.are_worth(*got) == [fusion.is_worth(x) for x in want]
    assert host_gpu.downloads == [16]


@pytest.mark.parametrize("is_known", [False, True])
def test_layers_are_fused_as_on_the_cpu(device, host_gpu, is_known):
    frame, layers = halves()
    person = person_at() if is_known else None
    want = np.stack(fusion.fused([layer(*x) for x in layers], view_of(frame), person))
    view = device_view(frame, device)
    weights, used = gpu_fusion.fused([layer(*device(*x)) for x in layers], view, *device(person))
    assert host_gpu.downloads == []
    assert share_off(weights.get(), want, WEIGHT) < OWNER_SHARE
    assert [n > 0 for n in used.get()] == [w.any() for w in want] == [True, True, False]


def test_what_a_plate_covers_is_the_cpus(device):
    plate, homography = place(), shaken(SIZE, pixels=12)
    want = coverage_of(homography, SIZE, SIZE) == 1
    got = gpu_fusion.covered_by(device_view(plate, device), homography, SIZE).get()
    assert 0.5 < want.mean() < 1
    assert (got != want).mean() < BORDER_SHARE
