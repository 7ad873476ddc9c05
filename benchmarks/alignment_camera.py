"""Hand-held camera moves and what they make of a plane: the exact geometry of the scenes.

A pinhole camera (Hartley and Zisserman 2004, ch. 6). World axes: x right, y down, z forward, in
metres; times in seconds. All functions take many times at once, because a rolling shutter exposes
every row of a picture at a time of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

FOCAL_WIDTHS = 1.0
"""Focal length over the picture's width: 53 degrees across, a telephone's main camera."""
FREQUENCIES = (0.35, 0.9, 2.3)
"""Hertz of a hand's drift, sway and tremble."""
SHARES = (0.5, 0.35, 0.15)
"""Of the amplitude, for each of them."""
SHAKE_DEGREES = (0.5, 0.5, 0.3)
"""Amplitudes of pitch, yaw and roll."""
SHAKE_METRES = (0.012, 0.01, 0.012)
"""Amplitudes of the camera's place, for a camera held with two hands."""


@dataclass(frozen=True)
class Move:
    """What the camera operator means to do, and how the hand follows."""

    pan_degrees: float = 8.0
    """Yaw per second of the way."""
    dolly_metres: float = 0.25
    """Metres to the right per second of the way."""
    zoom: float = 0.0
    """Share by which the focal length grows per second of the way."""
    shake: float = 1.0
    """Factor on the hand's amplitudes; 0 is a tripod."""
    offset_metres: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Where the camera is, as a whole."""
    offset_degrees: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Pitch, yaw and roll that are added as a whole."""
    moves_in_space: bool = True
    """Without it the camera turns about its centre."""


@dataclass(frozen=True, eq=False)
class Camera:
    """One take's camera. `way_seconds` (times -> times) is where on its way it is when."""

    width: int
    height: int
    move: Move
    seed: int
    way_seconds: Way = field(repr=False)

    def pose(self, seconds: ArrayLike) -> tuple[Floats, Floats, Floats]:
        """Angles (N, 3) in radians, centres (N, 3) in metres, focal lengths (N,) in pixels."""
        at = np.atleast_1d(np.asarray(seconds, float))
        way, move = self.way_seconds(at), self.move
        shake = move.shake * hand(at, self.seed)
        degrees = shake[:, :3] * SHAKE_DEGREES + move.offset_degrees
        degrees[:, 1] += move.pan_degrees * way
        centre = shake[:, 3:] * SHAKE_METRES + move.offset_metres
        centre[:, 0] += move.dolly_metres * way
        focal = FOCAL_WIDTHS * self.width * (1 + move.zoom * way)
        return np.radians(degrees), centre * move.moves_in_space, focal

    def homographies(self, seconds: ArrayLike, plane: Floats) -> Floats:
        """(N, 3, 3), maps a plane's coordinates (u, v, 1) in metres to pixels at each time.

        plane: 3x3, the columns are the directions of u and v and the origin, in the world.
        """
        angles, centre, focal = self.pose(seconds)
        towards = np.repeat(plane[None], len(focal), axis=0)
        towards[:, :, 2] -= centre
        lens = np.zeros((len(focal), 3, 3))
        lens[:, 0, 0] = lens[:, 1, 1] = focal
        lens[:, 0, 2], lens[:, 1, 2] = (self.width - 1) / 2, (self.height - 1) / 2
        lens[:, 2, 2] = 1
        return lens @ rotations(angles) @ towards


class Way:
    """Piecewise linear: time in a take -> time on the way."""

    def __init__(self, *points: tuple[float, float]) -> None:
        """points: (take, way) seconds, take ascending; straight on beyond the last ones."""
        self.points = np.array(points)

    def __call__(self, seconds: Floats) -> Floats:
        takes, ways = self.points.T
        piece = np.clip(np.searchsorted(takes, seconds, "right") - 1, 0, len(takes) - 2)
        pace = np.diff(ways) / np.diff(takes)
        return ways[piece] + (seconds - takes[piece]) * pace[piece]


def hand(seconds: Floats, seed: int) -> Floats:
    """(N, 6) in [-1, 1]: a sum of sines with random phases."""
    rng = np.random.default_rng(seed)
    total = np.zeros((len(seconds), 6))
    for frequency, share in zip(FREQUENCIES, SHARES, strict=True):
        own = frequency * rng.uniform(0.8, 1.25, 6)
        phase = rng.uniform(0, 2 * np.pi, 6)
        total += share * np.sin(2 * np.pi * own * seconds[:, None] + phase)
    return total


def rotations(angles: Floats) -> Floats:
    """(N, 3, 3) camera_from_world for pitch, yaw and roll (N, 3): yaw first, roll last."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(angles).T, np.sin(angles).T
    zero, one = np.zeros_like(cx), np.ones_like(cx)
    pitch = np.array([[one, zero, zero], [zero, cx, sx], [zero, -sx, cx]])
    yaw = np.array([[cy, zero, -sy], [zero, one, zero], [sy, zero, cy]])
    roll = np.array([[cz, sz, zero], [-sz, cz, zero], [zero, zero, one]])
    pitch, yaw, roll = (np.moveaxis(matrix, 2, 0) for matrix in (pitch, yaw, roll))
    return np.asarray(roll @ pitch @ yaw)


def apply(homographies: NDArray[np.floating], points: ArrayLike) -> Floats:
    """(N, 3, 3) or (3, 3) and (N, 2) xy -> (N, 2) xy, each point by its homography."""
    xy = np.asarray(points, float)
    out = np.einsum("...ij,...j->...i", homographies, np.column_stack([xy, np.ones(len(xy))]))
    return np.asarray(out[:, :2] / out[:, 2:])
