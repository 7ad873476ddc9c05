"""Direct alignment on the GPU: `howard.align.direct` for several plates of one frame at once."""

from __future__ import annotations

from collections.abc import Sequence
from math import log2
from typing import Any

import numpy as np
from numpy.typing import NDArray

from howard import cuda
from howard.align.direct import (
    CORNER_SHARE,
    FEWEST_POINTS,
    IN_PERSON,
    MATCHED_LEVELS,
    NEAR_PIXELS,
    SCALES,
    TEXTURE,
    VECTORS,
    DirectFit,
)
from howard.align.geometry import Homography
from howard.cuda import TILE, tiles

PATCH, STRIDE = 8, 4
"""Sides of the patches that dense inverse search compares, and from one to the next, in pixels."""
PATCHES_PER_BLOCK = 8
SEARCHERS = 64
"""Threads of a block of the search: one per row of a patch."""
BLOCK = 256
"""Threads of the blocks that weigh and fit vectors."""
FIT = 13
"""Numbers that come of a fit: a homography, its support and three counts."""


def dense_flow(a: Any, b: Any, finest: int = 1) -> Any:
    """Flow from a to each of b, (N, h, w, 2) float32; a (h, w) and b (N, h, w) uint8. Found down
    to 1 / 2^finest of their size."""
    cp = cuda.cupy()
    return flow_between(cp.concatenate((a[None], b)), finest)


def flow_between(pictures: Any, finest: int) -> Any:
    """The same from the first of the pictures (1 + N, h, w) to the others."""
    cp = cuda.cupy()
    images, height, width = pictures.shape
    coarsest = coarsest_level(width, height)
    levels = pyramid(pictures, min(finest, coarsest), coarsest)
    flow = cp.empty((images - 1, 0, 0, 2), cp.float32)
    for level in reversed(levels):
        flow = level_flow(level, flow)
    if flow.shape[1:3] == (height, width):
        return flow
    out = cp.empty((images - 1, height, width, 2), cp.float32)
    args = (flow, *flow.shape[2:0:-1], width, height, out)
    cuda.kernel("flow", "grow_flow")(tiles(width, height, images - 1), TILE, args)
    return out


def coarsest_level(width: int, height: int) -> int:
    """As OpenCV's: the search reaches a quarter of the longer side there, and the shorter one
    still holds a patch."""
    reach, room = log2(max(width, height) / (4 * PATCH)) + 0.5, log2(min(width, height) / PATCH)
    return max(0, min(int(reach), int(room)))


def pyramid(pictures: Any, finest: int, coarsest: int) -> list[Any]:
    """The levels from the finest to the coarsest; level k is 1 / 2^k of the size, rounded down."""
    cp = cuda.cupy()
    images, height, width = pictures.shape
    levels = [pictures] if finest == 0 else []
    for k in range(max(finest, 1), coarsest + 1):
        source = levels[-1] if levels else pictures
        size, smaller = source.shape[:0:-1], (width >> k, height >> k)
        out = cp.empty((images, *smaller[::-1]), cp.uint8)
        args = (source, *size, *size, 1, out, *smaller)
        cuda.kernel("resize", "resize_area")(tiles(*smaller, images), TILE, args)
        levels.append(out)
    return levels


def level_flow(pictures: Any, coarser: Any) -> Any:
    """The flow of a level, (N, h, w, 2), from that of the coarser one, or from an empty one."""
    cp = cuda.cupy()
    images, height, width = pictures.shape
    plates = images - 1
    columns, rows = 1 + (width - PATCH) // STRIDE, 1 + (height - PATCH) // STRIDE
    first, found = (cp.empty((plates, rows * columns, 2), cp.float32) for _ in range(2))
    flow = cp.empty((plates, height, width, 2), cp.float32)
    where = (pictures, width, height, columns, rows)
    grid, block = (-(-rows * columns // PATCHES_PER_BLOCK), 1, plates), (SEARCHERS,)
    start = (*where, coarser, *coarser.shape[2:0:-1], first)
    cuda.kernel("flow", "search_from_coarser")(grid, block, start)
    cuda.kernel("flow", "search_from_neighbours")(grid, block, (*where, first, found))
    shape = tiles(width, height, plates)
    cuda.kernel("flow", "flow_of_patches")(shape, TILE, (*where, found, flow))
    return flow


def refine(
    frame: Any, plates: Any, starts: Sequence[Homography], person: Any = None, finest: int = 1
) -> list[DirectFit | None]:
    """For each plate, the homography (texture to texture, frame_from_plate) near its start that
    the flow agrees on; None where too little is to be seen.

    frame: texture (h, w); plates: textures of one size, (N, h', w') or a list of them; person:
    (h, w) uint8, not 0 where they may be, or None. finest: of the flow. Waits for the device
    once, for a few numbers of each plate.
    """
    if not len(plates):
        return []
    cp = cuda.cupy()
    if isinstance(plates, list | tuple):
        plates = cp.stack(plates)
    begin = [np.stack([start, np.linalg.inv(start)]).ravel() for start in starts]
    given = cp.asarray(np.concatenate([*begin, SCALES]))
    homographies, widths = given[: 18 * len(starts)], given[18 * len(starts) :]
    pictures, inside = warped(frame, plates, homographies)
    flow = flow_between(pictures, finest)
    fits = fitted(pictures, inside, flow, person, homographies, widths)
    return [direct_fit(numbers) for numbers in cuda.read_back(fits)]


def direct_fit(numbers: NDArray[np.float64]) -> DirectFit | None:
    """From a row of fit_vectors's."""
    homography = numbers[:9].reshape(3, 3)
    if not homography.any():
        return None
    return DirectFit(homography, float(numbers[9]), *map(int, numbers[10:]))


def warped(frame: Any, plates: Any, homographies: Any) -> tuple[Any, Any]:
    """The frame and the plates warped onto it, (1 + N, h, w), and where those have data, 255 in
    (N, h, w)."""
    cp = cuda.cupy()
    height, width = frame.shape
    count, plate_height, plate_width = plates.shape
    pictures = cp.empty((count + 1, height, width), cp.uint8)
    inside = cp.empty((count, height, width), cp.uint8)
    args = (frame, plates, plate_width, plate_height, homographies, width, height, pictures, inside)
    cuda.kernel("direct", "warp_textures")(tiles(width, height, count + 1), TILE, args)
    return pictures, inside


def fitted(
    pictures: Any, inside: Any, flow: Any, person: Any, homographies: Any, widths: Any
) -> Any:
    """What fit_vectors finds, (N, 13) float64, on the device."""
    cp = cuda.cupy()
    count, height, width = inside.shape
    stride = max(1, round((width * height / VECTORS) ** 0.5))
    columns, rows = (-(-(size - stride // 2) // stride) for size in (width, height))
    grid = (stride, columns, rows)
    vectors = cp.empty((count, rows * columns, 4), cp.float32)
    matched = cp.float32(MATCHED_LEVELS)
    hidden = (pictures, cp.float32(1)) if person is None else (person, cp.float32(IN_PERSON))
    seen = (pictures, inside, width, height, flow, *hidden, homographies, *grid)
    blocks = (-(-rows * columns // BLOCK), 1, count)
    weigh_vectors = cuda.kernel("direct", "weigh_vectors")
    weigh_vectors(blocks, (BLOCK,), (*seen, cp.float32(TEXTURE), matched, vectors))
    fits = cp.empty((count, FIT), cp.float64)
    near = matched, cp.float32(NEAR_PIXELS), FEWEST_POINTS
    held = len(SCALES), np.float64(CORNER_SHARE)
    args = (vectors, width, height, *grid, homographies, widths, *held, *near, fits)
    cuda.kernel("direct", "fit_vectors")((1, 1, count), (BLOCK,), args)
    return fits
