"""Keypoints and descriptors with OpenCV: SIFT at a working scale, matched under L2.

SIFT: Lowe, IJCV 2004. The descriptors are compared by the Hellinger distance (RootSIFT,
Arandjelović & Zisserman, CVPR 2012), which is L2 on their square roots.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from howard.align.geometry import Homography, project, scaling

WORKING_SIDE = 640
"""Longest side at which features are found: SIFT's cost grows with the area, and at this size
hand-held footage still gives several hundred matches, at a tenth of a pixel after the fit."""
KEYPOINTS = 1200
THOROUGH = (1024, 4000)
"""The same two where the quick search found nothing: viewpoints far apart share few features, and
those are small. Costs ten times as much."""
GRID = (6, 8)
"""Rows and columns of cells; each keeps an equal share of the keypoints, so that one leafy
corner does not outvote the rest."""
RATIO = 0.82
"""Lowe's ratio test on distances."""


@dataclass(frozen=True, eq=False)
class Features:
    """keypoints (N, 2) xy in full-resolution pixels; descriptors (N, 128) float32, unit length."""

    keypoints: NDArray[np.float32]
    descriptors: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.keypoints)

    def where(self, keep: NDArray[np.bool_]) -> Features:
        return Features(self.keypoints[keep], self.descriptors[keep])


@functools.cache
def detector(keypoints: int) -> cv2.SIFT:
    """The low contrast threshold is for dim places; the grid thins the abundance elsewhere."""
    return cv2.SIFT.create(
        nfeatures=2 * keypoints, contrastThreshold=0.015, enable_precise_upscale=True
    )


def find_features(pixels: NDArray[np.uint8], thorough: bool = False) -> Features:
    """Features of an RGB image (H, W, 3), spread over the frame, local contrast normalised."""
    side, keypoints = THOROUGH if thorough else (WORKING_SIDE, KEYPOINTS)
    small, full_from_small = at_working_size(pixels, side)
    points, descriptors = detector(keypoints).detectAndCompute(normalised(small), None)
    if descriptors is None:
        return Features(np.zeros((0, 2), np.float32), np.zeros((0, 128), np.float32))
    xy = np.array([p.pt for p in points], np.float32)
    size = small.shape[1], small.shape[0]
    keep = spread(xy, np.array([p.response for p in points]), size)[:keypoints]
    unit = np.sqrt(descriptors[keep] / np.maximum(descriptors[keep].sum(1, keepdims=True), 1e-6))
    return Features(project(full_from_small, xy[keep]).astype(np.float32), unit)


def at_working_size(
    pixels: NDArray[np.uint8], side: int = WORKING_SIDE
) -> tuple[NDArray[np.uint8], Homography]:
    """Grey (h, w) of an RGB image, at most `side` long, and what takes its pixels back."""
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    height, width = grey.shape
    scale = min(1.0, side / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.uint8), scaling(width / size[0], height / size[1])


def normalised(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """With equal contrast everywhere, as far as noise allows: two exposures look alike."""
    return np.asarray(cv2.createCLAHE(2.0, (8, 8)).apply(grey), np.uint8)


def spread(
    xy: NDArray[np.float32], response: NDArray[np.floating], size: tuple[int, int]
) -> NDArray[np.intp]:
    """Indices of the points, the strongest of each grid cell first."""
    rows, columns = GRID
    cell = (xy[:, 1] * rows / size[1]).astype(int).clip(0, rows - 1) * columns
    cell += (xy[:, 0] * columns / size[0]).astype(int).clip(0, columns - 1)
    order = np.lexsort((-response, cell))
    counts = np.bincount(cell, minlength=rows * columns)
    rank = np.empty(len(xy), int)
    rank[order] = np.arange(len(xy)) - np.repeat(np.cumsum(counts) - counts, counts)
    # The first of every cell, then the second of every cell, and on.
    return np.lexsort((-response, rank))


def match(plate: Features, frame: Features) -> NDArray[np.intp]:
    """(K, 2) indices into plate and frame: mutual nearest neighbours that pass the ratio test."""
    if len(plate) < 2 or len(frame) < 2:
        return np.zeros((0, 2), np.intp)
    similarity = plate.descriptors @ frame.descriptors.T
    best = similarity.argmax(1)
    rows = np.arange(len(plate))
    mutual = similarity.argmax(0)[best] == rows
    top = similarity[rows, best]
    similarity[rows, best] = -1
    second = similarity.max(1)
    # |a - b|^2 = 2 - 2 a.b for unit vectors.
    distinct = (1 - top) < RATIO**2 * (1 - second)
    keep = np.flatnonzero(mutual & distinct)
    return np.column_stack([keep, best[keep]])
