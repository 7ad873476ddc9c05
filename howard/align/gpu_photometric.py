"""`howard.align.photometric` on the GPU: a block of threads goes all the way for each plate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from howard import cuda
from howard.align.geometry import Homography
from howard.align.gpu_view import BLOCK, box_mean
from howard.align.photometric import (
    CELL,
    CLIPPED,
    CLOSE,
    FEWEST_POINTS,
    GAINS,
    LEAST_SLOPE,
    LEAST_SPREAD,
    ROUNDS,
    SMOOTH,
    SPREADS,
    STILL_PIXELS,
    Reach,
    shading_side,
)

F = np.float32


def detail(luma: Any) -> Any:
    """(h, w) float32 of a view's fine luma, uint8."""
    levels = luma.astype("float32")
    return box_mean(levels, SMOOTH) - box_mean(levels, shading_side(luma.shape[::-1]))


def exact(
    frame: Any,
    plates: Sequence[Any],
    starts: Sequence[Homography],
    person: Any | None,
    reach: Reach = CLOSE,
) -> list[Homography | None]:
    """As the CPU's, of several plates; frame, plates and person on the device. Waits for it once,
    for 72 bytes of each plate."""
    if not plates:
        return []
    cp, number, (height, width) = cuda.cupy(), len(plates), frame.shape
    points, slopes = steepest(frame, person)
    cells = len(points)
    seen, keys = cp.empty((number, cells), "float32"), cp.empty((number, cells), "uint32")
    begin, found = cp.asarray(np.stack(starts).reshape(-1, 9)), cp.empty((number, 9), "float64")
    pictures = frame, width, height, cp.stack(plates), *plates[0].shape[::-1]
    ends = ROUNDS, FEWEST_POINTS, F(STILL_PIXELS), *map(F, reach)
    limits = *ends, F(LEAST_SPREAD), F(SPREADS), F(CLIPPED), *map(F, GAINS)
    args = *pictures, points, slopes, begin, *limits, seen, keys, found
    cuda.kernel("photometric", "descend_details")((1, 1, number), (BLOCK,), args)
    return [row.reshape(3, 3) if row.any() else None for row in cuda.read_back(found)]


def steepest(detail: Any, person: Any | None) -> tuple[Any, Any]:
    """Of each cell the pixel with the steepest slope, (N,) int32, counted along the rows, -1 where
    there is none; and its slopes across and down, (N, 2) float32."""
    cp, (height, width) = cuda.cupy(), detail.shape
    cells = (height // CELL) * (width // CELL)
    points, slopes = cp.empty(cells, "int32"), cp.empty((cells, 2), "float32")
    # Where nobody knows of a person, any memory may stand for theirs.
    where = (points.view("uint8"), 0) if person is None else (person, 1)
    args = (detail, width, height, *where, F(LEAST_SLOPE), points, slopes)
    blocks = -(-cells // BLOCK)
    cuda.kernel("photometric", "steepest_points")((blocks,), (BLOCK,), args)
    return points, slopes
