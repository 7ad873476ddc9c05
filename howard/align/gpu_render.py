"""The plate at full resolution, on the GPU: `howard.align.render` in one kernel."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from howard import cuda
from howard.align.geometry import Homography, Size
from howard.cuda import TILE, tiles


class Drawn(NamedTuple):
    """A layer at the size of the frame, on the device."""

    pixels: Any
    """(H, W, 3) RGB uint8; 0 where coverage is 0."""
    coverage: Any
    """(H, W) uint8, 1 where the plate has data."""
    covered: Any
    """(1,) int32, the number of pixels that are covered."""


def drawn(
    plate: Any,
    homography: Homography,
    light: Any,
    frame_size: Size,
    field: Any | None = None,
    gain: Any | None = None,
) -> Drawn:
    """A plate (H', W', 3) uint8 on a frame of this size (width, height).

    homography: frame_from_plate, 3x3 of the host; light: gain and bias of each channel (3, 2), of
    the host or the device; field: displacements (h, w, 2) float32 at any smaller size, in its own
    pixels: what is at x of the frame is at x + field of the warped plate; gain: (h, w, 3) float32.
    """
    cp, (width, height) = cuda.cupy(), frame_size
    out = Drawn(
        cp.empty((height, width, 3), "uint8"),
        cp.empty((height, width), "uint8"),
        cp.zeros(1, "int32"),
    )
    inverse = cp.asarray(plate_from_frame(homography, frame_size).ravel(), np.float32)
    light = cp.asarray(light, np.float32)
    from_plate = plate, plate.shape[1], plate.shape[0], inverse, light
    args = (*from_plate, *grid_of(field, light), *grid_of(gain, light), width, height, *out)
    cuda.kernel("render", "draw_plate")(tiles(width, height), TILE, args)
    return out


def grid_of(values: Any | None, instead: Any) -> tuple[Any, int, int]:
    """An array (h, w, C) with its width and height; for None one not looked at, 0, 0."""
    return (instead, 0, 0) if values is None else (values, values.shape[1], values.shape[0])


def plate_from_frame(homography: Homography, frame_size: Size) -> NDArray[np.float64]:
    """The inverse of frame_from_plate, scaled so that w is 1 at the centre of the frame: positive
    in front of the camera."""
    inverse = np.linalg.inv(homography)
    centre = np.array([(frame_size[0] - 1) / 2, (frame_size[1] - 1) / 2, 1.0])
    return np.asarray(inverse / (inverse[2] @ centre), np.float64)


def lay_over(below: Drawn, above: Drawn, weight: Any) -> None:
    """Blend a layer over another, in place; weight: (h, w) float32 at any smaller size."""
    height, width = below.coverage.shape
    grid = (weight, weight.shape[1], weight.shape[0])
    args = (above.pixels, above.coverage, *grid, width, height, *below)
    cuda.kernel("render", "lay_over")(tiles(width, height), TILE, args)
