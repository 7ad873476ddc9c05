"""What a camera does to a picture: light, lens, noise, compression."""

from __future__ import annotations

import functools
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.training.textures import Image

LEAST_SIGMA = 0.15
"""Of a blur that shows, in pixels."""
TINT_STEP = 0.1
"""Range of brightness in which a tint sets in."""
FLOOD_STEP = 0.15
"""Range of colours in which a flood of light ends."""
FLOOD_CELL = 8
"""Pixels that a flood of light does not tell apart."""


@functools.cache
def noise_bank() -> NDArray[np.float32]:
    """Unit normal noise, drawn once: crops of it are cheaper than fresh numbers."""
    return np.random.default_rng(0).standard_normal((1600, 1600, 3), dtype=np.float32)


def sensor_noise(rng: np.random.Generator, height: int, width: int) -> Image:
    """A crop of the noise bank, half the time correlated as demosaicing and scaling make it."""
    bank = noise_bank()
    y, x = rng.integers(bank.shape[0] - height), rng.integers(bank.shape[1] - width)
    grain = bank[y : y + height, x : x + width]
    if rng.random() < 0.5:
        grain = cv2.GaussianBlur(grain, (0, 0), 0.7) * 1.8
    return grain


def smooth_field(
    rng: np.random.Generator, height: int, width: int, cells: int
) -> NDArray[np.float32]:
    """Smooth unit-scale random field (H, W)."""
    grid = rng.normal(0, 1, (cells, cells)).astype(np.float32)
    field = cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.asarray(field, np.float32)


def pixel_grid(height: int, width: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """y and x of each pixel."""
    ys, xs = np.mgrid[0:height, 0:width].astype(np.float32)
    return ys, xs


class Tint(NamedTuple):
    """Another colour of what is bright."""

    quantile: float
    """Of the picture's brightness, from which on it is so."""
    gain: NDArray[np.float32]
    """Of each channel."""

    def __call__(self, picture: Image) -> Image:
        brightness = picture.max(-1)
        edge = np.quantile(brightness[::8, ::8], self.quantile)
        bright = np.clip((brightness - edge) / np.float32(TINT_STEP) + 0.5, 0, 1)[..., None]
        return np.asarray(picture * (1 + bright * (self.gain - 1)), np.float32)


class Flood(NamedTuple):
    """Other light on a part of the place: on whatever has about one colour, here or there."""

    along: NDArray[np.float32]
    """Direction of colours."""
    field: NDArray[np.float32]
    """That is added to how far a colour lies along it, at any size."""
    quantile: float
    """Of the sum, from which on the light falls."""
    gain: NDArray[np.float32]
    """Of each channel."""

    def __call__(self, picture: Image) -> Image:
        height, width = picture.shape[:2]
        size = (-(-width // FLOOD_CELL), -(-height // FLOOD_CELL))
        colours = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.float32)
        score = colours @ self.along + cv2.resize(self.field, size)
        edge = np.quantile(score, self.quantile)
        lit = np.clip((score - edge) / np.float32(FLOOD_STEP) + 0.5, 0, 1)
        lit = np.asarray(cv2.resize(lit, (width, height)), np.float32)[..., None]
        return np.asarray(picture * (1 + lit * (self.gain - 1)), np.float32)


class Light:
    """One exposure: gain per channel, bias, gamma, a smooth field. Applies to any picture."""

    def __init__(self, rng: np.random.Generator, height: int, width: int, strength: float) -> None:
        s = strength
        self.gain = np.float32(rng.uniform(1 - 0.25 * s, 1 + 0.25 * s) * rng.normal(1, 0.05 * s, 3))
        self.bias = np.float32(rng.normal(0, 0.02 * s))
        self.gamma = rng.uniform(1 - 0.25 * s, 1 + 0.25 * s) if rng.random() < 0.4 else 1.0
        self.field = np.ones((height, width, 1), np.float32)
        if rng.random() < 0.3:
            field = smooth_field(rng, height, width, 3) * np.float32(0.08 * s)
            self.field = (1 + np.clip(field, -0.3, 0.3))[..., None]
        self.tint: Tint | None = None
        self.flood: Flood | None = None

    def night(self, rng: np.random.Generator) -> None:
        """Little light."""
        self.gain *= np.float32(rng.uniform(0.1, 0.45))

    def black_level(self, rng: np.random.Generator) -> None:
        """What is dark becomes black: hair and sky are one then."""
        cut = np.float32(rng.uniform(0.03, 0.3))
        self.bias -= cut * self.gain.mean()
        self.gain /= 1 - cut

    def lamps(self, rng: np.random.Generator) -> None:
        """Lamps that shine otherwise: patches of the place are brighter, darker, of other hue."""
        height, width = self.field.shape[:2]
        ys, xs = pixel_grid(height, width)
        for _ in range(rng.integers(1, 4)):
            x, y = rng.uniform(0, 1, 2) * (width, height)
            reach = rng.uniform(0.08, 0.6, 2) * max(height, width)
            distance = ((xs - x) / reach[0]) ** 2 + ((ys - y) / reach[1]) ** 2
            patch = np.exp(-(distance ** rng.uniform(0.7, 3))).astype(np.float32)[..., None]
            change = rng.uniform(-1, 1) + rng.normal(0, 0.35, 3)
            self.field = self.field * np.exp(patch * change.astype(np.float32) * 0.8)

    def signs(self, rng: np.random.Generator) -> None:
        """Signs and lit walls that shine in another colour: the brightest things of a place."""
        share = rng.uniform(0.05, 0.5)
        self.tint = Tint(1 - share, np.exp(rng.normal(0, 0.6, 3)).astype(np.float32))

    def floodlight(self, rng: np.random.Generator) -> None:
        """A building whose lamps were on in one take alone."""
        height, width = (-(-side // FLOOD_CELL) for side in self.field.shape[:2])
        along = rng.normal(0, 1.0, 3).astype(np.float32)
        field = smooth_field(rng, height, width, int(rng.integers(2, 6))) * np.float32(0.3)
        change = rng.uniform(-1.5, 1.5) + rng.normal(0, 0.3, 3)
        self.flood = Flood(along, field, rng.uniform(0.3, 0.9), np.exp(change).astype(np.float32))

    def __call__(self, picture: Image) -> Image:
        if self.tint:
            picture = self.tint(picture)
        if self.flood:
            picture = self.flood(picture)
        out = np.clip((picture * self.gain + self.bias) * self.field, 0, 1)
        return out if self.gamma == 1.0 else out**self.gamma


class Lens:
    """Focus and motion of one take. What it blurs in the frame it blurs in the truth: an edge out
    of focus is mixed."""

    def __init__(self, rng: np.random.Generator, reduced: float = 1.0) -> None:
        """reduced: how much smaller the picture is than the one that the camera filmed."""
        self.sigma = rng.uniform(0.3, 1.2) / reduced if rng.random() < 0.3 else 0.0
        self.length = rng.uniform(2, 9) / reduced if rng.random() < 0.08 else 0.0
        self.angle = rng.uniform(0, np.pi)

    def __call__(self, picture: Image) -> Image:
        """(H, W) or (H, W, C)."""
        if self.sigma >= LEAST_SIGMA:
            picture = blur(picture, self.sigma)
        if self.length > 1:
            picture = motion_blur(picture, self.length, self.angle)
        return picture


def expose(rng: np.random.Generator, picture: Image, reduced: float = 1.0) -> Image:
    """Noise and compression of one take. reduced: as of a Lens; what is made smaller has less of
    both."""
    height, width = picture.shape[:2]
    if rng.random() < 0.75:
        grain = sensor_noise(rng, height, width) * (rng.uniform(0.003, 0.03) / reduced)
        black = 0.05 if rng.random() < 0.5 else 0.5  # half of all cameras flatten what is dark
        picture = picture + grain * (np.float32(black) + picture)
    levels = (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)
    if rng.random() < 0.45:
        quality = int(rng.integers(35 if reduced < 1.5 else 75, 95))
        bgr = np.ascontiguousarray(levels[..., ::-1])
        coded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        levels = np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8)[..., ::-1]
    return levels.astype(np.float32) / np.float32(255)


def blur(picture: Image, sigma: float) -> Image:
    """Out of focus, or enlarged: a Gaussian of `sigma` pixels."""
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), sigma), np.float32)


def motion_blur(picture: Image, length: float, angle: float) -> Image:
    """Blur along a line of `length` pixels at `angle` radians."""
    size = int(np.ceil(length)) | 1
    kernel = np.zeros((size, size), np.float32)
    centre = size // 2
    reach = np.array([np.cos(angle), np.sin(angle)]) * length / 2
    start, end = np.round(centre - reach).astype(int), np.round(centre + reach).astype(int)
    cv2.line(kernel, start.tolist(), end.tolist(), 1.0, 1)
    kernel /= kernel.sum()
    blurred = cv2.filter2D(picture, -1, kernel, borderType=cv2.BORDER_REFLECT)
    return np.asarray(blurred, np.float32)
