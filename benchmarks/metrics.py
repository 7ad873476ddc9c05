"""How far a matte is from the truth, in the arithmetic that papers on video matting report.

Alpha and foreground: as the evaluation of Robust Video Matting defines them (Lin et al., WACV
2022; `evaluation/evaluate_lr.py` in its repository), so that numbers can be laid beside published
ones. Gradient and connectivity go back to Rhemann et al., CVPR 2009, dtSSD to Erofeev et al.,
BMVC 2015. Transfer and recomposition error are ours. Lower is better; 0 is a perfect result.

Alphas are (H, W) floats in [0, 1], foregrounds and frames (H, W, 3) floats in [0, 1]. The source
reads both sides from 8-bit files: give levels / 255, where that matters (a true alpha of 0.001 is
a person to `foreground_errors`, and none in a file).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.floating]

SIGMA = 1.4
"""Pixels: the width of the Gaussian whose derivative takes the gradient."""
EPSILON = 1e-2
"""The derivative's kernel ends where the Gaussian falls below this."""
CONNECTED = 0.15
"""Alpha this far above its connected level counts as disconnected."""


def mad(predicted: Array, true: Array) -> float:
    """Mean absolute difference, times 1000."""
    return float(np.mean(np.abs(predicted - true))) * 1e3


def mse(predicted: Array, true: Array) -> float:
    """Mean squared difference, times 1000."""
    return float(np.mean(np.square(predicted - true))) * 1e3


def grad(predicted: Array, true: Array) -> float:
    """Sum of the squared difference of gradient magnitudes, divided by 1000.

    Each alpha is first stretched to [0, 1] by itself, as the source does; a flat one becomes 0.
    Not a mean: it grows with the picture's size. The source's variant for 1080p does not stretch.
    """
    difference = _gradient_magnitude(_stretched(predicted)) - _gradient_magnitude(_stretched(true))
    return float(np.sum(np.square(difference))) / 1e3


def conn(predicted: Array, true: Array) -> float:
    """Sum of the difference in connectivity, divided by 1000.

    A pixel's level is the highest of 0.1, 0.2 ... 1 up to which it stays in the largest
    4-connected region where both alphas reach the level. What an alpha has above that level,
    if it is CONNECTED or more, is its disconnectedness. Not a mean.
    """
    level = np.zeros(true.shape, np.float32)
    connected = np.ones(true.shape, bool)
    for tenths in range(1, 11):
        connected &= _largest_region(np.minimum(predicted, true) >= np.float32(tenths / 10))
        level[connected] = tenths / 10
    above = [np.where(alpha - level >= CONNECTED, alpha - level, 0) for alpha in (predicted, true)]
    return float(np.sum(np.abs(above[0] - above[1]))) / 1e3


def dtssd(predicted: Array, earlier_predicted: Array, true: Array, earlier_true: Array) -> float:
    """Root of the mean squared difference of the changes since the frame before, times 100.

    The source counts a video's first frame as 0 in the mean over its frames.
    """
    change = (predicted - earlier_predicted) - (true - earlier_true)
    return float(np.sqrt(np.mean(np.square(change)))) * 1e2


@dataclass(frozen=True)
class MatteScore:
    """One frame's errors; dtSSD is 0 for the first frame."""

    mad: float
    mse: float
    grad: float
    conn: float
    dtssd: float
    foreground_mad: float
    """NaN, as the MSE, where nobody is."""
    foreground_mse: float


def matte_score(
    alphas: tuple[Array, Array], earlier: tuple[Array, Array], foregrounds: tuple[Array, Array]
) -> MatteScore:
    """Each (predicted, true). earlier: alphas of the frame before; of the first, its own."""
    return MatteScore(
        mad(*alphas),
        mse(*alphas),
        grad(*alphas),
        conn(*alphas),
        dtssd(alphas[0], earlier[0], alphas[1], earlier[1]),
        *foreground_errors(*foregrounds, alphas[1]),
    )


def foreground_errors(predicted: Array, true: Array, true_alpha: Array) -> tuple[float, float]:
    """(MAD, MSE) of the colour where there is any person (true alpha > 0); NaN where nobody is."""
    person = true_alpha > 0
    if not person.any():
        return float("nan"), float("nan")
    return mad(predicted[person], true[person]), mse(predicted[person], true[person])


def recomposition(alpha: Array, foreground: Array, plate: Array, frame: Array) -> float:
    """Mean |alpha F + (1 - alpha) B - I|, times 1000: does the matte over its plate give the frame?

    It needs no truth. A low value is necessary, not sufficient: alpha 1 with F = I scores 0.
    """
    opacity = alpha[..., None]
    return mad(opacity * foreground + (1 - opacity) * plate, frame)


def transfer_errors(
    predicted: ArrayLike, true: ArrayLike, width: int, height: int
) -> NDArray[np.float64]:
    """(4,) pixels: how far the predicted homography puts the plate from each corner of the frame.

    Both are homography_frame_from_plate, 3×3 or nine numbers. A corner of the frame goes to the
    plate by the true one and comes back by the predicted one (one-way transfer error, Hartley and
    Zisserman 2004, 4.2.2). A corner that the prediction sends behind the camera is at infinity.
    """
    right, bottom = width - 1.0, height - 1.0
    corners = np.array([[0.0, 0.0], [right, 0.0], [right, bottom], [0.0, bottom]])
    there_and_back = np.reshape(predicted, (3, 3)) @ np.linalg.inv(np.reshape(true, (3, 3)))
    x, y, w = there_and_back @ np.column_stack([corners, np.ones(4)]).T
    # A homography's sign is free; that of the frame's centre tells front from behind.
    facing = w * (there_and_back[2] @ [right / 2, bottom / 2, 1.0]) > 0
    safe = np.where(facing, w, 1.0)
    distance = np.hypot(x / safe - corners[:, 0], y / safe - corners[:, 1])
    return np.where(facing, distance, np.inf)


def _stretched(alpha: Array) -> NDArray[np.float32]:
    low, high = float(alpha.min()), float(alpha.max())
    return np.asarray((alpha - low) / (high - low) if high > low else alpha * 0, np.float32)


def _gradient_magnitude(alpha: NDArray[np.float32]) -> NDArray[np.float32]:
    reach = int(np.ceil(SIGMA * np.sqrt(-2 * np.log(np.sqrt(2 * np.pi) * SIGMA * EPSILON))))
    x = np.arange(-reach, reach + 1)
    smooth = np.exp(-np.square(x) / (2 * SIGMA**2))
    slope = x * smooth
    # The kernel is an outer product, so its L2 norm is the product of these two.
    smooth, slope = smooth / np.linalg.norm(smooth), slope / np.linalg.norm(slope)
    across = cv2.sepFilter2D(alpha, -1, slope, smooth, borderType=cv2.BORDER_REPLICATE)
    down = cv2.sepFilter2D(alpha, -1, smooth, slope, borderType=cv2.BORDER_REPLICATE)
    return np.hypot(across, down)


def _largest_region(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    count, labels, statistics, _ = cv2.connectedComponentsWithStats(
        mask.astype(np.uint8), connectivity=4
    )
    if count == 1:  # only what the mask leaves out
        return np.zeros(mask.shape, bool)
    return labels == 1 + np.argmax(statistics[1:, cv2.CC_STAT_AREA])
