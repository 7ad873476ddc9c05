"""Gaussian blur on the GPU."""

from __future__ import annotations

import functools
from typing import Any

import cv2

from howard.cuda import TILE, cupy, kernel, tiles


def blurred(picture: Any, deviation: float, radius: int) -> Any:
    """As cv2.GaussianBlur of (h, w) or (h, w, c) uint8; radius at most 3, deviation in pixels."""
    height, width, channels = (*picture.shape, 1)[:3]
    out = cupy().empty_like(picture)
    args = picture, width, height, channels, weights(cupy(), deviation, radius), radius, out
    kernel("resize", "blur")(tiles(width, height, channels), TILE, args)
    return out


@functools.cache
def weights(cp: Any, deviation: float, radius: int) -> Any:
    """(2 radius + 1,) float32, of sum 1."""
    out = cp.asarray(cv2.getGaussianKernel(2 * radius + 1, deviation, cv2.CV_32F).ravel())
    cp.cuda.get_current_stream().synchronize()  # once: other streams may use it, too
    return out
