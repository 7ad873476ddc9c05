"""The person of the alignment scenes: a drawn, textured figure that moves, with exact alpha."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.alignment_textures import Pixels, surface

SHIFT = 4
"""Bits of sub-pixel position for OpenCV's drawing functions."""
TOP_SHARE = 0.1
"""Of the frame's height above the head."""
SWAY_SHARE = (0.035, 0.008)
"""Of the frame's width and height: how far the person walks to and fro, and bobs."""
EDGE_PIXELS = 0.8
"""Standard deviation of the soft edge."""
HEAD_SHARE = 0.19
"""Half of the head's width over the frame's height, for the root of the covered share: a figure
that covers more stands nearer, and is wider besides (it could be several people)."""
SKIN = (196, 150, 124)
TRUNK = ((0.35, 2.2), (0.6, 3.1), (2.3, 3.6), (2.4, 6), (2.0, 9), (2.6, 40))
"""The right half of the figure and the neck, in units of the head's half width, from the head's
top down; mirrored for the left half."""


class Person:
    """Covers about `share` of a picture of (width, height)."""

    def __init__(self, rng: np.random.Generator, width: int, height: int, share: float) -> None:
        self.width, self.height = width, height
        self.phase = rng.uniform(0, 2 * np.pi, 4)
        self.unit = HEAD_SHARE * height * share**0.5
        self.breadth = self._breadth_for(share)
        self.clothes = surface(rng, int(1.5 * height), int(1.5 * width), max(0.12 * width, 8.0))

    def colour(self, seconds: float) -> Pixels:
        """(H, W, 3), defined everywhere."""
        x, y = self._place(seconds)
        move = np.array([[1, 0, x - 0.75 * self.width], [0, 1, y - 0.15 * self.height]])
        colour = np.asarray(cv2.warpAffine(self.clothes, move, (self.width, self.height)), np.uint8)
        head = fixed((x, y + 1.3 * self.unit)), fixed((self.unit, 1.3 * self.unit))
        cv2.ellipse(colour, *head, 0, 0, 360, SKIN, -1, cv2.LINE_AA, SHIFT)
        return colour

    def alpha(self, seconds: float) -> NDArray[np.float32]:
        """(H, W) in [0, 1]."""
        return self._alpha(seconds, self.breadth, (self.width, self.height))

    def _alpha(self, seconds: float, breadth: float, size: tuple[int, int]) -> NDArray[np.float32]:
        """(H, W). The trunk is `breadth` times as wide as drawn; `size` may be a smaller one."""
        alpha = np.zeros(size[::-1], np.uint8)
        scale = size[0] / self.width
        unit, place = self.unit * scale, np.array(self._place(seconds)) * scale
        head = fixed(place + (0, 1.3 * unit)), fixed((unit, 1.3 * unit))
        cv2.ellipse(alpha, *head, 0, 0, 360, 255.0, -1, cv2.LINE_AA, SHIFT)
        wide, right = np.array([breadth, 1.0]), np.array(TRUNK)
        trunk = place + unit * wide * np.concatenate([right, right[::-1] * (-1, 1)])
        cv2.fillPoly(alpha, [curve(trunk)], 255.0, cv2.LINE_AA, SHIFT)
        for side, phase in zip((-1, 1), self.phase[2:], strict=True):
            swing = 0.5 + 0.35 * np.sin(2 * np.pi * 0.8 * seconds + phase)
            shoulder = place + unit * wide * np.array([side * 2.0, 4.0])
            elbow = shoulder + 2.6 * unit * np.array([side * np.sin(swing), np.cos(swing)])
            hand = elbow + 2.4 * unit * np.array([side * np.sin(2 * swing), np.cos(2 * swing)])
            arm = curve(np.array([shoulder, elbow, hand]))
            cv2.polylines(alpha, [arm], False, 255.0, max(1, round(unit)), cv2.LINE_AA, SHIFT)
        soft = cv2.GaussianBlur(alpha, (0, 0), EDGE_PIXELS)
        return np.asarray(soft, np.float32) / np.float32(255)

    def _place(self, seconds: float) -> tuple[float, float]:
        """The top of the head, in pixels."""
        across = np.sin(2 * np.pi * 0.45 * seconds + self.phase[0])
        down = np.sin(2 * np.pi * 0.9 * seconds + self.phase[1])
        x = self.width * (0.5 + SWAY_SHARE[0] * across)
        return x, self.height * (TOP_SHARE + SWAY_SHARE[1] * down)

    def _breadth_for(self, share: float) -> float:
        """The breadth that covers the share of the picture, by bisection."""
        size = (320, max(1, round(self.height * 320 / self.width)))
        low, high = 0.0, 20.0
        for _ in range(20):
            breadth = (low + high) / 2
            covered = self._alpha(0.0, breadth, size).mean()
            low, high = (breadth, high) if covered < share else (low, breadth)
        return low


def curve(points: NDArray[np.float64]) -> NDArray[np.int32]:
    """Points for OpenCV's drawing functions, in units of 2**-SHIFT pixels."""
    return np.rint(points * 2**SHIFT).astype(np.int32)


def fixed(point: tuple[float, float] | NDArray[np.float64]) -> tuple[int, int]:
    """One such point."""
    x, y = curve(np.array(point)).tolist()
    return x, y
