"""Gain and bias, robust to the person."""

import numpy as np
import pytest

from howard.align.light import gain_and_bias, in_light


def plate(rng, count=4000):
    return rng.uniform(10, 200, (count, 3))


def test_exact_gain_and_bias_are_found():
    rng = np.random.default_rng(0)
    x = plate(rng)
    out = gain_and_bias(x * [0.8, 1.1, 1.2] + [3, 0, -4], x)
    assert out == pytest.approx(np.array([[0.8, 3], [1.1, 0], [1.2, -4]]), abs=0.35)


def test_noise_does_not_bias_it():
    rng = np.random.default_rng(1)
    x = plate(rng)
    y = x * 0.9 + rng.normal(0, 3, x.shape)
    assert gain_and_bias(y, x)[:, 0] == pytest.approx([0.9] * 3, abs=0.01)


@pytest.mark.parametrize("share", [0.2, 0.4])
def test_a_person_in_part_of_the_picture_does_not_matter(share):
    rng = np.random.default_rng(2)
    x = plate(rng)
    y = x * 0.85 + 2
    person = rng.random(len(x)) < share
    y[person] = rng.normal(230, 10, (person.sum(), 3))
    matched = x[~person] * gain_and_bias(y, x)[:, 0] + gain_and_bias(y, x)[:, 1]
    assert np.abs(matched - y[~person]).mean() < 1.5


def test_clipped_levels_are_left_out():
    rng = np.random.default_rng(3)
    x = plate(rng)
    y = np.clip(x * 1.6, 0, 255)
    assert gain_and_bias(y, x)[:, 0] == pytest.approx([1.6] * 3, abs=0.05)


def test_too_few_pixels_say_nothing():
    assert gain_and_bias(np.full((10, 3), 90.0), np.full((10, 3), 30.0)).tolist() == [[1, 0]] * 3


def test_a_flat_plate_gets_the_ratio_and_never_a_wild_gain():
    rng = np.random.default_rng(4)
    x, y = rng.normal(100, 1, (2000, 3)), rng.normal(50, 1, (2000, 3))
    out = gain_and_bias(y, x)
    assert out[:, 0] == pytest.approx([0.5] * 3, abs=0.05)
    assert 100 * out[:, 0] + out[:, 1] == pytest.approx([50] * 3, abs=0.5)


def test_levels_are_rounded_and_clipped():
    levels = np.repeat(np.uint8([[[200], [5]]]), 3, 2)
    lit = in_light(levels, np.array([[2.0, 0], [1.0, -10], [0.5, 0.3]]))
    assert lit.dtype == np.uint8
    assert lit.tolist() == [[[255, 190, 100], [10, 0, 3]]]
