"""Homographies: how to carry them between resolutions, and when to believe one.

A homography is a 3x3 float64 array that maps homogeneous pixel coordinates (x, y, 1), pixel
centres at integers. Source: Hartley & Zisserman, *Multiple View Geometry*, 2nd ed., ch. 2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Homography = NDArray[np.float64]
Size = tuple[int, int]
"""(width, height) in pixels."""


@dataclass(frozen=True)
class Difference:
    """How much two views of one place may differ."""

    area: float
    """A plate's area may grow or shrink by this factor at each corner."""
    stretch: float
    """One direction may be stretched by so much more than the other at the centre."""
    shift: float = 1.0
    """The frame's centre may come from at most this share of the diagonal away."""


SIMILAR = Difference(area=4.0, stretch=1.4)
"""The takes are similar moves, and a homography that hangs on few points flattens the picture."""
WIDE = Difference(area=400.0, stretch=5.0)
"""Seen from elsewhere: a wall askew by up to 60 degrees or so, whose far corner is tiny."""


def scaling(x: float, y: float) -> Homography:
    """Maps pixels of an image to those of the same image resized by (x, y): (p + 0.5) * s - 0.5."""
    return np.array([[x, 0, 0.5 * x - 0.5], [0, y, 0.5 * y - 0.5], [0, 0, 1]])


@dataclass(frozen=True, eq=False)
class Resolution:
    """Carries frame_from_plate between the takes' full sizes and those of smaller pictures."""

    small_from_frame: Homography
    small_from_plate: Homography

    @classmethod
    def of(cls, frame: Size, plate: Size, small_frame: Size, small_plate: Size) -> Resolution:
        """All sizes (width, height)."""
        return cls(
            scaling(small_frame[0] / frame[0], small_frame[1] / frame[1]),
            scaling(small_plate[0] / plate[0], small_plate[1] / plate[1]),
        )

    def small(self, homography: Homography) -> Homography:
        return self.small_from_frame @ homography @ np.linalg.inv(self.small_from_plate)

    def full(self, homography: Homography) -> Homography:
        out = np.linalg.inv(self.small_from_frame) @ homography @ self.small_from_plate
        return normalised(out)


def project(homography: Homography, points: NDArray[np.floating]) -> NDArray[np.float64]:
    """(N, 2) xy -> (N, 2) xy."""
    x, y, w = homography[:, :2] @ points.T + homography[:, 2:]
    return np.stack([x / w, y / w]).T


def corners(width: int, height: int) -> NDArray[np.float64]:
    """Centres of the four corner pixels, clockwise from the top left, (4, 2) xy."""
    return np.array([[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]], float)


def is_plausible(
    frame_from_plate: Homography,
    plate_size: tuple[int, int],
    frame_size: tuple[int, int],
    most: Difference = SIMILAR,
) -> bool:
    """Whether cameras whose views differ by no more than `most` could have made this homography.

    Sizes are (width, height). Refused: anything not finite; a mirrored or folded image (the
    Jacobian's determinant must be positive, and the scale w of one sign, over the whole plate);
    an area that changes too much, or in one direction more than in the other; a view that lies
    elsewhere.
    """
    if not np.isfinite(frame_from_plate).all() or abs(frame_from_plate[2, 2]) < 1e-9:
        return False
    points = corners(*plate_size)
    w = np.column_stack([points, np.ones(4)]) @ frame_from_plate[2]
    if w.min() * w.max() <= 0:
        return False
    # Jacobian determinant of a homography: det(H) / w^3.
    area = np.linalg.det(frame_from_plate) / w**3
    expected = frame_size[0] * frame_size[1] / (plate_size[0] * plate_size[1])
    if area.min() < expected / most.area or area.max() > expected * most.area:
        return False
    middle = (np.array([plate_size], float) - 1) / 2
    centre = project(frame_from_plate, middle)[0]
    around = project(frame_from_plate, middle + [[1, 0], [0, 1]]) - centre
    stretch = np.linalg.svd(around, compute_uv=False)
    if stretch[0] > most.stretch * stretch[1]:
        return False
    shift = np.hypot(*(centre - (np.array(frame_size) - 1) / 2))
    return bool(shift <= most.shift * np.hypot(*frame_size))


def is_plausible_from(
    start: Homography, frame_from_plate: Homography, plate_size: Size, frame_size: Size
) -> bool:
    """Whether a homography found from one that is known to be nearly right can be believed: by
    itself, or, where the views differ much, by how little it differs from that one."""
    if is_plausible(frame_from_plate, plate_size, frame_size):
        return True
    change = frame_from_plate @ np.linalg.inv(start)
    return is_plausible(frame_from_plate, plate_size, frame_size, WIDE) and is_plausible(
        change, frame_size, frame_size
    )


def fit_whole(plate_size: tuple[int, int], frame_size: tuple[int, int]) -> Homography:
    """The identity for takes of one size; else the plate scaled and centred to fill the frame."""
    scale = max(frame_size[0] / plate_size[0], frame_size[1] / plate_size[1])
    out = scaling(scale, scale)
    out[:2, 2] += (np.array(frame_size) - np.array(plate_size) * scale) / 2
    return out


def normalised(homography: Homography) -> Homography:
    """Scaled so that its last entry is 1."""
    return homography / homography[2, 2]
