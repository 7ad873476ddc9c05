"""The alignment's arithmetic on the CPU, with OpenCV."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from howard.align.aligner import TrackingAligner
from howard.align.comparison import Comparison, Fit, coverage_of, texture_cost
from howard.align.direct import DirectFit, refine
from howard.align.features import Features, find_features, match
from howard.align.field import is_plane
from howard.align.fusion import LEAST_WEIGHT, Layer, fused, is_worth, layer_of, left_over
from howard.align.geometry import Homography, Size
from howard.align.light import in_light
from howard.align.operations import Closeness, Composed, Look, Scales
from howard.align.photometric import Reach, detail, exact
from howard.align.render import covered_by, is_inside, plate_map, relit, resampled, warped
from howard.align.robust import (
    FEWEST_INLIERS,
    Match,
    robust_homography,
)
from howard.align.view import GAP, View, agreement, half, texture_of, view_of
from howard.config import AlignOptions
from howard.decode import VideoReader
from howard.frames import Alignment, Frame, VideoInfo


class OpenCVAligner(TrackingAligner):
    """Aligner on the CPU."""

    def __init__(
        self,
        shot: VideoInfo,
        clean_plate: VideoReader,
        resume: tuple[int, Alignment] | None = None,
        options: AlignOptions | None = None,
    ) -> None:
        """As TrackingAligner."""
        plate = clean_plate.info
        operations = OpenCVOperations((shot.width, shot.height), (plate.width, plate.height))
        super().__init__(shot, clean_plate, operations, resume, options)


class OpenCVOperations:
    """Operations on the CPU."""

    def __init__(self, frame_size: Size, plate_size: Size) -> None:
        self.frame_size, self.plate_size = frame_size, plate_size
        self.scales = Scales(frame_size, plate_size)
        self.comparison = Comparison(frame_size, plate_size)

    def look_at_frame(self, frame: Frame) -> Look:
        view = view_of(frame.pixels)
        return Look(frame.pixels, view, self.comparison.of_frame(view.colour), find_features)

    def look_at_plate(self, frame: Frame) -> Look:
        view = view_of(frame.pixels)
        return Look(frame.pixels, view, self.comparison.of_plate(view.colour), find_features)

    def features(self, picture: NDArray[np.uint8]) -> Features:
        return find_features(picture)

    def keypoints(self, frame: Look) -> int:
        return len(frame.features())

    def person(self, size: Size) -> NDArray[np.uint8] | None:
        """(h, w), not 0 where the person of the latest matte may be."""
        return self.comparison.person_at(size)

    def direct(
        self, frame: Look, plates: Sequence[Look], starts: Sequence[Homography], how: Closeness
    ) -> list[DirectFit | None]:
        scale = self.scales.at(how)
        here = scale.picture(frame.view)
        person = self.person((here.shape[1], here.shape[0]))
        there = [scale.picture(p.view) for p in plates]
        small = [scale.resolution.small(start) for start in starts]
        found = refine(here, there, small, person)
        return [f and replace(f, homography=scale.resolution.full(f.homography)) for f in found]

    def exact(
        self, frame: Look, plates: Sequence[Look], starts: Sequence[Homography], reach: Reach
    ) -> list[Homography | None]:
        resolution, picture = self.scales.of(reach)
        here = detail(picture(frame.view))
        person = self.person((here.shape[1], here.shape[0]))
        there = [detail(picture(plate.view)) for plate in plates]
        small = [resolution.small(start) for start in starts]
        pairs = zip(there, small, strict=True)
        found = [exact(here, plate, start, person, reach) for plate, start in pairs]
        return [None if h is None else resolution.full(h) for h in found]

    def find(
        self, frame: Look, plates: Sequence[Look], thorough: bool = False
    ) -> list[Match | None]:
        beside = self.beside_person(frame.features(thorough))
        return [self.matched(plate.features(thorough), beside) for plate in plates]

    def locate(self, frame: Look, places: Sequence[Features]) -> list[Match | None]:
        return [self.matched(place, frame.features()) for place in places]

    def beside_person(self, features: Features) -> Features:
        """Without the keypoints on the person, unless hardly any would be left."""
        outside = self.comparison.is_outside_person(features.keypoints)
        return features.where(outside) if outside.sum() >= 4 * FEWEST_INLIERS else features

    def matched(self, plate: Features, frame: Features) -> Match | None:
        """What their matches agree on."""
        pairs = match(plate, frame)
        found = robust_homography(
            plate.keypoints[pairs[:, 0]],
            frame.keypoints[pairs[:, 1]],
            self.scales.threshold,
            self.plate_size,
            self.frame_size,
        )
        return found and Match(found[0], len(frame), len(pairs), found[1])

    def judge(
        self, frame: Look, plates: Sequence[Look], homographies: Sequence[Homography]
    ) -> list[tuple[Fit, float]]:
        person = self.person(half(frame.view.size))
        return [
            (
                self.comparison.fit(frame.probe, plate.probe, homography),
                texture_cost(
                    frame.view.coarse,
                    plate.view.coarse,
                    self.scales.coarse.small(homography),
                    person,
                ),
            )
            for plate, homography in zip(plates, homographies, strict=True)
        ]

    def is_plane(self, frame: Look, plate: Look, homography: Homography) -> bool:
        here, there = frame.view.coarse, plate.view.coarse
        person = self.person(half(frame.view.size))
        return is_plane(here, there, self.scales.coarse.small(homography), person)

    def layer(
        self, frame: Look, plate: Look, homography: Homography, fit: Fit, is_plane: bool
    ) -> Layer:
        return layer_of(
            (homography, fit),
            frame.view,
            plate.view,
            self.scales.view.small(homography),
            fit.light,
            self.person(frame.view.size),
            is_plane,
        )

    def left_over(self, frame: Look, first: Layer) -> tuple[NDArray[np.bool_], bool, bool]:
        holes, poor = left_over(first, frame.view, self.person(frame.view.size))
        return holes, is_worth(holes), is_worth(poor)

    def fills(
        self,
        frame: Look,
        plates: Sequence[Look],
        homographies: Sequence[Homography],
        holes: NDArray[np.bool_],
    ) -> list[bool]:
        small = map(self.scales.view.small, homographies)
        return [
            is_worth(holes & (coverage_of(h, plate.view.size, frame.view.size) == 1))
            for plate, h in zip(plates, small, strict=True)
        ]

    def compose(self, frame: Look, layers: Sequence[tuple[Layer, Frame]]) -> Composed:
        pixels, coverage = self.drawn(*layers[0])
        is_fused = False
        if len(layers) > 1:
            weights = fused([x for x, _ in layers], frame.view, self.person(frame.view.size))
            below = weights[0]
            for layer, weight in zip(layers[1:], weights[1:], strict=True):
                if weight.any():
                    below = below + weight
                    above = np.asarray(weight / np.maximum(below, LEAST_WEIGHT), np.float32)
                    pixels, coverage = laid_over(pixels, coverage, *self.drawn(*layer), above)
                    is_fused = True
        share = cv2.countNonZero(coverage) / coverage.size
        if share < 1:
            pixels = np.asarray(cv2.copyTo(pixels, coverage), np.uint8)
        return Composed(pixels, coverage, share, is_fused)

    def nothing(self) -> Composed:
        coverage = np.zeros(self.frame_size[::-1], np.uint8)
        return Composed(np.zeros((*coverage.shape, 3), np.uint8), coverage, 0.0, False)

    def drawn(self, layer: Layer, source: Frame) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Pixels and coverage of a layer at full resolution."""
        homography, fit = layer.source
        lit = in_light(source.pixels, fit.light)
        if layer.field is None:
            pixels = warped(lit, homography, self.frame_size)
            coverage = covered_by(homography, self.frame_size, self.plate_size)
        else:
            where = plate_map(homography, self.frame_size, layer.field)
            pixels, coverage = resampled(lit, where), is_inside(where, self.plate_size)
        if layer.gain is not None:
            pixels = relit(pixels, layer.gain)
        return pixels, coverage

    def observe(self, shown: tuple[View, NDArray[np.uint8]], alpha: NDArray[np.float32]) -> None:
        # What a wrong matte takes for the person although the plate shows it too, in another light
        # perhaps, must not be hidden from the next alignment: the matte would never recover.
        frame, plate = shown
        small = cv2.resize(alpha, frame.size, interpolation=cv2.INTER_AREA)
        shared = agreement(frame.texture, texture_of(plate))
        closed = cv2.dilate(shared, np.ones((GAP, GAP), np.uint8))
        self.comparison.observe(np.asarray(small * (1 - closed), np.float32))

    def on_host(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return picture


def laid_over(
    pixels: NDArray[np.uint8],
    coverage: NDArray[np.uint8],
    above: NDArray[np.uint8],
    above_coverage: NDArray[np.uint8],
    weight: NDArray[np.float32],
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Blend a layer over another, (H, W, 3) and (H, W) each; weight: (h, w) at any smaller size."""
    share = cv2.resize(weight, pixels.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    share *= above_coverage
    share[coverage == 0] = above_coverage[coverage == 0]
    mixed = cv2.blendLinear(above, pixels, share, 1 - share)
    return np.asarray(mixed, np.uint8), coverage | above_coverage
