"""What OpenCV offers to find and match keypoints without a model file, beside Howard's own way.

All look at a picture of Howard's working size and keep as many keypoints as Howard; only
`howard-thorough`, its search after a failure, more. `sift` is that feature with Howard's
preparation: contrast normalised locally, a threshold low enough for dim places, keypoints spread
over the picture. `sift-plain` is the library as it comes: the picture as it is, OpenCV's own
thresholds, the strongest keypoints. `orb-beblid` describes the prepared keypoints of ORB by BEBLID.

BRISK: Leutenegger et al., ICCV 2011. KAZE, AKAZE: Alcantarilla et al., ECCV 2012, BMVC 2013. FREAK:
Alahi et al., CVPR 2012. DAISY: Tola et al., PAMI 2010. LATCH: Levi and Hassner, WACV 2016.
BoostDesc: Trzcinski et al., PAMI 2015. VGG: Simonyan et al., PAMI 2014. BEBLID, TEBLID: Suárez et
al., PRL 2020, RAL 2021. GMS: Bian et al., CVPR 2017.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.alignment_textures import Pixels
from howard.align import features
from howard.align.features import KEYPOINTS, RATIO, Features
from howard.align.geometry import project

Pairs = NDArray[np.intp]
"""(K, 2) indices into the features of the plate and of the frame."""

CANDIDATES = 2 * KEYPOINTS
"""Found before they are thinned out, where the detector has a limit: as Howard has it."""
DETECTORS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "sift": (
        "SIFT",
        {"nfeatures": KEYPOINTS},
        {"nfeatures": CANDIDATES, "contrastThreshold": 0.015, "enable_precise_upscale": True},
    ),
    "orb": ("ORB", {"nfeatures": KEYPOINTS}, {"nfeatures": CANDIDATES, "fastThreshold": 5}),
    "akaze": ("AKAZE", {}, {"threshold": 1e-5, "max_points": CANDIDATES}),
    "kaze": ("KAZE", {}, {"threshold": 1e-5}),
    "brisk": ("BRISK", {}, {"thresh": 8}),
}
"""OpenCV's name, and the options of the plain and of the prepared detector. The latter's thresholds
are so low that a wall with hardly any texture gives some thousand keypoints, as with Howard's SIFT.
(ORB's do not help it there, however low.) KAZE and BRISK have no limit: they cost more for it."""
DESCRIPTORS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "orb-latch": ("orb", "LATCH", {}),
    "orb-beblid": ("orb", "BEBLID", {"scale_factor": 1.0}),
    "orb-teblid": ("orb", "TEBLID", {"scale_factor": 1.0}),
    "orb-boost": ("orb", "BoostDesc", {"scale_factor": 0.75}),
    "akaze-teblid": ("akaze", "TEBLID", {"scale_factor": 5.0}),
    "brisk-freak": ("brisk", "FREAK", {}),
    "sift-beblid": ("sift", "BEBLID", {"scale_factor": 6.75}),
    "sift-teblid": ("sift", "TEBLID", {"scale_factor": 6.75}),
    "sift-daisy": ("sift", "DAISY", {"use_orientation": True}),
    "sift-vgg": ("sift", "VGG", {"scale_factor": 6.75}),
}
"""Detector, OpenCV's name of the descriptor, and its options: the factors that its documentation
gives for the keypoints of that detector."""


Described = tuple[Sequence[cv2.KeyPoint], NDArray[Any] | None]
"""Keypoints of a picture and their descriptors (N, D); None for none."""


@dataclass(frozen=True, eq=False)
class Method:
    """find: RGB picture (H, W, 3) -> its features. match: those of plate and frame -> pairs."""

    find: Callable[[Pixels], Features]
    match: Callable[[Features, Features], Pairs]


def create(name: str, options: dict[str, Any]) -> Any:
    """One of OpenCV's detectors or descriptors. Raises ImportError where it was built without it.

    OpenCV 5 keeps among the contributed modules what 4 has among the main ones.
    """
    for home in (cv2, getattr(cv2, "xfeatures2d", None)):
        if maker := getattr(home, f"{name}_create", None):
            return maker(**options)
    raise ImportError(f"OpenCV {cv2.__version__} was built without {name}")


def both_in_one(name: str, prepared: bool) -> Callable[[Pixels], Features]:
    """Detector and descriptor of one name, in one call."""
    kind, plain, low = DETECTORS[name]
    detector = create(kind, low if prepared else plain)

    def describe(picture: Pixels) -> Described:
        points, descriptors = detector.detectAndCompute(picture, None)
        keep = chosen(points, picture.shape, prepared)
        return [points[i] for i in keep], None if descriptors is None else descriptors[keep]

    return partial(find, describe, prepared)


def one_by_the_other(name: str) -> Callable[[Pixels], Features]:
    """A descriptor of another detector's keypoints, of those that are kept."""
    detector_name, kind, options = DESCRIPTORS[name]
    detector_kind, _, low = DETECTORS[detector_name]
    detector, descriptor = create(detector_kind, low), create(kind, options)

    def describe(picture: Pixels) -> Described:
        points = detector.detect(picture, None)
        keep = chosen(points, picture.shape, prepared=True)
        # It may leave out some more, near the border.
        found = descriptor.compute(picture, [points[i] for i in keep])
        return found[0], found[1]

    return partial(find, describe, True)


def find(describe: Callable[[Pixels], Described], prepared: bool, pixels: Pixels) -> Features:
    """Features of a picture (H, W, 3) at Howard's working size, in full-resolution pixels."""
    small, full_from_small = features.at_working_size(pixels)
    points, descriptors = describe(features.normalised(small) if prepared else small)
    if descriptors is None or not len(points):
        return Features(np.zeros((0, 2), np.float32), np.zeros((0, 1), np.float32))
    xy = project(full_from_small, coordinates(points))
    return Features(xy.astype(np.float32), descriptors)


def coordinates(points: Sequence[cv2.KeyPoint]) -> NDArray[np.float32]:
    """(N, 2) xy."""
    return np.array([p.pt for p in points], np.float32).reshape(-1, 2)


def chosen(
    points: Sequence[cv2.KeyPoint], shape: tuple[int, ...], prepared: bool
) -> NDArray[np.intp]:
    """Indices of the points to keep: over the whole picture, or of each grid cell in turn."""
    response = np.array([p.response for p in points], float)
    if prepared:
        return features.spread(coordinates(points), response, (shape[1], shape[0]))[:KEYPOINTS]
    return np.argsort(-response, kind="stable")[:KEYPOINTS]


def neighbours(plate: NDArray[Any], frame: NDArray[Any]) -> tuple[NDArray[np.intp], NDArray[Any]]:
    """Of each descriptor of the plate, the two nearest of the frame, (N, 2), and how far they are.

    Bits are compared by how many differ (Hamming), floats by L2.
    """
    if plate.dtype == np.uint8:
        apart, index = cv2.batchDistance(plate, frame, cv2.CV_32S, None, None, cv2.NORM_HAMMING, 2)
        return np.asarray(index, np.intp), np.asarray(apart)
    squared = np.square(plate).sum(1)[:, None] + np.square(frame).sum(1) - 2 * plate @ frame.T
    rows, best = np.arange(len(plate)), squared.argmin(1)
    nearest = squared[rows, best]
    squared[rows, best] = np.inf
    second = squared.argmin(1)
    apart = np.column_stack([nearest, squared[rows, second]])
    return np.column_stack([best, second]), np.sqrt(np.maximum(apart, 0))


def mutual_nearest(plate: Features, frame: Features) -> Pairs:
    """Mutual nearest neighbours that pass Howard's ratio test on their distances."""
    if len(plate) < 2 or len(frame) < 2:
        return np.zeros((0, 2), np.intp)
    index, apart = neighbours(plate.descriptors, frame.descriptors)
    back = neighbours(frame.descriptors, plate.descriptors)[0][:, 0]
    mutual = back[index[:, 0]] == np.arange(len(plate))
    keep = np.flatnonzero(mutual & (apart[:, 0] < RATIO * apart[:, 1]))
    return np.column_stack([keep, index[keep, 0]])


def motion_statistics(plate: Features, frame: Features) -> Pairs:
    """GMS in place of the ratio test: nearest neighbours whose neighbours moved along with them."""
    if len(plate) < 2 or len(frame) < 2:
        return np.zeros((0, 2), np.intp)
    best = neighbours(plate.descriptors, frame.descriptors)[0][:, 0]
    matches = [cv2.DMatch(i, int(j), 0.0) for i, j in enumerate(best)]
    points = [cv2.KeyPoint.convert(found.keypoints.tolist()) for found in (plate, frame)]
    # It takes the sizes only to lay its grid over the points.
    sizes = [[int(side) + 1 for side in found.keypoints.max(0)] for found in (plate, frame)]
    kept = cv2.xfeatures2d.matchGMS(sizes[0], sizes[1], points[0], points[1], matches)
    return np.array([(m.queryIdx, m.trainIdx) for m in kept], np.intp).reshape(-1, 2)


def detected(name: str, prepared: bool) -> Method:
    return Method(both_in_one(name, prepared), mutual_nearest)


def described(name: str) -> Method:
    return Method(one_by_the_other(name), mutual_nearest)


METHODS: dict[str, Callable[[], Method]] = {
    "howard": lambda: Method(features.find_features, features.match),
    "howard-thorough": lambda: Method(
        partial(features.find_features, thorough=True), features.match
    ),
    **{name: partial(detected, name, True) for name in DETECTORS},
    **{f"{name}-plain": partial(detected, name, False) for name in DETECTORS},
    **{name: partial(described, name) for name in DESCRIPTORS},
    "orb-gms": lambda: Method(both_in_one("orb", True), motion_statistics),
}
"""Each makes a new one; ImportError where OpenCV was built without it."""
