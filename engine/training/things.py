"""What people hold, carry and wear on their heads: foreground, since it leaves with them."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.training.people import Foreground, drawn, fixed, ramp
from engine.training.textures import Image

Points = NDArray[np.float64]
"""xy, (n, 2)."""
STICK, BOX, DISC, HAT = range(4)
KINDS = {STICK: 0.3, BOX: 0.3, DISC: 0.15, HAT: 0.25}
"""What `carried` draws, and how often."""
OUTLINE = 0.25
"""How often a box or a disc is a frame or a ring, through which the place is seen."""
OF_PLACE, FLAT, CLOTH = range(3)
COLOURS = {OF_PLACE: 0.4, FLAT: 0.3, CLOTH: 0.3}
"""What it is coloured as, and how often: the place right behind it, anything, cloth."""
HANDS = (1, 4, 12)
"""Of how many pixels of the person a hand is the farthest out."""
SMALLEST = 16
"""Pixels of a person who carries anything."""
IN_FRONT = 0.7
"""How often it is before the person, not behind."""


def hold(rng: np.random.Generator, layer: Foreground) -> Foreground:
    """Give the person something to hold or wear: whatever touches them is foreground."""
    height, width = layer.shape[:2]
    rows, columns = np.nonzero(layer[..., 3] > 0.5)
    if not len(rows):
        return layer
    at = rng.integers(len(rows))
    size = max(8, int(min(height, width, rng.uniform(0.15, 0.6) * np.ptp(rows) + 8)))
    thing = drawn(rng, size, size)
    move = np.array([[1, 0, columns[at] - size / 2], [0, 1, rows[at] - size / 2]])
    moved = cv2.warpAffine(thing, move, (width, height), flags=cv2.INTER_NEAREST)
    return laid(np.asarray(moved, np.float32), layer, rng.random() < IN_FRONT)


def laid(thing: Foreground, layer: Foreground, in_front: bool) -> Foreground:
    """Both, the thing before the person or behind."""
    over, under = (thing, layer) if in_front else (layer, thing)
    return np.asarray(over + under * (1 - over[..., 3:]), np.float32)


def carried(
    rng: np.random.Generator, layer: Foreground, live: Image, cloth: Callable[[], Image]
) -> Foreground:
    """Give the person a stick, a box, a disc, or something on the head, as large as people carry:
    of the place's colour (`live`), of any one colour, or of a `cloth`, (H, W, 3) both."""
    solid = layer[..., 3] > 0.5
    rows, columns = np.nonzero(solid)
    if len(rows) < SMALLEST:
        return layer
    kind = rng.choice(list(KINDS), p=list(KINDS.values()))
    alpha = np.zeros(solid.shape, np.float32)
    if kind == HAT:
        cv2.fillPoly(alpha, [fixed(hat(rng, solid))], 1.0, cv2.LINE_AA, 4)
    else:
        # Hands are far from the body's middle: the farthest of a few of its pixels.
        some = rng.integers(len(rows), size=rng.choice(HANDS))
        hand = some[np.argmax(np.abs(columns[some] - np.median(columns)))]
        at = np.array([columns[hand], rows[hand]], float)
        draw_thing(rng, alpha, kind, at, float(np.ptp(rows) + 1))
    soft = cv2.GaussianBlur(alpha, (0, 0), rng.choice([0.4, 0.7, 1.0]))
    alpha = np.asarray(soft, np.float32)[..., None]
    colour = np.clip(coloured(rng, alpha, live, cloth) * ramp(rng, *solid.shape), 0, 1)
    thing = np.concatenate([colour * alpha, alpha], -1)
    return laid(thing, layer, kind == HAT or rng.random() < IN_FRONT)


def coloured(
    rng: np.random.Generator, alpha: NDArray[np.float32], live: Image, cloth: Callable[[], Image]
) -> Image:
    """For what covers alpha (H, W, 1) of a place."""
    how = rng.choice(list(COLOURS), p=list(COLOURS.values()))
    if how == CLOTH:
        return cloth()
    if how == FLAT:
        return np.broadcast_to(rng.random(3, dtype=np.float32), live.shape)
    behind = (live * alpha).sum((0, 1)) / max(float(alpha.sum()), 1.0) * rng.uniform(0.8, 1.2)
    share = np.float32(rng.uniform(0.0, 0.8) if rng.random() < 0.5 else 0)
    side = live.shape[1] // 4
    elsewhere = np.roll(live, rng.integers(-side, side + 1), axis=1)  # for its texture
    return np.asarray(behind + (elsewhere - behind) * share, np.float32)


def draw_thing(
    rng: np.random.Generator, alpha: NDArray[np.float32], kind: int, at: Points, tall: float
) -> None:
    """One that is held at `at`, xy, on alpha (H, W), by somebody as tall as that many pixels."""
    turn = rng.uniform(0, np.pi)
    along = np.array([np.cos(turn), np.sin(turn)])
    across = np.array([-along[1], along[0]])
    if kind == STICK:
        length = tall * rng.uniform(0.15, 0.9)
        bend = rng.normal(0, 0.1) * length
        t = np.linspace(-1, 1, 12)[:, None] / 2
        grip = rng.uniform(-0.5, 0.5)
        curve = at + (t - grip) * length * along + (4 * t**2) * bend * across
        thickness = max(1, round(tall * rng.uniform(0.004, 0.04)))
        cv2.polylines(alpha, [fixed(curve)], False, 1.0, thickness, cv2.LINE_AA, 4)
        return
    sides = tall * rng.uniform(0.03, 0.22, 2)
    middle = at + (along * sides[0] + across * sides[1]) * rng.uniform(-0.9, 0.9)
    if kind == BOX:
        corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * sides
        corners = corners * (1 + rng.normal(0, 0.12, (4, 1)))
        points = middle + corners @ np.stack([along, across])
    else:
        angle = np.linspace(0, 2 * np.pi, 32, endpoint=False)
        round_trip = np.stack([np.cos(angle), np.sin(angle)], 1) * sides
        points = middle + round_trip @ np.stack([along, across])
    if rng.random() < OUTLINE:
        thickness = max(1, round(sides.min() * rng.uniform(0.05, 0.4)))
        cv2.polylines(alpha, [fixed(points)], True, 1.0, thickness, cv2.LINE_AA, 4)
    else:
        cv2.fillPoly(alpha, [fixed(points)], 1.0, cv2.LINE_AA, 4)


def hat(rng: np.random.Generator, solid: NDArray[np.bool_]) -> Points:
    """The outline of a hat, a crown or a headdress on the highest part of what is solid (H, W):
    a band as wide as the head, above it two to nine points, with peaks or without."""
    top = int(np.flatnonzero(solid.any(1))[0])
    tall = np.count_nonzero(solid.any(1))
    below = min(top + max(1, round(tall * rng.uniform(0.02, 0.08))), solid.shape[0] - 1)
    head = np.flatnonzero(solid[below])
    if len(head) < 2:
        head = np.flatnonzero(solid[top])
    wide = np.ptp(head) + 1.0
    left, right = head[0], head[-1]
    if wide > 0.4 * tall:  # arms held up, or several people: about one of its columns
        wide = 0.12 * tall
        left = rng.choice(head) - wide / 2
        right = left + wide
    high = wide * rng.uniform(0.2, 1.5)
    brim = wide * rng.uniform(0, 0.4)
    count = int(rng.integers(2, 10))
    flare = wide * rng.uniform(-0.25, 0.6)
    xs = np.linspace(left - flare / 2, right + flare / 2, count)
    arch = 1 - (np.linspace(-1, 1, count) ** 2) * rng.uniform(0, 0.6)
    ys = below - high * arch * rng.uniform(0.8, 1.2, count)
    edge = np.stack([xs, ys], 1)
    if rng.random() < 0.5:  # peaks: valleys between its points
        middle = (edge[1:] + edge[:-1]) / 2
        middle[:, 1] += high * rng.uniform(0.2, 0.7)
        edge = np.insert(edge, np.arange(1, count), middle, axis=0)
    ends = np.array([[right + brim, below], [left - brim, below]], float)
    points = np.concatenate([edge, ends])
    turn, about = rng.normal(0, 0.12), ends.mean(0)
    c, s = np.cos(turn), np.sin(turn)
    return np.asarray((points - about) @ np.array([[c, s], [-s, c]]) + about)
