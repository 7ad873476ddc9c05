"""The kernels that work on views, keypoints and matches, as a run launches them.

The view has one size for all sizes of frames, but for very small ones.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.kernel_frames import (
    empty,
    field,
    holes_size,
    luma,
    picture,
    random,
    searched_to,
    tiled,
)
from benchmarks.kernel_work import EXACT, ROUNDED, SOLVED, TIES, Launch, Maker, Size, Work
from howard.align.direct import (
    CORNER_SHARE,
    FEWEST_POINTS,
    MATCHED_LEVELS,
    NEAR_PIXELS,
    SCALES,
    TEXTURE,
    VECTORS,
)
from howard.align.geometry import project
from howard.align.view import AGREEMENT_WINDOW, view_size
from howard.cuda import TILE, tiles
from tests import reference

F = np.float32
PLATES = 3
"""That are aligned with a frame at once."""
FEATURE_SIDE = 640
"""Longest side at which keypoints are found."""
MARGIN = 16
"""Pixels from the edge where there are none."""
DESCRIPTORS = 2048
"""Of a textured picture."""
MATCHES, TRIALS = 1024, 4096
"""Of a pair of pictures; homographies that are tried for each."""
CHECKED = 128
"""Of the trials: the twins work on one at a time."""
THRESHOLD = F(6.0)
"""Pixels of a frame of 1080p within which a match agrees with a homography."""


def luma_from_rgb(size: Size) -> Work:
    view = view_size(size)
    args = picture(view)[None], *view, empty(view)[None]
    return Work((tiled("color", "luma_from_rgb", view, *args),), {"luma": EXACT})


def box_mean(size: Size) -> Work:
    """Of the five planes that tell how well two textures agree."""
    (width, height), planes = view_size(size), 5
    side = max(5, round(width * AGREEMENT_WINDOW)) | 1
    source = (random().random((planes, height, 1, width)) * 255).astype(F)
    turned, target = (
        np.zeros((planes, width, height, 1), F),
        np.zeros((planes, height, width, 1), F),
    )
    down = source, height, 1, width, side, turned
    along = turned.reshape(planes, width, 1, height), width, 1, height, side, target

    def step(count: int, across: int, args: tuple[Any, ...]) -> Launch:
        grid = (-(-across // 32), -(-count // 64), planes)
        return Launch("view", "mean_of_lines", grid, (32, 8), args)

    steps = step(height, width, down), step(width, height, along)
    return Work(steps, {"target": ROUNDED})


def pictures_and_patches(size: Size) -> tuple[NDArray[np.uint8], tuple[int, ...]]:
    """(1 + N, h, w): a frame, and plates that are shifted by a few pixels; width, height, and
    columns and rows of patches."""
    width, height = view_size(size)
    wide = luma((width + 16, height + 16))
    shifts = [(8, 8), (9, 6), (5, 9), (12, 11)][: 1 + PLATES]
    pictures = np.stack([wide[y : y + height, x : x + width] for x, y in shifts])
    return pictures, (width, height, 1 + (width - 8) // 4, 1 + (height - 8) // 4)


def searched(name: str, pictures: Any, sizes: tuple[int, ...], *args: Any) -> Work:
    patches = sizes[2] * sizes[3]
    found = np.zeros((PLATES, patches, 2), F)
    grid = (-(-patches // 8), 1, PLATES)
    step = Launch("flow", name, grid, (64,), (pictures, *sizes, *args, found))
    return Work((step,), {"found": EXACT})


def search_from_coarser(size: Size) -> Work:
    pictures, sizes = pictures_and_patches(size)
    small = sizes[0] // 2, sizes[1] // 2
    coarser = np.stack([field(small, 2, 1, 20, seed) for seed in range(PLATES)])
    return searched("search_from_coarser", pictures, sizes, coarser, *small)


def search_from_neighbours(size: Size) -> Work:
    pictures, sizes = pictures_and_patches(size)
    before = random().normal(0, 2, (PLATES, sizes[2] * sizes[3], 2)).astype(F)
    return searched("search_from_neighbours", pictures, sizes, before)


def flow_of_patches(size: Size) -> Work:
    pictures, sizes = pictures_and_patches(size)
    found = random().normal(0, 2, (PLATES, sizes[2] * sizes[3], 2)).astype(F)
    flow = np.zeros((PLATES, sizes[1], sizes[0], 2), F)
    args = (pictures, *sizes, found, flow)
    step = Launch("flow", "flow_of_patches", tiles(sizes[0], sizes[1], PLATES), TILE, args)
    return Work((step,), {"flow": EXACT})


def smooth(size: Size) -> Work:
    """One of the smoother's three passes: along the rows, then down the columns."""
    view = view_size(size)
    guide, signal = picture(view), random().random((view[1], view[0], 3)).astype(F)

    def step(is_down: int) -> Launch:
        args = guide, *view, is_down, F(400), F(10), 3, signal
        return Launch("smooth", "smooth_lines", (view[1 - is_down],), (256,), args, ("signal",))

    return Work((step(0), step(1)), {"signal": ROUNDED})


def grid_of(view: Size) -> tuple[int, int, int]:
    """Stride, columns and rows of the points that are fitted to."""
    stride = max(1, round((view[0] * view[1] / VECTORS) ** 0.5))
    columns, rows = (-(-(side - stride // 2) // stride) for side in view)
    return stride, columns, rows


def fit_vectors(size: Size) -> Work:
    """Points that three homographies map, with noise, and a fifth of them astray."""
    view = view_size(size)
    stride, columns, rows = grid_of(view)
    y, x = np.mgrid[:rows, :columns] * stride + stride // 2
    points = np.stack([x.ravel(), y.ravel()], -1)
    starts = np.stack([homography(seed) for seed in range(PLATES)])
    vectors = np.zeros((PLATES, len(points), 4), F)
    for n, start in enumerate(starts):
        vectors[n, :, :2] = project(np.linalg.inv(start), points)
    vectors[..., :2] += random().normal(0, 0.2, vectors[..., :2].shape)
    vectors[:, ::5, :2] += random(1).normal(0, 9, vectors[:, ::5, :2].shape)
    vectors[..., 2:] = random(2).random(vectors[..., 2:].shape) * (1, 40)
    both = np.stack([starts, np.linalg.inv(starts)], 1).reshape(PLATES, 2, 9)
    limits = F(MATCHED_LEVELS), F(NEAR_PIXELS), FEWEST_POINTS, np.zeros((PLATES, 13))
    rounds = np.array(SCALES), len(SCALES), np.float64(CORNER_SHARE)
    args = vectors, *view, stride, columns, rows, both, *rounds, *limits
    step = Launch("direct", "fit_vectors", (1, 1, PLATES), (256,), args)
    return Work((step,), {"fits": SOLVED})


def homography(seed: int) -> NDArray[np.float64]:
    """A small motion of a camera, as a view sees it."""
    turn = np.eye(3) + random(seed).normal(0, 1, (3, 3)) * [[1e-2] * 2 + [5]] * 2 + [[1e-5] * 3]
    return turn / turn[2, 2]


def weigh_vectors(size: Size) -> Work:
    pictures, (width, height, *_) = pictures_and_patches(size)
    stride, columns, rows = grid_of((width, height))
    inside = np.full((PLATES, height, width), 255, np.uint8)
    flow = np.stack([field((width, height), 2, 2, 30, seed) for seed in range(PLATES)])
    person, both = np.zeros((height, width), np.uint8), np.stack([np.eye(3).reshape(1, 9)] * 2, 1)
    vectors = np.zeros((PLATES, columns * rows, 4), F)
    seen = pictures, inside, width, height, flow, person, F(0.25), both.repeat(PLATES, 0)
    args = *seen, stride, columns, rows, F(TEXTURE), F(MATCHED_LEVELS), vectors
    step = Launch("direct", "weigh_vectors", (-(-columns * rows // 256), 1, PLATES), (256,), args)
    return Work((step,), {"vectors": ROUNDED})


def feature_size(size: Size) -> Size:
    scale = min(1.0, FEATURE_SIDE / max(size))
    return round(size[0] * scale), round(size[1] * scale)


def corner_score(size: Size) -> Work:
    small = feature_size(size)
    args = luma(small)[None], *small, MARGIN, empty(small, dtype=F)[None]
    return Work((tiled("detect", "corner_score", small, *args),), {"score": ROUNDED})


def blur(size: Size) -> Work:
    small, weights = feature_size(size), cv2.getGaussianKernel(7, 1.8, cv2.CV_32F).ravel()
    args = luma(small)[None, ..., None], *small, 1, weights, 3, empty(small, 1)[None]
    return Work((tiled("resize", "blur", small, *args),), {"target": TIES})


def hamming_best_two(size: Size) -> Work:
    """Of two pictures, there and back; half the descriptors are in both, with some bits flipped."""
    slots = min(DESCRIPTORS, size[0])
    bits = random().integers(0, 2**32, (2, slots, 8), np.uint32)
    flips = np.bitwise_and.reduce(random(1).integers(0, 2**32, (3, slots // 2, 8), np.uint32))
    bits[1, : slots // 2] = bits[0, : slots // 2] ^ flips
    spots = (random(2).random((2, slots, 3)) * (*size, 1)).astype(F)
    pairs, counts = np.array([(0, 1), (1, 0)], np.int32), np.full(2, slots, np.int32)
    out = np.zeros((2, slots), np.int32), np.zeros((2, slots, 2), np.int32)
    args = bits, spots, counts, slots, pairs, F(4), *out
    step = Launch("match", "hamming_best_two", (-(-slots // 64), 1, 2), (64,), args)
    return Work((step,), {"best": EXACT, "distances": EXACT})


def matches_of(size: Size) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.float64]]:
    """matched (2, K, 4), 40 % of them wrong, counts (2,), and homographies that are near."""
    count = min(MATCHES, size[0])
    plate = random().uniform((0, 0), size, (2, count, 2))
    truth = np.stack([homography(seed) for seed in range(2)])
    frame = np.stack([project(h, p) for h, p in zip(truth, plate, strict=True)])
    frame += random(1).normal(0, 0.5, frame.shape)
    wrong = random(2).random((2, count)) < 0.4
    frame[wrong] = random(3).uniform((0, 0), size, (int(wrong.sum()), 2))
    trials = random(4).normal(0, 1, (2, min(TRIALS, 4 * size[0]), 9))
    near = truth.reshape(2, 1, 9) + trials * ([2e-3, 2e-3, 2] * 2 + [1e-7, 1e-7, 0])
    matched = np.concatenate([plate, frame], -1).astype(F)
    return matched, np.full(2, count, np.int32), near


def sample_homographies(size: Size) -> Work:
    matched, counts, near = matches_of(size)
    slots, trials, area = matched.shape[1], near.shape[1], F(5e-4 * size[0] * size[1])
    known = matched, counts, slots
    args = *known, trials, np.uint32(7), area, np.zeros_like(near)

    def judge() -> dict[str, NDArray[Any]]:
        few = np.zeros_like(near[:, :CHECKED])
        reference.sample_homographies(*known, few.shape[1], 7, area, few)
        return {"homographies": few}

    step = Launch("homography", "sample_homographies", (-(-trials // 64), 1, 2), (64,), args)
    return Work((step,), {"homographies": SOLVED}, judge)


def score_homographies(size: Size) -> Work:
    matched, counts, near = matches_of(size)
    trials, known = near.shape[1], (matched, counts, matched.shape[1], near)
    args = *known, trials, THRESHOLD, np.zeros((2, trials), F)

    def judge() -> dict[str, NDArray[Any]]:
        few = np.zeros((2, min(CHECKED, trials)), F)
        reference.score_homographies(*known, few.shape[1], THRESHOLD, few)
        return {"scores": few}

    step = Launch("homography", "score_homographies", (-(-trials // 8), 1, 2), TILE, args)
    return Work((step,), {"scores": ROUNDED}, judge)


def nearest_solid(size: Size) -> Work:
    """The nearest pixels that the plate shows: of each column, then of all."""
    small, reach = holes_size(size)
    solid = (field(small, 1, 1, 40)[..., 0] > -0.7).astype(np.uint8)[None]
    rows = np.zeros(solid.shape, np.int32)
    out = np.zeros(solid.shape, np.int32), np.zeros(solid.shape, F)

    def judge() -> dict[str, NDArray[Any]]:
        far = cv2.distanceTransform(1 - solid[0], cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        return {"distance": np.minimum(far, searched_to(reach))[None]}

    steps = (
        tiled("holes", "nearest_in_column", small, solid, *small, reach, rows),
        tiled("holes", "nearest_solid", small, rows, *small, reach, *out),
    )
    return Work(steps, {"distance": ROUNDED}, judge)


WORKS: dict[str, Maker] = {
    make.__name__: make
    for make in (
        *(luma_from_rgb, box_mean, search_from_coarser, search_from_neighbours, flow_of_patches),
        *(smooth, weigh_vectors, fit_vectors, corner_score, blur, hamming_best_two),
        *(sample_homographies, score_homographies, nearest_solid),
    )
}
