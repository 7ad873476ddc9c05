"""What others do to align a background picture: our own reading of published programs.

Written anew from what the programs do, not copied. They are measured as they are: with binary
descriptors under L2, without a ratio test, with the library's default thresholds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Homography = NDArray[np.float64]

BEST_SHARE = 0.15
"""Of the matches, by distance, that both programs keep."""


class Estimator(Protocol):
    """A published way to a homography."""

    def __call__(self, plate: Pixels, frame: Pixels) -> Homography | None:
        """homography_frame_from_plate of two RGB pictures (H, W, 3).

        None where the program itself would end with an error or give up.
        """
        ...


def sengupta() -> Estimator:
    """Sengupta et al., Background Matting, CVPR 2020: AKAZE (its test_pre_process.py)."""
    # OpenCV 5 keeps it among the contributed modules.
    home = cv2 if hasattr(cv2, "AKAZE") else cv2.xfeatures2d
    return best_matches(home.AKAZE.create())


def background_matting_v2() -> Estimator:
    """Lin et al., Background Matting V2, CVPR 2021: ORB (its HomographicAlignment)."""
    return best_matches(cv2.ORB.create())


def best_matches(detector: cv2.Feature2D) -> Estimator:
    """What both have in common: the nearest neighbour of every keypoint, the best of them."""
    matcher = cv2.DescriptorMatcher.create(cv2.DescriptorMatcher_BRUTEFORCE)

    def estimate(plate: Pixels, frame: Pixels) -> Homography | None:
        (ours, plate_descriptors), (theirs, frame_descriptors) = (
            detector.detectAndCompute(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), None)
            for picture in (plate, frame)
        )
        if plate_descriptors is None or frame_descriptors is None:
            return None
        matches = sorted(
            matcher.match(plate_descriptors, frame_descriptors), key=lambda m: m.distance
        )
        best = matches[: int(len(matches) * BEST_SHARE)]
        if len(best) < 4:
            return None
        plate_points = np.array([ours[m.queryIdx].pt for m in best], np.float32)
        frame_points = np.array([theirs[m.trainIdx].pt for m in best], np.float32)
        return as_homography(cv2.findHomography(plate_points, frame_points, cv2.RANSAC)[0])

    return estimate


def stabilo() -> Estimator:
    """stabilo (PyPI, MIT) as it comes: ORB, ratio test, MAGSAC++ at half size.

    Raises ImportError where it is not installed.
    """
    from stabilo import Stabilizer

    # `benchmark` makes a failure the identity, and keeps it from asking for updates.
    stabilizer = Stabilizer(benchmark=True, mask_use=False)

    def estimate(plate: Pixels, frame: Pixels) -> Homography | None:
        stabilizer.set_ref_frame(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
        stabilizer.stabilize(cv2.cvtColor(plate, cv2.COLOR_RGB2BGR))
        return as_homography(stabilizer.get_cur_trans_matrix())

    return estimate


def as_homography(found: NDArray | None) -> Homography | None:
    """float64, or None for none."""
    return None if found is None else np.asarray(found, np.float64)


ESTIMATORS: dict[str, Callable[[], Estimator]] = {
    "sengupta": sengupta,
    "bgmv2": background_matting_v2,
    "stabilo": stabilo,
}
"""Each makes a new estimator."""
