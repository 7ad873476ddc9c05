"""Direct alignment: from a homography that is nearly right to one that is exact, by dense flow.

The plate's view, warped by the homography, is compared with the frame's by dense inverse search
(Kroeger et al., *Fast Optical Flow using Dense Inverse Search*, ECCV 2016); the homography is
then fitted anew to the flow of the textured places outside the person, by reweighted least
squares, which follows the plane that most of them lie on.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from howard.align.geometry import Homography, project

VECTORS = 3600
"""How many vectors of the flow are fitted, on a regular grid."""
SCALES = (6.0, 3.0, 1.5, 0.75, 0.4, 0.4)
"""Pixels at which a vector's weight has fallen to a quarter, round by round: from what a
prediction may be off to what the flow is good to."""
TEXTURE = 20.0
"""Gradient of the normalised picture at which a vector counts half."""
MATCHED_LEVELS = 24.0
"""Difference in normalised levels, after the flow, at which a vector counts a third."""
IN_PERSON = 0.25
"""Weight where the person of the latest matte may be: their own points agree on nothing, and what
a wrong matte took for them must be able to speak."""
FEWEST_POINTS = 50
PATCH = 8
"""Side of the patches of OpenCV's search, of its fast preset."""
SMALLEST = 12
"""Longest side that OpenCV takes; there is nothing to follow in less."""
NEAR_PIXELS = 1.0
"""A vector this near to the homography supports it."""

Flow = NDArray[np.float32]
"""(h, w, 2) in pixels: x of a is x + flow in b."""


@dataclass(frozen=True, eq=False)
class DirectFit:
    """A homography and what speaks for it."""

    homography: Homography
    """frame_from_plate."""
    support: float
    """Share of the flow's weight that lies within NEAR_PIXELS of it, in [0, 1]."""
    points: int = 0
    """Textured points of the frame that were looked at."""
    matches: int = 0
    """Of those, found in the plate: the flow leaves little difference."""
    inliers: int = 0
    """Of those, within NEAR_PIXELS of the homography."""


@functools.cache
def dense_inverse_search(finest: int) -> cv2.DISOpticalFlow:
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    search.setFinestScale(finest)
    search.setVariationalRefinementIterations(0)  # smooths where the fit should decide
    return search


def coarsest_scale(shape: tuple[int, ...]) -> int:
    """At which OpenCV's search of a picture (h, w) begins. Where that is finer than the finest
    scale asked for, the search changes its own settings for good."""
    longer, shorter = max(shape), min(shape)
    return min(int(math.log2(longer / (4 * PATCH)) + 0.5), int(math.log2(shorter / PATCH)))


def dense_flow(a: NDArray[np.uint8], b: NDArray[np.uint8], finest: int = 1) -> Flow:
    """Flow from a to b, (h, w) uint8 both; found down to 1 / 2^finest of their size."""
    nothing = np.zeros((*a.shape, 2), np.float32)
    if min(a.shape) < PATCH or max(a.shape) < SMALLEST:
        return nothing
    search = dense_inverse_search(min(finest, coarsest_scale(a.shape)))
    return np.asarray(search.calc(a, b, nothing), np.float32)


def gradient(texture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Magnitude in levels a pixel. OpenCV's magnitude depends on where in memory its input lies."""
    dx = cv2.Sobel(texture, cv2.CV_32F, 1, 0, scale=1 / 8)
    dy = cv2.Sobel(texture, cv2.CV_32F, 0, 1, scale=1 / 8)
    return np.sqrt(dx * dx + dy * dy)


def sample_at(picture: cv2.typing.MatLike, points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Bilinear samples of a picture (h, w) at (N, 2) xy; 0 outside."""
    x, y = points[None, :, 0].astype(np.float32), points[None, :, 1].astype(np.float32)
    return np.asarray(cv2.remap(picture, x, y, cv2.INTER_LINEAR)[0], np.float32)


def refine(
    frame: NDArray[np.uint8],
    plate: NDArray[np.uint8],
    start: Homography,
    person: NDArray[np.uint8] | None,
    finest: int = 1,
) -> DirectFit | None:
    """The homography (texture to texture, frame_from_plate) near `start` that the flow agrees on;
    None where too little is to be seen.

    frame, plate: textures (h, w). person: (h, w) of the frame's, not 0 where they may be. finest:
    of the flow; with 0 the fit is twice as close as with 1, at twice the cost.
    """
    height, width = frame.shape
    warped = np.asarray(cv2.warpPerspective(plate, start, (width, height)), np.uint8)
    inside = cv2.warpPerspective(np.full_like(plate, 255), start, (width, height))
    flow = dense_flow(frame, warped, finest)
    stride = max(1, round((width * height / VECTORS) ** 0.5))
    ys, xs = np.mgrid[stride // 2 : height : stride, stride // 2 : width : stride]
    at = (ys.ravel(), xs.ravel())
    points = np.column_stack([at[1], at[0]]).astype(np.float32)
    moved = points + flow[at]
    error = np.abs(sample_at(warped, moved) - frame[at])
    slope = gradient(frame)[at]
    seen = (sample_at(inside, moved) > 250) & (slope > TEXTURE / 4)
    if seen.sum() < FEWEST_POINTS:
        return None
    hidden = np.zeros(len(points), bool) if person is None else person[at] != 0
    hidden = hidden[seen]
    points = points[seen].astype(np.float64)
    moved = moved[seen]
    error, slope = error[seen], slope[seen]
    weight = (slope / (slope + TEXTURE) / (1 + 2 * (error / MATCHED_LEVELS) ** 2)).astype(
        np.float64
    )
    weight[hidden] *= IN_PERSON
    back = np.asarray(np.linalg.inv(start), np.float64)
    plate_points = project(back, moved)
    homography = fit(plate_points, points, weight, start)
    if homography is None:
        return None
    near = np.hypot(*(project(homography, plate_points) - points).T) < NEAR_PIXELS
    matched = error < MATCHED_LEVELS
    return DirectFit(
        homography,
        support=float(weight[near].sum() / weight.sum()),
        points=len(points),
        matches=int(matched.sum()),
        inliers=int((matched & near).sum()),
    )


def fit(
    plate: NDArray[np.float64],
    frame: NDArray[np.float64],
    weight: NDArray[np.float64],
    start: Homography,
) -> Homography | None:
    """Reweighted least squares (Geman-McClure, the scale falling) of frame = H plate, (N, 2) both;
    linear in H's first eight entries, on coordinates brought to about [-1, 1]."""
    scale = 2 / np.abs(frame).max()
    shrink = np.diag([scale, scale, 1.0])
    shift = np.array([[1, 0, -1], [0, 1, -1], [0, 0, 1]]) @ shrink
    grow = np.linalg.inv(shift)
    p, f = project(shift, plate), project(shift, frame)
    zero, one = np.zeros(len(p)), np.ones(len(p))
    across = np.column_stack([p, one, zero, zero, zero, -f[:, :1] * p])
    along = np.column_stack([zero, zero, zero, p, one, -f[:, 1:] * p])
    homography = start
    for width in SCALES:
        distance = np.hypot(*(project(homography, plate) - frame).T)
        w = weight / (1 + (distance / width) ** 2) ** 2
        normal = (across * w[:, None]).T @ across + (along * w[:, None]).T @ along
        right = (across * w[:, None]).T @ f[:, 0] + (along * w[:, None]).T @ f[:, 1]
        try:
            entries = np.linalg.solve(normal + 1e-9 * np.trace(normal) * np.eye(8), right)
        except np.linalg.LinAlgError:
            return None
        homography = grow @ np.append(entries, 1.0).reshape(3, 3) @ shift
        if abs(homography[2, 2]) < 1e-9 or not np.isfinite(homography).all():
            return None
        homography = homography / homography[2, 2]
    return homography
