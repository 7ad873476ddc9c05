"""The kernels that work on whole frames, as a run launches them, on pictures of any size."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.kernel_work import EXACT, TIES, Launch, Maker, Size, Work
from howard.align.view import view_size
from howard.cuda import TILE, tiles
from howard.matte.holes import REACH, SIDE
from tests import reference

F = np.float32
BLUR = 12
"""Pixels between the values of the noise that gives a picture its detail."""
MULTIPLE = 32
"""Of the sides of planes: more than the shipped network asks for, so that there is padding."""


def random(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def field(size: Size, channels: int, spread: float, every: int, seed: int = 0) -> NDArray[Any]:
    """(h, w, channels) float32: noise of this standard deviation, smooth over `every` pixels."""
    columns, rows = (-(-side // every) + 1 for side in size)
    values = random(seed).normal(0, spread, (rows, columns, channels)).astype(F)
    out = cv2.resize(values, size, interpolation=cv2.INTER_CUBIC)
    return np.ascontiguousarray(out.reshape(*size[::-1], channels))


def picture(size: Size, seed: int = 0) -> NDArray[np.uint8]:
    """(H, W, 3) uint8, with slow shades, detail, and the noise of a camera."""
    levels = 128 + field(size, 3, 50, 8 * BLUR, seed) + field(size, 3, 30, BLUR, seed + 1)
    levels += random(seed + 2).normal(0, 2, levels.shape).astype(F)
    return levels.clip(0, 255).astype(np.uint8)


def luma(size: Size, seed: int = 0) -> NDArray[np.uint8]:
    """(H, W) uint8 of a picture."""
    return np.asarray(cv2.cvtColor(picture(size, seed), cv2.COLOR_RGB2GRAY), np.uint8)


def empty(size: Size, *channels: int, dtype: Any = np.uint8) -> NDArray[Any]:
    return np.zeros((size[1], size[0], *channels), dtype)


def tiled(topic: str, name: str, size: Size, *args: Any, **more: Any) -> Launch:
    """A thread per pixel of this size."""
    return Launch(topic, name, tiles(*size), TILE, args, **more)


def bt709() -> NDArray[np.float32]:
    return reference.matrix_from(0.2126, 0.0722, is_full=False)


def from_planes(name: str, size: Size, dtype: Any, shift: int) -> Work:
    """luma and half-size chroma to RGB, chroma beside the first of two columns."""
    shown = picture(size).astype(dtype) << shift
    brightness, chroma = shown[..., 0].copy(), np.ascontiguousarray(shown[::2, ::2, 1:])
    (width, height), pitch = size, chroma.shape[1] * 2
    args = brightness, width, chroma.reshape(-1, pitch), pitch, width, height, F(0), F(0.5)
    step = tiled("color", name, size, *args, bt709(), 0, empty(size, 3))
    return Work((step,), {"rgb": EXACT})


def nv12_to_rgb(size: Size) -> Work:
    return from_planes("nv12_to_rgb", size, np.uint8, 0)


def p010_to_rgb(size: Size) -> Work:
    return from_planes("p010_to_rgb", size, np.uint16, 8)


def ycbcr_to_rgb(size: Size) -> Work:
    """As NVDEC's frames come from DALI."""
    args = picture(size)[None], *size, 1, bt709(), 0, empty(size, 3)[None]
    return Work((tiled("color", "ycbcr_to_rgb", size, *args),), {"rgb": EXACT})


def resize_area(size: Size) -> Work:
    """A frame to its view."""
    small = view_size(size)
    args = picture(size)[None], *size, *size, 3, empty(small, 3)[None], *small
    return Work((tiled("resize", "resize_area", small, *args),), {"target": TIES})


def drawn(size: Size, bend: tuple[Any, int, int], gain: tuple[Any, int, int], light: Any) -> Work:
    """A plate turned by a degree and shifted, so that a border of the frame is not covered."""
    width, height = size
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), 1.0, 1.01)
    turn[:, 2] += np.array([width / 50, -height / 60])
    inverse = np.array([*turn.ravel(), 1e-6, -1e-6, 1], F)
    out = empty(size, 3), empty(size), np.zeros(1, np.int32)
    args = picture(size), *size, inverse, np.array(light, F), *bend, *gain, *size, *out
    step = tiled("render", "draw_plate", size, *args)
    return Work((step,), {"pixels": EXACT, "coverage": EXACT})


def draw_plate(size: Size) -> Work:
    """With a field and a gain."""
    small = view_size(size)
    bend, gain = field(small, 2, 2, 40), np.exp(field(small, 3, 0.2, 60))
    light = (1.1, -4), (0.95, 3), (1.02, 1)
    return drawn(size, (bend, *small), (gain, *small), light)


def draw_plate_plain(size: Size) -> Work:
    """By a homography alone, which is all that libraries do."""
    nothing = np.zeros(1, F), 0, 0
    return drawn(size, nothing, nothing, [(1, 0)] * 3)


def lay_over(size: Size) -> Work:
    small = view_size(size)
    weight = field(small, 1, 1, 60)[..., 0].clip(0, 1)
    above, below = empty(size) + np.uint8(1), empty(size) + np.uint8(1)
    above[:, : size[0] // 4], below[:, -size[0] // 4 :] = 0, 0
    out = picture(size, 5), below, np.zeros(1, np.int32)
    args = picture(size), above, weight, *small, *size, *out
    step = tiled("render", "lay_over", size, *args, updated=("pixels", "coverage"))
    return Work((step,), {"pixels": EXACT, "coverage": EXACT})


def padded(size: Size) -> Size:
    width, height = (side + -side % MULTIPLE for side in size)
    return width, height


def pack_planes(size: Size) -> Work:
    """A frame as the network's input."""
    planes, everywhere = empty(padded(size), dtype=np.uint16), np.ones(size[::-1], np.uint8)
    out = np.stack([planes] * 3)[None]
    args = picture(size)[None], everywhere[None], *size, 3, F(1 / 255), *padded(size), out
    return Work((tiled("pack", "pack_planes", padded(size), *args),), {"planes": EXACT})


def unpack_rgba8(size: Size) -> Work:
    """The network's output as the picture that is written."""
    planes = [field(padded(size), 1, 0.5, 60, seed)[..., 0] + F(0.5) for seed in range(4)]
    halves = np.stack(planes)[None].astype(np.float16).view(np.uint16)
    alpha, colour = halves[:, :1].copy(), halves[:, 1:].copy()
    args = alpha, colour, *padded(size), *size, empty(size, 4)[None]
    return Work((tiled("pack", "unpack_rgba8", size, *args),), {"rgba": EXACT})


def holes_size(size: Size) -> tuple[Size, np.float32]:
    """Of the picture on which holes are looked at, and how far they are filled in its pixels."""
    scale = min(1.0, SIDE / max(size))
    width, height = (max(1, round(side * scale)) for side in size)
    return (width, height), F(REACH * max(width, height))


def searched_to(reach: np.float32) -> int:
    """So far the kernels look for what they fill holes with."""
    return int(reach) + 3


def fill_holes(size: Size) -> Work:
    """The left eighth of the plate is missing."""
    small, reach = holes_size(size)
    coverage, edge = np.ones(size[::-1], np.uint8), small[0] // 8
    coverage[:, : edge * size[0] // small[0]] = 0
    y, x = np.mgrid[: small[1], : small[0]]
    far = np.maximum(edge - x, 0)
    most = searched_to(reach)
    nearest = np.where(far < most, y * small[0] + np.maximum(x, edge), -1).astype(np.int32)
    distance = np.minimum(far, most).astype(F)
    plate = picture(size) * coverage[..., None]
    guess = picture(small)[None], nearest[None], distance[None], *small, reach
    out = empty(size, 3)[None], empty(size, 2)[None]
    args = plate[None], coverage[None], *size, *guess, *out
    return Work((tiled("holes", "fill_holes", size, *args),), {"filled": TIES, "seen": EXACT})


WORKS: dict[str, Maker] = {
    make.__name__: make
    for make in (
        *(nv12_to_rgb, p010_to_rgb, ycbcr_to_rgb, resize_area, draw_plate, draw_plate_plain),
        *(lay_over, pack_planes, unpack_rgba8, fill_holes),
    )
}
