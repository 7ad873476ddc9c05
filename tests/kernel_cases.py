"""What each kernel is tried on: small pictures, odd sizes, batches, nothing, too much.

A case function has the name of its kernel and yields cases; test_kernels.py runs each through the
kernel and its twin in reference.py and compares the outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from reference import brief_pattern as make_pattern
from reference import count_costs as count_costs_of
from reference import matrix_from
from reference import nearest_in_column as find_rows
from reference import nearest_solid as find_nearest
from reference import steepest_points as find_steepest

from howard.align.geometry import project
from howard.cuda import TILE, tiles

F = np.float32


@dataclass(frozen=True)
class Tolerance:
    """How far an output may be from its twin's."""

    most: float
    share: float = 1.0
    """At most this share of the elements may differ at all."""
    relative: float = 0.0


EXACT = Tolerance(0.0)
"""Integers, and floats computed in float32 in the same order: nothing to differ by."""
TIES = Tolerance(1.0, share=0.01)
"""Levels summed in another order, or in float64: now and then one falls to the other side of a
tie between two levels."""
SUMS = Tolerance(1e-3, relative=1e-5)
"""float32 sums of up to a thousand terms, in another order."""
SOLVED = Tolerance(1e-7, relative=1e-6)
"""Four points solved in float64 in two ways; the worst of the samples loses nine digits."""
REFINED = Tolerance(1e-9, relative=1e-5)
"""Both iterate to the same minimum, the kernel with derivatives in float32. 1e-5 of each entry
moves a corner of these pictures by a hundredth of a pixel."""
LIGHT = Tolerance(2e-4)
"""float32 sums over a thousand pixels: the gain is good to 1e-6, the bias, a difference of two
means of about 100, to 1e-4."""
VERDICT = Tolerance(0.03)
"""The better part is counted in bins of a quarter of a level: each pixel is off by at most half a
bin, their mean by far less."""


DESCENDED = Tolerance(1e-6, relative=1e-4)
"""Steps by medians and sums of float32: 1e-4 of a shift of 3 pixels is far below what counts."""
EPIPOLE = Tolerance(1e-5, relative=1e-4)
"""float32 sums over a thousand samples, in eight rounds; homogeneous, its last part is below 1."""
DRAWN = Tolerance(1.0, share=0.01)
"""Halves as numbers: now and then one falls to the other side of a tie."""
ANYTHING = Tolerance(np.inf)
"""Memory that a kernel works in."""


@dataclass(frozen=True)
class Case:
    grid: tuple[int, ...]
    block: tuple[int, ...]
    args: list[Any]
    tolerances: dict[str, Tolerance]
    """Of the outputs, by their parameters' names."""


CASES: dict[str, Callable[[], Iterator[Case]]] = {}


def case(function: Callable[[], Iterator[Case]]) -> Callable[[], Iterator[Case]]:
    CASES[function.__name__] = function
    return function


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def textured(height: int, width: int, seed: int = 0) -> np.ndarray:
    """(H, W, 3) uint8: a smooth colour field with blocks on it, with corners everywhere."""
    random = rng(seed)
    picture = cv2.resize(random.integers(40, 216, (6, 8, 3)).astype(np.uint8), (width, height))
    for _ in range(width * height // 300):
        x, y, w, h = random.integers(0, (width, height, 24, 24))
        colour = tuple(map(int, random.integers(0, 256, 3)))
        cv2.rectangle(picture, (int(x), int(y)), (int(x + w), int(y + h)), colour, -1)
    noisy = picture + random.normal(0, 2, picture.shape)
    return noisy.clip(0, 255).astype(np.uint8)


def luma_of(height: int, width: int, seed: int = 0) -> np.ndarray:
    return cv2.cvtColor(textured(height, width, seed), cv2.COLOR_RGB2GRAY)


# color.cu

BT709 = matrix_from(0.2126, 0.0722, is_full=False)
BT601_FULL = matrix_from(0.299, 0.114, is_full=True)


def plane_cases(dtype: type) -> Iterator[Case]:
    top = np.iinfo(dtype).max + 1
    for width, height, pose, site in (
        (37, 21, 0, (0.5, 0.5)),
        (40, 26, 3, (0, 0.5)),
        (33, 9, 6, (0, 0)),
    ):
        pitch = width + 7
        luma = rng().integers(0, top, (height, pitch)).astype(dtype)
        chroma = rng(1).integers(0, top, ((height + 1) // 2, pitch)).astype(dtype)
        shape = (width, height, 3) if pose & 1 else (height, width, 3)
        args = [luma, pitch, chroma, pitch, width, height, F(site[0]), F(site[1]), BT709, pose]
        out = np.zeros(shape, np.uint8)
        yield Case(tiles(width, height), TILE, [*args, out], {"rgb": EXACT})


@case
def nv12_to_rgb() -> Iterator[Case]:
    return plane_cases(np.uint8)


@case
def p010_to_rgb() -> Iterator[Case]:
    return plane_cases(np.uint16)


@case
def ycbcr_to_rgb() -> Iterator[Case]:
    for pose in range(8):
        picture = rng(pose).integers(0, 256, (2, 11, 36, 3)).astype(np.uint8)
        out = np.zeros((2, 36, 11, 3) if pose & 1 else picture.shape, np.uint8)
        args = [picture, 36, 11, pose // 2 % 2, BT601_FULL, pose, out]
        yield Case(tiles(36, 11, 2), TILE, args, {"rgb": EXACT})


@case
def luma_from_rgb() -> Iterator[Case]:
    rgb = rng().integers(0, 256, (3, 19, 45, 3)).astype(np.uint8)
    args = [rgb, 45, 19, np.zeros((3, 19, 45), np.uint8)]
    yield Case(tiles(45, 19, 3), TILE, args, {"luma": EXACT})


# resize.cu


def resized(source: np.ndarray, padded: tuple[int, int], target: tuple[int, int]) -> Case:
    """padded, target: (width, height)."""
    images, height, width, channels = source.shape
    out = np.zeros((images, target[1], target[0], channels), np.uint8)
    args = [source, width, height, *padded, channels, out, *target]
    return Case(tiles(*target, images), TILE, args, {"target": TIES})


@case
def resize_area() -> Iterator[Case]:
    source = rng().integers(0, 256, (2, 30, 45, 3)).astype(np.uint8)
    yield resized(source, (45, 30), (15, 10))
    yield resized(source, (48, 32), (31, 17))
    yield resized(source[..., :1].copy(), (45, 30), (45, 30))


@case
def resize_linear() -> Iterator[Case]:
    source = rng().integers(0, 256, (2, 13, 20, 3)).astype(np.uint8)
    yield resized(source, (24, 16), (32, 32))


@case
def blur() -> Iterator[Case]:
    for channels, sigma, radius in ((1, 1.4, 3), (3, 0.7, 2)):
        weights = cv2.getGaussianKernel(2 * radius + 1, sigma, cv2.CV_32F).ravel()
        source = rng().integers(0, 256, (2, 21, 37, channels)).astype(np.uint8)
        args = [source, 37, 21, channels, weights, radius, np.zeros_like(source)]
        yield Case(tiles(37, 21, 2 * channels), TILE, args, {"target": TIES})


# detect.cu


@case
def corner_score() -> Iterator[Case]:
    luma = np.stack([luma_of(45, 70, s) for s in range(2)])
    args = [luma, 70, 45, 16, np.full(luma.shape, -1, F)]
    yield Case(tiles(70, 45, 2), TILE, args, {"score": EXACT})


@case
def strongest_per_cell() -> Iterator[Case]:
    score = rng().random((2, 45, 70)).astype(F) * 50
    score[0, :20, :20] = 7  # a plateau has one summit at most, and cells may be empty
    score[1, :, 32:] = 0
    for first, slots in ((0, 24), (5, 40)):
        spots = np.full((2, slots, 3), -1, F)
        args = [score, 70, 45, F(1), 4, F(1.5), F(2.25), first, slots, spots]
        yield Case((3, 2, 2), TILE, args, {"spots": EXACT})


@case
def compact_keypoints() -> Iterator[Case]:
    slots = 600
    spots = rng().random((3, slots, 3)).astype(F) * (640, 360, 1)
    spots = spots.astype(F)
    spots[rng(1).random((3, slots)) < 0.4] = 0
    spots[2] = 0
    descriptors = rng(2).integers(0, 2**32, (3, slots, 8), np.uint32)
    person = np.zeros((27, 48), np.uint8)
    person[5:20, 10:30] = 1
    for count, fewest in ((int(person.sum()), 40), (int(person.sum()), 4000), (2000, 40)):
        out = [np.full((3, slots, 3), 9, F), np.zeros_like(descriptors), np.zeros(3, np.int32)]
        known = [person, np.array([count], np.int32), 900, 48, 27, 640, 360, fewest]
        tolerances = dict.fromkeys(("kept", "packed", "counts"), EXACT)
        yield Case((1, 1, 3), (256,), [spots, descriptors, slots, *known, *out], tolerances)


# describe.cu


def pattern() -> np.ndarray:
    out = np.zeros((256, 4), np.int8)
    make_pattern(out)
    return out


@case
def brief_pattern() -> Iterator[Case]:
    yield Case((1,), (256,), [np.zeros((256, 4), np.int8)], {"pattern": EXACT})


def spots_in(height: int, width: int, count: int, slots: int, scale: tuple[float, float]):
    """Spots (2, slots, 3), with sub-pixel positions, from slot 3 on; some are empty."""
    out = np.zeros((2, slots, 3), F)
    at = rng().uniform((16, 16), (width - 17, height - 17), (2, count, 2))
    out[:, 3 : 3 + count, :2] = (at + 0.5) * scale - 0.5
    out[:, 3 : 3 + count, 2] = rng(1).random((2, count)) > 0.2
    return out


@case
def orient() -> Iterator[Case]:
    luma = np.stack([luma_of(50, 61), np.zeros((50, 61), np.uint8)])
    spots = spots_in(50, 61, 20, 25, (1.5, 2))
    args = [luma, 61, 50, F(1.5), F(2), spots, 3, 20, 25, np.zeros((2, 25, 2), F)]
    yield Case((3, 1, 2), TILE, args, {"directions": EXACT})


@case
def describe() -> Iterator[Case]:
    luma = np.stack([luma_of(50, 61, s) for s in range(2)])
    spots = spots_in(50, 61, 20, 25, (1.5, 2))
    turn = rng(3).uniform(0, 2 * np.pi, (2, 25))
    directions = np.stack([np.cos(turn), np.sin(turn)], -1).astype(F)
    where = [pattern(), spots, directions, 3, 20, 25]
    args = [luma, 61, 50, F(1.5), F(2), *where, np.zeros((2, 25, 8), np.uint32)]
    yield Case((3, 1, 2), TILE, args, {"descriptors": EXACT})


# match.cu


def described(slots: int = 330) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """descriptors (4, slots, 8), counts (4,) and pairs: one set is another, with some bits
    flipped; one has a single descriptor, one none."""
    random = rng()
    descriptors = random.integers(0, 2**32, (4, slots, 8), np.uint32)
    flips = random.integers(0, 2**32, (slots, 8), np.uint32)
    for _ in range(3):
        flips &= random.integers(0, 2**32, (slots, 8), np.uint32)
    descriptors[1] = descriptors[0, random.permutation(slots)] ^ flips
    counts = np.array([slots, slots - 30, 1, 0], np.int32)
    pairs = np.array([(0, 1), (1, 2), (3, 0), (1, 0), (2, 1), (0, 3)], np.int32)
    return descriptors, counts, pairs


@case
def hamming_best_two() -> Iterator[Case]:
    descriptors, counts, pairs = described()
    spots = (rng(1).random((4, 330, 3)) * 100).astype(F)
    for apart in (0, 20):
        out = [np.full((6, 330), -1, np.int32), np.full((6, 330, 2), -1, np.int32)]
        args = [descriptors, spots, counts, 330, pairs, F(apart), *out]
        yield Case((6, 1, 6), (64,), args, {"best": EXACT, "distances": EXACT})


@case
def mutual_matches() -> Iterator[Case]:
    slots, random = 600, rng(5)
    counts = np.array([600, 520, 1], np.int32)
    pairs = np.array([(0, 1), (1, 2), (1, 0), (2, 1)], np.int32)
    best = np.zeros((4, slots), np.int32)
    best[0] = random.integers(0, 520, slots)
    best[2, best[0]] = np.arange(slots)  # the last of those that share a neighbour
    distances = np.sort(random.integers(0, 257, (4, slots, 2)), -1).astype(np.int32)
    spots = random.random((3, slots, 3)).astype(F)
    out = [np.zeros((2, slots, 4), F), np.full(2, -1, np.int32)]
    args = [spots, counts, slots, pairs, best, distances, F(0.8), *out]
    yield Case((1, 1, 2), (256,), args, {"matched": EXACT, "matches": EXACT})


# homography.cu

TRUE_HOMOGRAPHY = np.array([[1.03, 0.02, -6.0], [-0.015, 0.98, 4.0], [4e-5, -3e-5, 1.0]])
"""frame_from_plate in pictures of 320 x 180."""


def noisy_matches(count: int, outliers: float, slots: int, seed: int) -> np.ndarray:
    """(slots, 4): points of the plate and of the frame, 0.3 pixels of noise."""
    random = rng(seed)
    plate = random.uniform((0, 0), (319, 179), (count, 2))
    out = np.zeros((slots, 4))
    mapped = np.column_stack([plate, np.ones(count)]) @ TRUE_HOMOGRAPHY.T
    frame = mapped[:, :2] / mapped[:, 2:] + random.normal(0, 0.3, (count, 2))
    wrong = random.random(count) < outliers
    frame[wrong] = random.uniform((0, 0), (319, 179), (wrong.sum(), 2))
    out[:count] = np.column_stack([plate, frame])
    return out.astype(F)


def three_pairs(slots: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """matched (3, slots, 4) and counts: many, few, not enough."""
    counts = (350, 30, 3)
    matched = [noisy_matches(n, 0.4, slots, seed) for seed, n in enumerate(counts)]
    return np.stack(matched), np.array(counts, np.int32)


@case
def sample_homographies() -> Iterator[Case]:
    matched, counts = three_pairs()
    out = np.full((3, 70, 9), -1.0)
    args = [matched, counts, 400, 70, np.uint32(7), F(500), out]
    yield Case((2, 1, 3), (64,), args, {"homographies": SOLVED})


def guesses(trials: int = 20) -> np.ndarray:
    """(3, trials, 9): the true homography and others near it; one that is none."""
    out = TRUE_HOMOGRAPHY.ravel() + rng(4).normal(0, 1, (3, trials, 9)) * 3e-3 * (
        np.array([1, 1, 300, 1, 1, 300, 1e-2, 1e-2, 0])
    )
    out[:, 3] = 0
    return out


@case
def score_homographies() -> Iterator[Case]:
    matched, counts = three_pairs()
    args = [matched, counts, 400, guesses(), 20, F(2), np.full((3, 20), -1, F)]
    yield Case((3, 1, 3), TILE, args, {"scores": SUMS})


@case
def refine_homography() -> Iterator[Case]:
    matched, counts = three_pairs()
    scores = rng(6).random((3, 20)).astype(F)
    scores[:, 3] = 0
    tolerances = {"frame_from_plate": REFINED, "plate_from_frame": REFINED, "verdicts": SUMS}
    for rounds in (10, 0):
        out = [np.full((3, 9), -1.0), np.full((3, 9), -1, F), np.full((3, 2), -1, F)]
        sizes = [320, 180, 320, 180]
        args = [matched, counts, 400, guesses(), scores, 20, F(3), rounds, *sizes, *out]
        yield Case((1, 1, 3), (256,), args, tolerances)


# warp.cu

INVERSES = np.stack(
    [np.eye(3), np.linalg.inv(TRUE_HOMOGRAPHY), [[2, 0, -9], [0, 2, 5], [0, 0.01, -0.1]]]
)
"""plate_from_frame: all, most, and (behind the camera above y = 10) some of the plate."""


@case
def warp_probes() -> Iterator[Case]:
    probes = np.stack([textured(24, 40, s) for s in range(3)])
    sizes = [48, 27, 384, 216]
    out = [np.full((3, 27, 48, 3), 9, F), np.full((3, 27, 48), 9, np.uint8)]
    inverses = INVERSES.reshape(3, 9).astype(F)
    args = [probes, 40, 24, 320, 192, inverses, *sizes, *out]
    yield Case(tiles(48, 27, 3), TILE, args, {"warped": EXACT, "covered": EXACT})


@case
def judge_textures() -> Iterator[Case]:
    textures = np.stack([luma_of(24, 40, s) for s in range(3)])
    frame, person = luma_of(27, 48, 1), np.zeros((13, 20), np.uint8)
    person[4:9, 7:15] = 1
    inverses = INVERSES.reshape(3, 9).astype(F)
    for count in (40, 195):
        known = [person, np.array([count], np.int32), 195, 20, 13]
        args = [frame, textures, 40, 24, 320, 192, inverses, 48, 27, 384, 216, *known]
        sums = np.full((3, 2), 5, np.int32)
        yield Case(tiles(48, 27, 3), TILE, [*args, sums], {"sums": EXACT})


# light.cu


def lit(height: int = 30, width: int = 50) -> tuple[list[np.ndarray], np.ndarray]:
    """frame, warped (3, ...), covered (3, ...), person; and the light that was put in: with a
    person in the picture, uncovered edges, one dark candidate, one without coverage."""
    warped = np.stack([textured(height, width, s) for s in range(3)]).astype(F)
    light = np.array([[1.2, -6], [0.9, 3], [1.05, 4]], F)
    frame = (warped[0] * light[:, 0] + light[:, 1] + rng(2).normal(0, 1, warped[0].shape)).clip(
        0, 255
    )
    person = np.zeros((height, width), np.uint8)
    person[5:25, 15:30] = 1
    frame[person > 0] = textured(height, width, 9)[person > 0]
    covered = np.ones((3, height, width), np.uint8)
    covered[0, :, :6] = covered[2] = 0
    warped[covered == 0] = 0
    return [np.rint(frame).astype(np.uint8), warped, covered, person], light


def known(person: np.ndarray, is_known: bool) -> list[Any]:
    """person_count and most."""
    return [
        np.array([person.sum() if is_known else person.size], np.int32),
        int(0.75 * person.size),
    ]


@case
def fit_light() -> Iterator[Case]:
    arrays, _ = lit()
    for is_known, step in ((True, 1), (False, 1), (True, 7)):
        out = np.full((3, 3, 2), -1, F)
        args = [*arrays, *known(arrays[3], is_known), 50, 30, step, out]
        yield Case((3, 1, 3), (256,), args, {"light": LIGHT})


@case
def judge_plates() -> Iterator[Case]:
    arrays, light = lit()
    lights = np.stack([light] * 3)
    for is_known in (True, False):
        out = np.full((3, 2), -1, F)
        args = [*arrays, *known(arrays[3], is_known), lights, 50, 30, out]
        yield Case((1, 1, 3), (256,), args, {"verdicts": VERDICT})


@case
def find_person() -> Iterator[Case]:
    cv2.circle(mask := np.zeros((54, 96), np.uint8), (50, 30), 17, 255, -1)
    alpha = (cv2.GaussianBlur(mask, (0, 0), 2) / 255).astype(np.float16)
    shared = np.zeros((27, 48), F)
    shared[10:16, 20:30] = rng().random((6, 10))
    for gap, width, height in ((2, 24, 13), (0, 31, 17), (1, 48, 27)):
        out = [np.full((height, width), 9, np.uint8), np.full(1, -1, np.int32)]
        args = [alpha.view(np.uint16), 96, 54, shared, 48, 27, gap, F(0.4), width, height, *out]
        yield Case(tiles(width, height), TILE, args, {"found": TIES, "person_count": EXACT})


@case
def recall_person() -> Iterator[Case]:
    alpha = cv2.resize(rng().random((9, 16)).astype(F), (96, 54)).astype(np.float16)
    for columns, rows in ((48, 27), (31, 20)):
        doubt = (0.3 * rng(1).random((rows, columns))).astype(np.float16)
        before = rng(2).random((rows, columns)).astype(F)
        out = [np.full((rows, columns), 9, np.uint16), np.full((rows, columns), 9, F)]
        shares = F(0.1), F(8), F(0.98)
        args = [alpha.view(np.uint16), 96, 54, doubt.view(np.uint16), before, columns, rows]
        close = {"seen": DRAWN, "after": ROUNDED}
        yield Case(tiles(columns, rows), TILE, [*args, *shares, 1, *out], close)


@case
def drop_specks() -> Iterator[Case]:
    found = (rng().random((27, 50)) < 0.7).astype(np.uint8)
    found[4:9, :7] = found[20:, 40:] = 1
    args = [found, 50, 27, np.full((27, 50), 9, np.uint8)]
    yield Case(tiles(50, 27), TILE, args, {"opened": EXACT})


@case
def resize_person() -> Iterator[Case]:
    person = (rng().random((27, 50)) < 0.5).astype(np.uint8)
    for count, width, height in ((600, 41, 31), (1012, 41, 31), (600, 100, 54)):
        args = [person, np.array([count], np.int32), 1012, 50, 27, width, height]
        out = np.full((height, width), 9, np.uint8)
        yield Case(tiles(width, height), TILE, [*args, out], {"target": EXACT})


@case
def widen_person() -> Iterator[Case]:
    found = (rng().random((27, 50)) < 0.01).astype(np.uint8)
    for radius in (1, 6):
        out = [np.full((27, 50), 9, np.uint8), np.zeros(1, np.int32)]
        args = [found, 50, 27, radius, *out]
        yield Case(tiles(50, 27), TILE, args, {"person": EXACT, "person_count": EXACT})


# pack.cu


@case
def pack_planes() -> Iterator[Case]:
    for channels, scale in ((3, 1 / 255), (1, 1)):
        pictures = rng().integers(0, 256, (2, 19, 41, channels)).astype(np.uint8)
        coverage = (rng(1).random((2, 19, 41)) > 0.2).astype(np.uint8)
        planes = np.zeros((2, channels, 24, 48), np.uint16)
        args = [pictures, coverage, 41, 19, channels, F(scale), 48, 24, planes]
        yield Case(tiles(48, 24, 2), TILE, args, {"planes": EXACT})


HALF_LEVELS = 16
"""Half the distance of neighbouring halves below 1, in levels of 65535: a half that is a frame's
colour is taken for exactly that."""


def matte_halves() -> tuple[np.ndarray, np.ndarray]:
    """alpha (2, 1, 24, 48) and foreground (2, 3, 24, 48) as bits: values within and beyond [0, 1],
    near its ends, infinite, and not a number."""
    alpha = rng().normal(0.5, 0.5, (2, 1, 24, 48)).astype(np.float16)
    alpha[0, 0, :8] = np.linspace(0, 0.012, 8 * 48).reshape(8, 48)
    alpha[1, 0, :8] = np.linspace(0.988, 1, 8 * 48).reshape(8, 48)
    foreground = rng(1).normal(0.5, 0.5, (2, 3, 24, 48)).astype(np.float16)
    for planes in (alpha, foreground):
        planes[..., 10, :3] = np.nan, np.inf, -np.inf
    foreground[:, 1, 11, :9] = np.nan
    return alpha.view(np.uint16), foreground.view(np.uint16)


def rgba_cases(dtype: type) -> Iterator[Case]:
    rgba = np.full((2, 19, 41, 4), 9, dtype)
    yield Case(tiles(41, 19, 2), TILE, [*matte_halves(), 48, 24, 41, 19, rgba], {"rgba": EXACT})


@case
def unpack_rgba8() -> Iterator[Case]:
    return rgba_cases(np.uint8)


@case
def unpack_rgba16() -> Iterator[Case]:
    return rgba_cases(np.uint16)


# holes.cu


def holed(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Coverage (3, H, W): holes at a border and within, nothing but a corner, all."""
    coverage = np.ones((3, height, width), np.uint8)
    coverage[0, :, : width // 5] = coverage[0, height // 2 :, width * 3 // 4 :] = 0
    coverage[0, height // 3, width // 2] = 0
    coverage[1] = 0
    coverage[1, -height // 6 :, -width // 6 :] = 1
    return coverage


@case
def find_solid() -> Iterator[Case]:
    for small_width, small_height in ((20, 11), (31, 17), (60, 33)):
        solid = np.full((3, small_height, small_width), 9, np.uint8)
        args = [holed(33, 60), 60, 33, solid, small_width, small_height]
        yield Case(tiles(small_width, small_height, 3), TILE, args, {"solid": EXACT})


def columns_of(solid: np.ndarray, reach: np.float32) -> np.ndarray:
    rows = np.zeros(solid.shape, np.int32)
    find_rows(solid, *solid.shape[:0:-1], reach, rows)
    return rows


@case
def nearest_in_column() -> Iterator[Case]:
    for reach in (F(3.6), F(50)):
        args = [holed(19, 40), 40, 19, reach, np.full((3, 19, 40), 9, np.int32)]
        yield Case(tiles(40, 19, 3), TILE, args, {"rows": EXACT})


@case
def nearest_solid() -> Iterator[Case]:
    for reach in (F(3.6), F(50)):
        rows = columns_of(holed(19, 40), reach)
        out = [np.full(rows.shape, 9, np.int32), np.full(rows.shape, 9, F)]
        args = [rows, 40, 19, reach, *out]
        yield Case(tiles(40, 19, 3), TILE, args, {"nearest": EXACT, "distance": EXACT})


@case
def fill_holes() -> Iterator[Case]:
    coverage = holed(43, 90)
    plate = np.stack([textured(43, 90, s) for s in range(3)]) * coverage[..., None]
    small = rng().integers(0, 256, (3, 19, 40, 3)).astype(np.uint8)
    for reach in (F(3.6), F(50)):
        rows = columns_of(holed(19, 40), reach)
        nearest, distance = np.zeros(rows.shape, np.int32), np.zeros(rows.shape, F)
        find_nearest(rows, 40, 19, reach, nearest, distance)
        out = [np.full(plate.shape, 9, np.uint8), np.full((3, 43, 90, 2), 9, np.uint8)]
        args = [plate, coverage, 90, 43, small, nearest, distance, 40, 19, reach, *out]
        yield Case(tiles(90, 43, 3), TILE, args, {"filled": TIES, "seen": EXACT})


# pack.cu, for coverage and confidence


@case
def pack_coverage() -> Iterator[Case]:
    seen = rng().choice(np.array([0, 254, 255], np.uint8), (2, 19, 41, 2))
    out = [np.full((2, 19, 41), 9, np.uint8), np.zeros((2, 1, 19, 41), np.uint16)]
    args = [seen, 41, 19, F(0.5), *out]
    yield Case(tiles(41, 19, 2), TILE, args, {"reached": EXACT, "planes": EXACT})


@case
def tell_confidence() -> Iterator[Case]:
    doubt = (rng().random((3, 1, 30, 37)) * [[[[0]]], [[[0.04]]], [[[1]]]]).astype(np.float16)
    args = [doubt.view(np.uint16), 30 * 37, F(0.02), np.full(3, 9, F)]
    yield Case((1, 1, 3), (256,), args, {"confidence": SUMS})


# smooth.cu

STRONGLY_TIED = Tolerance(1e-6, relative=2e-5)
"""Nothing cancels: a dozen roundings in each of ten steps, of float32."""


@case
def smooth_lines() -> Iterator[Case]:
    for height, width, channels, smoothness in ((23, 41, 3, 400), (300, 20, 1, 100), (1, 40, 4, 9)):
        guide, signal = textured(height, width), rng().random((height, width, channels)).astype(F)
        for is_down in (0, 1):
            args = [guide, width, height, is_down, F(smoothness), F(10), channels, signal]
            yield Case((width if is_down else height,), (256,), args, {"signal": STRONGLY_TIED})


# field.cu

ROUNDED = Tolerance(1e-6, relative=1e-5)
"""A few operations in float32, in another order, and expf or logf."""


def wandering(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Flow (h, w, 2): smooth, in part out of the picture, with vectors that have gone astray."""
    random = rng(seed)
    flow = cv2.resize(random.normal(0, 4, (4, 5, 2)).astype(F), (width, height))
    flow[random.random((height, width)) < 0.02] = random.normal(0, 500, 2)
    return flow


def block_of(height: int, width: int) -> np.ndarray:
    """(h, w) uint8, 1 in a block in the middle."""
    out = np.zeros((height, width), np.uint8)
    out[height // 4 : -height // 4, width // 3 : -width // 3] = 1
    return out


@case
def displace_levels() -> Iterator[Case]:
    for picture in (textured(25, 47), luma_of(25, 47)[..., None]):
        args = [picture, 47, 25, picture.shape[-1], wandering(25, 47), np.zeros_like(picture)]
        yield Case(tiles(47, 25), TILE, args, {"displaced": EXACT})


@case
def tell_likeness() -> Iterator[Case]:
    colour = textured(25, 47)
    moved = np.roll(colour, 1, 1)
    moved[:, 20:30] = colour[:, 20:30]
    args = [colour, moved, wandering(25, 47), 47, 25, F(8), np.full((25, 47), -1, F)]
    yield Case(tiles(47, 25), TILE, args, {"likeness": ROUNDED})


@case
def draw_alpha() -> Iterator[Case]:
    alpha, before = (rng(k).random((1, 58, 96)).astype(np.float16).view(np.uint16) for k in (0, 1))
    likeness = rng(2).random((25, 47)).astype(F)
    view = wandering(25, 47), likeness, 47, 25
    args = [alpha, before, 96, *view, F(0.7), F(0.3), 93, 57, alpha.copy()]
    yield Case(tiles(93, 57), TILE, args, {"drawn": DRAWN})


@case
def trust_flow() -> Iterator[Case]:
    frame, moved = luma_of(25, 47), luma_of(25, 47).copy()
    moved[:, 30:] = luma_of(25, 47, 1)[:, 30:]
    slope, likeness = rng().random((25, 47)).astype(F) * 40, rng(1).random((25, 47)).astype(F)
    covered, person = 1 - block_of(25, 47), block_of(25, 47)[::-1, ::-1].copy()
    known = [wandering(25, 47), slope, likeness, covered, person]
    args = [frame, moved, *known, F(0.25), F(14), F(20), 47, 25, np.zeros((25, 47, 3), F)]
    yield Case(tiles(47, 25), TILE, args, {"trusted": ROUNDED})


@case
def believe_flow() -> Iterator[Case]:
    flow, field = wandering(25, 47), wandering(25, 47, 1)
    trust = rng().random((25, 47, 1)).astype(F)
    trusted = np.concatenate([flow * trust, trust], -1)
    around = cv2.blur(trusted, (5, 5))
    for has_field in (0, 1):
        out = [np.zeros((25, 47, 3), F), np.full((5, 2), -1, F)]
        limits = [F(1), F(0.4), F(3), 47, 25]
        args = [flow, trusted, around, field, has_field, *limits, *out]
        yield Case((5,), (256,), args, {"signal": ROUNDED, "sums": SUMS})


# epipole.cu


@case
def find_epipole() -> Iterator[Case]:
    height, width = 37, 61
    ys, xs = np.mgrid[:height, :width].astype(F)
    for at, turned in (((70.0, 12.0), 0), ((30.5, 20.5), 0), ((-4e5, 9e4), 0), ((70.0, 12.0), 1)):
        away = np.dstack([at[0] - xs, at[1] - ys])
        away /= np.hypot(*np.moveaxis(away, -1, 0))[..., None]
        flow = away * rng().uniform(-3, 3, (height, width, 1)) + rng(1).normal(0, 0.05, away.shape)
        flow[10:30, 20:40] = rng(2).normal(0, 3, (20, 20, 2))  # somebody
        if turned:  # as a camera that rolls does to a picture that nobody aligned
            flow = np.dstack([18 - ys, xs - 30]) / 10
        trust = rng(3).random((height, width, 1))
        signal = np.concatenate([flow * trust, trust], -1).astype(F)
        for step, fewest in ((2, 200), (3, 10**6)):
            limits = [F(0.1), F(0.3), fewest, F(0.7), 16, 2, F(0.75), 8]
            args = [signal, width, height, step, *limits, np.full(4, -1, F)]
            yield Case((1,), (256,), args, {"epipole": EPIPOLE})
    nothing = [np.zeros((5, 7, 3), F), 7, 5, 1, F(0.1), F(0.3), 1, F(0.7), 16, 2, F(0.75), 8]
    yield Case((1,), (256,), [*nothing, np.full(4, -1, F)], {"epipole": EXACT})


# relight.cu


@case
def compare_light() -> Iterator[Case]:
    means = [cv2.blur(textured(25, 47, s), (5, 5)).astype(F) + F(0.25) for s in range(2)]
    likeness, covered = rng().random((25, 47)).astype(F), 1 - block_of(25, 47)
    person = block_of(25, 47)[::-1, ::-1].copy()
    out = [np.zeros((25, 47, 4), F), np.full((5, 4), -1, F)]
    args = [*means, likeness, covered, person, F(0.05), F(6), F(24), 4, 47, 25, *out]
    yield Case((5,), (256,), args, {"signal": ROUNDED, "sums": SUMS})


@case
def gain_of_light() -> Iterator[Case]:
    signal = rng().normal(0, 1, (25, 47, 4)).astype(F)
    signal[..., 3] = rng(1).random((25, 47))
    limits = [F(0.06), F(-1.6), F(1.6), F(0.6)]
    args = [signal, *limits, 47, 25, np.zeros((25, 47, 3), F)]
    yield Case(tiles(47, 25), TILE, args, {"gain": ROUNDED})


# render.cu


@case
def draw_plate() -> Iterator[Case]:
    plate, light = textured(40, 70), np.array([[1.2, -6], [0.9, 3], [1.4, 4]], F)
    field, gain = wandering(9, 15), rng().uniform(0.3, 2.5, (9, 16, 3)).astype(F)
    for inverse in INVERSES:
        for field_size, gain_size in (((15, 9), (16, 9)), ((0, 0), (0, 0))):
            out = [np.full((37, 61, 3), 9, np.uint8), np.full((37, 61), 9, np.uint8)]
            args = [plate, 70, 40, inverse.ravel().astype(F), light, field, *field_size, gain]
            args += [*gain_size, 61, 37, *out, np.zeros(1, np.int32)]
            tolerances = dict.fromkeys(("pixels", "coverage", "covered"), EXACT)
            yield Case(tiles(61, 37), TILE, args, tolerances)


@case
def lay_over() -> Iterator[Case]:
    above, above_coverage = textured(25, 47, 1), 1 - block_of(25, 47)
    weight = rng().random((9, 15)).astype(F)
    pixels, coverage = textured(25, 47), np.ones((25, 47), np.uint8)
    coverage[:, 20:] = 0
    out = [pixels, coverage, np.array([int(coverage.sum())], np.int32)]
    tolerances = dict.fromkeys(("pixels", "coverage", "covered"), EXACT)
    args = [above, above_coverage, weight, 15, 9, 47, 25, *out]
    yield Case(tiles(47, 25), TILE, args, tolerances)


# fuse.cu

BLENDED = Tolerance(1e-6)
"""Weights of up to 1, the sums of at most 33 terms in float32."""


def layer_views() -> list[np.ndarray]:
    """colour, covered, frame, person of a view."""
    frame = textured(25, 47)
    colour = (frame.astype(int) + rng().integers(-30, 31, frame.shape)).clip(0, 255)
    covered, person = np.ones((25, 47), np.uint8), block_of(25, 47)
    covered[:, 40:] = 0
    return [colour.astype(np.uint8), covered, frame, person]


@case
def price_layer() -> Iterator[Case]:
    for is_known, layer in ((1, 0), (0, 2)):
        out = np.full((25, 47, 3), -1, F)
        args = [*layer_views(), is_known, F(40), F(60), 47, 25, layer, 3, out]
        yield Case(tiles(47, 25), TILE, args, {"prices": EXACT})


@case
def judge_layer() -> Iterator[Case]:
    args = [*layer_views(), F(12), 47, 25, np.full((25, 47, 2), -1, F)]
    yield Case(tiles(47, 25), TILE, args, {"judged": EXACT})


def judged_regions(most: float) -> list[np.ndarray]:
    """judged and regions (1175, 2): the cost up to `most`, the share that is judged."""
    regions = rng().random((1175, 2)).astype(F)
    regions[:, 0] *= regions[:, 1] * F(most)
    judged = np.zeros((1175, 2), F)
    judged[:, 1] = rng(1).random(1175) < 0.7
    return [judged, regions]


@case
def count_costs() -> Iterator[Case]:
    for most in (12, 60):
        args = [*judged_regions(most), 1175, np.zeros(2048, np.int32)]
        yield Case((3,), (256,), args, {"histogram": EXACT})


@case
def find_poor() -> Iterator[Case]:
    for most, share in ((12, 1), (60, 1), (12, 0)):
        judged, regions = judged_regions(most)
        judged[:, 1] *= share
        histogram = np.zeros(2048, np.int32)
        count_costs_of(judged, regions, 1175, histogram)
        args = [judged, regions, histogram, F(4), F(0.3), 1175, np.full(1175, 9, np.uint8)]
        yield Case((5,), (256,), args, {"poor": EXACT})


@case
def choose_layers() -> Iterator[Case]:
    costs = rng().integers(0, 6, (25, 47, 3)).astype(F)
    for before in ((1175, 1175, 1175), (0, 1175, 11)):
        out = [np.full((25, 47), 9, np.uint8), np.zeros(3, np.int32)]
        args = [costs, 3, F(2), np.array(before, np.int32), 12, 47, 25, *out]
        yield Case(tiles(47, 25), TILE, args, {"owner": EXACT, "owned": EXACT})


def bell(radius: int) -> np.ndarray:
    return cv2.getGaussianKernel(2 * radius + 1, radius / 4, cv2.CV_32F).ravel()


@case
def soften_owners() -> Iterator[Case]:
    owner = rng().integers(0, 3, (5, 7)).astype(np.uint8).repeat(5, 0).repeat(7, 1)[:, :47].copy()
    args = [owner, bell(5), 5, 47, 25, np.full((3, 25, 47), -1, F)]
    yield Case(tiles(47, 25, 3), TILE, args, {"shares": BLENDED})


@case
def weigh_layers() -> Iterator[Case]:
    shares = rng().random((3, 25, 47)).astype(F)
    shares[2, :, :30] = 0
    covered = np.ones((3, 25, 47), np.uint8)
    covered[0, :, 30:] = covered[1, 10:] = covered[:, :4, :4] = 0
    out = [np.full((3, 25, 47), -1, F), np.zeros(3, np.int32)]
    args = [shares, covered, 3, bell(5), 5, 47, 25, *out]
    yield Case(tiles(47, 25), TILE, args, {"weight": BLENDED, "used": EXACT})


# view.cu

SLID = Tolerance(0.0, relative=1e-6)
"""Sums in double that lose and gain a term at a time: a float32 rounding."""


@case
def mean_of_lines() -> Iterator[Case]:
    for shape, side in (((1, 70, 1, 45), 31), ((2, 9, 3, 33), 4), ((5, 66, 2, 7), 1)):
        images, count, interleaved, across = shape
        source = (rng().random(shape) * 255**2).astype(F)
        target = np.full((images, across, count, interleaved), -1, F)
        grid = (-(-across // 32), -(-count // 64), images * interleaved)
        yield Case(grid, TILE, [source, count, interleaved, across, side, target], {"target": SLID})


def in_a_row(pixels: int) -> tuple[tuple[int], tuple[int]]:
    """Grid and block of a kernel that runs over pixels in a row."""
    return (-(-pixels // 256),), (256,)


@case
def local_products() -> Iterator[Case]:
    a, b = rng().integers(0, 256, (2, 19, 41)).astype(np.uint8)
    for planes in (2, 5):
        args = [a, b, a.size, planes, np.full((planes, 19, 41), -1, F)]
        yield Case(*in_a_row(a.size), args, {"products": EXACT})


@case
def normalise_texture() -> Iterator[Case]:
    luma = luma_of(19, 41)
    luma[:, :9] = 77  # whose deviation is 0, or, by rounding, below
    levels = luma.astype(F)
    means = np.stack([cv2.blur(levels, (5, 5)), cv2.blur(levels * levels, (5, 5)) - F(0.01)])
    args = [luma, means, luma.size, F(48), F(8), np.zeros_like(luma)]
    yield Case(*in_a_row(luma.size), args, {"texture": EXACT})


@case
def correlate() -> Iterator[Case]:
    x, y = rng().integers(0, 256, (2, 19, 41)).astype(F)
    y[:, :20] = x[:, :20] * F(0.5) + F(3)
    means = np.stack([cv2.blur(v, (5, 5)) for v in (x, y, x * x, y * y, x * y)])
    args = [means, x.size, F(144), F(0.3), F(0.7), np.full_like(x, -1)]
    yield Case(*in_a_row(x.size), args, {"agreement": EXACT})


@case
def gradient() -> Iterator[Case]:
    args = [luma_of(19, 41), 41, 19, np.full((19, 41), -1, F)]
    yield Case(tiles(41, 19), TILE, args, {"magnitude": EXACT})


# flow.cu


def shifted_pictures(height: int, width: int) -> np.ndarray:
    """(3, H, W): a frame, its plate a few pixels off, and another place."""
    wide = luma_of(height + 8, width + 8)
    frame, plate = wide[4:-4, 4:-4], wide[2:-6, 5:-3]
    return np.stack([frame, plate, luma_of(height, width, 5)])


def patches_of(pictures: np.ndarray) -> tuple[tuple[int, ...], list[int]]:
    """Grid of the searches, and width, height, columns and rows."""
    images, height, width = pictures.shape
    columns, rows = 1 + (width - 8) // 4, 1 + (height - 8) // 4
    return (-(-columns * rows // 8), 1, images - 1), [width, height, columns, rows]


@case
def search_from_coarser() -> Iterator[Case]:
    pictures = shifted_pictures(31, 46)
    grid, sizes = patches_of(pictures)
    found = np.full((2, sizes[2] * sizes[3], 2), 9, F)
    coarser = rng().normal(0, 2, (2, 15, 23, 2)).astype(F)
    coarser[:, :3] *= 20  # to beyond the picture
    for start in ([coarser, 23, 15], [np.zeros((2, 1, 1, 2), F), 0, 0]):
        yield Case(grid, (64,), [pictures, *sizes, *start, found], {"found": EXACT})
    tiny = shifted_pictures(8, 8)
    grid, sizes = patches_of(tiny)
    start = [np.zeros((2, 1, 1, 2), F), 0, 0]
    yield Case(grid, (64,), [tiny, *sizes, *start, np.zeros((2, 1, 2), F)], {"found": EXACT})


@case
def search_from_neighbours() -> Iterator[Case]:
    pictures = shifted_pictures(31, 46)
    grid, sizes = patches_of(pictures)
    before = rng().normal(0, 3, (2, sizes[2] * sizes[3], 2)).astype(F)
    args = [pictures, *sizes, before, np.full_like(before, 9)]
    yield Case(grid, (64,), args, {"found": EXACT})


@case
def flow_of_patches() -> Iterator[Case]:
    pictures = shifted_pictures(31, 46)
    _, sizes = patches_of(pictures)
    found = rng().normal(0, 5, (2, sizes[2] * sizes[3], 2)).astype(F)
    args = [pictures, *sizes, found, np.zeros((2, 31, 46, 2), F)]
    yield Case(tiles(46, 31, 2), TILE, args, {"flow": EXACT})


@case
def grow_flow() -> Iterator[Case]:
    flow = rng().normal(0, 5, (2, 15, 23, 2)).astype(F)
    args = [flow, 23, 15, 47, 31, np.zeros((2, 31, 47, 2), F)]
    yield Case(tiles(47, 31, 2), TILE, args, {"larger": EXACT})


# direct.cu

PROJECTED = Tolerance(1e-5, relative=1e-6)
"""Mapped in float64, with products summed in another order, and rounded to float32."""
FITTED = Tolerance(1e-9, relative=1e-6)
"""Equations solved in float64 in two ways: what the six rounds lose of sixteen digits."""


def starts() -> np.ndarray:
    """(3, 2, 9): homographies and their inverses; the second looks beyond the plate."""
    beyond = np.array([[1.1, 0.02, -9.0], [0.01, 1.2, 7.5], [4e-4, -3e-4, 1.0]])
    all_three = (TRUE_HOMOGRAPHY, beyond, np.eye(3))
    return np.stack([np.stack([h.ravel(), np.linalg.inv(h).ravel()]) for h in all_three])


@case
def warp_textures() -> Iterator[Case]:
    frame, plates = luma_of(31, 46), np.stack([luma_of(40, 51, s) for s in (1, 2, 3)])
    out = [np.zeros((4, 31, 46), np.uint8), np.full((3, 31, 46), 9, np.uint8)]
    args = [frame, plates, 51, 40, starts(), 46, 31, *out]
    yield Case(tiles(46, 31, 4), TILE, args, {"pictures": EXACT, "inside": EXACT})


@case
def weigh_vectors() -> Iterator[Case]:
    pictures = np.concatenate([shifted_pictures(31, 46), luma_of(31, 46, 7)[None]])
    inside = np.full((3, 31, 46), 255, np.uint8)
    inside[1, :, 30:] = 0
    person = np.zeros((31, 46), np.uint8)
    person[10:25, 12:20] = 1
    flow = rng().normal(0, 2, (3, 31, 46, 2)).astype(F)
    flow[0, :4] = 1e9
    for stride, columns, rows in ((3, 15, 10), (1, 46, 31)):
        vectors = np.full((3, columns * rows, 4), -1, F)
        args = [pictures, inside, 46, 31, flow, person, F(0.25), starts(), stride, columns, rows]
        grid = (-(-columns * rows // 256), 1, 3)
        yield Case(grid, (256,), [*args, F(20), F(24), vectors], {"vectors": PROJECTED})


@case
def fit_vectors() -> Iterator[Case]:
    width, height, stride, columns, rows = 46, 31, 2, 23, 15
    begin = starts()
    ys, xs = np.mgrid[1:31:2, 1:46:2]
    points = np.stack([xs.ravel(), ys.ravel()], -1)
    vectors = np.zeros((3, columns * rows, 4), F)
    for n, homography in enumerate(begin[:, 0].reshape(3, 3, 3)):
        vectors[n, :, :2] = project(np.linalg.inv(homography), points)
    vectors[..., :2] += rng().normal(0, 0.2, vectors[..., :2].shape)
    vectors[:, ::5, :2] += rng(1).normal(0, 9, vectors[:, ::5, :2].shape)
    vectors[..., 2:] = rng(2).random(vectors[..., 2:].shape) * [1, 40]
    vectors[:, ::7, 2] = 0
    vectors[2, 30:, 2] = 0  # too few
    begin[0] = begin[2]  # one that is to be found
    widths = np.array([6, 3, 1.5, 0.75, 0.4, 0.4])
    for corner_share in (0.0, 3e-4, 0.1):
        args = [vectors, width, height, stride, columns, rows, begin, widths, 6]
        args += [np.float64(corner_share), F(24), F(1), 50, np.full((3, 13), -1.0)]
        yield Case((1, 1, 3), (256,), args, {"fits": FITTED})


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    """(h, w) float32: levels about 0, smooth enough to have gradients."""
    levels = rng(seed).normal(0, 60, (height, width)).astype(F)
    return np.asarray(cv2.GaussianBlur(levels, (0, 0), 1.5), F)


@case
def steepest_points() -> Iterator[Case]:
    for width, height, is_known in ((83, 50, 1), (83, 50, 0), (16, 8, 1)):
        cells = (width // 8) * (height // 8)
        person = np.zeros((height, width), np.uint8)
        person[10:30, 5:40] = 1
        points, slopes = np.zeros(cells, np.int32), np.zeros((cells, 2), F)
        args = [noise(height, width), width, height, person, is_known, F(4), points, slopes]
        outputs = {"points": EXACT, "slopes": EXACT}
        yield Case((-(-cells // 256),), (256,), args, outputs)


@case
def descend_details() -> Iterator[Case]:
    width, height, plate_width, plate_height = 200, 150, 210, 140
    whole = noise(240, 280)
    frame = whole[40:190, 30:230].copy()
    true = np.array([[1.01, 0.02, 2.0], [-0.015, 0.99, -3.0], [2e-5, -1e-5, 1]])
    y, x = np.mgrid[:plate_height, :plate_width]
    seen = project(true, np.stack([x.ravel(), y.ravel()], -1)) + [30, 40]
    at = seen.reshape(plate_height, plate_width, 2).astype(F)
    plate = cv2.remap(whole, at[..., 0], at[..., 1], cv2.INTER_CUBIC) * F(0.8)
    spoiled = plate.copy()
    spoiled[40:80, 60:120] = noise(40, 60, 3)
    points, slopes = np.zeros(25 * 18, np.int32), np.zeros((25 * 18, 2), F)
    nobody = np.zeros((height, width), np.uint8)
    find_steepest(frame, width, height, nobody, 0, F(1.5), points, slopes)
    off = np.array([[1, 0, 0.6], [0, 1, -0.4], [0, 0, 1]])
    away = np.array([[1, 0, 500.0], [0, 1, 0], [0, 0, 1]])
    starts = [off @ true, off @ true, true, away @ true, np.eye(3)]
    plates = np.stack([plate, spoiled, np.zeros_like(plate), plate, noise(140, 210, 9)])
    begin = np.stack(starts).reshape(-1, 9)
    places = [frame, width, height, plates, plate_width, plate_height, points, slopes, begin]
    outputs = {"found": DESCENDED, "seen": ANYTHING, "keys": ANYTHING}
    for furthest, worth in ((4, 1), (16, 0.3)):  # which only the first of the plates reaches
        limits = [6, 100, *map(F, (0.01, furthest, worth, 1, 1.5, 3, 0.2, 5))]
        work = np.zeros((5, 25 * 18), F), np.zeros((5, 25 * 18), np.uint32)
        args = [*places, *limits, *work, np.full((5, 9), -1.0)]
        yield Case((1, 1, 5), (256,), args, outputs)
