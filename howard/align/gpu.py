"""The alignment's arithmetic on the GPU, with CuPy and the kernels of `kernels/`.

All of it is enqueued on CuPy's current stream. The policy decides on the host, so that a few
numbers come down where it has to: `cuda.read_back` counts them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from howard import cuda
from howard.align import gpu_features, gpu_opencv
from howard.align.aligner import TrackingAligner
from howard.align.comparison import Fit
from howard.align.direct import DirectFit
from howard.align.fusion import LEAST_WEIGHT, Layer
from howard.align.geometry import Homography, Size
from howard.align.gpu_comparison import DeviceComparison
from howard.align.gpu_direct import refine
from howard.align.gpu_features import DeviceFeatures
from howard.align.gpu_field import is_plane
from howard.align.gpu_fusion import are_worth, covered_by, fused, layer_of, left_over
from howard.align.gpu_person import Person, nobody
from howard.align.gpu_photometric import detail, exact
from howard.align.gpu_render import Drawn, drawn, lay_over
from howard.align.gpu_view import agreement, texture_of, view_of
from howard.align.operations import Closeness, Composed, Look, Scales
from howard.align.photometric import Reach
from howard.align.robust import Match
from howard.align.view import View, half
from howard.config import AlignOptions, Features
from howard.decode import VideoReader
from howard.frames import Alignment, Frame, VideoInfo

Array = Any
"""A CuPy array."""


class Finder(Protocol):
    """What finds keypoints, and homographies that their matches agree on: a module."""

    def find_features(self, pixels: Array, thorough: bool = False) -> DeviceFeatures: ...

    def find_homographies(
        self,
        plates: Sequence[DeviceFeatures],
        frame: DeviceFeatures,
        person: Person,
        threshold: float,
        plate_size: Size,
        frame_size: Size,
    ) -> list[Match | None]: ...


FINDERS: dict[Features, Finder] = {"kernels": gpu_features, "opencv-cuda": gpu_opencv}


class CudaAligner(TrackingAligner):
    """Aligner on the GPU: takes frames whose pixels are CuPy arrays, gives such plates."""

    def __init__(
        self,
        shot: VideoInfo,
        clean_plate: VideoReader,
        resume: tuple[int, Alignment] | None = None,
        options: AlignOptions | None = None,
    ) -> None:
        """As TrackingAligner."""
        plate, finder = clean_plate.info, FINDERS[(options or AlignOptions()).features]
        sizes = (shot.width, shot.height), (plate.width, plate.height)
        operations = CudaOperations(*sizes, finder)
        super().__init__(shot, clean_plate, operations, resume, options)


class CudaOperations:
    """Operations on the GPU."""

    def __init__(self, frame_size: Size, plate_size: Size, finder: Finder) -> None:
        self.frame_size, self.plate_size, self.finder = frame_size, plate_size, finder
        self.scales = Scales(frame_size, plate_size)
        self.comparison = DeviceComparison(frame_size, plate_size)

    def look_at_frame(self, frame: Frame) -> Look:
        view = view_of(frame.pixels)
        return Look(frame.pixels, view, self.comparison.of_frame(view), self.finder.find_features)

    def look_at_plate(self, frame: Frame) -> Look:
        view = view_of(frame.pixels)
        return Look(frame.pixels, view, self.comparison.of_plate(view), self.finder.find_features)

    def features(self, picture: Array) -> DeviceFeatures:
        return self.finder.find_features(picture)

    def keypoints(self, frame: Look) -> int:
        return len(frame.features())

    def person(self, size: Size) -> Array | None:
        """(h, w), not 0 where the person of the latest matte may be."""
        return self.comparison.person_at(size)

    def direct(
        self, frame: Look, plates: Sequence[Look], starts: Sequence[Homography], how: Closeness
    ) -> list[DirectFit | None]:
        scale = self.scales.at(how)
        here, there = scale.picture(frame.view), [scale.picture(p.view) for p in plates]
        person = self.person((here.shape[1], here.shape[0]))
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
        found = exact(here, there, [resolution.small(s) for s in starts], person, reach)
        return [None if h is None else resolution.full(h) for h in found]

    def find(
        self, frame: Look, plates: Sequence[Look], thorough: bool = False
    ) -> list[Match | None]:
        there = [plate.features(thorough) for plate in plates]
        return self.matched(there, frame.features(thorough), beside_person=True)

    def locate(self, frame: Look, places: Sequence[DeviceFeatures]) -> list[Match | None]:
        return self.matched(places, frame.features(), beside_person=False)

    def matched(
        self, places: Sequence[DeviceFeatures], frame: DeviceFeatures, beside_person: bool
    ) -> list[Match | None]:
        """What their matches agree on."""
        person = self.comparison.person if beside_person else nobody()
        sizes = self.plate_size, self.frame_size
        return self.finder.find_homographies(places, frame, person, self.scales.threshold, *sizes)

    def judge(
        self, frame: Look, plates: Sequence[Look], homographies: Sequence[Homography]
    ) -> list[tuple[Fit, float]]:
        return self.comparison.judge(frame.probe, [p.probe for p in plates], homographies)

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

    def left_over(self, frame: Look, first: Layer) -> tuple[Array, bool, bool]:
        holes, poor = left_over(first, frame.view, self.person(frame.view.size))
        return holes, *are_worth(holes, poor)

    def fills(
        self,
        frame: Look,
        plates: Sequence[Look],
        homographies: Sequence[Homography],
        holes: Array,
    ) -> list[bool]:
        if not plates:
            return []
        small = map(self.scales.view.small, homographies)
        size = frame.view.size
        covered = (covered_by(p.view, h, size) for p, h in zip(plates, small, strict=True))
        return are_worth(*(holes & (c != 0) for c in covered))

    def compose(self, frame: Look, layers: Sequence[tuple[Layer, Frame]]) -> Composed:
        plate, is_fused = self.drawn(*layers[0]), False
        if len(layers) > 1:
            person = self.person(frame.view.size)
            weights, used = fused([layer for layer, _ in layers], frame.view, person)
            of_use, below = cuda.read_back(used), weights[0]
            for number, layer in enumerate(layers[1:], 1):
                if of_use[number]:
                    below = below + weights[number]
                    above = weights[number] / cuda.cupy().maximum(below, np.float32(LEAST_WEIGHT))
                    lay_over(plate, self.drawn(*layer), above)
                    is_fused = True
        width, height = self.frame_size
        share = float(cuda.read_back(plate.covered)[0]) / (width * height)
        return Composed(plate.pixels, plate.coverage, share, is_fused)

    def nothing(self) -> Composed:
        cp, (width, height) = cuda.cupy(), self.frame_size
        pixels, coverage = (cp.zeros((height, width, *c), np.uint8) for c in ((3,), ()))
        return Composed(pixels, coverage, 0.0, False)

    def drawn(self, layer: Layer, source: Frame) -> Drawn:
        """A layer at full resolution."""
        homography, fit = layer.source
        size, field, gain = self.frame_size, layer.field, layer.gain
        return drawn(source.pixels, homography, fit.light, size, field, gain)

    def observe(self, shown: tuple[View, Array], alpha: Array) -> None:
        # As on the CPU: what the plate shows too must not be hidden from the next alignment.
        frame, plate = shown
        width, height = self.frame_size
        inside = alpha.reshape(alpha.shape[-2:])[:height, :width]
        self.comparison.observe(inside, agreement(frame.texture, texture_of(plate)))

    def on_host(self, picture: Array) -> Array:
        return cuda.cupy().asnumpy(picture)
