"""What the network is fed, prepared on the GPU: what `cpu.py` prepares with OpenCV, by kernels.

All buffers are made once and used again for every picture, in the order of CuPy's stream.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from howard import cuda
from howard.cuda import TILE, kernel, tiles
from howard.errors import WeightsError
from howard.frames import Noun
from howard.matte.cpu import OFFERED, SMALL, base_size, open_session, stored_number
from howard.matte.holes import REACH, SIDE

Array = Any
"""A CuPy array."""
Size = tuple[int, int]
"""(width, height)."""


@dataclass(frozen=True)
class Needs(Noun):
    """What a network takes and gives, as the metadata of its ONNX file say."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    full_multiple: int
    """Of the sides of the full-size inputs."""
    base_multiple: int = 1
    """Of the sides of the small inputs."""
    base_pixels: int | None = None
    """Area of the small inputs at most; None where it takes none."""
    guess_percent: int = 100
    """Of the coverage, where the plate is filled."""
    takes_unaligned: int = 0
    """Not 0 if the small plate is the unaligned one where nothing is covered."""

    def padded(self, width: int, height: int) -> Size:
        """Size of the full-size inputs."""
        return width + -width % self.full_multiple, height + -height % self.full_multiple

    def base(self, width: int, height: int) -> Size | None:
        """Size of the small inputs for a frame of this size."""
        if self.base_pixels is None:
            return None
        return base_size(*self.padded(width, height), self.base_pixels, self.base_multiple)

    def shapes(self, batch: int, width: int, height: int) -> dict[str, tuple[int, int, int, int]]:
        """(N, C, H, W) of every input."""
        full, base = self.padded(width, height), self.base(width, height)
        return {
            name: (
                batch,
                1 if name.endswith("coverage") else 3,
                *((base if base and name in SMALL else full)[::-1]),
            )
            for name in self.inputs
        }


def needs_of(weights: Path) -> Needs:
    """Raises WeightsError for a file that is none of Howard's networks, or one whose inputs are
    not prepared on a GPU."""
    session = open_session(weights, threads=1, offered=OFFERED | {"segmentation"})
    inputs = tuple(i.name for i in session.get_inputs())
    if unknown := set(inputs) - {"frame", "plate"} - SMALL:
        raise WeightsError(
            f"{weights} takes {', '.join(sorted(unknown))}, which is not prepared on a GPU: "
            "it can only be run with --device cpu"
        )
    needs = inputs, tuple(o.name for o in session.get_outputs())
    full_multiple = stored_number(session, weights, "full_multiple")
    if not SMALL & set(inputs):
        return Needs(*needs, full_multiple)
    multiple, pixels = (
        stored_number(session, weights, f"base_{k}") for k in ("multiple", "pixels")
    )
    guess_percent = stored_number(session, weights, "guess_percent", 100)
    takes_unaligned = stored_number(session, weights, "takes_unaligned", 0)
    return Needs(*needs, full_multiple, multiple, pixels, guess_percent, takes_unaligned)


def launch(topic: str, name: str, size: Size, *args: Any) -> None:
    """A TILED kernel over a picture of this size."""
    kernel(topic, name)(tiles(*size), TILE, args)


class HoleFiller:
    """`holes.fill_holes` for plates of one size."""

    def __init__(self, width: int, height: int, reach: float = math.inf) -> None:
        scale = min(1.0, SIDE / max(width, height))
        small_width, small_height = (max(1, round(v * scale)) for v in (width, height))
        self.size, self.small = (width, height), (small_width, small_height)
        # Nothing is as far away as this: with it, no hole is too large to be filled.
        self.reach = np.float32(min(reach * scale, small_width + small_height))
        cp, shape = cuda.cupy(), (small_height, small_width)
        self.colours = cp.empty((*shape, 3), cp.uint8)
        self.solid = cp.empty(shape, cp.uint8)
        self.rows, self.nearest = (cp.empty(shape, cp.int32) for _ in range(2))
        self.distance = cp.empty(shape, cp.float32)
        self.filled = cp.empty((height, width, 3), cp.uint8)
        self.seen = cp.empty((height, width, 2), cp.uint8)

    def __call__(self, plate: Array, coverage: Array) -> tuple[Array, Array]:
        """The plate (H, W, 3), filled; and (H, W, 2), 255 where it was seen, and where it was seen
        or is filled, else 0. Both are written over by the next call."""
        size, small = self.size, self.small
        launch("holes", "find_solid", small, coverage, *size, self.solid, *small)
        launch("resize", "resize_area", small, plate, *size, *size, 3, self.colours, *small)
        launch("holes", "nearest_in_column", small, self.solid, *small, self.reach, self.rows)
        found = self.nearest, self.distance
        launch("holes", "nearest_solid", small, self.rows, *small, self.reach, *found)
        made = self.filled, self.seen
        guesses = self.colours, *found, *small, self.reach
        launch("holes", "fill_holes", size, plate, coverage, *size, *guesses, *made)
        return made


class DeviceInputs:
    """A network's inputs for up to `batch` frames of one size, as halves in device memory."""

    def __init__(self, needs: Needs, batch: int, width: int, height: int) -> None:
        self.batch, self.size, self.guess = batch, (width, height), needs.guess_percent / 100
        self.takes_unaligned = needs.takes_unaligned
        self.padded, self.base = needs.padded(width, height), needs.base(width, height)
        knows_holes = "small_coverage" in needs.inputs
        reach = REACH * max(width, height) if knows_holes else math.inf
        self.fill = HoleFiller(width, height, reach)
        cp = cuda.cupy()
        self.planes = {
            name: cp.empty(shape, cp.uint16)
            for name, shape in needs.shapes(batch, width, height).items()
        }
        across, down = self.base or (1, 1)
        self.everywhere = cp.ones(max(width * height, across * down), cp.uint8)
        self.small, self.small_view = (cp.empty((down, across, 3), cp.uint8) for _ in range(2))
        self.small_seen = cp.empty((down, across, 2), cp.uint8)
        self.small_reached = cp.empty((down, across), cp.uint8)

    def put(
        self, slot: int, frame: Array, plate: Array, coverage: Array, unaligned: Array | None = None
    ) -> None:
        """Prepare frame (H, W, 3), plate (H, W, 3) with its coverage (H, W), and perhaps the
        clean-plate frame (H', W', 3) as it was filmed; all uint8."""
        filled, seen = self.fill(plate, coverage)
        self.pack("frame", slot, frame)
        self.pack("plate", slot, filled)
        if self.base is None:
            return
        self.shrink(frame, self.small)
        self.pack_small("small_frame", slot, self.small, self.everywhere)
        self.shrink(seen, self.small_seen)
        made = self.small_reached, self.planes["small_coverage"][slot]
        guessed = np.float32(self.guess)
        launch("pack", "pack_coverage", self.base, self.small_seen, *self.base, guessed, *made)
        self.shrink(filled, self.small)
        shown = self.small, self.small_reached
        if self.takes_unaligned and unaligned is not None:
            size = unaligned.shape[1::-1]
            self.resize(unaligned, size, size, self.small_view)
            reached = self.small_reached[..., None] != 0
            cuda.cupy().copyto(self.small_view, self.small, where=reached)
            shown = self.small_view, self.everywhere
        self.pack_small("small_plate", slot, *shown)

    def pack(self, name: str, slot: int, picture: Array) -> None:
        """A picture at full size, padded."""
        args = picture, self.everywhere, *self.size, 3, np.float32(1 / 255), *self.padded
        launch("pack", "pack_planes", self.padded, *args, self.planes[name][slot])

    def pack_small(self, name: str, slot: int, small: Array, shown: Array) -> None:
        """A picture at the base's size; 0 where `shown` is 0."""
        assert self.base is not None
        args = small, shown, *self.base, 3, np.float32(1 / 255), *self.base
        launch("pack", "pack_planes", self.base, *args, self.planes[name][slot])

    def shrink(self, picture: Array, small: Array) -> None:
        """The padded picture at the base's size."""
        self.resize(picture, self.size, self.padded, small)

    def resize(self, picture: Array, size: Size, padded: Size, small: Array) -> None:
        """Area average at the base's size of a picture that goes on to `padded`; bilinear where a
        side grows."""
        assert self.base is not None
        grows = any(a < b for a, b in zip(padded, self.base, strict=True))
        name, channels = "resize_linear" if grows else "resize_area", picture.shape[2]
        args = picture, *size, *padded, channels, small, *self.base
        launch("resize", name, self.base, *args)

    def feeds(self, count: int) -> dict[str, Array]:
        """The first `count` of each input, (count, C, H, W) halves. The same memory each time."""
        float16 = cuda.cupy().float16
        return {name: planes[:count].view(float16) for name, planes in self.planes.items()}
