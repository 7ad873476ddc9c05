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
from reference import matrix_from

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
        picture = rng(pose).integers(0, 256, (2, 11, 35, 3)).astype(np.uint8)
        out = np.zeros((2, 35, 11, 3) if pose & 1 else picture.shape, np.uint8)
        args = [picture, 35, 11, BT601_FULL, pose, out]
        yield Case(tiles(35, 11, 2), TILE, args, {"rgb": EXACT})


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
        out = [np.zeros((3, slots, 2), F), np.zeros_like(descriptors), np.zeros(3, np.int32)]
        known = [person, np.array([count], np.int32), 900, 48, 27, 640, 360, fewest]
        tolerances = dict.fromkeys(("points", "packed", "counts"), EXACT)
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
    out = [np.full((6, 330), -1, np.int32), np.full((6, 330, 2), -1, np.int32)]
    args = [descriptors, counts, 330, pairs, *out]
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
    points = random.random((3, slots, 2)).astype(F)
    out = [np.zeros((2, slots, 4), F), np.full(2, -1, np.int32)]
    args = [points, counts, slots, pairs, best, distances, F(0.8), *out]
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
def warp_plates() -> Iterator[Case]:
    plates = np.stack([textured(40, 70, s) for s in range(2)])
    light = rng(1).normal((1.1, -4), (0.2, 3), (3, 3, 2)).astype(F)
    light[0] = (1, 0)
    chosen = np.array([1, 0, 1], np.int32)
    out = [np.full((3, 37, 61, 3), 9, np.uint8), np.full((3, 37, 61), 9, np.uint8)]
    inverses = INVERSES.reshape(3, 9).astype(F)
    args = [plates, 70, 40, chosen, inverses, light, 61, 37, *out, np.zeros(3, np.int32)]
    tolerances = dict.fromkeys(("warped", "coverage", "covered"), EXACT)
    yield Case(tiles(61, 37, 3), TILE, args, tolerances)


@case
def warp_probes() -> Iterator[Case]:
    probes = np.stack([textured(24, 40, s) for s in range(2)])
    chosen = np.array([1, 0, 1], np.int32)
    sizes = [48, 27, 384, 216]
    out = [np.full((3, 27, 48, 3), 9, F), np.full((3, 27, 48), 9, np.uint8)]
    inverses = INVERSES.reshape(3, 9).astype(F)
    args = [probes, 40, 24, 320, 192, chosen, inverses, *sizes, *out]
    yield Case(tiles(48, 27, 3), TILE, args, {"warped": EXACT, "covered": EXACT})


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
    for is_known in (True, False):
        out = np.full((3, 3, 2), -1, F)
        args = [*arrays, *known(arrays[3], is_known), 50, 30, out]
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
    alpha = np.zeros((54, 100), np.float16)
    cv2.circle(mask := np.zeros((54, 96), np.uint8), (50, 30), 17, 255, -1)
    alpha[:, :96] = cv2.GaussianBlur(mask, (0, 0), 2) / 255
    alpha[:, 96:] = 1  # padding, which is not to be seen
    for width, height in ((24, 13), (120, 60)):
        out = [np.full((height, width), 9, np.uint8), np.full(1, -1, np.int32)]
        args = [alpha.view(np.uint16), 96, 54, 100, F(0.1), width, height, *out]
        yield Case(tiles(width, height), TILE, args, {"found": EXACT, "person_count": EXACT})


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
