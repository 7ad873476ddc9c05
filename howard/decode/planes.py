"""Pictures as they are stored, in 4:2:0, for a GPU that makes RGB of them.

That spares the CPU the conversion, and the bus half of what RGB takes (with 8 bits). The RGB is
that of `RgbConverter` to a level, where swscale's fixed point and a kernel's floats round apart.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import av
import numpy as np
from av.video.reformatter import Colorspace
from numpy.typing import NDArray

from howard import cuda
from howard.decode.colour import SWAPS_AXES, Coding, RgbConverter, rgb_from_ycbcr
from howard.frames import Noun

Samples: TypeAlias = NDArray[np.uint8 | np.uint16]

BITS = {"yuv420p": 8, "yuvj420p": 8, "yuv420p10le": 10}
"""Of the formats that the kernels take, by FFmpeg's names."""
UPPER_BITS = 6
"""By this many P010 shifts 10 bits up."""
SMALLEST = 8
"""Pixels of a side, for `chroma_site`."""


@dataclass(frozen=True, repr=False, eq=False)
class Planes(Noun):
    """A picture in the layout of NV12 or P010, not yet upright."""

    samples: Samples
    """(height * 3 / 2, width): luma, and below it chroma, Cb and Cr by turns."""
    coding: Coding
    site: tuple[float, float]
    """Where the first sample of chroma lies: x and y in pixels of luma."""


class PlanesConverter:
    """In the place of a video's RgbConverter: gives Planes where it can, else the same RGB."""

    def __init__(self, to_rgb: RgbConverter) -> None:
        self.coding, self._to_rgb = to_rgb.coding, to_rgb
        self._site: tuple[float, float] | None = None

    def __call__(self, picture: av.VideoFrame) -> Planes | NDArray[np.uint8]:
        """Of `picture`, which is used up."""
        coding = replace(Coding.of(picture), pose=self.coding.pose)
        size = coding.width, coding.height
        if size != (self.coding.width, self.coding.height) or not suits(coding):
            return self._to_rgb(picture)
        samples = samples_of(picture)
        if self._site is None:
            self._site = chroma_site(picture, self._to_rgb)
        return Planes(samples, coding, self._site)


def suits(coding: Coding) -> bool:
    """Whether the kernels make of such a picture what swscale does, which converts interlaced
    pictures field by field and stretches the chroma of odd sizes."""
    sides = coding.width, coding.height
    is_even = all(side % 2 == 0 and side >= SMALLEST for side in sides)
    return coding.pixel_format in BITS and is_even and not coding.is_interlaced


def samples_of(picture: av.VideoFrame) -> Samples:
    """The picture in `Planes.samples`, in memory of its own."""
    width, height = picture.width, picture.height
    luma, cb, cr = lines_of(picture)
    samples = np.empty((height * 3 // 2, width), luma.dtype)
    shift = UPPER_BITS if luma.dtype == np.uint16 else 0
    np.left_shift(luma[:, :width], shift, out=samples[:height])
    np.left_shift(cb[:, : width // 2], shift, out=samples[height:, ::2])
    np.left_shift(cr[:, : width // 2], shift, out=samples[height:, 1::2])
    return samples


def lines_of(picture: av.VideoFrame) -> list[Samples]:
    """Of each plane, (rows, samples of a line in memory, more than it is wide): views."""
    dtype = np.dtype(np.uint8 if BITS[picture.format.name] == 8 else np.uint16)
    return [np.frombuffer(memoryview(p), dtype).reshape(p.height, -1) for p in picture.planes]


def chroma_site(picture: av.VideoFrame, converter: RgbConverter) -> tuple[float, float]:
    """Where FFmpeg takes the first sample of chroma to lie: see `Planes.site`.

    PyAV does not tell, so it is measured: `picture`, which keeps its tags, is painted over with an
    edge of Cb between columns 1 and 2 and one of Cr between rows 1 and 2, and pixel 3 of what the
    converter makes of it is a mixture.
    """
    picture.make_writable()
    level = 2 ** (BITS[picture.format.name] - 8)
    luma, cb, cr = (np.full_like(lines, 128 * level) for lines in lines_of(picture))
    cb[:, :2], cb[:, 2:] = 96 * level, 160 * level
    cr[:2], cr[2:] = 96 * level, 160 * level
    for plane, painted in zip(picture.planes, (luma, cb, cr), strict=True):
        plane.update(painted.tobytes())
    rgb = converter.as_it_lies(picture).astype(int)
    return site_of(rgb[0, :, 2]), site_of(rgb[:, 0, 0])


def site_of(edge: NDArray[np.int_]) -> float:
    """0, 0.5 or 1: chroma's first sample, from an edge between its samples 1 and 2."""
    share = (edge[3] - edge[0]) / (edge[6] - edge[0])
    return round(2 * (1 - 2 * share)) / 2


class RgbOfPlanes:
    """Makes RGB of planes on the device, on CuPy's current stream."""

    def __init__(self) -> None:
        self._matrices: dict[tuple[Colorspace, bool], Any] = {}
        """On the device."""

    def __call__(self, planes: Planes, samples: Any) -> Any:
        """(H, W, 3) upright RGB; samples: those of `planes`, on the device."""
        coding, site = planes.coding, (np.float32(x) for x in planes.site)
        width, height = coding.width, coding.height
        shape = (width, height, 3) if coding.pose & SWAPS_AXES else (height, width, 3)
        rgb = cuda.cupy().empty(shape, "uint8")
        luma, chroma = samples[:height], samples[height:]
        args = (luma, width, chroma, width, width, height, *site, self._matrix(coding))
        name = "p010_to_rgb" if samples.dtype == np.uint16 else "nv12_to_rgb"
        tiles = cuda.tiles(width, height)
        cuda.kernel("color", name)(tiles, cuda.TILE, (*args, coding.pose, rgb))
        return rgb

    def _matrix(self, coding: Coding) -> Any:
        key = coding.matrix, coding.is_full_range
        if key not in self._matrices:
            self._matrices[key] = cuda.cupy().asarray(rgb_from_ycbcr(*key))
        return self._matrices[key]
