"""Everything that the alignment benchmark compares, behind Howard's own Aligner contract."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.alignment_scenes import Scene
from benchmarks.published_alignment import ESTIMATORS, Estimator
from howard.align import Aligner
from howard.align.candidate import Candidate
from howard.align.cpu import OpenCVAligner
from howard.align.fusion import Layer
from howard.align.operations import Look
from howard.config import AlignOptions, PlateSearch
from howard.frames import IDENTITY, Alignment, Frame, Plate

CRASHED = "crashed"
"""The fallback of a frame at which the published program would have ended with an error."""


class Blind:
    """Howard's aligner that is never told where the person was."""

    def __init__(self, aligner: Aligner) -> None:
        self.aligner = aligner

    def __call__(self, frame: Frame) -> Plate:
        return self.aligner(frame)

    def observe(self, plate: Plate, alpha: NDArray[np.float32]) -> None:
        """Looks away."""

    def close(self) -> None:
        self.aligner.close()


class Unfused(OpenCVAligner):
    """Howard's aligner without the fusion: one clean-plate frame, bent and lit like the frame."""

    def layers(
        self, look: Look, best: Candidate, found: list[Candidate]
    ) -> list[tuple[Layer, Frame]]:
        return super().layers(look, best, [])


class Unbent(Unfused):
    """Without the bending, too: that clean-plate frame by its homography alone, and lit."""

    def layers(
        self, look: Look, best: Candidate, found: list[Candidate]
    ) -> list[tuple[Layer, Frame]]:
        return super().layers(look, replace(best, is_plane=True), found)


class OneHomography:
    """Warps one clean-plate frame by one homography, as the published programs do.

    index: frame index -> plate index. estimate: (frame, plate index, plate) -> homography.
    """

    def __init__(
        self,
        scene: Scene,
        index: Callable[[int], int],
        estimate: Callable[[Frame, int, NDArray[np.uint8]], NDArray[np.float64] | None],
    ) -> None:
        self.pictures = scene.plate_pictures()
        self.index, self.estimate = index, estimate
        self.warnings: list[str] = []

    def __call__(self, frame: Frame) -> Plate:
        plate_index = self.index(frame.index)
        picture = self.pictures[plate_index]
        found = self.estimate(frame, plate_index, picture)
        height, width = frame.pixels.shape[:2]
        pixels, coverage = np.zeros_like(frame.pixels), np.zeros((height, width), np.uint8)
        if found is not None:
            pixels = np.asarray(cv2.warpPerspective(picture, found, (width, height)), np.uint8)
            ones = np.full(picture.shape[:2], 255, np.uint8)
            warped = cv2.warpPerspective(ones, found, (width, height))
            coverage = np.asarray(warped == 255, np.uint8)
        alignment = Alignment(
            plate_index=plate_index,
            keypoints=0,
            matches=0,
            inliers=0,
            residual=0.0,
            coverage=float(coverage.mean()),
            fallback=CRASHED if found is None else None,
            homography_frame_from_plate=IDENTITY if found is None else tuple(found.ravel()),
        )
        return Plate(pixels, coverage, alignment)

    def observe(self, plate: Plate, alpha: NDArray[np.float32]) -> None:
        """They do not remember."""

    def close(self) -> None:
        """Nothing is open."""


def howard(
    scene: Scene, made: type[OpenCVAligner] = OpenCVAligner, search: PlateSearch = "global"
) -> Aligner:
    return made(scene.shot.info, scene.open_clean_plate(), options=AlignOptions(search))


def howard_blind(scene: Scene) -> Aligner:
    return Blind(howard(scene))


def truth(scene: Scene) -> Aligner:
    """The true homography of the far plane on the nearest view: the best of one homography."""
    return OneHomography(
        scene,
        scene.nearest_plate_index,
        lambda frame, index, _: scene.homography_frame_from_plate(frame.index, index),
    )


def published(name: str, nearest: bool, scene: Scene) -> Aligner:
    """A published program on the plate frame of the same number, or told the nearest view."""
    estimator: Estimator = ESTIMATORS[name]()
    last = len(scene.clean_plate) - 1
    return OneHomography(
        scene,
        scene.nearest_plate_index if nearest else lambda index: min(index, last),
        lambda frame, _, plate: estimator(plate, frame.pixels),
    )


COMPARED: dict[str, Callable[[Scene], Aligner]] = {
    "howard": howard,
    "howard-blind": howard_blind,
    "truth": truth,
    **{
        name + ("-nearest" if nearest else ""): partial(published, name, nearest)
        for name in ESTIMATORS
        for nearest in (False, True)
    },
}
HOMOGRAPHY = "howard-homography"
METHODS = COMPARED | {
    HOMOGRAPHY: partial(howard, made=Unbent),
    "howard-unfused": partial(howard, made=Unfused),
    "howard-search-nearest": partial(howard, search="nearest"),
    "howard-search-track": partial(howard, search="track"),
}
"""Each makes an aligner for a scene; those that are not COMPARED are Howard's without a part, and
with another `--plate-search`."""
