"""The aligner on the CPU, with OpenCV."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from howard.align.features import Features, find_features, match
from howard.align.geometry import Homography, fit_whole, is_plausible, normalised, scaling
from howard.align.light import gain_and_bias, lookup_table
from howard.align.plate_track import PlateTrack
from howard.align.window import PlateWindow
from howard.decode import VideoReader
from howard.frames import Alignment, Frame, Plate, VideoInfo

PROBE_SIDE = 240
"""Longest side of the small pictures on which candidates are compared."""
CLIP_LEVELS = 40.0
"""A pixel's difference counts up to this, so that a person not yet known costs every candidate
the same."""
UNCOVERED_LEVELS = 60.0
"""What an uncovered pixel costs: more than a wrong one, which the network may still explain by
what it finds nearby."""
REPROJECTION_PIXELS = 2.0
"""MAGSAC++ threshold at the working scale of 640; scaled up with the frame."""
SWITCH_LEVELS = 0.25
"""How much lower the cost must be to leave the expected clean-plate frame: more than chance makes
of it, less than a view that really fits better."""
LIGHT_STEP = 5
"""Every so many probe pixels are enough for two numbers a channel: some 6,000."""
FEWEST_INLIERS = 12
INLIER_SHARE = 0.2
"""Of the matches: below both, the homography is noise."""
CERTAIN_SHARE = 0.6
"""Of the frame: where no person is known yet, this much is taken to be the place."""
PERSON_ALPHA = 0.1
MOST_PERSON = 0.75
"""A larger share of the frame than this is not believed to be the person."""
PERSON_MARGIN = 0.04
"""The person of the latest matte is widened by this share of the frame: they move."""


@dataclass(frozen=True, eq=False)
class PlateView:
    """What is prepared once from a clean-plate frame."""

    features: Features
    probe: NDArray[np.float32]
    """The frame at probe scale, (h, w, 3) levels of 255, slightly blurred."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """A clean-plate frame with its homography, and how well it fits at probe scale."""

    plate_index: int
    homography: Homography
    matches: int
    inliers: int
    cost: float
    """Mean clipped difference outside the person, with a price on uncovered pixels, in levels."""
    residual: float
    """Mean difference outside the person where covered, in levels of 255 (see `residual`)."""
    light: NDArray[np.float64]
    """(3, 2) gain and bias."""


class OpenCVAligner:
    """Aligner on the CPU. Not for use by several threads at once."""

    def __init__(
        self,
        shot: VideoInfo,
        clean_plate: VideoReader,
        resume: tuple[int, Alignment] | None = None,
    ) -> None:
        """resume: index and alignment of the frame to go on after, from an earlier run."""
        plate = clean_plate.info
        self.frame_size, self.plate_size = (shot.width, shot.height), (plate.width, plate.height)
        self.window = PlateWindow(clean_plate, self.prepare)
        self.track = PlateTrack(shot.frames, 1 if plate.still else plate.frames)
        self.person: NDArray[np.uint8] | None = None
        self.probe_size = small_size(*self.frame_size)
        self.plate_probe_size = small_size(*self.plate_size)
        if resume is not None:
            index, last = resume
            homography = np.array(last.homography_frame_from_plate).reshape(3, 3)
            self.track.accept(index, last.plate_index, homography, last.residual)
        self.threshold = REPROJECTION_PIXELS * max(1.0, max(self.frame_size) / 640)

    def prepare(self, frame: Frame) -> PlateView:
        return PlateView(find_features(frame.pixels), probe(frame.pixels, self.plate_probe_size))

    def __call__(self, frame: Frame) -> Plate:
        features = self.outside_person(find_features(frame.pixels))
        best = self.search(frame, features)
        fallback = None
        if best is None:
            fallback, best = self.fall_back(frame)
        else:
            self.track.accept(frame.index, best.plate_index, best.homography, best.residual)
        return self.render(best, len(features), fallback)

    def observe(self, alpha: NDArray[np.float32]) -> None:
        small = cv2.resize(alpha, self.probe_size, interpolation=cv2.INTER_AREA)
        radius = max(1, round(PERSON_MARGIN * max(self.probe_size)))
        ellipse = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1,) * 2)
        person = (small > PERSON_ALPHA).astype(np.uint8)
        person = np.asarray(cv2.dilate(person, ellipse), np.uint8)
        # A matte that went wrong must not hide the place from the next alignment.
        self.person = person if person.mean() < MOST_PERSON else None

    def close(self) -> None:
        self.window.close()

    def outside_person(self, features: Features) -> Features:
        """Without the keypoints on the person, unless hardly any would be left."""
        if self.person is None or not len(features):
            return features
        to_probe = np.array(self.probe_size) / self.frame_size
        at = np.int32((features.keypoints + 0.5) * to_probe).clip(0, np.array(self.probe_size) - 1)
        outside = self.person[at[:, 1], at[:, 0]] == 0
        return features.where(outside) if outside.sum() >= 4 * FEWEST_INLIERS else features

    def search(self, frame: Frame, features: Features) -> Candidate | None:
        """The candidate of lowest cost: near ones first, the wide ones if that is not enough."""
        track, window = self.track, self.window
        window.advance(track.predict(frame.index))
        picture = probe(frame.pixels, self.probe_size)
        found = self.try_all(frame.index, False, picture, features)
        best = self.choose(frame.index, found)
        due = track.is_due_for_a_look_around(frame.index)
        if best is None or due or track.is_lost(best.residual):
            found += self.try_all(frame.index, True, picture, features)
            best = self.choose(frame.index, found)
        return best

    def choose(self, frame_index: int, found: list[Candidate]) -> Candidate | None:
        """The lowest cost, with a preference for going on as before: what a plane cannot explain
        lies elsewhere in every clean-plate frame, and flickers where they alternate."""
        window = self.window
        expected = min(max(self.track.predict(frame_index), window.low), window.high)
        prices = [c.cost + SWITCH_LEVELS * (c.plate_index != expected) for c in found]
        return found[int(np.argmin(prices))] if found else None

    def try_all(
        self, frame_index: int, wide: bool, picture: NDArray[np.float32], features: Features
    ) -> list[Candidate]:
        """Every candidate index that yields a homography one can believe."""
        window = self.window
        indices = self.track.candidates(frame_index, wide, window.low, window.high)
        found = (self.try_one(i, picture, features) for i in indices)
        return [candidate for candidate in found if candidate is not None]

    def try_one(
        self, plate_index: int, picture: NDArray[np.float32], features: Features
    ) -> Candidate | None:
        """Match, fit, check, and compare; None where nothing trustworthy comes out."""
        _, view = self.window.get(plate_index)
        matches = match(view.features, features)
        if len(matches) < FEWEST_INLIERS:
            return None
        found, inliers = cv2.findHomography(
            view.features.keypoints[matches[:, 0]],
            features.keypoints[matches[:, 1]],
            cv2.USAC_MAGSAC,
            self.threshold,
            maxIters=2000,
            confidence=0.9999,
        )
        if found is None:
            return None
        homography = np.asarray(found, np.float64)
        if not is_plausible(homography, self.plate_size, self.frame_size):
            return None
        count = int(inliers.sum())
        if count < max(FEWEST_INLIERS, INLIER_SHARE * len(matches)):
            return None
        return self.compare(plate_index, normalised(homography), picture, len(matches), count)

    def compare(
        self,
        plate_index: int,
        homography: Homography,
        picture: NDArray[np.float32],
        matches: int = 0,
        inliers: int = 0,
    ) -> Candidate:
        """How well this clean-plate frame, warped so, explains the frame outside the person."""
        _, view = self.window.get(plate_index)
        frame_scale = np.array(self.probe_size) / self.frame_size
        plate_scale = np.array(self.plate_probe_size) / self.plate_size
        small = scaling(*frame_scale) @ homography @ np.linalg.inv(scaling(*plate_scale))
        warped = cv2.warpPerspective(view.probe, small, self.probe_size)
        covered = coverage_of(small, self.plate_probe_size, self.probe_size).astype(bool)
        outside = np.ones(covered.shape, bool) if self.person is None else self.person == 0
        seen = covered & outside
        light = gain_and_bias(picture[seen][::LIGHT_STEP], warped[seen][::LIGHT_STEP])
        difference = np.abs(warped * light[:, 0] + light[:, 1] - picture).mean(-1)
        clipped = np.where(covered, np.minimum(difference, CLIP_LEVELS), UNCOVERED_LEVELS)
        cost = float(clipped[outside].mean())
        residual = self.residual(difference[seen])
        return Candidate(plate_index, homography, matches, inliers, cost, residual, light)

    def residual(self, difference: NDArray[np.floating]) -> float:
        """Mean of the differences (N,) outside the person; of their better part while nobody has
        said where the person is."""
        if not difference.size:
            return 255.0
        if self.person is None:
            count = max(1, int(difference.size * CERTAIN_SHARE))
            difference = np.partition(difference, count - 1)[:count]
        return float(difference.mean())

    def fall_back(self, frame: Frame) -> tuple[str, Candidate]:
        """The last good homography, moved along the clean plate; before one, the identity."""
        track, window = self.track, self.window
        index = min(max(track.predict(frame.index), window.low), window.high)
        picture = probe(frame.pixels, self.probe_size)
        if track.last_homography is not None:
            return "last_homography", self.compare(index, track.last_homography, picture)
        identity = fit_whole(self.plate_size, self.frame_size)
        return "identity", self.compare(index, identity, picture)

    def render(self, best: Candidate, keypoints: int, fallback: str | None) -> Plate:
        """Warp at full resolution and match the light."""
        frame, _ = self.window.get(best.plate_index)
        pixels = cv2.LUT(frame.pixels, lookup_table(best.light))
        whole = cv2.warpPerspective(pixels, best.homography, self.frame_size)
        warped = np.asarray(whole, np.uint8)
        coverage = coverage_of(best.homography, self.plate_size, self.frame_size)
        if fallback and self.track.is_useless(best.residual):
            coverage[:] = 0
        warped[coverage == 0] = 0
        alignment = Alignment(
            plate_index=best.plate_index,
            keypoints=keypoints,
            matches=best.matches,
            inliers=best.inliers,
            residual=best.residual,
            coverage=float(coverage.mean()),
            fallback=fallback,
            homography_frame_from_plate=tuple(float(v) for v in best.homography.ravel()),
        )
        return Plate(warped, coverage, alignment)


def small_size(width: int, height: int) -> tuple[int, int]:
    """(width, height) at probe scale."""
    scale = min(1.0, PROBE_SIDE / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def probe(pixels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.float32]:
    """Small and slightly blurred, so that a fraction of a pixel does not weigh."""
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return cv2.GaussianBlur(small, (0, 0), 0.7).astype(np.float32)


def coverage_of(
    homography: Homography, plate_size: tuple[int, int], frame_size: tuple[int, int]
) -> NDArray[np.uint8]:
    """(H, W), 1 where all four plate pixels that a bilinear sample draws on exist."""
    ones = np.full(plate_size[::-1], 255, np.uint8)
    return (cv2.warpPerspective(ones, homography, frame_size) == 255).astype(np.uint8)
