"""A picture made ready for direct alignment: small, and with its local contrast normalised."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

VIEW_SIDE = 480
"""Longest side: dense flow there costs a few milliseconds, and a fit to thousands of its vectors
is good to a fiftieth of a pixel."""
FINE_SIDE = 960
"""Longest side for the last step to an exact homography: at full resolution noise and compression
add more than detail does."""
NEIGHBOURHOOD = 1 / 16
"""Of the longest side: the window over which contrast is normalised."""
CONTRAST_FLOOR = 8.0
"""Levels of 255: flatter places are not raised to full contrast, they would show noise."""
CONTRAST = 48.0
"""Standard deviation after normalisation, in levels."""

AGREEMENT_WINDOW = 1 / 40
"""Of the longest side."""
FLATNESS = 12.0
"""Levels of deviation below which a window shows nothing."""
CORRELATION = (0.3, 0.7)
"""Up to the first, two windows have nothing in common; from the second on they surely have."""
GAP = 7
"""View pixels across which what two views share closes: flat places show no agreement."""


@dataclass(frozen=True, eq=False)
class View:
    """colour: (h, w, 3) uint8 RGB; texture: (h, w) uint8, free of exposure and slow shading;
    coarse: the texture at half the size, for the choice between candidates; fine: luma (h', w')
    uint8 at a larger size, for the last step."""

    colour: NDArray[np.uint8]
    texture: NDArray[np.uint8]
    coarse: NDArray[np.uint8]
    fine: NDArray[np.uint8]

    @property
    def size(self) -> tuple[int, int]:
        """(width, height)."""
        return self.texture.shape[1], self.texture.shape[0]


def view_size(size: tuple[int, int]) -> tuple[int, int]:
    """(width, height) of the view of a picture of this size."""
    scale = min(1.0, VIEW_SIDE / max(size))
    return max(16, round(size[0] * scale)), max(16, round(size[1] * scale))


def fine_size(size: tuple[int, int]) -> tuple[int, int]:
    """(width, height) of its fine luma."""
    scale = min(1.0, FINE_SIDE / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def half(size: tuple[int, int]) -> tuple[int, int]:
    """Of a view, for its coarse texture."""
    return size[0] // 2, size[1] // 2


def view_of(pixels: NDArray[np.uint8]) -> View:
    """The view of an RGB picture (H, W, 3)."""
    size = view_size(pixels.shape[1::-1])
    # By way of the fine picture: halving twice takes a quarter of the time of quartering.
    fine = shrunk(pixels, fine_size(pixels.shape[1::-1]))
    colour = shrunk(fine, size)
    texture = texture_of(colour)
    luma = np.asarray(cv2.cvtColor(fine, cv2.COLOR_RGB2GRAY), np.uint8)
    return View(colour, texture, shrunk(texture, half(size)), luma)


def shrunk(picture: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Area average of (H, W) or (H, W, 3) at this (width, height)."""
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


def texture_of(colour: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Luma minus its local mean, over its local deviation."""
    luma = cv2.cvtColor(colour, cv2.COLOR_RGB2GRAY)
    side = max(3, round(max(luma.shape) * NEIGHBOURHOOD)) | 1
    mean, square = mean_of(luma, side), mean_of_square(luma, side)
    deviation = np.sqrt(np.maximum(square - mean * mean, 0.0))
    normal = (luma - mean) * (CONTRAST / (deviation + CONTRAST_FLOOR)) + 128
    return np.clip(normal, 0, 255).astype(np.uint8)


def agreement(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(h, w) in [0, 1]: how surely two textures show the same surface there.

    Correlation over a window, which chance seldom makes high; flat places show nothing.
    """
    side = max(5, round(max(a.shape) * AGREEMENT_WINDOW)) | 1
    mean_x, mean_y = mean_of(a, side), mean_of(b, side)
    mean_xx, mean_yy = mean_of_square(a, side), mean_of_square(b, side)
    mean_xy = mean_of(cv2.multiply(a, b, dtype=cv2.CV_16U), side)
    mean_xx -= mean_x * mean_x - FLATNESS**2
    mean_yy -= mean_y * mean_y - FLATNESS**2
    mean_xy -= mean_x * mean_y
    mean_xx *= mean_yy
    correlation = mean_xy / np.sqrt(mean_xx)  # which FLATNESS keeps from 0
    low, high = CORRELATION
    return np.asarray(((correlation - low) * (1 / (high - low))).clip(0, 1))


def mean_of(levels: cv2.typing.MatLike, side: int) -> NDArray[np.float32]:
    """(h, w) mean over a window, of whole numbers, which is faster than of floats."""
    return np.asarray(cv2.boxFilter(levels, cv2.CV_32F, (side, side)), np.float32)


def mean_of_square(levels: cv2.typing.MatLike, side: int) -> NDArray[np.float32]:
    """The same of their squares."""
    return np.asarray(cv2.sqrBoxFilter(levels, cv2.CV_32F, (side, side)), np.float32)
