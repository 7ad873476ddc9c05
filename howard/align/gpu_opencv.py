"""Keypoints and homographies by OpenCV's CUDA modules, where the installed OpenCV was built with
them (`--features opencv-cuda`): the same face as `gpu_features`.

ORB (Rublee et al., ICCV 2011), brute-force matching under the Hamming distance, MAGSAC++ on the
host. OpenCV works on CuPy's memory and on its stream. ORB itself waits for the device on every
level of its pyramid, and matches are sorted out on the host, so that this is slower than our
kernels: it is there to be compared with them. No GPU has run it; the tests have a stand-in.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from howard.align.features import WORKING_SIDE
from howard.align.geometry import Size
from howard.align.gpu_features import SLOTS, THOROUGH, DeviceFeatures, beside, reduced
from howard.align.gpu_person import Person
from howard.align.gpu_view import shrunk, texture_of
from howard.align.robust import Match, robust_homography
from howard.cuda import cupy, read_back
from howard.errors import DeviceError

NEEDED = (
    "ORB_create",
    "DescriptorMatcher_createBFMatcher",
    "createGpuMatFromCudaMemory",
    "wrapStream",
)
"""Of cv2.cuda: the first two are there only with CUDA, the others only in newer versions."""
LEVELS, STEP = 8, 1.2
"""Of ORB's pyramid, at most."""
EDGE = 31
"""Pixels of a level from its edge that ORB leaves out; it fails where nothing is left."""
FAST_THRESHOLD = 8
"""Levels: the contrast of a corner, in a picture whose local contrast is normalised. ORB's usual 20
leaves a tenth of the matches there, and too few in the dark."""
RATIO = 0.8
"""Lowe's ratio test on Hamming distances."""


def check() -> None:
    """Raises DeviceError unless OpenCV can be used on the GPU."""
    if not all(hasattr(opencv(), name) for name in NEEDED):
        raise DeviceError(
            "the installed OpenCV was built without CUDA, which --features opencv-cuda needs (no "
            "wheel on PyPI is): build it with opencv_contrib and WITH_CUDA=ON, or leave --features "
            "out"
        )
    if opencv().getCudaEnabledDeviceCount() < 1:
        raise DeviceError(
            "OpenCV's CUDA modules find no GPU that they can use: build OpenCV for this driver's "
            "CUDA, or leave --features out"
        )


def opencv() -> Any:
    return cv2.cuda


def find_features(pixels: Any, thorough: bool = False) -> DeviceFeatures:
    """Features of an RGB picture (H, W, 3) on the device, the strongest of each level.

    FAST finds corners in the order in which threads happen to come: they are put in one order here,
    so that two runs give the same.
    """
    cp = cupy()
    side, slots = THOROUGH if thorough else (WORKING_SIDE, SLOTS)
    full = pixels.shape[1], pixels.shape[0]
    base = texture_of(shrunk(pixels, reduced(full, min(1.0, side / max(full)))))
    spots, descriptors = cp.zeros((slots, 3), np.float32), cp.zeros((slots, 8), np.uint32)
    number = 0
    if (levels := levels_of(base.shape)) > 0:
        orb = detector(slots, levels)
        keypoints, words = orb.detectAndComputeAsync(gpu_mat(base), None, stream=current_stream())
        number = keypoints.size()[0]
    if number:
        rows = seen(keypoints, np.float32)
        order = cp.lexsort(cp.stack([rows[0], rows[1], rows[4]]))  # x, y, level
        for axis in (0, 1):
            scale = np.float32(full[axis] / base.shape[1 - axis])
            spots[:number, axis] = (rows[axis][order] + np.float32(0.5)) * scale - np.float32(0.5)
        spots[:number, 2] = 1
        descriptors.view(np.uint8)[:number] = seen(words, np.uint8)[order]
    return DeviceFeatures(spots, descriptors, cp.full(1, number, np.int32), full)


def levels_of(shape: tuple[int, int]) -> int:
    """How many levels of a picture (h, w) have anything inside of ORB's edge."""
    room = min(shape) / (2 * EDGE + 2)
    return min(LEVELS, 1 + math.floor(math.log(room, STEP))) if room >= 1 else 0


@functools.cache
def detector(keypoints: int, levels: int) -> Any:
    return opencv().ORB_create(
        nfeatures=keypoints,
        scaleFactor=STEP,
        nlevels=levels,
        edgeThreshold=EDGE,
        fastThreshold=FAST_THRESHOLD,
        blurForDescriptor=True,
    )


def find_homographies(
    plates: Sequence[DeviceFeatures],
    frame: DeviceFeatures,
    person: Person,
    threshold: float,
    plate_size: Size,
    frame_size: Size,
) -> list[Match | None]:
    """Of each plate, by the frame's keypoints beside the person; None for what cannot be believed.

    threshold: pixels of the frame. See `robust_homography`.
    """
    if not plates:
        return []
    frame = beside(frame.spots, frame.descriptors, frame.size, person)
    here = points_of(frame)
    out: list[Match | None] = []
    for plate in plates:
        there = points_of(plate)
        pairs = match(words_of(plate, len(there)), words_of(frame, len(here)))
        found = robust_homography(
            there[pairs[:, 0]], here[pairs[:, 1]], threshold, plate_size, frame_size
        )
        out.append(found and Match(found[0], len(here), len(pairs), found[1]))
    return out


def points_of(features: DeviceFeatures) -> NDArray[np.float32]:
    """(N, 2) xy on the host."""
    spots = read_back(features.spots)
    return np.ascontiguousarray(spots[spots[:, 2] > 0, :2])


def words_of(features: DeviceFeatures, number: int) -> Any:
    """(number, 32) uint8: the descriptors' bytes, on the device."""
    return features.descriptors.view(np.uint8)[:number]


def match(plate: Any, frame: Any) -> NDArray[np.intp]:
    """(K, 2) indices into plate and frame, (N, 32) and (M, 32) descriptors on the device: mutual
    nearest neighbours that pass the ratio test."""
    if len(plate) < 2 or len(frame) < 2:
        return np.zeros((0, 2), np.intp)
    there, here = gpu_mat(plate), gpu_mat(frame)
    matcher, stream = brute_force(), current_stream()
    two = matcher.knnMatchAsync(there, here, 2, stream=stream)
    one = matcher.matchAsync(here, there, stream=stream)
    nearest = matcher.knnMatchConvert(read_back(seen(two, np.int32)))
    back = {m.queryIdx: m.trainIdx for m in matcher.matchConvert(read_back(seen(one, np.int32)))}
    pairs = [
        (best.queryIdx, best.trainIdx)
        for best, second in nearest
        if best.distance < RATIO * second.distance and back[best.trainIdx] == best.queryIdx
    ]
    return np.array(pairs, np.intp).reshape(-1, 2)


@functools.cache
def brute_force() -> Any:
    return opencv().DescriptorMatcher_createBFMatcher(cv2.NORM_HAMMING)


def current_stream() -> Any:
    """CuPy's, for OpenCV."""
    return opencv().wrapStream(cupy().cuda.get_current_stream().ptr)


def gpu_mat(array: Any) -> Any:
    """(rows, columns) uint8 of the device as OpenCV sees it, without a copy; not its owner."""
    rows, columns = array.shape
    return opencv().createGpuMatFromCudaMemory(
        rows, columns, cv2.CV_8UC1, array.data.ptr, array.strides[0]
    )


def seen(mat: Any, dtype: Any) -> Any:
    """A GpuMat as CuPy sees it, without a copy: (rows, columns), or (rows, columns, channels)."""
    return cupy().asarray(Seen(mat, np.dtype(dtype)))


class Seen:
    """What tells CuPy where a GpuMat lies. CuPy keeps it while an array of it is in use; what has
    been enqueued by then is safe, since OpenCV's cudaFree waits for the device."""

    def __init__(self, mat: Any, dtype: np.dtype[Any]) -> None:
        (columns, rows), channels = mat.size(), mat.channels()
        several = channels > 1
        self.mat = mat
        self.__cuda_array_interface__ = {
            "shape": (rows, columns, channels) if several else (rows, columns),
            "typestr": dtype.str,
            "data": (mat.cudaPtr(), False),
            "strides": (mat.step, channels * dtype.itemsize, dtype.itemsize)[: 2 + several],
            "version": 3,
        }
