"""The metrics against examples worked out by hand or in another way, and their properties."""

from __future__ import annotations

import math

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


def naive_gradient(alpha: list[list[float]]) -> list[list[float]]:
    """Magnitude, pixel by pixel: stretched to [0, 1], correlated with the derivative of a Gaussian
    of sigma 1.4 over 9 x 9 pixels whose squares sum to 1, the border repeated."""
    height, width, low, high = len(alpha), len(alpha[0]), min(map(min, alpha)), max(map(max, alpha))
    kernel = {
        (i, j): j * math.exp(-(i * i + j * j) / (2 * 1.4**2))
        for i in range(-4, 5)
        for j in range(-4, 5)
    }
    norm = math.sqrt(sum(v * v for v in kernel.values()))
    magnitude = [[0.0] * width for _ in range(height)]
    for y in range(height):
        for x in range(width):
            across = down = 0.0
            for (i, j), weight in kernel.items():
                row, column = min(max(y + i, 0), height - 1), min(max(x + j, 0), width - 1)
                across += weight * (alpha[row][column] - low) / (high - low)
                row, column = min(max(y + j, 0), height - 1), min(max(x + i, 0), width - 1)
                down += weight * (alpha[row][column] - low) / (high - low)
            magnitude[y][x] = math.hypot(across, down) / norm
    return magnitude


def naive_grad(predicted: np.ndarray, true: np.ndarray) -> float:
    rows = zip(naive_gradient(predicted.tolist()), naive_gradient(true.tolist()), strict=True)
    return sum((a - b) ** 2 for row in rows for a, b in zip(*row, strict=True)) / 1000


def naive_largest(inside: set[tuple[int, int]]) -> set[tuple[int, int]]:
    """The largest part of the pixels that hang together by their edges."""
    largest: set[tuple[int, int]] = set()
    left = set(inside)
    while left:
        part, edge = set(), [left.pop()]
        while edge:
            y, x = edge.pop()
            part.add((y, x))
            for near in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                if near in left:
                    left.remove(near)
                    edge.append(near)
        largest = max(largest, part, key=len)
    return largest


def naive_conn(predicted: np.ndarray, true: np.ndarray) -> float:
    """By levels of 255, in integers where it matters: 0.1 is 25.5 of them, 0.15 is 38.25."""
    p, t = (np.rint(a * 255).astype(int) for a in (predicted, true))
    pixels = list(np.ndindex(p.shape))
    level = dict.fromkeys(pixels, 0.0)
    kept = set(pixels)
    for tenths in range(1, 11):
        kept &= naive_largest({at for at in pixels if 10 * min(p[at], t[at]) >= 255 * tenths})
        level |= dict.fromkeys(kept, 25.5 * tenths)
    total = 0.0
    for at in pixels:
        above = [v[at] - level[at] if v[at] - level[at] >= 38.25 else 0.0 for v in (p, t)]
        total += abs(above[0] - above[1]) / 255
    return total / 1000


def naive_mean(values: list[float]) -> float:
    return sum(values) / len(values)


@pytest.mark.parametrize("seed", range(4))
def test_every_metric_agrees_with_a_naive_one(seed):
    """On soft random shapes of 8-bit levels: alphas, and the ones before them."""
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.standard_normal((4, 26, 31)), (0, 2, 2))
    soft = np.clip(0.5 + 8 * (noise + 0.3 * noise[1]), 0, 1)
    levels = np.rint(255 * soft).astype(np.float32)
    p, before, t, t_before = levels / np.float32(255)
    differences = [float(v) for v in (p.astype(float) - t).ravel()]
    changes = ((p - before).astype(float) - (t - t_before)).ravel()
    assert 0 < t.mean() < 1
    for ours, naive in (
        (metrics.mad(p, t), 1000 * naive_mean([abs(v) for v in differences])),
        (metrics.mse(p, t), 1000 * naive_mean([v * v for v in differences])),
        (metrics.grad(p, t), naive_grad(p, t)),
        (metrics.conn(p, t), naive_conn(p, t)),
        (
            metrics.dtssd(p, before, t, t_before),
            100 * math.sqrt(naive_mean([float(v) ** 2 for v in changes])),
        ),
    ):
        assert ours == pytest.approx(naive, rel=1e-4)  # float32 filters, and sums of 800 terms
    colours = rng.random((2, 26, 31, 3))
    apart = [
        float(colours[0][at][c] - colours[1][at][c])
        for at in np.ndindex(t.shape)
        if t[at] > 0
        for c in range(3)
    ]
    mad, mse = metrics.foreground_errors(colours[0], colours[1], t)
    assert mad == pytest.approx(1000 * naive_mean([abs(v) for v in apart]))
    assert mse == pytest.approx(1000 * naive_mean([v * v for v in apart]))


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


def test_conn_steps_by_tenths_by_hand():
    # All one region where both reach 0.3, not 0.4: a level of 0.3. What is above it by 0.15 counts.
    true = np.full((4, 5), 0.3, np.float32)
    predicted = true.copy()
    predicted[0, 0] = 0.44  # 0.14 above: forgiven
    predicted[1, 1] = 0.5
    assert metrics.conn(predicted, true) == pytest.approx(0.2 / 1000, rel=1e-5)


def test_conn_never_climbs_back_by_hand():
    # The larger square holds up to 0.5 alone; the smaller, opaque, was left behind at 0.1, so that
    # above 0.5, where it is the largest, it does not count: 1 above 0 in both.
    true = np.zeros((6, 9), np.float32)
    true[:4, :4] = 0.5
    true[:3, 6:] = 1
    predicted = true.copy()
    predicted[:3, 6:] = 0.8
    assert metrics.conn(predicted, true) == pytest.approx(9 * 0.2 / 1000)


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


def test_dtssd_sees_a_change_that_should_have_been_by_hand():
    still, change = np.zeros((1, 4)), np.array([[0.0, 0.3, 0.3, 0.0]])
    # Half of the true change is missing in two of four pixels: sqrt(2 * 0.15^2 / 4).
    assert metrics.dtssd(change / 2, still, change, still) == pytest.approx(15 / np.sqrt(2))


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
