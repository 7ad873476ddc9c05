"""The Fast Global Smoother on the GPU, as cv2.ximgproc.createFastGlobalSmootherFilter: Min et al.,
*Fast Global Image Smoothing Based on Weighted Least Squares*, TIP 2014."""

from __future__ import annotations

from typing import Any

import numpy as np

from howard import cuda
from howard.align.gpu_view import BLOCK

PASSES = 3
ATTENUATION = 0.25
"""Of the smoothness, from pass to pass: both are OpenCV's defaults."""


def smooth(guide: Any, signal: Any, smoothness: float, edge: float) -> None:
    """In place: the means of signal (h, w, C) float32, C up to 4, over the surfaces of guide
    (h, w, 3) uint8, whose colours differ by less than about `edge` levels from pixel to pixel.
    Sides up to 512."""
    height, width, channels = signal.shape
    lines = cuda.kernel("smooth", "smooth_lines")
    for number in range(PASSES):
        ties = np.float32(smoothness * ATTENUATION**number), np.float32(edge)
        lines((height,), (BLOCK,), (guide, width, height, 0, *ties, channels, signal))
        lines((width,), (BLOCK,), (guide, width, height, 1, *ties, channels, signal))
