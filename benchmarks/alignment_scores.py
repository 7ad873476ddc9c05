"""How far a plate is from the truth, frame by frame, and what many frames sum up to.

Lengths are pixels of the scene's own size, differences levels of 255.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from benchmarks import metrics
from benchmarks.alignment_methods import CRASHED, HOMOGRAPHY
from benchmarks.alignment_scenes import Scene
from benchmarks.alignment_takes import FRAMES_PER_SECOND
from howard.align.geometry import corners
from howard.frames import Frame, Plate
from howard.matte import MattingNetwork

SUCCESS_SHARE = 5 / 1920
"""Of the width: a corner error above this (5 pixels at 1080p) is a failure."""
OFF_LEVELS = 20
"""A pixel that differs more shows something else."""
PERSON_ALPHA = 0.9
"""Above it a pixel is the person's."""

MEDIANS = (
    *("residual", "off_share", "person_residual", "coverage", "plate_index_error"),
    "milliseconds",
)
"""Fields of a score that are summed up by their median."""

RATIOS = {
    "residual_ratio": "residual",
    "off_share_ratio": "off_share",
    "alpha_mad_ratio": "alpha_mad",
}
"""What is given in shares of what Howard's homography alone leaves."""

Floats = NDArray[np.float64]
Summaries = dict[str, dict[str, float]]
"""By method."""


@dataclass(frozen=True)
class FrameScore:
    """One plate's errors; NaN where there is nothing to measure."""

    index: int
    corners: tuple[tuple[float, float], ...]
    """Displacement xy of the far plane at the frame's four corners; infinite if behind."""
    residual: float
    """Mean difference of plate and true background, covered and outside the person."""
    off_share: float
    """Of those pixels, the share that differs by more than OFF_LEVELS."""
    person_residual: float
    """Mean difference of plate and frame on the person, where covered."""
    coverage: float
    plate_index: int
    plate_index_error: int
    """Frames from the nearest view, or from one as near."""
    fallback: str | None
    milliseconds: float
    """Of processor time."""
    alpha_mad: float = float("nan")
    """Times 1000, of a network's matte over the plate; NaN without a network."""

    @property
    def corner_errors(self) -> Floats:
        """(4,) pixels."""
        return lengths(self.corners)

    def succeeded(self, width: int) -> bool:
        """Whether all corners are near, in a frame of this width, and it was no guess."""
        near = self.corner_errors.max() < SUCCESS_SHARE * width
        return bool(near and self.fallback is None)


def lengths(vectors: ArrayLike) -> Floats:
    """(N,) of (N, 2)."""
    return np.asarray(np.hypot(*np.asarray(vectors).T))


def crash(index: int) -> FrameScore:
    """The score where a method raised an error."""
    nan, lost = float("nan"), ((np.inf, np.inf),) * 4
    return FrameScore(index, lost, nan, nan, nan, 0.0, -1, -1, CRASHED, nan)


def score(scene: Scene, index: int, plate: Plate, milliseconds: float) -> FrameScore:
    """Judge the plate for a frame of the scene."""
    picture, alignment = scene.shot.picture(index), plate.alignment
    covered = plate.coverage > 0
    outside, inside = covered & (picture.alpha == 0), covered & (picture.alpha > PERSON_ALPHA)
    place = difference(plate.pixels, picture.background)[outside]
    person = difference(plate.pixels, picture.pixels)[inside]
    off = np.full((4, 2), np.inf)
    if alignment.fallback != CRASHED:
        points = corners(scene.width, scene.height)
        homography = np.reshape(alignment.homography_frame_from_plate, (3, 3))
        plate_points = scene.plate_points(index, alignment.plate_index, points)
        off = corner_vectors(homography, points, plate_points)
    return FrameScore(
        index,
        tuple((float(x), float(y)) for x, y in off),
        mean(place),
        mean(place > OFF_LEVELS),
        mean(person),
        float(covered.mean()),
        alignment.plate_index,
        scene.plate_index_error(index, alignment.plate_index),
        alignment.fallback,
        milliseconds,
    )


def alpha_mad(scene: Scene, index: int, plate: Plate, network: MattingNetwork | None) -> float:
    """Of the matte over this plate alone, without what a run knows of other frames."""
    if network is None:
        return float("nan")
    picture = scene.shot.picture(index)
    (matte,) = network([Frame(index, index / FRAMES_PER_SECOND, picture.pixels)], [plate])
    return metrics.mad(matte.alpha, picture.alpha)


def corner_vectors(predicted: Floats, corners: ArrayLike, plate_points: ArrayLike) -> Floats:
    """(N, 2): where the prediction puts points of the plate, less where they belong.

    One-way transfer error (Hartley and Zisserman 2004, 4.2.2). A point that goes behind the
    camera is at infinity; a homography's sign is free, so the points' mean tells the front.
    """
    points = np.asarray(plate_points, float)
    x, y, w = predicted @ np.column_stack([points, np.ones(len(points))]).T
    facing = w * (predicted[2] @ [*points.mean(0), 1.0]) > 0
    safe = np.where(facing, w, 1.0)
    found = np.column_stack([x / safe, y / safe]) - np.asarray(corners, float)
    return np.where(facing[:, None], found, np.inf)


def difference(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(H, W): absolute, mean over the channels."""
    apart = cv2.absdiff(first, second)
    return np.asarray(cv2.transform(apart.astype(np.float32), np.full((1, 3), 1 / 3)))


def jitter(scores: Sequence[FrameScore]) -> Floats:
    """(K,) pixels: change of the corner errors from each frame to the next, all four corners.

    The scene's own motion is no part of it. Frames with a corner at infinity say nothing.
    """
    vectors = np.array([s.corners for s in scores])
    with np.errstate(invalid="ignore"):
        changes = np.hypot(*np.moveaxis(np.diff(vectors, axis=0), -1, 0))
    return np.asarray(changes[np.isfinite(changes)])


def mean(values: NDArray) -> float:
    """NaN for none."""
    return float(values.mean()) if values.size else float("nan")


def summarise(takes: Sequence[Sequence[FrameScore]], width: int) -> dict[str, float]:
    """One method on one or several scenes; corner errors over all corners of all frames, the
    others medians over the frames without a crash, of alpha means.
    """
    scores = [score for take in takes for score in take]
    errors = np.array([s.corner_errors for s in scores])
    steps = np.concatenate([jitter(take) for take in takes])
    found = {
        f"corner_{name}_pixels": percentile(errors, percent)
        for name, percent in (("median", 50), ("p90", 90), ("p99", 99), ("max", 100))
    }
    found |= {
        "success_share": float(np.mean([s.succeeded(width) for s in scores])),
        "crashes": sum(s.fallback == CRASHED for s in scores),
        "fallbacks": sum(s.fallback not in (None, CRASHED) for s in scores),
        "jitter_median_pixels": percentile(steps, 50),
        "jitter_p99_pixels": percentile(steps, 99),
    }
    sound = [s for s in scores if s.fallback != CRASHED]
    for name in MEDIANS:
        values = np.array([getattr(s, name) for s in sound], float)
        found[name] = percentile(values[np.isfinite(values)], 50)
    # Beside the median, for what is done only now and then.
    found["mean_milliseconds"] = mean(np.array([s.milliseconds for s in sound]))
    found["alpha_mad"] = mean(np.array([s.alpha_mad for s in sound]))
    return found


def with_ratios(summaries: Summaries) -> Summaries:
    """Adds RATIOS; NaN where that homography was not asked for, or leaves nothing."""
    plain = summaries.get(HOMOGRAPHY, {})
    for summary in summaries.values():
        for ratio, name in RATIOS.items():
            left = plain.get(name, 0.0)
            summary[ratio] = summary[name] / left if left else float("nan")
    return summaries


def percentile(values: NDArray, percent: float) -> float:
    """A measured value, or the next one above: nothing to interpolate where some are infinite."""
    if not values.size:
        return float("nan")
    return float(np.percentile(values, percent, method="higher"))
