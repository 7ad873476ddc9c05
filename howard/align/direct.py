"""Direct alignment: from a homography that is nearly right to one that is exact, by dense flow.

The plate's view, warped by the homography, is compared with the frame's by dense inverse search
(Kroeger et al., *Fast Optical Flow using Dense Inverse Search*, ECCV 2016); the homography is
then fitted anew to the flow of the textured places outside the person, by reweighted least
squares, which follows the plane that most of them lie on.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from threading import get_ident
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from howard.align.geometry import Homography, Size, corners, project

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
CORNER_SHARE = 1e-3
"""Weight of the frame's corners, in shares of the vectors': what is seen of the place may leave
them open, and a sky without texture must not fold."""
FEWEST_POINTS = 50
SURELY_INSIDE = 250
"""Of 255: a sample of the plate's coverage above it has all its data."""
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
def dense_inverse_search(finest: int, thread: int) -> cv2.DISOpticalFlow:
    """One for each thread: it keeps its working memory."""
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
    search = dense_inverse_search(min(finest, coarsest_scale(a.shape)), get_ident())
    return np.asarray(search.calc(a, b, nothing), np.float32)


def coverage_levels(
    frame_from_plate: Homography, plate_size: Size, frame_size: Size
) -> NDArray[np.uint8]:
    """(H, W): 255 where all four plate pixels that a bilinear sample draws on exist, less where
    some do, 0 where none does."""
    ones = np.full(plate_size[::-1], 255, np.uint8)
    return np.asarray(cv2.warpPerspective(ones, frame_from_plate, frame_size), np.uint8)


def gradient(texture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Magnitude in levels a pixel. OpenCV's magnitude depends on where in memory its input lies."""
    dx = cv2.Sobel(texture, cv2.CV_32F, 1, 0, scale=1 / 8)
    dy = cv2.Sobel(texture, cv2.CV_32F, 0, 1, scale=1 / 8)
    return np.sqrt(dx * dx + dy * dy)


def sample_at(picture: cv2.typing.MatLike, points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Bilinear samples of a picture (h, w) at (N, 2) xy; 0 outside."""
    x, y = points[None, :, 0].astype(np.float32), points[None, :, 1].astype(np.float32)
    return np.asarray(cv2.remap(picture, x, y, cv2.INTER_LINEAR)[0], np.float32)


class Places(NamedTuple):
    """N textured places of a frame, on a regular grid: what does not depend on the plate."""

    at: tuple[NDArray[np.intp], NDArray[np.intp]]
    """Their rows and columns."""
    points: NDArray[np.float32]
    """(N, 2) xy."""
    levels: NDArray[np.float32]
    """(N,) of the texture."""
    weight: NDArray[np.float32]
    """(N,) of a vector that leaves no difference."""


def textured_places(frame: NDArray[np.uint8], person: NDArray[np.uint8] | None) -> Places:
    """Of a texture (h, w). person: as in `refine`."""
    height, width = frame.shape
    stride = max(1, round((width * height / VECTORS) ** 0.5))
    begin = stride // 2
    slope = gradient(frame)[begin::stride, begin::stride]
    ys, xs = np.nonzero(slope > TEXTURE / 4)
    weight = slope[ys, xs]
    weight = weight / (weight + np.float32(TEXTURE))
    at = begin + stride * ys, begin + stride * xs
    if person is not None:
        weight[person[at] != 0] *= IN_PERSON
    points = np.column_stack([at[1], at[0]]).astype(np.float32)
    return Places(at, points, frame[at].astype(np.float32), weight)


def refine(
    frame: NDArray[np.uint8],
    plates: Sequence[NDArray[np.uint8]],
    starts: Sequence[Homography],
    person: NDArray[np.uint8] | None,
    finest: int = 1,
) -> list[DirectFit | None]:
    """For each plate, the homography (texture to texture, frame_from_plate) near its start that
    the flow agrees on; None where too little is to be seen.

    frame, plates: textures (h, w). person: (h, w) of the frame's, not 0 where they may be. finest:
    of the flow; with 0 the fit is twice as close as with 1, at twice the cost.
    """
    if not plates:
        return []
    places = textured_places(frame, person)
    if len(places.points) < FEWEST_POINTS:
        return [None] * len(plates)
    pairs = zip(plates, starts, strict=True)
    return [refined(frame, places, plate, start, finest) for plate, start in pairs]


def refined(
    frame: NDArray[np.uint8],
    places: Places,
    plate: NDArray[np.uint8],
    start: Homography,
    finest: int,
) -> DirectFit | None:
    """The same of one plate."""
    size = frame.shape[1], frame.shape[0]
    warped = np.asarray(cv2.warpPerspective(plate, start, size), np.uint8)
    inside = coverage_levels(start, (plate.shape[1], plate.shape[0]), size)
    moved = places.points + dense_flow(frame, warped, finest)[places.at]
    seen = np.flatnonzero(sample_at(inside, moved) > SURELY_INSIDE)
    if len(seen) < FEWEST_POINTS:
        return None
    moved = moved[seen]
    error = np.abs(sample_at(warped, moved) - places.levels[seen])
    off = error / np.float32(MATCHED_LEVELS)
    weight = (places.weight[seen] / (1 + 2 * off * off)).astype(np.float64)
    points = places.points[seen].astype(np.float64)
    plate_points = project(np.asarray(np.linalg.inv(start), np.float64), moved)
    homography = fit(plate_points, points, weight, start, size)
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
    size: Size,
) -> Homography | None:
    """Reweighted least squares (Geman-McClure, the scale falling) of frame = H plate, (N, 2) both;
    linear in H's first eight entries, on coordinates brought to about [-1, 1]. The corners of the
    frame, of this size, hold a little to where they were, round by round, which changes nothing
    where the points say where they belong."""
    scale = 2 / np.abs(frame).max()
    shift = np.array([[scale, 0, -1], [0, scale, -1], [0, 0, 1]])
    grow = np.linalg.inv(shift)
    p = np.vstack([project(shift, plate).T, np.ones(len(plate))])
    u, v = np.ascontiguousarray(project(shift, frame).T)
    products, targets = products_of(p), targets_of(u, v)
    found = shift @ start @ grow
    ends = np.vstack(
        [project(np.asarray(np.linalg.inv(found)), corners(*size) * scale - 1).T, np.ones(4)]
    )
    products_of_ends, hold = products_of(ends), CORNER_SHARE * weight.sum() / 4
    for width in SCALES:
        x, y, w = found @ p
        squared = ((x / w - u) ** 2 + (y / w - v) ** 2) / (width * scale) ** 2
        moments = (targets * (weight / (1 + squared) ** 2)) @ products.T
        x, y, w = found @ ends
        held = targets_of(x / w, y / w) @ products_of_ends.T
        normal, right = normal_equations(moments + hold * held)
        try:
            entries = np.linalg.solve(normal + 1e-9 * np.trace(normal) * np.eye(8), right)
        except np.linalg.LinAlgError:
            return None
        found = np.append(entries, 1.0).reshape(3, 3)
        if not np.isfinite(found).all():
            return None
    homography = grow @ found @ shift
    if abs(homography[2, 2]) < 1e-9:
        return None
    return np.asarray(homography / homography[2, 2])


def products_of(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """(9, N) of points (3, N) of the plate: p p^T."""
    return (p[:, None] * p).reshape(9, -1)


def targets_of(u: NDArray[np.float64], v: NDArray[np.float64]) -> NDArray[np.float64]:
    """(4, N) of their places (N,) in the frame: 1, u, v, u^2 + v^2. Times the products, and summed
    up, they are the moments that `normal_equations` takes."""
    return np.stack([np.ones_like(u), u, v, u * u + v * v])


def normal_equations(moments: NDArray[np.float64]) -> tuple[NDArray, NDArray]:
    """Matrix (8, 8) and right side (8,) of the least squares for H's first eight entries.

    moments: (4, 9), the sums of p p^T times 1, u, v and u^2 + v^2, with p = (x, y, 1) in the plate
    and (u, v) in the frame: all that the equations u (h7 x + h8 y + 1) = h1 x + h2 y + h3, and v's,
    need of the points.
    """
    one, u, v, square = moments.reshape(4, 3, 3)
    normal = np.zeros((8, 8))
    normal[:3, :3] = normal[3:6, 3:6] = one
    normal[:3, 6:], normal[3:6, 6:] = -u[:, :2], -v[:, :2]
    normal[6:, :3], normal[6:, 3:6] = -u[:2], -v[:2]
    normal[6:, 6:] = square[:2, :2]
    return normal, np.concatenate([u[2], v[2], -square[2, :2]])
