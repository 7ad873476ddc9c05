"""Mattes drawn to those before: what is kept, what is not, and the device's against the CPU's."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from test_align import place

from howard.align import gpu_view
from howard.align.view import view_of
from howard.frames import Matte, Plate
from howard.matte import gpu_steady
from howard.matte.gpu import DeviceMatte
from howard.matte.steady import SHARE, SURE, Steady, drawn
from tests.test_matte import ALIGNMENT

SIZE = WIDTH, HEIGHT = 320, 180
STEP = 4, 2
"""Pixels that everything moves by, from frame to frame."""
APART = 0.03
"""CPU and device, of alpha: their flows differ by a fraction of a pixel, on a soft edge."""


def frame(number, seed=0):
    x, y = (number * step for step in STEP)
    return np.ascontiguousarray(place(seed, SIZE)[60 + y :, 60 + x :][:HEIGHT, :WIDTH])


def alpha(number):
    """A disc with a soft edge, which moves with the pictures."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    away = np.hypot(x - 200 + number * STEP[0], y - 100 + number * STEP[1])
    return np.clip((50 - away) / 12, 0, 1).astype(np.float32)


def plate(picture):
    """With the frame's view, as the aligner hands it on."""
    covered = np.ones(picture.shape[:2], np.uint8)
    return Plate(picture, covered, ALIGNMENT, (view_of(picture), None))


def matte(of):
    return Matte(of, np.zeros((*of.shape, 3), np.float32), 0.7)


def after(pictures, alphas, numbers=None):
    """The last of the alphas, drawn to those before."""
    steady, found = Steady(drawn), None
    for number, picture, of in zip(numbers or range(99), pictures, alphas, strict=False):
        found = steady(number, plate(picture), matte(of))
    return found.alpha


def test_where_the_network_errs_for_a_frame_the_frame_before_speaks():
    wrong = alpha(1) * 0
    found = after([frame(0), frame(1)], [alpha(0), wrong])
    inner = alpha(1) == 1
    assert np.abs(found[inner] - SHARE * SURE).mean() < 0.02
    doubtful = after([frame(0), frame(1)], [alpha(0), wrong + 0.5])
    assert np.abs(doubtful[inner] - (0.5 + 0.5 * SHARE)).mean() < 0.03
    # The truth is not moved, but for what the flow is off by at the edge.
    right = after([frame(0), frame(1)], [alpha(0), alpha(1)])
    assert np.abs(right - alpha(1)).mean() < 2e-3
    assert np.abs(right - alpha(1)).max() < 0.1


def test_where_another_surface_shows_the_network_alone_speaks():
    still = alpha(0)
    assert (after([frame(0), frame(0, seed=5)], [still, still * 0]) < 0.05).all()
    covered = frame(0)
    covered[:, 180:240] = 255 - covered[:, 180:240]
    found = after([frame(0), covered], [still, still * 0])
    assert found[:, 190:230].max() < 0.02
    assert found[100, 165] > 0.15


@pytest.mark.parametrize("numbers", [[0, 2], [3, 3]])
def test_only_the_frame_before_counts(numbers):
    found = after([frame(0), frame(0)], [alpha(0), alpha(0) * 0], numbers)
    assert (found == 0).all()


def test_a_take_of_another_size_begins_anew():
    large = cv2.resize(frame(0), (400, 240))
    found = after([frame(0), large], [alpha(0), np.zeros((240, 400), np.float32)])
    assert found.shape == (240, 400)
    assert (found == 0).all()


def test_where_nobody_is_no_flow_is_looked_for(monkeypatch):
    monkeypatch.setattr("howard.matte.steady.dense_flow", None)
    nobody = alpha(0) * 0
    assert (after([frame(0), frame(1)], [nobody, nobody]) == 0).all()


def test_an_empty_picture_of_a_few_pixels_stays_empty():
    few = np.zeros((4, 4), np.float32)
    assert (after([frame(0)[:4, :4], frame(0)[:4, 4:8]], [few, few]) == 0).all()


def test_all_but_alpha_stays_and_the_networks_memory_is_left_alone():
    steady, own = Steady(drawn), alpha(1)
    steady(0, plate(frame(0)), matte(alpha(0) * 0))
    given = matte(own)
    found = steady(1, plate(frame(1)), given)
    assert found.foreground is given.foreground
    assert found.confidence == 0.7
    assert (own == alpha(1)).all()
    assert (found.alpha != own).any()


def test_the_devices_is_the_cpus(host_gpu):
    padded = HEIGHT + 12, WIDTH + 32
    steady, device = Steady(drawn), Steady(gpu_steady.drawn)
    buffer = host_gpu.asarray(np.full((1, *padded), 0.5, np.float16))
    colour = host_gpu.asarray(np.zeros((3, *padded), np.float16))
    noise = np.random.default_rng(0)
    for number in range(3):
        of = np.clip(
            alpha(number) + noise.uniform(-0.3, 0.3, (9, 16)).repeat(20, 0).repeat(20, 1), 0, 1
        )
        of = of.astype(np.float16).astype(np.float32)
        want = steady(number, plate(frame(number)), matte(of)).alpha
        # The network's buffer is written anew for every frame.
        buffer[0, :HEIGHT, :WIDTH] = host_gpu.asarray(of.astype(np.float16))
        there = gpu_view.view_of(host_gpu.asarray(frame(number)))
        shown = replace(plate(frame(number)), shown=(there, None))
        host_gpu.downloads.clear()
        got = device(number, shown, DeviceMatte(buffer, colour, *SIZE, None))
        assert host_gpu.downloads == []
        assert got.foreground is colour
        off = np.abs(got.alpha[0, :HEIGHT, :WIDTH].get().astype(np.float32) - want)
        assert off.mean() < 2e-3
        assert np.quantile(off, 0.999) < APART
        assert (np.abs(want - of).max() > 0.1) == (number > 0)
