"""`camera.py` for batches on a device: light, blur, noise and compression of (N, 3, H, W)."""

from __future__ import annotations

import functools

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from engine.training.camera import FLOOD_CELL, FLOOD_STEP, LEAST_SIGMA, TINT_STEP
from engine.training.gpu_draw import Draw, Values, Which, blur, motion_blur, smooth_field

LUMA_QUANTISATION = """
16 11 10 16 24 40 51 61 12 12 14 19 26 58 60 55 14 13 16 24 40 57 69 56 14 17 22 29 51 87 80 62
18 22 37 56 68 109 103 77 24 35 55 64 81 104 113 92 49 64 78 87 103 121 120 101
72 92 95 98 112 100 103 99"""
CHROMA_QUANTISATION = """
17 18 24 47 99 99 99 99 18 21 26 66 99 99 99 99 24 26 56 99 99 99 99 99 47 66 99 99 99 99 99 99
99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99"""
"""ITU-T T.81, tables K.1 and K.2."""
YCC_FROM_RGB = np.array(
    [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]]
)
"""Rec. ITU-T T.871."""


class Light:
    """One exposure for each scene, as `camera.Light`. strength: (N,)."""

    def __init__(self, draw: Draw, height: int, width: int, strength: Values) -> None:
        self.draw, self.size = draw, (height, width)
        s = strength[:, None]
        low, high = 1 - 0.25 * s, 1 + 0.25 * s
        self.gain = draw.uniform(low, high, 1) * (1 + 0.05 * s * draw.normal(3))
        self.bias = 0.02 * strength * draw.normal()
        bent = draw.chance(0.4)
        self.gamma = np.where(bent, draw.uniform(low, high, 1)[:, 0], 1.0)
        share = np.where(draw.chance(0.3), 0.08 * strength, 0)
        field = smooth_field(draw, height, width, 3) * draw.tensor(share)
        self.field = 1 + field.clamp(-0.3, 0.3)
        self.signs(np.zeros(len(draw), bool))
        self.floodlight(np.zeros(len(draw), bool))

    def night(self, which: Which) -> None:
        """Little light."""
        self.gain *= np.where(which, self.draw.uniform(0.1, 0.45), 1)[:, None]

    def black_level(self, which: Which) -> None:
        """What is dark becomes black."""
        cut = np.where(which, self.draw.uniform(0.03, 0.3), 0)
        self.bias = self.bias - cut * self.gain.mean(1)
        self.gain /= 1 - cut[:, None]

    def lamps(self, which: Which) -> None:
        """Lamps that shine otherwise: patches are brighter, darker, of other hue."""
        draw, (height, width) = self.draw, self.size
        ys, xs = pixel_grid(height, width, draw.device)
        count = np.where(which, draw.integers(1, 4), 0)
        logarithm = torch.zeros_like(self.field)
        for lamp in range(3):
            at, reach = draw.uniform(0, 1, 2), draw.uniform(0.08, 0.6, 2) * max(height, width)
            x, y, rx, ry = (draw.tensor(v) for v in (at[:, 0] * width, at[:, 1] * height, *reach.T))
            distance = ((xs - x) / rx) ** 2 + ((ys - y) / ry) ** 2
            patch = torch.exp(-(distance ** draw.tensor(draw.uniform(0.7, 3))))
            change = draw.uniform(-1, 1, 1) + 0.35 * draw.normal(3)
            logarithm = logarithm + patch * draw.tensor(0.8 * change * (lamp < count)[:, None])
        self.field = self.field * torch.exp(logarithm)

    def signs(self, which: Which) -> None:
        """Signs and lit walls that shine in another colour."""
        self.tinted = which
        self.dim_share = 1 - self.draw.uniform(0.05, 0.5)
        self.tint = np.exp(0.6 * self.draw.normal(3))

    def with_signs(self, pictures: Tensor) -> Tensor:
        """As `camera.Tint`, those that have any."""
        share, tint = self.dim_share[self.tinted], self.tint[self.tinted]
        brightness = pictures.amax(1, keepdim=True)
        edge = quantiles(self.draw, brightness[:, :, ::8, ::8], share)
        bright = ((brightness - edge) / TINT_STEP + 0.5).clamp(0, 1)
        return pictures * (1 + bright * (self.draw.tensor(tint) - 1))

    def floodlight(self, which: Which) -> None:
        """A building whose lamps were on in one take alone."""
        draw, (height, width) = self.draw, self.size
        self.lit, self.dark_share = which, draw.uniform(0.3, 0.9)
        self.along = draw.tensor(draw.normal(3))
        self.flood_field = 0.3 * smooth_field(
            draw, -(-height // FLOOD_CELL), -(-width // FLOOD_CELL), 4
        )
        self.flood = np.exp(draw.uniform(-1.5, 1.5, 1) + 0.3 * draw.normal(3))

    def with_floodlight(self, pictures: Tensor) -> Tensor:
        """As `camera.Flood`, those that have any."""
        at = self.draw.index(np.flatnonzero(self.lit))
        small = F.interpolate(pictures, self.flood_field.shape[2:], mode="area")
        score = (small * self.along[at]).sum(1, keepdim=True) + self.flood_field[at]
        edge = quantiles(self.draw, score, self.dark_share[self.lit])
        bright = ((score - edge) / FLOOD_STEP + 0.5).clamp(0, 1)
        bright = F.interpolate(bright, pictures.shape[2:], mode="bilinear", align_corners=False)
        return pictures * (1 + bright * (self.draw.tensor(self.flood[self.lit]) - 1))

    def __call__(self, pictures: Tensor) -> Tensor:
        pictures = self.draw.change(pictures, self.tinted, lambda _, x: self.with_signs(x))
        pictures = self.draw.change(pictures, self.lit, lambda _, x: self.with_floodlight(x))
        gain, bias, gamma = (self.draw.tensor(v) for v in (self.gain, self.bias, self.gamma))
        return ((pictures * gain + bias) * self.field).clamp(0, 1) ** gamma


def quantiles(draw: Draw, values: Tensor, shares: Values) -> Tensor:
    """Of each picture (N, 1, h, w) the quantile at its share (N,), as (N, 1, 1, 1)."""
    ranked = values.flatten(1).sort(1).values
    nth = shares * (ranked.shape[1] - 1)
    lower, upper = (ranked.gather(1, draw.index(r(nth))[:, None]) for r in (np.floor, np.ceil))
    return torch.lerp(lower[..., None, None], upper[..., None, None], draw.tensor(nth % 1))


class Lens:
    """Focus and motion of one take for each scene, as `camera.Lens`. reduced: (N,)."""

    def __init__(self, draw: Draw, reduced: Values) -> None:
        self.draw = draw
        self.sigma = draw.uniform(0.3, 1.2) / reduced * draw.chance(0.3)
        self.length = draw.uniform(2, 9) / reduced * draw.chance(0.08)
        self.angle = draw.uniform(0, np.pi)

    def __call__(self, pictures: Tensor) -> Tensor:
        soft, moved = self.sigma >= LEAST_SIGMA, self.length > 1
        pictures = self.draw.change(pictures, soft, lambda d, x: blur(d, x, self.sigma[soft]))
        along = self.length[moved], self.angle[moved]
        return self.draw.change(pictures, moved, lambda d, x: motion_blur(d, x, *along))


def expose(draw: Draw, pictures: Tensor, reduced: Values) -> Tensor:
    """Noise and compression of one take, as `camera.expose`. reduced: (N,)."""
    height, width = pictures.shape[2:]
    grain = draw.noise(3, height, width)
    grain = draw.change(grain, draw.chance(0.5), lambda d, x: 1.8 * blur(d, x, d.uniform(0.7, 0.7)))
    strength = draw.uniform(0.003, 0.03) / reduced * draw.chance(0.75)
    black = draw.tensor(np.where(draw.chance(0.5), np.float32(0.05), np.float32(0.5)))
    pictures = (pictures + grain * draw.tensor(strength) * (black + pictures)).clamp(0, 1)
    pictures = torch.floor(pictures * 255 + 0.5) / 255
    coded, least = draw.chance(0.45), np.where(reduced < 1.5, 35, 75)
    return draw.change(pictures, coded, lambda d, x: compressed(d, x, d.uniform(least[coded], 95)))


def compressed(draw: Draw, pictures: Tensor, quality: Values) -> Tensor:
    """What JPEG with 4:2:0 chroma and this quality leaves."""
    height, width = pictures.shape[2:]
    padded = F.pad(pictures, (0, -width % 16, 0, -height % 16), mode="replicate")
    ycc = mixed(draw, torch.round(padded * 255) - 128, YCC_FROM_RGB)
    luma = quantised(draw, ycc[:, :1], LUMA_QUANTISATION, quality)
    chroma = quantised(draw, F.avg_pool2d(ycc[:, 1:], 2), CHROMA_QUANTISATION, quality)
    chroma = F.interpolate(chroma, scale_factor=2, mode="bilinear", align_corners=False)
    rgb = mixed(draw, torch.cat([luma, chroma], 1), np.linalg.inv(YCC_FROM_RGB))
    return torch.round(rgb[:, :, :height, :width] + 128).clamp(0, 255) / 255


def mixed(draw: Draw, pictures: Tensor, matrix: NDArray) -> Tensor:
    """Channels of (N, 3, H, W) mixed by one matrix (3, 3)."""
    return F.conv2d(pictures, draw.tensor(matrix))


def quantised(draw: Draw, planes: Tensor, table: str, quality: Values) -> Tensor:
    """Planes (N, C, H, W) through an 8 x 8 DCT whose coefficients are rounded to multiples of the
    table at each quality (N,), as the Independent JPEG Group scales it."""
    scale = np.where(quality < 50, 5000 / quality, 200 - 2 * quality)
    base = np.array(table.split(), np.float32).reshape(8, 8)
    steps = draw.tensor(np.clip((base * scale[:, None, None] + 50) // 100, 1, 255))
    n, c, h, w = planes.shape
    blocks = planes.reshape(n, c, h // 8, 8, w // 8, 8).transpose(3, 4)
    transform = draw.tensor(cosines())[..., 0, 0]
    steps = steps.reshape(n, 1, 1, 1, 8, 8)
    coefficients = torch.round(transform @ blocks @ transform.T / steps) * steps
    return (transform.T @ coefficients @ transform).transpose(3, 4).reshape(n, c, h, w)


@functools.cache
def cosines() -> NDArray[np.float32]:
    """The orthonormal 8-point DCT, (8, 8)."""
    k, x = np.mgrid[0:8, 0:8]
    matrix = np.cos((2 * x + 1) * k * np.pi / 16) / 2
    matrix[0] /= np.sqrt(2)
    return matrix.astype(np.float32)


def pixel_grid(height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Rows (1, 1, H, 1) and columns (1, 1, 1, W) of a picture."""
    rows = torch.arange(height, dtype=torch.float32, device=device)
    columns = torch.arange(width, dtype=torch.float32, device=device)
    return rows.reshape(1, 1, -1, 1), columns.reshape(1, 1, 1, -1)


def ramp(draw: Draw, across: Tensor, down: Tensor) -> Tensor:
    """Light from one side, (N, 1, H, W), half of the time, as `people.ramp`; across and down: from
    -1 to 1 over what it falls on."""
    angle = draw.uniform(0, 2 * np.pi)
    strength = draw.tensor(np.where(draw.chance(0.5), draw.uniform(0.1, 0.6), 0))
    slope = down * draw.tensor(np.sin(angle)) + across * draw.tensor(np.cos(angle))
    return 1 + strength * slope.clamp(-1, 1)
