"""Views on the GPU: `howard.align.view` over device arrays, with its arithmetic.

A picture's colour is resized in floats where OpenCV works in fixed point, and may be a level off;
all that follows is the CPU's to a rounding.
"""

from __future__ import annotations

from typing import Any

from howard import cuda
from howard.align.view import (
    AGREEMENT_WINDOW,
    CONTRAST,
    CONTRAST_FLOOR,
    CORRELATION,
    FLATNESS,
    NEIGHBOURHOOD,
    View,
    fine_size,
    half,
    view_size,
)
from howard.cuda import TILE, tiles

STRIP = 64
"""Lines that a block of mean_of_lines covers."""
BLOCK = 256
"""Threads of the kernels that run over pixels in a row."""


def box_mean(picture: Any, side: int) -> Any:
    """The mean over side x side pixels around each, float32 (h, w) or (h, w, c), contiguous; as
    cv2.blur, with its default border and, for an even side, its anchor."""
    height, width, channels = (*picture.shape, 1)[:3]
    return means_of(picture, (1, height, width, channels), side).reshape(picture.shape)


def means_of(pictures: Any, shape: tuple[int, int, int, int], side: int) -> Any:
    """The same of a batch of this shape (images, height, width, channels)."""
    cp = cuda.cupy()
    images, height, width, channels = shape
    turned = cp.empty((images, width, channels, height), cp.float32)
    out = cp.empty(shape, cp.float32)
    mean_of_lines = cuda.kernel("view", "mean_of_lines")
    line = width * channels
    grid = (-(-line // 32), -(-height // STRIP), images)
    mean_of_lines(grid, (32, 8), (pictures, height, 1, line, side, turned))
    grid = (-(-height // 32), -(-width // STRIP), images * channels)
    mean_of_lines(grid, (32, 8), (turned, width, channels, height, side, out))
    return out


def view_of(pixels: Any) -> View:
    """The view of an RGB picture (H, W, 3) uint8, its pictures on the device."""
    size = view_size(pixels.shape[1::-1])
    fine = shrunk(pixels, fine_size(pixels.shape[1::-1]))
    colour = shrunk(fine, size)
    texture = texture_of(colour)
    return View(colour, texture, shrunk(texture, half(size)), luma_of(fine))


def shrunk(picture: Any, size: tuple[int, int]) -> Any:
    """Area average of (H, W) or (H, W, C) uint8 at this (width, height)."""
    cp = cuda.cupy()
    height, width, channels = (*picture.shape, 1)[:3]
    out = cp.empty((size[1], size[0], *picture.shape[2:]), cp.uint8)
    args = (picture, width, height, width, height, channels, out, *size)
    cuda.kernel("resize", "resize_area")(tiles(*size), TILE, args)
    return out


def texture_of(colour: Any) -> Any:
    """Luma minus its local mean, over its local deviation: (h, w) uint8 of (h, w, 3)."""
    cp, luma = cuda.cupy(), luma_of(colour)
    texture = cp.empty_like(luma)
    means = local_means(luma, luma, 2, max(3, round(max(luma.shape) * NEIGHBOURHOOD)) | 1)
    levels = cp.float32(CONTRAST), cp.float32(CONTRAST_FLOOR)
    over_pixels("normalise_texture", luma.size, luma, means, luma.size, *levels, texture)
    return texture


def luma_of(colour: Any) -> Any:
    """(h, w) uint8 of (h, w, 3)."""
    height, width = colour.shape[:2]
    luma = cuda.cupy().empty((height, width), "uint8")
    cuda.kernel("color", "luma_from_rgb")(tiles(width, height), TILE, (colour, width, height, luma))
    return luma


def agreement(a: Any, b: Any) -> Any:
    """(h, w) float32 in [0, 1]: how surely two textures show the same surface there."""
    cp = cuda.cupy()
    means = local_means(a, b, 5, max(5, round(max(a.shape) * AGREEMENT_WINDOW)) | 1)
    out = cp.empty(a.shape, cp.float32)
    bounds = (cp.float32(v) for v in (FLATNESS**2, *CORRELATION))
    over_pixels("correlate", a.size, means, a.size, *bounds, out)
    return out


def gradient(texture: Any) -> Any:
    """(h, w) float32: magnitude in levels a pixel."""
    cp = cuda.cupy()
    height, width = texture.shape
    out = cp.empty(texture.shape, cp.float32)
    cuda.kernel("view", "gradient")(tiles(width, height), TILE, (texture, width, height, out))
    return out


def local_means(a: Any, b: Any, planes: int, side: int) -> Any:
    """(planes, h, w, 1): means over windows of what `local_products` makes of two pictures."""
    cp = cuda.cupy()
    products = cp.empty((planes, *a.shape, 1), cp.float32)
    over_pixels("local_products", a.size, a, b, a.size, planes, products)
    return means_of(products, products.shape, side)


def over_pixels(name: str, pixels: int, *args: Any) -> None:
    """A kernel of view.cu that runs a thread per pixel, in a row."""
    cuda.kernel("view", name)((-(-pixels // BLOCK),), (BLOCK,), args)
