"""The judging of candidates by the GPU code, its kernels run on the host: against the CPU's."""

import cv2
import numpy as np
import pytest
from kernel_cases import TRUE_HOMOGRAPHY, textured

from howard import cuda
from howard.align import comparison, gpu_comparison, gpu_view, view
from howard.align.comparison import MOST_PERSON, Comparison, texture_cost
from howard.align.cpu import GAP
from howard.align.geometry import Resolution
from howard.align.gpu_comparison import DeviceComparison

SIZE = (320, 180)
COST = {"rel": 0.02, "abs": 0.1}
"""Levels. The device resizes colours in floats, here and there a level apart from OpenCV's."""
LIGHT_LEVELS = 1.0
"""At middle grey: where nothing fits, the light is what such levels make of it."""
PERSON_SHARE = 0.005
"""Of the pixels may differ, at the edge: alpha is in halves there, and near the threshold."""
HOMOGRAPHIES = [
    TRUE_HOMOGRAPHY,
    np.eye(3),
    np.array([[1.0, 0, 100], [0, 1, -30], [0, 0, 1]]),
    np.array([[1.02, 0.01, -3], [0.01, 1.01, 2], [1e-4, 5e-5, 1]]),
]


@pytest.fixture
def all_pixels(monkeypatch):
    """The light is fitted to all pixels: of one in LIGHT_STEP, both devices take others, and where
    nothing fits they find other lights."""
    for module in (comparison, gpu_comparison):
        monkeypatch.setattr(module, "LIGHT_STEP", 1)


@pytest.fixture(scope="module")
def pictures():
    """A plate, and a frame of it in another light with noise."""
    plate = textured(180, 320)
    frame = cv2.warpPerspective(plate, TRUE_HOMOGRAPHY, SIZE) * [0.9, 1.05, 0.8] + 12
    frame += np.random.default_rng(0).normal(0, 3, frame.shape)
    return plate, frame.clip(0, 255).astype(np.uint8)


def disc(size, centre, radius):
    """(h, w) float32, soft."""
    mask = cv2.circle(np.zeros(size[::-1], np.uint8), centre, radius, 255, -1)
    return cv2.GaussianBlur(mask, (0, 0), 2).astype(np.float32) / 255


def both(frame_size=SIZE, plate_size=SIZE):
    return Comparison(frame_size, plate_size), DeviceComparison(frame_size, plate_size)


def judged_by_cpu(cpu, plates, frame, homographies):
    """[(Fit, texture cost)]."""
    out, here = [], view.view_of(frame)
    size = here.coarse.shape[::-1]
    for plate, homography in zip(plates, homographies, strict=True):
        there = view.view_of(plate)
        probes = cpu.of_frame(here.colour), cpu.of_plate(there.colour)
        scale = Resolution.of(cpu.frame_size, cpu.plate_size, size, there.coarse.shape[::-1])
        small, person = scale.small(homography), cpu.person_at(size)
        texture = texture_cost(here.coarse, there.coarse, small, person)
        out.append((cpu.fit(*probes, homography), texture))
    return out


def judged_on_device(cp, gpu, plates, frame, homographies):
    here = gpu.of_frame(gpu_view.view_of(cp.asarray(frame)))
    there = [gpu.of_plate(gpu_view.view_of(cp.asarray(plate))) for plate in plates]
    cp.downloads.clear()
    return gpu.judge(here, there, homographies)


def assert_same_verdicts(got, want):
    for (fit, texture), (expected, expected_texture) in zip(got, want, strict=True):
        assert fit.cost == pytest.approx(expected.cost, **COST)
        assert fit.residual == pytest.approx(expected.residual, **COST)
        assert texture == pytest.approx(expected_texture, **COST)
        assert fit.light.dtype == np.float64
        middle = [light @ [128, 1] for light in (fit.light, expected.light)]
        assert middle[0] == pytest.approx(middle[1], abs=LIGHT_LEVELS)


@pytest.mark.parametrize("is_person_known", [False, True])
def test_candidates_are_judged_as_on_the_cpu_with_one_copy(
    host_gpu, pictures, all_pixels, is_person_known
):
    plate, frame = pictures
    cpu, gpu = both()
    if is_person_known:
        alpha = disc(SIZE, (150, 100), 45)
        frame = np.where(alpha[..., None] > 0.5, textured(180, 320, 9), frame)
        cpu.observe(alpha)
        gpu.observe(host_gpu.asarray(alpha))
    # The last shows another place; its ratios of levels have one peak, not two alike.
    plates = [plate, plate, plate, textured(180, 320, 6)]
    before = cuda.traffic.read_backs
    got = judged_on_device(host_gpu, gpu, plates, frame, HOMOGRAPHIES)
    assert len(host_gpu.downloads) == cuda.traffic.read_backs - before == 1
    assert host_gpu.downloads[0] < 500
    want = judged_by_cpu(cpu, plates, frame, HOMOGRAPHIES)
    assert_same_verdicts(got, want)
    assert min(want, key=lambda row: row[0].cost)[0].cost == want[0][0].cost


def test_few_pixels_are_enough_for_the_light(host_gpu, pictures):
    plate, frame = pictures
    cpu, gpu = both()
    plates, homographies = [plate] * 2, HOMOGRAPHIES[:2]
    got = judged_on_device(host_gpu, gpu, plates, frame, homographies)
    assert_same_verdicts(got, judged_by_cpu(cpu, plates, frame, homographies))


def test_a_plate_of_another_size_is_judged_as_on_the_cpu(host_gpu, pictures):
    plate, frame = pictures
    large = cv2.resize(plate, (600, 400), interpolation=cv2.INTER_CUBIC)
    cpu, gpu = both(SIZE, (600, 400))
    scale = Resolution.of(SIZE, (600, 400), SIZE, SIZE)
    homography = TRUE_HOMOGRAPHY @ scale.small_from_plate
    got = judged_on_device(host_gpu, gpu, [large], frame, [homography])
    assert_same_verdicts(got, judged_by_cpu(cpu, [large], frame, [homography]))


def test_a_picture_smaller_than_a_probe_is_judged_as_on_the_cpu(host_gpu):
    plate = textured(60, 90)
    noise = np.random.default_rng(0).normal(0, 4, plate.shape)
    frame = (plate + noise).clip(0, 255).astype(np.uint8)
    cpu, gpu = both((90, 60), (90, 60))
    got = judged_on_device(host_gpu, gpu, [plate], frame, [np.eye(3)])
    assert got[0][0].cost < 4
    assert_same_verdicts(got, judged_by_cpu(cpu, [plate], frame, [np.eye(3)]))


def test_a_plate_that_lies_elsewhere_costs_the_price_of_nothing(host_gpu, pictures):
    plate, frame = pictures
    away = np.array([[1.0, 0, 5000], [0, 1, 0], [0, 0, 1]])
    cpu, gpu = both()
    got = judged_on_device(host_gpu, gpu, [plate], frame, [away])
    assert_same_verdicts(got, judged_by_cpu(cpu, [plate], frame, [away]))
    assert (got[0][0].cost, got[0][0].residual, got[0][1]) == (60, 255, 50)


def test_no_candidates_ask_for_nothing(host_gpu, pictures):
    assert judged_on_device(host_gpu, both()[1], [], pictures[1], []) == []
    assert not host_gpu.downloads


@pytest.mark.parametrize("size", [(320, 180), (1000, 562), (180, 320)])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_the_person_is_observed_as_on_the_cpu(host_gpu, size, dtype):
    cpu, gpu = both(size, size)
    assert gpu.person_at(size) is None
    alpha = disc(size, (size[0] // 2, size[1] // 2), min(size) // 4)
    alpha[3:5, 7:9] = 1  # a speck
    host_gpu.downloads.clear()
    cpu.observe(alpha)
    gpu.observe(host_gpu.asarray(alpha.astype(dtype)))
    for at in (cpu.frame_probe_size, size, (77, 45)):
        person = gpu.person_at(at)
        assert gpu.person_at(at) is person  # made once
        assert person.shape == at[::-1]
    assert not host_gpu.downloads
    for at, person in gpu.masks.items():
        assert (person.get() != cpu.person_at(at)).mean() <= PERSON_SHARE
    assert 0.05 < cpu.person.mean() < MOST_PERSON


def test_a_matte_may_be_a_part_of_a_larger_one(host_gpu):
    alpha = disc(SIZE, (150, 100), 45)
    padded = host_gpu.asarray(np.pad(alpha, ((0, 12), (0, 32)), constant_values=1))
    whole, part = both()[1], both()[1]
    whole.observe(host_gpu.asarray(alpha))
    part.observe(padded[: SIZE[1], : SIZE[0]])
    np.testing.assert_array_equal(part.person.mask.get(), whole.person.mask.get())


def test_what_frame_and_plate_share_is_no_person(host_gpu):
    cpu, gpu = both((640, 360), (640, 360))
    alpha = disc((640, 360), (200, 180), 90) + disc((640, 360), (480, 180), 90)
    shared = np.zeros((270, 480), np.float32)
    shared[40:230:5, 290:440:5] = 1  # only here and there, but closed over the right disc
    shared[0:40, 0:60] = np.random.default_rng(0).random((40, 60))
    reduced = cv2.resize(alpha, (480, 270), interpolation=cv2.INTER_AREA)
    closed = cv2.dilate(shared, np.ones((GAP, GAP), np.uint8))
    cpu.observe(np.float32(reduced * (1 - closed)))
    gpu.observe(host_gpu.asarray(alpha), host_gpu.asarray(shared))
    mask = gpu.person.mask.get()
    assert (mask != cpu.person).mean() <= PERSON_SHARE
    assert mask[60:76, 60:90].all()
    assert not mask[:, 160:200].any()


def test_a_person_nearly_everywhere_is_not_believed(host_gpu, pictures):
    plate, frame = pictures
    cpu, gpu = both()
    alpha = np.ones(SIZE[::-1], np.float32)
    cpu.observe(alpha)
    gpu.observe(host_gpu.asarray(alpha))
    assert cpu.person is None
    assert not gpu.person_at(SIZE).get().any()
    got = judged_on_device(host_gpu, gpu, [plate], frame, [TRUE_HOMOGRAPHY])
    assert_same_verdicts(got, judged_by_cpu(cpu, [plate], frame, [TRUE_HOMOGRAPHY]))
    assert gpu.person_at(SIZE) is None  # the host has heard of it
    gpu.observe(host_gpu.asarray(disc(SIZE, (150, 100), 45)))
    assert gpu.person_at(SIZE).get().any()
