"""The aligner on the CPU, with OpenCV."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from howard.align.comparison import Comparison, Fit, Probe, coverage_of
from howard.align.features import WORKING_SIDE, Features, find_features, match
from howard.align.geometry import Homography, fit_whole, is_plausible, normalised
from howard.align.light import lookup_table
from howard.align.plate_track import PlateTrack
from howard.align.window import PlateWindow
from howard.decode import VideoReader
from howard.frames import Alignment, Frame, Plate, VideoInfo

REPROJECTION_PIXELS = 2.0
"""MAGSAC++ threshold at the working scale of the features; scaled up with the frame."""
FEWEST_INLIERS = 12
INLIER_SHARE = 0.2
"""Of the matches: below either, the homography is noise."""
SWITCH_LEVELS = 0.25
"""How much lower the cost must be to leave the expected clean-plate frame: more than chance makes
of it, less than a view that really fits better."""


@dataclass(frozen=True, eq=False)
class PlateView:
    """What is prepared once from a clean-plate frame."""

    features: Features
    probe: Probe


@dataclass(frozen=True, eq=False)
class Candidate:
    """A clean-plate frame with its homography, and how well it fits."""

    plate_index: int
    homography: Homography
    """frame_from_plate."""
    fit: Fit
    matches: int = 0
    inliers: int = 0


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
        self.comparison = Comparison(self.frame_size, self.plate_size)
        self.window = PlateWindow(clean_plate, self.prepare)
        self.track = PlateTrack(shot.frames, 1 if plate.still else plate.frames)
        self.threshold = REPROJECTION_PIXELS * max(1.0, max(self.frame_size) / WORKING_SIDE)
        if resume is not None:
            index, last = resume
            homography = np.array(last.homography_frame_from_plate).reshape(3, 3)
            self.track.accept(index, last.plate_index, homography, last.residual)

    def prepare(self, frame: Frame) -> PlateView:
        return PlateView(find_features(frame.pixels), self.comparison.of_plate(frame.pixels))

    def __call__(self, frame: Frame) -> Plate:
        features = self.beside_person(find_features(frame.pixels))
        picture = self.comparison.of_frame(frame.pixels)
        best = self.search(frame.index, features, picture)
        fallback = None
        if best is None:
            fallback, best = self.fall_back(frame.index, picture)
        else:
            self.track.accept(frame.index, best.plate_index, best.homography, best.fit.residual)
        return self.render(best, len(features), fallback)

    def observe(self, alpha: NDArray[np.float32]) -> None:
        self.comparison.observe(alpha)

    def close(self) -> None:
        self.window.close()

    def beside_person(self, features: Features) -> Features:
        """Without the keypoints on the person, unless hardly any would be left."""
        outside = self.comparison.is_outside_person(features.keypoints)
        return features.where(outside) if outside.sum() >= 4 * FEWEST_INLIERS else features

    def search(self, frame_index: int, features: Features, picture: Probe) -> Candidate | None:
        """The best candidate: of the near ones, of the wide ones too where that is not enough."""
        track = self.track
        self.window.advance(track.predict(frame_index))
        found = self.try_all(frame_index, False, features, picture)
        best = self.choose(frame_index, found)
        due = track.is_due_for_a_look_around(frame_index)
        if best is None or due or track.is_lost(best.fit.residual):
            found += self.try_all(frame_index, True, features, picture)
            best = self.choose(frame_index, found)
        return best

    def choose(self, frame_index: int, found: list[Candidate]) -> Candidate | None:
        """The lowest cost, with a preference for going on as before: what a plane cannot explain
        lies elsewhere in every clean-plate frame, and flickers where they alternate."""
        expected = self.expected_index(frame_index)
        prices = [c.fit.cost + SWITCH_LEVELS * (c.plate_index != expected) for c in found]
        return found[int(np.argmin(prices))] if found else None

    def expected_index(self, frame_index: int) -> int:
        """Where the track leads, within the window."""
        return min(max(self.track.predict(frame_index), self.window.low), self.window.high)

    def try_all(
        self, frame_index: int, wide: bool, features: Features, picture: Probe
    ) -> list[Candidate]:
        """Every candidate index that yields a homography one can believe."""
        window = self.window
        indices = self.track.candidates(frame_index, wide, window.low, window.high)
        found = (self.try_one(i, features, picture) for i in indices)
        return [candidate for candidate in found if candidate is not None]

    def try_one(self, plate_index: int, features: Features, picture: Probe) -> Candidate | None:
        """Match, fit a homography, check it, compare; None where nothing trustworthy comes out."""
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
        homography, count = np.asarray(found, np.float64), int(inliers.sum())
        if count < max(FEWEST_INLIERS, INLIER_SHARE * len(matches)):
            return None
        if not is_plausible(homography, self.plate_size, self.frame_size):
            return None
        fit = self.comparison.fit(picture, view.probe, homography)
        return Candidate(plate_index, normalised(homography), fit, len(matches), count)

    def fall_back(self, frame_index: int, picture: Probe) -> tuple[str, Candidate]:
        """The last good homography, moved along the clean plate; before one, the identity."""
        index = self.expected_index(frame_index)
        name, homography = "last_homography", self.track.last_homography
        if homography is None:
            name, homography = "identity", fit_whole(self.plate_size, self.frame_size)
        _, view = self.window.get(index)
        return name, Candidate(
            index, homography, self.comparison.fit(picture, view.probe, homography)
        )

    def render(self, best: Candidate, keypoints: int, fallback: str | None) -> Plate:
        """Warp at full resolution and match the light."""
        frame, _ = self.window.get(best.plate_index)
        pixels = cv2.LUT(frame.pixels, lookup_table(best.fit.light))
        warped = np.asarray(cv2.warpPerspective(pixels, best.homography, self.frame_size), np.uint8)
        coverage = coverage_of(best.homography, self.plate_size, self.frame_size)
        if fallback and self.track.is_useless(best.fit.residual):
            coverage[:] = 0
        warped[coverage == 0] = 0
        alignment = Alignment(
            plate_index=best.plate_index,
            keypoints=keypoints,
            matches=best.matches,
            inliers=best.inliers,
            residual=best.fit.residual,
            coverage=float(coverage.mean()),
            fallback=fallback,
            homography_frame_from_plate=tuple(float(v) for v in best.homography.ravel()),
        )
        return Plate(warped, coverage, alignment)
