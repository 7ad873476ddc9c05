"""Keypoints and descriptors on the GPU, and the homographies that their matches agree on.

Corners of a pyramid, the strongest of each cell, described by BRIEF (Calonder et al., ECCV 2010;
oriented: Rublee et al., ICCV 2011) of the picture with its local contrast normalised, matched under
the Hamming distance. Nothing waits for the device but the end of `find_homographies`.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from howard.align.features import WORKING_SIDE
from howard.align.geometry import Homography, Size
from howard.align.gpu_blur import blurred
from howard.align.gpu_outputs import Outputs
from howard.align.gpu_person import Person, nobody
from howard.align.gpu_view import shrunk, texture_of
from howard.align.robust import (
    FEWEST_INLIERS,
    PLANE_SHARE,
    Match,
    is_believable,
    robust_homography,
)
from howard.cuda import TILE, cupy, kernel, read_back, tiles

SLOTS = 3072
"""Room for keypoints, at WORKING_SIDE. The descriptors say less than SIFT's, but cost little."""
THOROUGH = (1024, 8192)
"""Longest side and slots where the quick search found nothing."""
LEVELS, STEP = 6, 1.15
"""Of the pyramid. BRIEF tells a patch from one that is a tenth larger, so that each level answers
for what lies near it; all of them, for takes of which one is zoomed by 1.5 and more."""
CELL, MOST_PER_CELL = 32, 8
"""Pixels of a level of which the strongest corners are kept, and how many in small pictures."""
MARGIN = 16
"""Pixels from the edge that a patch takes, whatever its direction."""
LEAST_SCORE = 4.0
"""Smaller eigenvalue, in squared levels per pixel of the normalised picture: with less, places
where noise was raised to contrast have corners."""
SMOOTHING, SMOOTHING_RADIUS = 1.8, 3
"""Standard deviation and radius of the blur before pixels are compared."""
RATIO = 0.78
"""Lowe's ratio test, on Hamming distances."""
APART = 8.0
"""Pixels at WORKING_SIDE: what is nearer is the same corner on another level, and no rival."""
TRIALS = 4096
"""Samples of four matches: where a fifth are right, one sample in 600 is."""
LEAST_AREA = 0.002
"""Of the frame: twice the smallest triangle of a sample. Smaller ones say too little."""
ROUNDS = 10
"""Of reweighted least squares."""
SEVERAL = 3
"""Plates, those with the most matches, that are looked at beyond a plane."""
BLOCK = 256


@dataclass(frozen=True, eq=False)
class DeviceFeatures:
    """Of one picture, all on the device; slots in use come first."""

    spots: Any
    """(slots, 3) float32: x and y in full-resolution pixels, and the score, 0 in an empty slot."""
    descriptors: Any
    """(slots, 8) uint32: 256 bits."""
    count: Any
    """(1,) int32."""
    size: Size
    """(width, height) of the picture."""

    @property
    def slots(self) -> int:
        return int(self.spots.shape[0])

    def __len__(self) -> int:
        """Waits for the device."""
        return int(read_back(self.count)[0])


@dataclass(frozen=True, eq=False)
class Matches:
    """Of P plates with a frame, on the device."""

    points: Any
    """(P, slots, 4) float32: x, y in the plate and x, y in the frame, full-resolution pixels."""
    counts: Any
    """(P,) int32."""


def find_features(pixels: Any, thorough: bool = False) -> DeviceFeatures:
    """Features of an RGB picture (H, W, 3) on the device, spread over it.

    Patches are taken upright, which tells more of them apart while the camera is not turned by more
    than some 15 degrees; the thorough search turns them.
    """
    cp = cupy()
    side, slots = THOROUGH if thorough else (WORKING_SIDE, SLOTS)
    full = pixels.shape[1], pixels.shape[0]
    base = texture_of(shrunk(pixels, reduced(full, min(1.0, side / max(full)))))
    sizes = [reduced(base.shape[::-1], STEP**-k) for k in range(LEVELS)]
    cells = [-(-width // CELL) * -(-height // CELL) for width, height in sizes]
    per_cell = min(MOST_PER_CELL, slots // sum(cells))
    spots, descriptors = cp.zeros((slots, 3), np.float32), cp.empty((slots, 8), np.uint32)
    directions = cp.empty((slots, 2), np.float32)
    directions[:, 0], directions[:, 1] = 1, 0
    first = 0
    for size, number in zip(sizes, cells, strict=True):
        level = Level(shrunk(base, size), full, first, number * per_cell)
        first += level.count
        detect(level, per_cell, spots)
        if thorough:
            orient(level, spots, directions)
        describe(level, spots, directions, descriptors)
    return beside(spots, descriptors, full, nobody())


@dataclass(frozen=True, eq=False)
class Level:
    """Of the pyramid of a picture."""

    texture: Any
    """(h, w) uint8."""
    full: Size
    """(width, height) of the picture."""
    first: int
    count: int
    """Its slots."""

    @property
    def size(self) -> Size:
        return self.texture.shape[1], self.texture.shape[0]

    @property
    def to_full(self) -> tuple[np.float32, np.float32]:
        """By how much the picture is larger, across and down."""
        width, height = self.size
        return np.float32(self.full[0] / width), np.float32(self.full[1] / height)

    @property
    def warps(self) -> tuple[int, int, int]:
        """The grid of kernels that run a warp per slot."""
        return -(-self.count // TILE[1]), 1, 1


def detect(level: Level, per_cell: int, spots: Any) -> None:
    """Fills its slots with the strongest corners of each cell."""
    (width, height), score = level.size, cupy().empty(level.texture.shape, np.float32)
    args = level.texture, width, height, MARGIN, score
    kernel("detect", "corner_score")(tiles(width, height), TILE, args)
    target = level.first, len(spots), spots
    kernel("detect", "strongest_per_cell")(
        (-(-width // CELL), -(-height // CELL), 1),
        TILE,
        (score, width, height, np.float32(LEAST_SCORE), per_cell, *level.to_full, *target),
    )


def orient(level: Level, spots: Any, directions: Any) -> None:
    where = *level.to_full, spots, level.first, level.count, len(spots)
    args = level.texture, *level.size, *where, directions
    kernel("describe", "orient")(level.warps, TILE, args)


def describe(level: Level, spots: Any, directions: Any, descriptors: Any) -> None:
    smooth = blurred(level.texture, SMOOTHING, SMOOTHING_RADIUS)
    where = *level.to_full, pattern(cupy()), spots, directions
    args = smooth, *level.size, *where, level.first, level.count, len(spots), descriptors
    kernel("describe", "describe")(level.warps, TILE, args)


def reduced(size: Size, scale: float) -> Size:
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


@functools.cache
def pattern(cp: Any) -> Any:
    """(256, 4) int8: the pixels that descriptors compare."""
    out = cp.empty((256, 4), np.int8)
    kernel("describe", "brief_pattern")((1,), (256,), (out,))
    cp.cuda.get_current_stream().synchronize()  # once: other streams may use it, too
    return out


def beside(spots: Any, descriptors: Any, size: Size, person: Person) -> DeviceFeatures:
    """The keypoints that are not on the person, unless hardly any would be left."""
    cp = cupy()
    kept, packed, count = cp.empty_like(spots), cp.empty_like(descriptors), cp.empty(1, np.int32)
    rows, columns = person.mask.shape
    where = *person.known, columns, rows, *size, 4 * FEWEST_INLIERS
    args = spots, descriptors, len(spots), *where, kept, packed, count
    kernel("detect", "compact_keypoints")((1, 1, 1), (BLOCK,), args)
    return DeviceFeatures(kept, packed, count, size)


def match(plates: Sequence[DeviceFeatures], frame: DeviceFeatures) -> Matches:
    """Mutual nearest neighbours that pass the ratio test. All of the same search."""
    cp, number, slots = cupy(), len(plates), frame.slots
    sets = [*plates, frame]
    spots = cp.stack([s.spots for s in sets])
    descriptors = cp.stack([s.descriptors for s in sets])
    counts = cp.concatenate([s.count for s in sets])
    there = [(plate, number) for plate in range(number)]
    pairs = cp.asarray(np.array(there + [pair[::-1] for pair in there], np.int32))
    best = cp.empty((2 * number, slots), np.int32)
    distances = cp.empty((2 * number, slots, 2), np.int32)
    apart = np.float32(APART * max(1.0, max(frame.size) / WORKING_SIDE))
    compared = descriptors, spots, counts, slots, pairs, apart, best, distances
    kernel("match", "hamming_best_two")((-(-slots // 64), 1, 2 * number), (64,), compared)
    points, found = cp.empty((number, slots, 4), np.float32), cp.empty(number, np.int32)
    chosen = spots, counts, slots, pairs, best, distances, np.float32(RATIO), points, found
    kernel("match", "mutual_matches")((1, 1, number), (BLOCK,), chosen)
    return Matches(points, found)


def find_homographies(
    plates: Sequence[DeviceFeatures],
    frame: DeviceFeatures,
    person: Person,
    threshold: float,
    plate_size: Size,
    frame_size: Size,
) -> list[Match | None]:
    """Of each plate, by the frame's keypoints beside the person; None for what cannot be believed.

    threshold: pixels of the frame. As `robust_homography`, but for what a plane's own share of the
    matches decides here: whether it looks like one (see PLANE_SHARE).
    """
    if not plates:
        return []
    frame = beside(frame.spots, frame.descriptors, frame.size, person)
    found = match(plates, frame)
    homographies, inliers, matches, keypoints = planes(
        found, frame.count, threshold, plate_size, frame_size
    )
    out: list[Match | None] = []
    for homography, agree, number in zip(homographies, inliers, matches, strict=True):
        is_believed = is_believable(homography, agree, number, plate_size, frame_size)
        out.append(Match(homography, keypoints, number, agree) if is_believed else None)
    weak = [
        k for k, n in enumerate(matches) if n >= FEWEST_INLIERS and inliers[k] < PLANE_SHARE * n
    ]
    for k in sorted(weak, key=lambda k: -matches[k])[:SEVERAL]:
        points = read_back(found.points[k, : matches[k]])
        whole = robust_homography(points[:, :2], points[:, 2:], threshold, plate_size, frame_size)
        out[k] = Match(whole[0], keypoints, matches[k], whole[1]) if whole else None
    return out


def planes(
    found: Matches, frame_count: Any, threshold: float, plate_size: Size, frame_size: Size
) -> tuple[list[Homography], list[int], list[int], int]:
    """Of each plate the homography that most matches agree on (zeros if there is none), how many
    do, of how many; and the frame's number of keypoints. In one copy."""
    cp, (number, slots, _) = cupy(), found.points.shape
    out = Outputs(
        homographies=("float64", (number, 9)),
        verdicts=("float32", (number, 2)),
        matches=("int32", (number,)),
        keypoints=("int32", (1,)),
    )
    out["matches"][:], out["keypoints"][:] = found.counts, frame_count
    samples = cp.empty((number, TRIALS, 9), np.float64)
    scores = cp.empty((number, TRIALS), np.float32)
    inverses = cp.empty((number, 9), np.float32)
    given, limit = (found.points, found.counts, slots), np.float32(threshold)
    area = np.float32(LEAST_AREA * frame_size[0] * frame_size[1])
    kernel("homography", "sample_homographies")(
        (TRIALS // 64, 1, number), (64,), (*given, TRIALS, np.uint32(0), area, samples)
    )
    kernel("homography", "score_homographies")(
        (TRIALS // TILE[1], 1, number), TILE, (*given, samples, TRIALS, limit, scores)
    )
    how = samples, scores, TRIALS, limit, ROUNDS, *plate_size, *frame_size
    refined = out["homographies"], inverses, out["verdicts"]
    kernel("homography", "refine_homography")((1, 1, number), (BLOCK,), (*given, *how, *refined))
    got = out.get()
    return (
        list(got["homographies"].reshape(-1, 3, 3)),
        [int(n) for n in got["verdicts"][:, 1]],
        [int(n) for n in got["matches"]],
        int(got["keypoints"][0]),
    )
