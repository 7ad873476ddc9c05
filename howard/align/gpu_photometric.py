"""`howard.align.photometric` over device arrays: each round reads a few sums back."""

from __future__ import annotations

from typing import Any

import numpy as np

from howard import cuda
from howard.align.geometry import Homography
from howard.align.gpu_view import box_mean, shrunk
from howard.align.photometric import (
    CELL,
    CLIPPED,
    GAINS,
    LEAST_SLOPE,
    LEAST_SPREAD,
    SMOOTH,
    SPREADS,
    Sums,
    descended,
    fine_size,
    jacobian_rows,
    shading_side,
)
from howard.cuda import TILE, tiles

F = np.float32


def detail(pixels: Any) -> Any:
    """(h, w) float32 of (H, W, 3) uint8."""
    cp, size = cuda.cupy(), fine_size(pixels.shape[1::-1])
    small, luma = shrunk(pixels, size), cp.empty(size[::-1], "uint8")
    cuda.kernel("color", "luma_from_rgb")(tiles(*size), TILE, (small, *size, luma))
    luma = luma.astype("float32")
    return box_mean(luma, SMOOTH) - box_mean(luma, shading_side(size))


def exact(frame: Any, plate: Any, start: Homography, person: Any | None) -> Homography:
    """As the CPU's; frame, plate and person on the device."""
    cp = cuda.cupy()
    across, along = slopes(frame)
    at, keep = steepest(across * across + along * along, person)
    size = width, _ = frame.shape[1], frame.shape[0]
    points = cp.stack([at % width, at // width, cp.ones_like(at)]).astype("float64")
    across, along = (x.ravel()[at].astype("float64") for x in (across, along))
    jacobian = cp.stack(jacobian_rows(points[0], points[1], across, along, size))
    wanted = frame.ravel()[at].astype("float64")
    nothing = cp.full(at.shape, np.nan)

    def sums(homography: Homography, limit: float) -> Sums:
        x, y, w = cp.asarray(np.linalg.inv(homography)) @ points
        x, y = (x / w).astype("float32"), (y / w).astype("float32")
        inside = keep & (x > 1) & (y > 1)
        inside &= (x < plate.shape[1] - 2) & (y < plate.shape[0] - 2)
        there = sampled(plate, cp.where(inside, x, F(1)), cp.where(inside, y, F(1)))
        seen = cp.where(inside, cp.abs(there), nothing)
        clear = seen > cp.nanmedian(seen)
        ratio = cp.where(clear, wanted / cp.where(clear, there, 1.0), nothing)
        error = cp.clip(cp.nanmedian(ratio), *GAINS) * there - wanted
        off = cp.where(inside, cp.abs(error), nothing)
        spread = cp.maximum(SPREADS * cp.nanmedian(off), LEAST_SPREAD)
        bound = cp.minimum(CLIPPED * spread, limit)
        weight = cp.where(inside, 1 / (1 + (error / (2 * spread)) ** 2) ** 2, 0.0)
        weighted = jacobian * cp.where(weight > 0, weight, 0.0)
        cost = cp.where(inside, cp.minimum(off, bound), 0.0).sum()
        few = cp.stack([inside.sum().astype("float64"), cost, bound])
        told = cp.concatenate([(weighted @ jacobian.T).ravel(), weighted @ error, few])
        numbers = cuda.read_back(told)
        count, total, bound = numbers[72:]
        mean = total / max(count, 1.0)
        return Sums(numbers[:64].reshape(8, 8), numbers[64:72], count, mean, bound)

    return descended(start, size, (plate.shape[1], plate.shape[0]), sums)


def slopes(picture: Any) -> tuple[Any, Any]:
    """(h, w) each: levels a pixel across and along, as Sobel's filter has them."""
    p = cuda.cupy().pad(picture, 1, mode="edge")
    right, down = p[:, 2:] - p[:, :-2], p[2:] - p[:-2]
    across = right[:-2] + 2 * right[1:-1] + right[2:]
    along = down[:, :-2] + 2 * down[:, 1:-1] + down[:, 2:]
    return across / F(8), along / F(8)


def steepest(squared: Any, person: Any | None) -> tuple[Any, Any]:
    """(N,) each: where in the picture, in a row, the largest squared slope of each cell is; and
    whether it is enough, and beside the person."""
    cp = cuda.cupy()
    width = squared.shape[1]
    rows, columns = (n // CELL for n in squared.shape)
    cells = squared[: rows * CELL, : columns * CELL].reshape(rows, CELL, columns, CELL)
    inside = cells.transpose(0, 2, 1, 3).reshape(rows, columns, CELL * CELL).argmax(2)
    y = inside // CELL + CELL * cp.arange(rows)[:, None]
    x = inside % CELL + CELL * cp.arange(columns)
    at = (y * width + x).ravel()
    keep = squared.ravel()[at] > LEAST_SLOPE**2
    return at, keep if person is None else keep & (person.ravel()[at] == 0)


def sampled(picture: Any, x: Any, y: Any) -> Any:
    """(N,) bilinear samples of (h, w) at x, y within it."""
    width, flat = picture.shape[1], picture.ravel()
    left, top = x.astype("int64"), y.astype("int64")
    across, along, at = x - left, y - top, top * width + left
    above = flat[at] * (1 - across) + flat[at + 1] * across
    below = flat[at + width] * (1 - across) + flat[at + width + 1] * across
    return above * (1 - along) + below * along
