"""Real places seen from two viewpoints, one aligned to the other by a homography.

These are the plates that Howard meets in practice: right where the scene is flat or far,
wrong where it is near.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.training.textures import read_photograph


class ViewPair(NamedTuple):
    """frame, plate: RGB uint8 (H, W, 3), plate aligned to frame; coverage: uint8 {0, 1} (H, W)."""

    frame: NDArray[np.uint8]
    plate: NDArray[np.uint8]
    coverage: NDArray[np.uint8]


def view_pairs(files: list[Path], reach: int = 3) -> list[ViewPair]:
    """Neighbouring views (up to `reach` apart in the list) that a homography aligns, both ways."""
    views = [read_photograph(file) for file in files]
    sift = cv2.SIFT.create(3000)
    found = [sift.detectAndCompute(cv2.cvtColor(v, cv2.COLOR_RGB2GRAY), None) for v in views]
    pairs = []
    for i in range(len(views)):
        for j in range(max(0, i - reach), min(len(views), i + reach + 1)):
            if i != j and (pair := align(views[i], views[j], found[i], found[j])):
                pairs.append(pair)
    return pairs


def align(frame, plate, frame_features, plate_features) -> ViewPair | None:
    """None where there are too few inliers to trust the homography."""
    (frame_points, frame_descriptors), (plate_points, plate_descriptors) = (
        frame_features,
        plate_features,
    )
    if frame_descriptors is None or plate_descriptors is None:
        return None
    matches = cv2.BFMatcher().knnMatch(plate_descriptors, frame_descriptors, 2)
    good = [
        m for m, second in (p for p in matches if len(p) == 2) if m.distance < 0.8 * second.distance
    ]
    if len(good) < 30:
        return None
    source = np.array([plate_points[m.queryIdx].pt for m in good], np.float32)
    target = np.array([frame_points[m.trainIdx].pt for m in good], np.float32)
    homography, inliers = cv2.findHomography(source, target, cv2.USAC_MAGSAC, 4.0)
    if homography is None or inliers.sum() < 25 or not 0.3 < np.linalg.det(homography[:2, :2]) < 3:
        return None
    size = frame.shape[1::-1]
    coverage = cv2.warpPerspective(np.ones(plate.shape[:2], np.uint8), homography, size)
    if coverage.mean() < 0.4:
        return None
    warped = cv2.warpPerspective(plate, homography, size)
    return ViewPair(frame, np.asarray(warped, np.uint8), np.asarray(coverage, np.uint8))
