"""Pictures to build scenes from: photographs where there are any, procedural textures else.

All functions take a `numpy.random.Generator` and return float32 RGB in [0, 1], so that a
scene depends on its seed alone.
"""

from __future__ import annotations

import functools
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]
LEAST_SCALE = 0.83
"""Pixels of a photograph to one of a picture, at least."""
PACKAGE_PHOTOGRAPHS = (
    "brick.png camera.png chelsea.png coffee.png grass.png gravel.png "
    "hubble_deep_field.jpg coins.png"
).split()
"""Public-domain and CC0 photographs inside the scikit-image wheel (see its data/README.txt)."""
OF_PEOPLE = ("camera.png",)
"""Those that are no background."""


@functools.cache
def package_photographs(with_people: bool = False) -> list[NDArray[np.uint8]]:
    """The photographs of scikit-image as RGB uint8, or none if it is not installed."""
    try:
        import skimage
    except ImportError:
        return []
    folder = Path(skimage.__file__).parent / "data"
    names = [n for n in PACKAGE_PHOTOGRAPHS if with_people or n not in OF_PEOPLE]
    pictures = [cv2.imread(str(folder / name)) for name in names]
    return [np.ascontiguousarray(p[..., ::-1]) for p in pictures if p is not None]


@functools.lru_cache(maxsize=512)
def read_photograph(path: Path) -> NDArray[np.uint8]:
    """RGB uint8; kept, because a training run draws each many times."""
    picture = cv2.imread(str(path))
    if picture is None:
        raise FileNotFoundError(f"{path} is not a readable image")
    return np.ascontiguousarray(picture[..., ::-1])


def noise(rng: np.random.Generator, height: int, width: int) -> Image:
    """Smooth noise in several octaves between two random colours."""
    total = np.zeros((height, width, 3), np.float32)
    for octave in range(1, int(rng.integers(2, 8))):
        cells = rng.random((2**octave, 2**octave, 3), dtype=np.float32)
        if rng.random() < 0.5:
            cells[:] = cells.mean(-1, keepdims=True)
        layer = cv2.resize(cells, (width, height), interpolation=cv2.INTER_CUBIC)
        total += layer * rng.uniform(0.3, 0.9) ** octave
    total -= total.min()
    total /= total.max() + 1e-6
    first, second = rng.random((2, 3), dtype=np.float32)
    return first + (second - first) * total


def shapes(rng: np.random.Generator, height: int, width: int) -> Image:
    """Rectangles, discs, lines and polygons: hard edges and flat areas."""
    picture = np.full((height, width, 3), rng.random(3), np.float32)
    if rng.random() < 0.5:
        picture = noise(rng, height, width)
    for _ in range(rng.integers(3, 40)):
        colour = tuple(float(v) for v in rng.random(3))
        points = np.stack([rng.integers(-20, width + 20, 4), rng.integers(-20, height + 20, 4)], 1)
        kind = rng.integers(4)
        if kind == 0:
            cv2.rectangle(picture, points[0].tolist(), points[1].tolist(), colour, -1)
        elif kind == 1:
            radius = int(rng.integers(2, max(3, height // 3)))
            cv2.circle(picture, points[0].tolist(), radius, colour, -1, cv2.LINE_AA)
        elif kind == 2:
            thickness = int(rng.integers(1, 12))
            cv2.line(
                picture, points[0].tolist(), points[1].tolist(), colour, thickness, cv2.LINE_AA
            )
        else:
            cv2.fillPoly(picture, [points.astype(np.int32)], colour, cv2.LINE_AA)
    if rng.random() < 0.4:
        return np.asarray(cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.5, 4)), np.float32)
    return picture


def crop(
    rng: np.random.Generator, picture: NDArray[np.uint8], height: int, width: int, smallest: float
) -> Image:
    """A random crop, at least `smallest` of the largest that fits, resized to (height, width); of a
    picture that is too small for that with its mirror images beside it, since what is enlarged is a
    blur, and people are none."""
    rows, columns = picture.shape[:2]
    scale = min(rows / height, columns / width) * rng.uniform(smallest, 1.0)
    if scale < LEAST_SCALE:
        scale = LEAST_SCALE
        below, beside = (max(0, int(n * scale) - m) for n, m in ((height, rows), (width, columns)))
        picture = np.asarray(
            cv2.copyMakeBorder(picture, 0, below, 0, beside, cv2.BORDER_REFLECT), np.uint8
        )
        rows, columns = picture.shape[:2]
    h, w = max(2, int(height * scale)), max(2, int(width * scale))
    y, x = rng.integers(rows - h + 1), rng.integers(columns - w + 1)
    how = cv2.INTER_AREA if scale > 1 else cv2.INTER_LINEAR
    piece = cv2.resize(picture[y : y + h, x : x + w], (width, height), interpolation=how)
    if rng.random() < 0.5:
        piece = piece[:, ::-1]
    return np.ascontiguousarray(piece, np.float32) / np.float32(255)


def wild_photograph(rng: np.random.Generator, height: int, width: int) -> Image:
    """A package photograph with its colours, contrast and orientation changed freely."""
    pictures = package_photographs()
    if not pictures:
        return shapes(rng, height, width)
    piece = crop(rng, pictures[rng.integers(len(pictures))], height, width, 0.3)
    if rng.random() < 0.3:
        piece = piece[::-1]
    if rng.random() < 0.5:
        piece = piece[..., rng.permutation(3)]
    if rng.random() < 0.3:
        piece = 1 - piece
    piece = (piece - 0.5) * rng.uniform(0.5, 1.4) + 0.5 + rng.uniform(-0.25, 0.25)
    return np.ascontiguousarray(np.clip(piece, 0, 1) ** rng.uniform(0.6, 1.6), np.float32)


def texture(rng: np.random.Generator, height: int, width: int) -> Image:
    """Any of the above."""
    draw = rng.random()
    if draw < 0.55:
        return wild_photograph(rng, height, width)
    return shapes(rng, height, width) if draw < 0.8 else noise(rng, height, width)


def festive(rng: np.random.Generator, picture: Image) -> Image:
    """The place (H, W, 3) by night, full of lamps: chains of bulbs, lit windows and signs, with
    their glow; perhaps a market. Most of nearly one colour."""
    height, width = picture.shape[:2]
    lamps = np.zeros_like(picture)
    warm = np.array([1.0, 0.65, 0.25]) * rng.uniform(0.6, 1.0)
    if rng.random() < 0.5:
        market(rng, lamps, picture, warm)
    for _ in range(rng.integers(2, 9)):
        colour = warm if rng.random() < 0.6 else rng.uniform(0.1, 1, 3)
        at, step = rng.uniform(0, 1, 2) * (width, height), rng.normal(0, 0.03 * width, 2)
        size = rng.uniform(0.002, 0.03) * width
        shape = rng.integers(3)
        for _ in range(rng.integers(3, 40)):
            shade = tuple(float(v) for v in np.clip(colour * rng.uniform(0.5, 1.8), 0, 1))
            reach = size * rng.uniform(0.5, 1.5, 2)
            if shape == 0:
                centre = np.round(at * 16).astype(int).tolist()
                cv2.circle(lamps, centre, int(reach[0] * 16), shade, -1, cv2.LINE_AA, 4)
            else:
                wide = (2.0, 1.0) if shape == 1 else (0.5, 1.5)
                first, last = (np.round(at + k * reach * wide).astype(int) for k in (-1, 1))
                cv2.rectangle(lamps, first.tolist(), last.tolist(), shade, -1)
            at = at + step + rng.normal(0, 0.01 * width, 2)
    small = (max(1, width // 4), max(1, height // 4))
    glow = cv2.resize(lamps, small, interpolation=cv2.INTER_AREA)
    glow = cv2.GaussianBlur(glow, (0, 0), rng.uniform(0.005, 0.04) * width / 4)
    glow = np.asarray(cv2.resize(glow, (width, height)), np.float32)
    cover = np.minimum(3 * lamps.max(-1, keepdims=True), 1)
    dim = picture * np.float32(rng.uniform(0.1, 0.7)) * (1 - cover)
    return np.clip(dim + lamps + glow * np.float32(rng.uniform(0.2, 1.2)), 0, 1)


def market(
    rng: np.random.Generator, lamps: Image, picture: Image, colour: NDArray[np.float64]
) -> None:
    """Draws stalls and lit fronts among the lamps: glaring, full of detail (small pieces of the
    place), much of the colour (3,), side by side in a band across the picture."""
    height, width = lamps.shape[:2]
    top, bottom = np.sort(rng.uniform(0.1, 1.0, 2)) * height
    for _ in range(rng.integers(4, 24)):
        h, w = (np.array(rng.uniform(0.04, 0.3, 2)) * (height, width)).astype(int) + 4
        y = round(np.clip(rng.uniform(top, bottom) - h / 2, 0, height - h))
        x = round(rng.uniform(0, width - w))
        scale = rng.uniform(1.0, 3.0)
        rows, columns = min(height, int(h * scale)), min(width, int(w * scale))
        at = rng.integers(height - rows + 1), rng.integers(width - columns + 1)
        window = picture[at[0] : at[0] + rows, at[1] : at[1] + columns]
        piece = np.asarray(cv2.resize(window, (w, h), interpolation=cv2.INTER_AREA), np.float32)
        contrast = rng.uniform(1.5, 5.0) * (piece - piece.mean()) + rng.uniform(0.1, 0.8)
        hue = colour if rng.random() < 0.6 else rng.uniform(0.2, 1, 3)
        shade = hue + (1 - hue) * rng.uniform(0, 0.8)
        lamps[y : y + h, x : x + w] = np.clip(contrast * shade * rng.uniform(0.6, 1.8), 0, 1)


def sequins(rng: np.random.Generator, height: int, width: int) -> Image:
    """Glitter: bright grains, fine to coarse, on a darker ground of nearly their colour."""
    grain = rng.uniform(1.0, 4.0)
    cells = rng.random((int(height / grain) + 2, int(width / grain) + 2), dtype=np.float32)
    spots = np.asarray(cv2.resize(cells, (width, height)), np.float32) ** rng.uniform(1.5, 6)
    hue = rng.uniform(0.1, 1.0, 3).astype(np.float32)
    if rng.random() < 0.4:  # gold
        hue = np.array([1.0, 0.75, 0.35], np.float32) * np.float32(rng.uniform(0.6, 1.0))
    ground = hue * np.float32(rng.uniform(0.1, 0.6))
    sheen = noise(rng, height, width).mean(-1) + np.float32(0.3)
    picture = ground + (spots * sheen)[..., None] * (hue * np.float32(1.6))
    return np.clip(picture, 0, 1)


def plain(rng: np.random.Generator, height: int, width: int) -> Image:
    """Nearly one colour."""
    colour = rng.uniform(0.02, 1.0, 3).astype(np.float32)
    return np.clip(colour + (noise(rng, height, width) - np.float32(0.5)) * np.float32(0.15), 0, 1)


def cloth(rng: np.random.Generator, height: int, width: int) -> Image:
    """What clothes may be made of: a texture, or what costumes are."""
    return (texture if rng.random() < 0.45 else costume)(rng, height, width)


def costume(rng: np.random.Generator, height: int, width: int) -> Image:
    """Glitter, or nearly one colour."""
    return (sequins if rng.random() < 0.64 else plain)(rng, height, width)
