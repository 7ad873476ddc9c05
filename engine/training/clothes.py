"""What foregrounds wear, beyond what they were rendered with."""

from __future__ import annotations

import cv2
import numpy as np

from engine.training.people import Foreground, fixed
from engine.training.textures import Image

LINE, BADGE, DISC = range(3)
KINDS = {LINE: 0.5, BADGE: 0.3, DISC: 0.2}
"""What `adorned` draws, and how often."""
MARKS = (1, 9)
"""How many, at least, and at most but one."""
OF_THE_PLACE = 0.6
"""How often one has the colour of the place right behind, a mean of NEAR pixels around."""
NEAR = 4


def patterned(rng: np.random.Generator, layer: Foreground, pattern: Image) -> Foreground:
    """Dress the foreground in a picture (H, W, 3), below a random height, in the light and shade
    that it has: glitter, prints and lace, which hide that they are clothes."""
    alpha = layer[..., 3:]
    rows = np.flatnonzero(alpha.max((1, 2)) > 0.5)
    if not len(rows):
        return layer
    neck = rows[0] + round(rng.choice([0.0, 0.2, 0.5], p=[0.3, 0.5, 0.2]) * np.ptp(rows))
    luma = layer[..., :3].mean(-1, keepdims=True)
    shade = luma / max(float(luma.sum() / alpha.sum()), 0.02)
    share = np.float32(rng.uniform(0.4, 1.0))
    dressed = np.clip(pattern * shade, 0, alpha)
    colour = layer[..., :3].copy()
    colour[neck:] += (dressed[neck:] - colour[neck:]) * share
    return np.concatenate([colour, alpha], -1).astype(np.float32)


def robed(rng: np.random.Generator, layer: Foreground, cloth: Image) -> Foreground:
    """Put a skirt, a dress or a coat of this cloth (H, W, 3) on the foreground, with folds and
    wider than the body: rendered people wear what lies close."""
    height, width = layer.shape[:2]
    solid = layer[..., 3] > 0.5
    rows = np.flatnonzero(solid.any(1))
    if len(rows) < 16:
        return layer
    top = rows[0] + int(rng.uniform(0.3, 0.65) * len(rows))
    hem = rows[0] + int(rng.uniform(0.8, 1.0) * len(rows))
    columns = np.flatnonzero(solid[top])
    if hem - top < 8 or len(columns) < 3:
        return layer
    down = np.linspace(0, 1, 24)
    begin = np.array([columns[0], columns[-1]], float)
    reach = (hem - top) * rng.uniform(0.0, 0.6, 2) * (-1, 1)
    shape = rng.uniform(0.5, 2.0, 2)
    sides = begin + reach * down[:, None] ** shape
    sides += np.cumsum(rng.normal(0, 0.01 * (hem - top), sides.shape), 0) * down[:, None]
    ys = top + down * (hem - top)
    lower = np.linspace(sides[-1, 0], sides[-1, 1], 16)
    waves = hem + rng.normal(0, 0.02 * (hem - top), 16)
    curve = np.concatenate(
        [
            np.stack([sides[:, 0], ys], 1),
            np.stack([lower, waves], 1),
            np.stack([sides[::-1, 1], ys[::-1]], 1),
        ]
    )
    alpha = np.zeros((height, width), np.float32)
    cv2.fillPoly(alpha, [fixed(curve)], 1.0, cv2.LINE_AA, 4)
    soft = cv2.GaussianBlur(alpha, (0, 0), rng.choice([0.4, 0.7, 1.0]))
    alpha = np.asarray(soft, np.float32)[..., None]
    across = np.arange(width, dtype=np.float32)
    folds = np.zeros(width, np.float32)
    for period in rng.uniform(0.03, 0.4, 3) * (hem - top) + 4:
        folds += np.cos(across * np.float32(2 * np.pi / period) + rng.uniform(0, 6)) / 3
    shade = rng.uniform(0.4, 1.1) * (1 + rng.uniform(0, 0.45) * folds)
    colour = np.clip(cloth * shade.astype(np.float32)[None, :, None], 0, 1)
    worn = np.concatenate([colour * alpha, alpha], -1)
    return np.asarray(worn + layer * (1 - alpha), np.float32)


def adorned(rng: np.random.Generator, layer: Foreground, live: Image) -> Foreground:
    """Put straps, belts, badges and prints on the foreground, most of the colour of the place right
    behind: what the place does not show there is no hole. Rendered people wear nothing of the
    kind."""
    height, width = layer.shape[:2]
    alpha = layer[..., 3:]
    rows, columns = np.nonzero(layer[..., 3] > 0.9)
    if not len(rows):
        return layer
    tall = np.ptp(rows) + 1
    marks = np.zeros((height, width, 4), np.float32)
    for _ in range(rng.integers(*MARKS)):
        at = rng.integers(len(rows))
        y, x = rows[at], columns[at]
        shade = rng.random(3)
        if rng.random() < OF_THE_PLACE:
            near = live[max(0, y - NEAR) : y + NEAR + 1, max(0, x - NEAR) : x + NEAR + 1]
            shade = np.clip(near.mean((0, 1)) * rng.uniform(0.8, 1.2), 0, 1)
        mark(rng, marks, (float(x), float(y)), float(tall), (*shade.tolist(), 1.0))
    soft = cv2.GaussianBlur(marks, (0, 0), rng.choice([0.4, 0.7, 1.0]))
    worn = np.asarray(soft, np.float32) * np.float32(rng.uniform(0.7, 1.0))
    colour = worn[..., :3] * alpha + layer[..., :3] * (1 - worn[..., 3:])
    return np.concatenate([colour, alpha], -1).astype(np.float32)


def mark(
    rng: np.random.Generator,
    picture: Image,
    at: tuple[float, float],
    tall: float,
    colour: tuple[float, ...],
) -> None:
    """Draws one of them on (H, W, 4): a line that bends, a turned rectangle or an ellipse about
    `at`, xy, sized for somebody as tall as that many pixels."""
    middle = np.array(at)
    kind = rng.choice(list(KINDS), p=list(KINDS.values()))
    if kind == LINE:
        steps = np.linspace(-0.5, 0.5, 12)
        heading = rng.uniform(0, 2 * np.pi) + rng.normal(0, 1.0) * steps
        way = np.cumsum(np.stack([np.cos(heading), np.sin(heading)], 1), 0)
        way = middle + (way - way[6]) * tall * rng.uniform(0.05, 0.5) / 12
        thickness = max(1, round(tall * rng.uniform(0.004, 0.05)))
        cv2.polylines(picture, [fixed(way)], False, colour, thickness, cv2.LINE_AA, 4)
        return
    sides = tall * rng.uniform(0.01, 0.08, 2)
    degrees = float(rng.normal(0, 20))
    if kind == BADGE:
        box = cv2.boxPoints((at, tuple((2 * sides).tolist()), degrees))
        cv2.fillPoly(picture, [fixed(box)], colour, cv2.LINE_AA, 4)
    else:
        centre, axes = fixed(middle).tolist(), fixed(sides).tolist()
        cv2.ellipse(picture, centre, axes, degrees, 0, 360, colour, -1, cv2.LINE_AA, 4)


def camouflage(rng: np.random.Generator, layer: Foreground, live: Image) -> Foreground:
    """Give the foreground the mean colour of the place behind it, in part."""
    alpha = layer[..., 3:]
    weight = alpha.sum()
    if weight < 1:
        return layer
    mean = layer[..., :3].sum((0, 1)) / weight
    behind = (live * alpha).sum((0, 1)) / weight
    share = rng.uniform(0.4, 1.0)
    colour = np.clip(layer[..., :3] + alpha * (behind - mean) * share, 0, alpha)
    return np.concatenate([colour, alpha], -1).astype(np.float32)
