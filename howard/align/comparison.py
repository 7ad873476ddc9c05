"""How well a clean-plate frame, warped by a homography, explains a frame outside the person.

Judged on small pictures: enough to tell one candidate from another, at a few milliseconds each.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from howard.align.direct import coverage_levels
from howard.align.geometry import Homography, Resolution, Size
from howard.align.light import gain_and_bias

PROBE_SIDE = 240
"""Longest side of the small pictures."""
PROBE_BLUR = 0.7
"""Standard deviation in probe pixels, so that a fraction of a pixel does not weigh."""
CLIP_LEVELS = 40.0
"""A pixel's difference counts up to this, so that a person not yet known costs every candidate
the same."""
UNCOVERED_LEVELS = 60.0
"""What an uncovered pixel costs: more than a wrong one, which the network may still explain by
what it finds nearby."""
TEXTURE_CLIP, TEXTURE_UNCOVERED = 60, 50
"""The same two for contrast-normalised textures, whose chance differences are about 45."""
LIGHT_STEP = 11
"""Every so many probe pixels are enough for two numbers a channel: some 3,000."""
CERTAIN_SHARE = 0.6
"""Of the frame: where no person is known yet, this much is taken to be the place."""
PERSON_ALPHA = 0.4
"""What the matte is less sure of may as well be the place."""
PERSON_MARGIN = 0.02
"""The person of the latest matte is widened by this share of the frame's longest side: they move.
What lies beside them is what the field under them is carried on from: the more of it is seen the
better, and on those who move faster little can be followed anyway."""
MOST_PERSON = 0.92
"""A larger share of the frame than this, so widened, is not believed to be the person."""

Probe = NDArray[np.float32]
"""(h, w, 3) levels of 255, small and slightly blurred."""


@dataclass(frozen=True, eq=False)
class Fit:
    """The verdict on one candidate."""

    cost: float
    """Mean clipped difference outside the person, with a price on uncovered pixels, in levels."""
    residual: float
    """Mean difference outside the person where covered, in levels of 255; of its better part
    while nobody has said where the person is."""
    light: NDArray[np.float64]
    """(3, 2) gain and bias per channel that match the plate to the frame."""


class Comparison:
    """Compares plates with frames of one size, and remembers where the person was."""

    def __init__(self, frame_size: Size, plate_size: Size) -> None:
        self.frame_size, self.plate_size = frame_size, plate_size
        self.frame_probe_size, self.plate_probe_size = small(frame_size), small(plate_size)
        self.person: NDArray[np.uint8] | None = None
        """(h, w) at probe scale, 1 where the person of the latest matte may be now."""
        self.resolution = Resolution.of(
            frame_size, plate_size, self.frame_probe_size, self.plate_probe_size
        )

    def of_frame(self, pixels: NDArray[np.uint8]) -> Probe:
        return probe(pixels, self.frame_probe_size)

    def of_plate(self, pixels: NDArray[np.uint8]) -> Probe:
        return probe(pixels, self.plate_probe_size)

    def observe(self, alpha: NDArray[np.float32]) -> None:
        """Remember the person of a matte, (H, W) in [0, 1], widened."""
        reduced = cv2.resize(alpha, self.frame_probe_size, interpolation=cv2.INTER_AREA)
        radius = max(1, round(PERSON_MARGIN * max(self.frame_probe_size)))
        ellipse = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1,) * 2)
        specks = np.ones((3, 3), np.uint8)
        found = (reduced > PERSON_ALPHA).astype(np.uint8)
        person = np.asarray(
            cv2.dilate(cv2.morphologyEx(found, cv2.MORPH_OPEN, specks), ellipse), np.uint8
        )
        # A matte that went wrong must not hide the place from the next alignment.
        self.person = person if person.mean() < MOST_PERSON else None

    def person_at(self, size: Size) -> NDArray[np.uint8] | None:
        """The same (h, w) at another size, (width, height)."""
        if self.person is None:
            return None
        return np.asarray(cv2.resize(self.person, size, interpolation=cv2.INTER_NEAREST), np.uint8)

    def is_outside_person(self, points: NDArray[np.float32]) -> NDArray[np.bool_]:
        """(N,) for points (N, 2) xy of the frame."""
        if self.person is None:
            return np.ones(len(points), bool)
        limit = np.array(self.frame_probe_size)
        at = ((points + 0.5) * limit / self.frame_size).astype(np.int32).clip(0, limit - 1)
        return self.person[at[:, 1], at[:, 0]] == 0

    def fit(self, frame: Probe, plate: Probe, frame_from_plate: Homography) -> Fit:
        """Warp the plate's probe onto the frame's, match the light, compare."""
        homography = self.resolution.small(frame_from_plate)
        warped = np.asarray(
            cv2.warpPerspective(plate, homography, self.frame_probe_size), np.float32
        )
        covered = coverage_of(homography, self.plate_probe_size, self.frame_probe_size) == 1
        outside = np.ones(covered.shape, bool) if self.person is None else self.person == 0
        seen = covered & outside
        some = np.flatnonzero(seen)[::LIGHT_STEP]
        light = gain_and_bias(frame.reshape(-1, 3)[some], warped.reshape(-1, 3)[some])
        relit = cv2.transform(warped, np.column_stack([np.diag(light[:, 0]), light[:, 1]]))
        difference = cv2.transform(cv2.absdiff(relit, frame), np.full((1, 3), 1 / 3))
        price = np.where(covered, np.minimum(difference, CLIP_LEVELS), UNCOVERED_LEVELS)
        return Fit(float(price[outside].mean()), self.residual(difference[seen]), light)

    def residual(self, difference: NDArray[np.floating]) -> float:
        """Mean of the differences (N,) outside the person, or of their better part."""
        if not difference.size:
            return 255.0
        if self.person is None:
            count = max(1, int(difference.size * CERTAIN_SHARE))
            difference = np.partition(difference, count - 1)[:count]
        return float(difference.mean())


def texture_cost(
    frame: NDArray[np.uint8],
    plate: NDArray[np.uint8],
    frame_from_plate: Homography,
    person: NDArray[np.uint8] | None,
) -> float:
    """Mean clipped difference of two textures (h, w), with a price on uncovered pixels, in levels.

    Free of light: where lamps changed, the colours prefer a dark view of another part of the place
    to the right one. person: (h, w) of the frame's, not 0 where they may be.
    """
    size = frame.shape[1], frame.shape[0]
    warped = cv2.warpPerspective(plate, frame_from_plate, size)
    covered = coverage_of(frame_from_plate, (plate.shape[1], plate.shape[0]), size) == 1
    difference = cv2.absdiff(cv2.blur(frame, (3, 3)), cv2.blur(warped, (3, 3)))
    price = np.where(covered, np.minimum(difference, TEXTURE_CLIP), TEXTURE_UNCOVERED)
    return float(price.mean() if person is None else price[person == 0].mean())


def small(size: Size) -> Size:
    """The size at probe scale."""
    scale = min(1.0, PROBE_SIDE / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def probe(pixels: NDArray[np.uint8], size: Size) -> Probe:
    """Area average, slightly blurred."""
    reduced = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return cv2.GaussianBlur(reduced, (0, 0), PROBE_BLUR).astype(np.float32)


def coverage_of(
    frame_from_plate: Homography, plate_size: Size, frame_size: Size
) -> NDArray[np.uint8]:
    """(H, W), 1 where all four plate pixels that a bilinear sample draws on exist."""
    return (coverage_levels(frame_from_plate, plate_size, frame_size) == 255).astype(np.uint8)
