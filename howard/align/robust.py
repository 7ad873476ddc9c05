"""A homography from matches of keypoints, many of them wrong, that is fit to be believed."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from howard.align.geometry import Homography, Size, is_plausible, normalised

FEWEST_INLIERS = 12
INLIER_SHARE = 0.2
"""Of the matches: below either, the homography is noise."""
WIDE = 4.0
"""How many thresholds a match may be off under the coarse model: it absorbs some parallax."""
ROUNDS, CERTAINTY = 4000, 0.9999

Found = tuple[Homography, int]
"""frame_from_plate, and how many matches agree with it."""


def robust_homography(
    plate: NDArray[np.float32],
    frame: NDArray[np.float32],
    threshold: float,
    plate_size: Size,
    frame_size: Size,
) -> Found | None:
    """From matches (K, 2) xy each, by MAGSAC++ (Barath et al., CVPR 2020).

    Where the place has many planes, or one on which all matches lie along a line, the homography
    with the most inliers can be one that no camera makes: then a similarity with wider bounds
    takes its place, if enough matches agree. None where nothing can be believed.
    """
    if len(plate) < FEWEST_INLIERS:
        return None
    found, agree = cv2.findHomography(
        plate, frame, cv2.USAC_MAGSAC, threshold, maxIters=ROUNDS, confidence=CERTAINTY
    )
    if found is not None:
        count = int(agree.sum())
        enough = count >= max(FEWEST_INLIERS, INLIER_SHARE * len(plate))
        if enough and is_plausible(np.asarray(found, np.float64), plate_size, frame_size):
            return normalised(np.asarray(found, np.float64)), count
    cv2.setRNGSeed(0)
    similar, agree = cv2.estimateAffinePartial2D(
        plate,
        frame,
        method=cv2.RANSAC,
        ransacReprojThreshold=WIDE * threshold,
        maxIters=ROUNDS,
        confidence=CERTAINTY,
    )
    if similar is None:
        return None
    count = int(agree.sum())
    homography = np.vstack([np.asarray(similar, np.float64), [0, 0, 1]])
    enough = count >= max(FEWEST_INLIERS, 2 * INLIER_SHARE * len(plate))
    if enough and is_plausible(homography, plate_size, frame_size):
        return homography, count
    return None
