"""The last step to an exact homography: the pictures themselves, near full resolution.

Inverse compositional Gauss-Newton (Baker and Matthews, *Lucas-Kanade 20 Years On*, IJCV 2004), from
a homography that is off by a pixel at most, or by several where little is to be seen: then coarse
pictures come first. The frame's points with the steepest gradient of each cell, outside the person,
are looked for in the plate; reweighted, so that what does not belong to the plane does not count.
Slow shading is taken off both pictures, and one gain matches them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from howard.align.geometry import Homography, Size, corners, project
from howard.align.view import mean_of

SMOOTH = 3
"""Pixels of the box that pictures are smoothed by, for gradients that hold between pixels."""
SHADING = 1 / 30
"""Of the longest side: the window whose mean is taken off."""
CELL = 8
"""Pixels of a side; of each cell one point is looked at."""
LEAST_SLOPE = 1.5
"""Levels a pixel: of less, noise decides."""
FEWEST_POINTS = 200
ROUNDS = 12
STILL_PIXELS = 0.01
"""At the corners: a step that moves them less was the last."""
LEAST_SPREAD = 1.0
"""Levels: sensor noise; differences below it all count."""
SPREADS = 1.5
"""Of the median difference: where a point's weight has begun to fall."""
CLIPPED = 3.0
"""Spreads of the first round up to which a difference counts in the cost."""
GAINS = (0.2, 5.0)

Array = NDArray[Any]


class Reach(NamedTuple):
    """How far a descent may lead."""

    pixels: float
    """A corner that moves further was drawn away by something else."""
    worth: float
    """Share of the first cost that the last may be."""


CLOSE = Reach(4.0, 1.0)
FAR = Reach(16.0, 0.9)
"""On coarse pictures, in which almost anything can be moved to cost a little less: on low texture
the way to the truth saves 17 to 35 %, a wrong way 3 % at most."""


class Sums(NamedTuple):
    """What the points say of one homography."""

    normal: NDArray[np.float64]
    """(8, 8), J W J^T."""
    right: NDArray[np.float64]
    """(8,), J W times what the plate is brighter by."""
    points: float
    """How many lie in the plate."""
    cost: float
    """Their mean difference, in levels, each up to `limit`."""
    limit: float


def shading_side(size: Size) -> int:
    """Of the window whose mean is taken off, at this fine size."""
    return max(5, round(max(size) * SHADING)) | 1


def detail(luma: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(h, w) levels of a view's fine luma, without slow shading."""
    return mean_of(luma, SMOOTH) - mean_of(luma, shading_side((luma.shape[1], luma.shape[0])))


def exact(
    frame: NDArray[np.float32],
    plate: NDArray[np.float32],
    start: Homography,
    person: NDArray[np.uint8] | None,
    reach: Reach = CLOSE,
) -> Homography | None:
    """The homography (detail to detail, frame_from_plate) near `start` at which the plate differs
    least from the frame; None where that cannot be told.

    frame, plate: details (h, w). person: (h, w) of the frame's, not 0 where they may be.
    """
    across = cv2.Sobel(frame, cv2.CV_32F, 1, 0, scale=1 / 8)
    along = cv2.Sobel(frame, cv2.CV_32F, 0, 1, scale=1 / 8)
    at = steepest(across * across + along * along, person)
    if len(at[0]) < FEWEST_POINTS:
        return None
    # In single precision, which is good to a thousandth of a pixel: all of this is for one step.
    points = np.vstack([at[1], at[0], np.ones(len(at[0]))]).astype(np.float32)
    size = frame.shape[1], frame.shape[0]
    jacobian = np.stack(jacobian_rows(points[0], points[1], across[at], along[at], size))
    wanted = frame[at]

    def sums(homography: Homography, limit: float) -> Sums:
        x, y, w = np.linalg.inv(homography).astype(np.float32) @ points
        x, y = x / w, y / w
        there = np.asarray(cv2.remap(plate, x[None], y[None], cv2.INTER_LINEAR)[0], np.float32)
        inside = (x > 1) & (y > 1) & (x < plate.shape[1] - 2) & (y < plate.shape[0] - 2)
        seen = np.flatnonzero(inside)
        if not len(seen):
            return Sums(np.zeros((8, 8)), np.zeros(8), 0, 0.0, 0.0)
        error = np.float32(gain_between(there[seen], wanted[seen])) * there - wanted
        off = np.abs(error[seen])
        spread = max(LEAST_SPREAD, SPREADS * median(off))
        limit = min(limit, CLIPPED * spread)
        weight = error * np.float32(0.5 / spread)
        weight = 1 + weight * weight
        weighted = jacobian * (inside / (weight * weight))
        cost = float(np.minimum(off, limit).mean())
        return Sums(weighted @ jacobian.T, weighted @ error, len(seen), cost, limit)

    return descended(start, size, (plate.shape[1], plate.shape[0]), sums, reach)


def descended(
    start: Homography,
    frame_size: Size,
    plate_size: Size,
    sums: Callable[[Homography, float], Sums],
    reach: Reach,
) -> Homography | None:
    """From `start` on until it stands still; None where that costs too much, unless it stood still
    from the first, or leads too far away.
    sums: of a homography, and the limit to keep to, infinite at first."""
    unit, ends = unit_of(frame_size), corners(*plate_size)
    back = np.linalg.inv(unit)
    first = last = sums(start, np.inf)
    found, at = start, project(start, ends)
    for _ in range(ROUNDS):
        if last.points < FEWEST_POINTS:
            return None
        step = np.linalg.solve(last.normal + 1e-6 * np.eye(8), last.right)
        found = back @ (np.append(step, 0.0).reshape(3, 3) + np.eye(3)) @ unit @ found
        found = found / found[2, 2]
        last = sums(found, first.limit)
        before, at = at, project(found, ends)
        if np.hypot(*(at - before).T).max() < STILL_PIXELS:
            break
    away = np.hypot(*(at - project(start, ends)).T).max()
    # Of a start that was exact, rounding tells which of the two costs less.
    is_better = last.cost <= reach.worth * first.cost or away < STILL_PIXELS
    return found if is_better and last.points >= FEWEST_POINTS and away < reach.pixels else None


def unit_of(size: Size) -> Homography:
    """Takes pixels to coordinates of about [-1, 1], where the eight unknowns are of one size."""
    scale = 2 / max(size)
    return np.array([[scale, 0, -1.0], [0, scale, -scale * size[1] / 2], [0, 0, 1]])


def jacobian_rows(x: Array, y: Array, across: Array, along: Array, size: Size) -> list[Array]:
    """Eight arrays (N,): how the frame's levels at its pixels x, y change with a homography's first
    eight entries in unit coordinates, by slopes in levels a pixel."""
    scale = 2 / max(size)
    u, v = x * scale - 1, y * scale - scale * size[1] / 2
    gu, gv = across / scale, along / scale
    slide = -(gu * u + gv * v)
    return [gu * u, gu * v, gu, gv * u, gv * v, gv, slide * u, slide * v]


def steepest(
    squared: NDArray[np.float32], person: NDArray[np.uint8] | None
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns of each cell's largest squared slope (h, w), where there is enough and no
    person."""
    rows, columns = (n // CELL for n in squared.shape)
    cells = squared[: rows * CELL, : columns * CELL].reshape(rows, CELL, columns, CELL)
    row, column = np.arange(rows)[:, None], np.arange(columns)
    x = cells.max(1).argmax(2)
    y = cells[row, :, column, x].argmax(2)
    y, x = y + CELL * row, x + CELL * column
    keep = squared[y, x] > LEAST_SLOPE**2
    if person is not None:
        keep &= person[y, x] == 0
    return y[keep], x[keep]


def gain_between(plate: NDArray[np.floating], frame: NDArray[np.floating]) -> float:
    """What the plate's levels (N,) are multiplied by to be the frame's: the median of the ratios of
    those that differ from their surroundings."""
    strength = np.abs(plate)
    clear = np.flatnonzero(strength > median(strength))
    return min(max(median(frame[clear] / plate[clear]), GAINS[0]), GAINS[1]) if len(clear) else 1.0


def median(values: NDArray[np.floating]) -> float:
    """As NumPy's, in half the time: (N,), nowhere NaN."""
    middle = len(values) // 2
    parted = np.partition(values, middle)
    upper = float(parted[middle])
    return upper if len(values) % 2 else (float(parted[:middle].max()) + upper) / 2
