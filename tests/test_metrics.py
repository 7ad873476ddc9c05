"""The metrics against examples worked out by hand or in another way, and their properties."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from benchmarks import metrics

EXACT = 1e-6
"""Relative: float32 sums of a few hundred terms."""


@pytest.fixture
def alpha() -> np.ndarray:
    """(40, 48) a soft disc."""
    y, x = np.mgrid[:40, :48]
    return np.clip((14 - np.hypot(x - 23, y - 19)) / 4, 0, 1).astype(np.float32)


def shifted(alpha: np.ndarray) -> np.ndarray:
    return np.roll(alpha, 2, axis=1)


@pytest.mark.parametrize("metric", [metrics.mad, metrics.mse, metrics.grad, metrics.conn])
def test_zero_for_equal_and_more_for_shifted(metric, alpha):
    assert metric(alpha, alpha) == 0
    assert metric(shifted(alpha), alpha) > 0


def test_mad_and_mse_by_hand():
    predicted, true = np.array([[0.5, 1.0], [0.0, 0.0]]), np.array([[0.0, 1.0], [0.0, 0.25]])
    assert metrics.mad(predicted, true) == pytest.approx(1000 * 0.75 / 4)
    assert metrics.mse(predicted, true) == pytest.approx(1000 * (0.25 + 0.0625) / 4)


def test_mad_scales_linearly_and_mse_quadratically(alpha):
    true = np.zeros_like(alpha)
    assert metrics.mad(alpha / 2, true) == pytest.approx(metrics.mad(alpha, true) / 2, rel=EXACT)
    assert metrics.mse(alpha / 2, true) == pytest.approx(metrics.mse(alpha, true) / 4, rel=EXACT)


def test_grad_by_the_definitions_two_dimensional_kernel(alpha):
    # The source's kernel, written out: 9 x 9 (half-size 4), a product, L2-normalised as a whole.
    offset = np.arange(-4, 5)
    bell = np.exp(-(offset**2) / (2 * 1.4**2))
    kernel = np.outer(bell, offset * bell)
    kernel /= np.sqrt(np.sum(kernel**2))

    def magnitude(a: np.ndarray) -> np.ndarray:
        sides = (ndimage.correlate(a.astype(float), k, mode="nearest") for k in (kernel, kernel.T))
        return np.hypot(*sides)

    predicted = shifted(alpha)
    expected = np.sum((magnitude(predicted) - magnitude(alpha)) ** 2) / 1000
    assert metrics.grad(predicted, alpha) == pytest.approx(expected, rel=1e-4)


def test_grad_of_one_pixel_by_hand():
    # A lone 1 gives back the kernel, whose L2 norm is 1 in x and in y: 2 in all; flat gives 0.
    predicted = np.zeros((21, 21), np.float32)
    predicted[10, 10] = 1
    assert metrics.grad(predicted, np.zeros_like(predicted)) == pytest.approx(2e-3, rel=1e-5)


def test_grad_stretches_each_alpha_to_its_own_range(alpha):
    assert metrics.grad(0.25 + alpha / 2, alpha) == pytest.approx(0, abs=1e-9)


def test_grad_takes_a_flat_alpha_for_no_gradient(alpha):
    empty = np.zeros_like(alpha)
    assert metrics.grad(np.full_like(alpha, 0.7), empty) == 0
    assert metrics.grad(empty, alpha) > 0


def test_conn_counts_a_second_island_by_hand():
    true = np.zeros((8, 12), np.float32)
    true[2:6, 1:5] = 1
    predicted = true.copy()
    predicted[2:4, 8:10] = 0.5  # four pixels, 0.5 above a level of 0
    assert metrics.conn(predicted, true) == pytest.approx(4 * 0.5 / 1000)


def test_conn_forgives_what_is_below_its_threshold(alpha):
    true = np.zeros((8, 12), np.float32)
    true[2:6, 1:5] = 1
    predicted = true.copy()
    predicted[2:4, 8:10] = 0.14
    assert metrics.conn(predicted, true) == 0


def test_conn_joins_by_edges_not_by_corners():
    true = np.zeros((6, 6), np.float32)
    true[:3, :3] = 1
    true[3:5, 3:5] = 1  # touches by a corner only
    predicted = true.copy()
    predicted[3:5, 3:5] = 0.5
    # The smaller square belongs to neither's largest region: its level is 0, 1 against 0.5 above.
    assert metrics.conn(predicted, true) == pytest.approx(4 * 0.5 / 1000)


def test_dtssd_by_hand():
    still, step = np.zeros((2, 2)), np.array([[0.4, 0.0], [0.0, 0.0]])
    # One of four pixels changes by 0.4 that should not: sqrt(0.16 / 4) = 0.2.
    assert metrics.dtssd(step, still, still, still) == pytest.approx(20)


def test_dtssd_is_blind_to_a_constant_error_and_zero_for_the_first_frame(alpha):
    moved = shifted(alpha)
    assert metrics.dtssd(moved + 0.1, alpha + 0.1, moved, alpha) == pytest.approx(0, abs=1e-4)
    # A first frame is compared with itself.
    assert metrics.dtssd(moved, moved, alpha, alpha) == 0


def test_foreground_counts_only_where_the_person_is():
    true, true_alpha = np.zeros((2, 2, 3)), np.array([[1.0, 0.01], [0.0, 0.0]])
    predicted = true.copy()
    predicted[0, 1] = 0.5  # counts in full, however small alpha is
    predicted[1] = 1.0  # does not count
    mad, mse = metrics.foreground_errors(predicted, true, true_alpha)
    assert (mad, mse) == (pytest.approx(250), pytest.approx(125))


def test_foreground_of_an_empty_frame_is_not_a_number():
    assert np.isnan(metrics.foreground_errors(*np.zeros((2, 2, 2, 3)), np.zeros((2, 2)))).all()


def test_recomposition_by_hand():
    foreground, plate = np.full((1, 2, 3), 0.8), np.full((1, 2, 3), 0.2)
    alpha, frame = np.array([[0.5, 1.0]]), np.array([[[0.5] * 3, [0.7] * 3]])
    assert metrics.recomposition(alpha, foreground, plate, frame) == pytest.approx(1000 * 0.1 / 2)


def test_transfer_error_of_a_translation_is_its_length():
    true = np.array([[1.1, 0.02, 5], [-0.03, 0.9, 2], [1e-5, 2e-5, 1]])
    moved = np.array([[1, 0, 3], [0, 1, -4], [0, 0, 1.0]]) @ true
    assert metrics.transfer_errors(moved, true, 640, 360) == pytest.approx([5] * 4)


def test_transfer_error_ignores_the_homographys_scale_and_sign():
    true = np.array([[1.1, 0.02, 5], [-0.03, 0.9, 2], [1e-5, 2e-5, 1]])
    flat = (-3 * true).ravel().tolist()  # nine numbers, as the report has them
    assert metrics.transfer_errors(flat, true, 640, 360) == pytest.approx([0] * 4, abs=1e-8)


def test_transfer_error_of_a_zoom_by_hand():
    # About pixel (0, 0): the corners of 5 x 4 pixels lie at x 0 and 4, y 0 and 3.
    zoom = np.diag([2.0, 2.0, 1.0])
    assert metrics.transfer_errors(zoom, np.eye(3), 5, 4) == pytest.approx([0, 4, 5, 3])


def test_transfer_error_behind_the_camera_is_infinite():
    # w = 1 - x / 60 turns negative towards the right edge, at x 99.
    tilted = np.array([[1, 0, 0], [0, 1, 0], [-1 / 60, 0, 1.0]])
    errors = metrics.transfer_errors(tilted, np.eye(3), 100, 50)
    assert np.isinf(errors).tolist() == [False, True, True, False]
