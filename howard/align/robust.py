"""A homography from matches of keypoints, many of them wrong, that is fit to be believed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from howard.align.geometry import SIMILAR, WIDE, Homography, Size, is_plausible, normalised

REPROJECTION_PIXELS = 2.0
"""MAGSAC++ threshold at the working scale of the features; scaled up with the frame."""
FEWEST_INLIERS = 12
INLIER_SHARE = 0.2
"""Of the matches: below either, the homography is noise."""
MANY_INLIERS, MANY_SHARE = 40, 0.4
"""So many matches, and such a share of them, do not agree by chance: what they agree on is believed
even of views that differ much."""
FEWEST_RIGID = 20
RIGID_SHARE = 0.3
"""Matches that one camera motion explains (an epipolar geometry): below either, none does."""
PLANE_SHARE = 0.5
"""Of the rigid matches, lie on the plane of the homography; else the place is no plane."""
PARALLAX = 0.06
"""Of the longest side: how far a rigid match may be off a homography for the place as a whole."""
ROUNDS, CERTAINTY = 4000, 0.9999

Points = NDArray[np.float32]
"""(K, 2) xy."""
Found = tuple[Homography, int]
"""frame_from_plate, and how many matches agree with it."""


@dataclass(frozen=True, eq=False)
class Match:
    """A homography found by keypoints."""

    homography: Homography
    """frame_from_plate."""
    keypoints: int
    """Of the frame."""
    matches: int
    inliers: int


def robust_homography(
    plate: Points, frame: Points, threshold: float, plate_size: Size, frame_size: Size
) -> Found | None:
    """From matches, by MAGSAC++ (Barath et al., CVPR 2020); None if nothing can be believed.

    Where most of the place lies on no one plane, or that homography is one that no camera makes,
    it is the homography nearest to all matches that one camera motion explains: right nowhere,
    wrong by little everywhere, which is what a field of displacements can mend.
    """
    if len(plate) < FEWEST_INLIERS:
        return None
    plane = on_a_plane(plate, frame, threshold)
    if plane and not is_believable(*plane, len(plate), plate_size, frame_size):
        plane = None
    if plane and plane[1] >= PLANE_SHARE * len(plate):  # of the rigid ones all the more
        return plane
    rigid = rigid_matches(plate, frame, threshold)
    if rigid is None or (plane and plane[1] >= PLANE_SHARE * rigid.sum()):
        return plane
    reach = PARALLAX * max(frame_size)
    if is_mirrored(plate[rigid], frame[rigid], reach):
        return None
    whole = as_a_whole(plate[rigid], frame[rigid], reach, plate_size, frame_size)
    return whole or plane


def is_believable(
    homography: Homography, inliers: int, matches: int, plate_size: Size, frame_size: Size
) -> bool:
    """Whether a homography that so many of the matches agree on is one that a camera made."""
    if inliers < max(FEWEST_INLIERS, INLIER_SHARE * matches):
        return False
    many = inliers >= max(MANY_INLIERS, MANY_SHARE * matches)
    return is_plausible(homography, plate_size, frame_size, WIDE if many else SIMILAR)


def on_a_plane(plate: Points, frame: Points, threshold: float) -> Found | None:
    """The homography that most matches agree on."""
    try:
        found, agree = cv2.findHomography(
            plate, frame, cv2.USAC_MAGSAC, threshold, maxIters=ROUNDS, confidence=CERTAINTY
        )
    except cv2.error:  # as below
        return None
    if found is None:
        return None
    return normalised(np.asarray(found, np.float64)), int(agree.sum())


def rigid_matches(plate: Points, frame: Points, threshold: float) -> NDArray[np.bool_] | None:
    """(K,) the matches that one epipolar geometry explains; None where they are too few."""
    if len(plate) < FEWEST_RIGID:
        return None
    try:
        found, agree = cv2.findFundamentalMat(
            plate, frame, cv2.USAC_MAGSAC, threshold, CERTAINTY, ROUNDS
        )
    except cv2.error:  # OpenCV 5.0 asserts that there is a model where it found none
        return None
    if found is None:
        return None
    rigid = np.asarray(agree).ravel() > 0
    return rigid if rigid.sum() >= max(FEWEST_RIGID, RIGID_SHARE * len(plate)) else None


def agreed(estimate: Callable[..., Any], plate: Points, frame: Points, reach: float) -> Any:
    """The map of one of OpenCV's kinds that most matches agree on, within `reach` pixels, or None;
    and which do. The same every time."""
    cv2.setRNGSeed(0)
    return estimate(
        plate,
        frame,
        method=cv2.RANSAC,
        ransacReprojThreshold=reach,
        maxIters=ROUNDS,
        confidence=CERTAINTY,
    )


def is_mirrored(plate: Points, frame: Points, reach: float) -> bool:
    """Whether an affine map that most matches agree on, within `reach` pixels, turns the place
    inside out: an epipolar geometry explains a mirror image as well as it does the place."""
    affine, _ = agreed(cv2.estimateAffine2D, plate, frame, reach)
    return affine is not None and bool(np.linalg.det(affine[:, :2]) < 0)


def as_a_whole(
    plate: Points, frame: Points, reach: float, plate_size: Size, frame_size: Size
) -> Found | None:
    """Least squares over the matches within `reach` pixels of a common similarity; the similarity
    itself where the homography cannot be believed."""
    found, agree = agreed(cv2.estimateAffinePartial2D, plate, frame, reach)
    if found is None:
        return None
    near = np.asarray(agree).ravel() > 0
    if near.sum() < FEWEST_INLIERS:
        return None
    similarity = np.vstack([np.asarray(found, np.float64), [0, 0, 1]])
    closest, _ = cv2.findHomography(plate[near], frame[near], 0)
    for candidate in (closest, similarity):
        if candidate is not None:
            homography = np.asarray(candidate, np.float64)
            if is_plausible(homography, plate_size, frame_size):
                return normalised(homography), int(near.sum())
    return None
