"""What one pair of a frame and a clean-plate frame tells of a way to match keypoints.

Every way hands its matches to the same estimate, `howard.align.robust`. Lengths are pixels of the
scene's own size, times milliseconds of processor time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import ArrayLike

from benchmarks.alignment_camera import apply
from benchmarks.alignment_scenes import Scene
from benchmarks.alignment_scores import (
    SUCCESS_SHARE,
    Floats,
    corner_vectors,
    lengths,
    mean,
    percentile,
)
from benchmarks.alignment_textures import Pixels
from benchmarks.feature_methods import Method
from benchmarks.measure import Result, WrongResult
from howard.align.geometry import corners
from howard.align.operations import Scales
from howard.align.robust import robust_homography

LOST = np.full((4, 2), np.inf)
KNOWN = np.array([[1.02, 0.03, 4.0], [-0.03, 1.02, -3.0], [1e-5, 0.0, 1.0]])
"""A homography that any way must find between a picture and itself, warped: a turn of two degrees,
a little zoom, a little tilt."""
WORKS_PIXELS = 2.0
"""Largest corner error of a way that works at all, on that task."""


@dataclass(frozen=True)
class PairScore:
    """One method on one pair."""

    keypoints: float
    """Mean of both pictures."""
    matches: int
    true_share: float
    """Of the matches, those as near to the far plane's true motion as the estimate asks of an
    inlier; NaN where there is no match."""
    corners: tuple[tuple[float, float], ...]
    """Displacement xy of the far plane at the frame's corners; infinite if nothing is found."""
    find_milliseconds: float
    """Of one picture, from full size to descriptors: the mean of both."""
    match_milliseconds: float
    estimate_milliseconds: float

    @property
    def corner_errors(self) -> Floats:
        """(4,) pixels."""
        return lengths(self.corners)


def clocked(call: Callable[[], Result]) -> tuple[Result, float]:
    """Its result and the milliseconds of processor time that it took."""
    started = time.process_time()
    result = call()
    return result, (time.process_time() - started) * 1e3


def score(
    method: Method, frame: Pixels, plate: Pixels, plate_points: Callable[[ArrayLike], Floats]
) -> PairScore:
    """plate_points: xy (N, 2) of the frame -> where they truly are in the plate."""
    size, plate_size = (frame.shape[1], frame.shape[0]), (plate.shape[1], plate.shape[0])
    here, frame_took = clocked(lambda: method.find(frame))
    there, plate_took = clocked(lambda: method.find(plate))
    pairs, match_took = clocked(lambda: method.match(there, here))
    ours, theirs = there.keypoints[pairs[:, 0]], here.keypoints[pairs[:, 1]]
    threshold = Scales(size, plate_size).threshold
    found, estimate_took = clocked(
        lambda: robust_homography(ours, theirs, threshold, plate_size, size)
    )
    points = corners(*size)
    off = corner_vectors(found[0], points, plate_points(points)) if found else LOST
    return PairScore(
        (len(here) + len(there)) / 2,
        len(pairs),
        mean(lengths(plate_points(theirs) - ours) < threshold),
        tuple((float(x), float(y)) for x, y in off),
        (frame_took + plate_took) / 2,
        match_took,
        estimate_took,
    )


def score_pair(scene: Scene, frame_index: int, plate_index: int, method: Method) -> PairScore:
    """A frame of a scene and a clean-plate frame. Nobody is told where the person is."""
    return score(
        method,
        scene.shot.picture(frame_index).pixels.copy(),
        scene.clean_plate.picture(plate_index).pixels.copy(),
        lambda points: scene.plate_points(frame_index, plate_index, points),
    )


def succeeded(score: PairScore, width: int) -> bool:
    """Whether all corners are near, in a frame of this width."""
    return bool(score.corner_errors.max() < SUCCESS_SHARE * width)


def check(name: str, method: Method, picture: Pixels) -> None:
    """Raises WrongResult if the method does not find KNOWN, or finds something in nothing."""
    moved = np.asarray(cv2.warpPerspective(picture, KNOWN, picture.shape[1::-1]), np.uint8)
    inverse = np.linalg.inv(KNOWN)
    found = score(method, moved, picture, lambda points: apply(inverse, points))
    if not found.corner_errors.max() < WORKS_PIXELS:
        raise WrongResult(f"{name} does not find how a picture was warped; it was not measured")
    if len(method.find(np.full_like(picture, 127))):
        raise WrongResult(f"{name} finds keypoints in a blank picture; it was not measured")


def summarise(scores: Sequence[PairScore], width: int) -> dict[str, float]:
    """Means of counts and shares, medians of times; corner errors over all corners of all pairs."""
    errors = np.array([s.corner_errors for s in scores])
    shares = np.array([s.true_share for s in scores])
    found = {
        "keypoints": mean(np.array([s.keypoints for s in scores])),
        "matches": mean(np.array([s.matches for s in scores])),
        "inlier_share": mean(shares[np.isfinite(shares)]),
        "success_share": mean(np.array([succeeded(s, width) for s in scores])),
        "corner_median_pixels": percentile(errors, 50),
        "corner_p90_pixels": percentile(errors, 90),
    }
    for name in ("find_milliseconds", "match_milliseconds", "estimate_milliseconds"):
        found[name] = float(np.median([getattr(s, name) for s in scores]))
    return found | {"pairs": len(scores)}
