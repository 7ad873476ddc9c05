"""The last step to the homography: against exact truth, and the device's against the CPU's."""

import cv2
import numpy as np
import pytest

from benchmarks.alignment_methods import METHODS
from benchmarks.alignment_scenes import Scene
from howard.align import gpu_photometric, gpu_view, photometric
from howard.align.geometry import corners, project
from howard.align.view import FINE_SIDE, view_of
from howard.frames import Frame

SIZE = (640, 360)
EXACT_PIXELS = 0.05
"""At the corners, of a smooth picture with the noise of a camera: seen up to 0.03."""
BESIDE_PERSON = 0.1
"""With half of the points away."""
PARITY_PIXELS = 0.01
"""Both devices sum the same points; the device's luma may be a level off."""


def place(seed=0):
    rng = np.random.default_rng(seed)
    total = np.zeros((SIZE[1] + 80, SIZE[0] + 80, 3))
    for cells, weight in ((9, 0.4), (30, 0.35), (110, 0.25)):
        octave = rng.uniform(0, 255, (cells, cells * 3 // 2, 3))
        total += weight * cv2.resize(octave, total.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    return np.uint8(np.clip(total * 1.6 - 70, 0, 255))


def moved(seed, pixels, size=SIZE):
    """A homography that moves the corners by up to some pixels."""
    ends = corners(*size).astype(np.float32)
    off = np.random.default_rng(seed).uniform(-pixels, pixels, (4, 2)).astype(np.float32)
    return cv2.getPerspectiveTransform(ends, ends + off)


def takes(seed, gain=1.0, noise=2.0):
    """Frame, plate, and frame_from_plate between them."""
    scene, truth = place(seed), moved(seed, 12)
    inset = np.array([[1, 0, -40.0], [0, 1, -40], [0, 0, 1]])
    look = {"flags": cv2.INTER_CUBIC, "borderMode": cv2.BORDER_REFLECT}
    plate = cv2.warpPerspective(scene, inset, SIZE, **look).astype(float)
    frame = cv2.warpPerspective(scene, truth @ inset, SIZE, **look) * gain
    rng = np.random.default_rng(seed)
    pictures = [p + rng.normal(0, noise, p.shape) for p in (frame, plate)]
    return *(np.uint8(np.clip(p, 0, 255)) for p in pictures), truth


def detail(picture):
    """(h, w) of an RGB picture."""
    return photometric.detail(view_of(picture).fine)


def detail_on(device, picture):
    """The same there."""
    return gpu_photometric.detail(gpu_view.view_of(device.asarray(picture)).fine)


def off_by(found, truth, size=SIZE):
    """At the corners, in pixels."""
    return np.hypot(*(project(found, corners(*size)) - project(truth, corners(*size))).T).max()


@pytest.mark.parametrize("gain", [1.0, 0.5])
@pytest.mark.parametrize("seed", range(3))
def test_a_homography_that_is_a_pixel_off_becomes_exact(seed, gain):
    frame, plate, truth = takes(seed, gain)
    start = moved(seed + 9, 1.2) @ truth
    assert off_by(start, truth) > 0.7
    found = photometric.exact(detail(frame), detail(plate), start, None)
    assert off_by(found, truth) < EXACT_PIXELS


@pytest.mark.parametrize("seed", range(6))
def test_from_where_it_is_exact_it_is_told_again(seed):
    frame, plate, truth = takes(seed)
    here, there = detail(frame), detail(plate)
    found = photometric.exact(here, there, truth, None)
    for _ in range(4):
        again = photometric.exact(here, there, found, None)
        assert off_by(again, found) < EXACT_PIXELS
        found = again


@pytest.mark.parametrize("is_known", [True, False])
def test_a_person_does_not_draw_it_away(is_known):
    frame, plate, truth = takes(1)
    person = np.zeros(SIZE[::-1], np.uint8)
    person[60:, 200:420] = 1
    frame[person == 1] = place(7)[40:-40, 40:-40][person == 1]
    known = person if is_known else None
    start = moved(5, 1.0) @ truth
    found = photometric.exact(detail(frame), detail(plate), start, known)
    assert off_by(found, truth) < BESIDE_PERSON


def test_where_nothing_can_be_told_there_is_none():
    frame, plate, truth = takes(2)
    flat = detail(np.full((*SIZE[::-1], 3), 90, np.uint8))
    here, there = detail(frame), detail(plate)
    beside = np.array([[1, 0, 5000.0], [0, 1, 0], [0, 0, 1]])
    everywhere = np.ones(SIZE[::-1], np.uint8)
    for args in ((flat, there, truth), (here, there, beside)):
        assert photometric.exact(*args, None) is None
    assert photometric.exact(here, there, truth, everywhere) is None


def test_another_place_does_not_draw_it_far():
    start = np.eye(3)
    frame, plate = detail(takes(0)[0]), detail(takes(4)[1])
    found = photometric.exact(frame, plate, start, None)
    assert found is None or off_by(found, start) <= photometric.CLOSE.pixels
    assert photometric.exact(frame, plate, start, None, photometric.FAR) is None


def test_coarse_pictures_lead_there_from_far_where_little_is_to_be_seen():
    size = 1280, 720
    scene = Scene("low-texture", *size, 2, seed=1)
    picture, truth = scene.shot.picture(0), scene.homography_frame_from_plate(0, 0)
    search = METHODS["howard"](scene).search
    search.operations.comparison.observe(picture.alpha)
    frame = search.operations.look_at_frame(Frame(0, 0.0, picture.pixels))
    plate = search.operations.look_at_plate(Frame(0, 0.0, scene.plate_pictures()[0]))
    start = moved(6, 6, size) @ truth
    assert off_by(start, truth, size) > 4
    assert search.operations.exact(frame, [plate], [start], photometric.CLOSE) == [None]
    found = search.polish.exact(frame, [plate, plate], [start, truth])
    assert all(off_by(homography, truth, size) < 0.5 for homography in found)
    # From where nothing leads there, it stays.
    beside = np.array([[1, 0, 5000.0], [0, 1, 0], [0, 0, 1]])
    stayed, right = search.polish.exact(frame, [plate, plate], [beside, start])
    assert (stayed == beside).all()
    assert off_by(right, truth, size) < 0.5


def test_details_are_at_most_of_the_fine_side():
    wide = detail(np.zeros((1080, 1920, 3), np.uint8))
    assert wide.shape == (540, FINE_SIDE)
    assert detail(np.zeros((90, 160, 3), np.uint8)).shape == (90, 160)


@pytest.mark.parametrize("is_known", [True, False])
def test_the_devices_is_the_cpus(host_gpu, is_known):
    frame, plate, truth = takes(3, 0.8)
    person = np.zeros(SIZE[::-1], np.uint8)
    person[60:, 200:420] = is_known
    start = moved(8, 1.0) @ truth
    want = photometric.exact(detail(frame), detail(plate), start, person)
    here, there = (detail_on(host_gpu, p) for p in (frame, plate))
    somebody = host_gpu.asarray(person) if is_known else None
    host_gpu.downloads.clear()
    got, other = gpu_photometric.exact(here, [there, there], [start, truth], somebody)
    assert host_gpu.downloads == [2 * 72]
    assert off_by(got, want) < PARITY_PIXELS
    assert off_by(other, want) < PARITY_PIXELS
    assert gpu_photometric.exact(here, [], [], somebody) == []
    hard = photometric.Reach(4.0, 0.1)
    assert photometric.exact(detail(frame), detail(plate), start, person, hard) is None
    assert gpu_photometric.exact(here, [there], [start], somebody, hard) == [None]


def test_on_the_device_too_there_is_none_where_nothing_can_be_told(host_gpu):
    frame, plate, truth = takes(2)
    here, there = (detail_on(host_gpu, p) for p in (frame, plate))
    everywhere = host_gpu.asarray(np.ones(SIZE[::-1], np.uint8))
    assert gpu_photometric.exact(here, [there], [truth], everywhere) == [None]
