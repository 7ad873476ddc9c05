"""What the alignment scenes are painted with: photographs, masonry, shapes, grain.

The photographs are public-domain and CC0 ones from the scikit-image wheel; without it, all is
drawn. Everything follows from the generator that is passed in. Pictures are (H, W, 3) uint8.
"""

from __future__ import annotations

from statistics import NormalDist

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.training.textures import package_photographs

Pixels = NDArray[np.uint8]

GRAIN_LEVELS = 7.0
"""Standard deviation of the fine structure that real surfaces have everywhere."""
GRAIN_TEXELS = (0.9, 2.5)
"""Its two sizes."""
PATCH_SHARE = 0.75
"""Of the tiles that carry a patch of their own."""
PHOTOGRAPH_SHARE = 0.55
"""Of the patches; the others are drawn."""
NORMAL_QUANTILES = np.array([NormalDist().inv_cdf((i + 0.5) / 256) for i in range(256)], np.float32)


def normal(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Unit normal noise in 256 steps: cheap, so that every picture gets its own."""
    steps = rng.integers(0, 256, shape, np.uint8)
    return np.asarray(cv2.LUT(steps, NORMAL_QUANTILES), np.float32)


def clouds(rng: np.random.Generator, height: int, width: int, cells: int) -> NDArray[np.float32]:
    """(H, W) smooth noise in three octaves, about unit scale."""
    total = np.zeros((height, width), np.float32)
    for octave in range(3):
        across = max(2, cells * 2**octave * width // max(height, width))
        down = max(2, cells * 2**octave * height // max(height, width))
        grid = rng.standard_normal((down, across), dtype=np.float32)
        total += cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC) * 0.6**octave
    return total


def surface(rng: np.random.Generator, height: int, width: int, tile: float) -> Pixels:
    """Patches of `tile` texels and about, on a cloudy ground, with grain throughout."""
    ground = rng.uniform(70, 180, 3)
    tint = rng.uniform(0.6, 1.2, 3)
    shade = clouds(rng, height, width, 5)[..., None] * np.float32(16)
    picture = np.clip(ground + shade * tint, 0, 255).astype(np.uint8)
    rows, columns = (max(1, round(side / tile)) for side in (height, width))
    for row in range(rows):
        for column in range(columns):
            if rng.random() < PATCH_SHARE:
                low = (np.array([row, column]) + rng.uniform(0, 0.2, 2)) / (rows, columns)
                high = (np.array([row, column]) + rng.uniform(0.75, 1, 2)) / (rows, columns)
                (top, left), (bottom, right) = (
                    (v * (height, width)).astype(int).tolist() for v in (low, high)
                )
                if bottom - top > 3 and right - left > 3:
                    picture[top:bottom, left:right] = patch(rng, bottom - top, right - left)
    return add_grain(rng, picture, GRAIN_LEVELS)


def painted_wall(rng: np.random.Generator, height: int, width: int, tile: float) -> Pixels:
    """Hardly any texture: faint clouds, a few faint lines, fine plaster."""
    ground = rng.uniform(150, 190, 3)
    shade = clouds(rng, height, width, 3) * np.float32(5)
    for _ in range(14):
        thickness = max(1, round(tile * rng.uniform(0.005, 0.03)))
        ends = rng.uniform(-0.1, 1.1, (2, 2)) * (width, height)
        ends[1, rng.integers(2)] = ends[0, rng.integers(2)]
        start, stop = ends.astype(int).tolist()
        cv2.line(shade, start, stop, rng.uniform(-14, 14), thickness, cv2.LINE_AA)
    picture = np.clip(ground + shade[..., None], 0, 255).astype(np.uint8)
    return add_grain(rng, picture, 0.2 * GRAIN_LEVELS)


def patch(rng: np.random.Generator, height: int, width: int) -> Pixels:
    """A poster, masonry, boards or shapes."""
    photographs = package_photographs(with_people=True)
    if photographs and rng.random() < PHOTOGRAPH_SHARE:
        return poster(rng, photographs[rng.integers(len(photographs))], height, width)
    drawn = (masonry, boards, shapes)[rng.integers(3)](rng, height, width)
    return np.asarray(cv2.GaussianBlur(drawn, (0, 0), 0.7), np.uint8)


def poster(rng: np.random.Generator, photograph: Pixels, height: int, width: int) -> Pixels:
    """A random part of a photograph, in other light."""
    rows, columns = photograph.shape[:2]
    scale = min(rows / height, columns / width) * rng.uniform(0.5, 1.0)
    h, w = max(2, int(height * scale)), max(2, int(width * scale))
    y, x = rng.integers(rows - h + 1), rng.integers(columns - w + 1)
    how = cv2.INTER_AREA if scale > 1 else cv2.INTER_CUBIC
    piece = cv2.resize(photograph[y : y + h, x : x + w], (width, height), interpolation=how)
    gain = rng.uniform(0.6, 1.1) * rng.normal(1, 0.1, 3)
    return np.clip(piece * gain + rng.uniform(0, 30), 0, 255).astype(np.uint8)


def masonry(rng: np.random.Generator, height: int, width: int) -> Pixels:
    """Rows of stones, each of a shade of its own."""
    joint, stone = rng.uniform(60, 200, 3), rng.uniform(50, 200, 3)
    picture = np.tile(joint.astype(np.uint8), (height, width, 1))
    tall = max(4, int(min(height, width) * rng.uniform(0.06, 0.15)))
    gap = max(1, tall // 8)
    for top in range(0, height, tall):
        left = -int(rng.integers(2 * tall))
        while left < width:
            wide = int(tall * rng.uniform(1.5, 2.8))
            shade = np.clip(stone + rng.normal(0, 18), 0, 255)
            picture[top + gap : top + tall, max(left + gap, 0) : max(left + wide, 0)] = shade
            left += wide
    return picture


def boards(rng: np.random.Generator, height: int, width: int) -> Pixels:
    """Upright boards of several widths, with knots."""
    picture = np.zeros((height, width, 3), np.uint8)
    wood, left = rng.uniform(60, 190, 3), 0
    while left < width:
        wide = max(3, int(width * rng.uniform(0.05, 0.2)))
        picture[:, left : left + wide] = np.clip(wood + rng.normal(0, 22), 0, 255)
        picture[:, left : left + max(1, wide // 12)] = 25
        left += wide
    for _ in range(8):
        at = (rng.uniform(0, 1, 2) * (width, height)).astype(int).tolist()
        radius = max(1, int(min(height, width) * rng.uniform(0.01, 0.03)))
        cv2.circle(picture, at, radius, (0.5 * wood).tolist(), -1, cv2.LINE_AA)
    return picture


def shapes(rng: np.random.Generator, height: int, width: int) -> Pixels:
    """Discs, bars and triangles: hard edges, flat areas."""
    picture = np.tile(rng.uniform(30, 225, 3).astype(np.uint8), (height, width, 1))
    for _ in range(rng.integers(6, 20)):
        colour = rng.uniform(20, 235, 3).tolist()
        middle = rng.uniform(0, 1, 2) * (width, height)
        reach = min(height, width) * rng.uniform(0.04, 0.2)
        if rng.random() < 0.4:
            centre = middle.astype(int).tolist()
            cv2.circle(picture, centre, max(1, int(reach)), colour, -1, cv2.LINE_AA)
        else:
            corners = middle + rng.uniform(-reach, reach, (int(rng.integers(3, 5)), 2))
            cv2.fillPoly(picture, [(corners * 16).astype(np.int32)], colour, cv2.LINE_AA, 4)
    return picture


def add_grain(rng: np.random.Generator, picture: Pixels, levels: float) -> Pixels:
    """Fine structure of two sizes and the given standard deviation, the same in all channels."""
    height, width = picture.shape[:2]
    total = np.zeros((height, width), np.float32)
    for size in GRAIN_TEXELS:
        # A blur by s leaves 1 / (2 s sqrt(pi)) of the standard deviation.
        blurred = cv2.GaussianBlur(normal(rng, (height, width)), (0, 0), size)
        total += blurred * np.float32(levels / np.sqrt(2) * 2 * size * np.sqrt(np.pi))
    return np.clip(picture + total[..., None], 0, 255).astype(np.uint8)


def outline(rng: np.random.Generator, height: int, width: int) -> NDArray[np.int32]:
    """A wobbly closed curve that fills the picture, (64, 2) xy in 1/16 pixel."""
    angle = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    radius = np.ones(64)
    for f in range(2, 9):
        radius += rng.normal(0, 0.2 / f) * np.cos(f * angle + rng.uniform(0, 2 * np.pi))
    radius *= 0.46 / radius.max()
    x = width * (0.5 + radius * np.cos(angle))
    y = height * (0.5 + radius * np.sin(angle))
    return np.asarray(np.stack([x, y], 1) * 16, np.int32)
