"""The aligner, on any device: from a frame to its plate.

Of the candidates that `search.py` finds, the one that explains the frame best is refined, bent
where the place is no plane, completed from others, and lit like the frame. What is computed on
pictures, `Operations` computes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from howard.align.candidate import Candidate
from howard.align.debug import DebugPictures
from howard.align.fusion import TOO_COSTLY, WORTH_SHARE, Layer
from howard.align.operations import Look, Operations
from howard.align.plate_track import PlateTrack
from howard.align.search import PlateSearch
from howard.config import AlignOptions
from howard.decode import VideoReader
from howard.frames import Alignment, Frame, Plate, VideoInfo

REST = 8
"""Frames without other layers after one that found none of use."""
MORE_LAYERS = 2
"""Other candidates that may complete the best one."""


class TrackingAligner:
    """Aligner that follows the clean plate. Not for use by several threads at once."""

    def __init__(
        self,
        shot: VideoInfo,
        clean_plate: VideoReader,
        operations: Operations,
        resume: tuple[int, Alignment] | None = None,
        options: AlignOptions | None = None,
    ) -> None:
        """resume: index and alignment of the frame to go on after, from an earlier run.

        Raises InputError if the clean plate cannot be read, OutputError if there is no place for
        the debug pictures.
        """
        options = options or AlignOptions()
        plate, size = clean_plate.info, (shot.width, shot.height)
        self.operations = operations
        plate_frames = 1 if plate.still else plate.frames
        self.track = PlateTrack(shot.frames, plate_frames, follows=options.search != "nearest")
        everywhere = options.search == "global"
        self.search = PlateSearch(size, clean_plate, operations, self.track, everywhere)
        self.alone = 0
        """For so many frames no other layers are tried, since the last ones were of no use."""
        self.is_blind = True
        """Whether nobody has said yet where the person is."""
        self.debug = DebugPictures(options.debug) if options.debug else None
        if resume is not None:
            index, last = resume
            homography = np.array(last.homography_frame_from_plate).reshape(3, 3)
            self.track.accept(index, last.plate_index, homography, last.residual)

    def __call__(self, frame: Frame) -> Plate:
        plate = self.align(frame)
        if self.debug:
            source, _ = self.search.window.get(plate.alignment.plate_index)
            on_host = self.operations.on_host
            here, there = (replace(f, pixels=on_host(f.pixels)) for f in (frame, source))
            pixels, coverage = on_host(plate.pixels), on_host(plate.coverage)
            self.debug.write(here, there, Plate(pixels, coverage, plate.alignment))
        return plate

    def align(self, frame: Frame) -> Plate:
        """As __call__, without the debug picture."""
        look = self.operations.look_at_frame(frame)
        found = self.search.candidates(frame.index, look)
        best = self.search.choose(frame.index, found)
        if best is None:
            fallback, best = self.search.fall_back(frame.index, look)
            best = replace(best, keypoints=self.operations.keypoints(look))
            return self.render(look, best, [], fallback)
        best = self.search.polish.best(look, best)
        plate = self.render(look, best, found, None)
        match = best.plate_index, best.homography, best.fit.residual
        self.track.accept(frame.index, *match, best.is_plane)
        return plate

    def observe(self, plate: Plate, alpha: Any) -> None:
        if self.is_blind:
            self.is_blind = False
            self.track.sees_more()
        self.operations.observe(plate.shown, alpha)

    def close(self) -> None:
        self.search.window.close()

    def layers(
        self, look: Look, best: Candidate, found: list[Candidate]
    ) -> list[tuple[Layer, Frame]]:
        """The best candidate, and others of other times that may explain what it leaves over."""
        first = self.layer(look, best)
        if not found:
            return [first]
        holes, is_holed, is_poor = self.operations.left_over(look, first[0])
        if not (is_holed or is_poor):
            return [first]
        found = found + self.search.follow_spared(look)
        more = others(best, found)[:MORE_LAYERS]
        if not is_poor:
            more = self.filling(look, more, holes)
        return [first, *(self.layer(look, c) for c in self.search.polish(look, more))]

    def filling(self, look: Look, found: list[Candidate], holes: Any) -> list[Candidate]:
        """Those that cover enough of the holes."""
        plates = self.search.looks(c.plate_index for c in found)
        homographies = [c.homography for c in found]
        fills = self.operations.fills(look, plates, homographies, holes)
        return [c for c, is_filling in zip(found, fills, strict=True) if is_filling]

    def layer(self, look: Look, candidate: Candidate) -> tuple[Layer, Frame]:
        """With the clean-plate frame that it is of."""
        frame, plate = self.search.window.get(candidate.plate_index)
        c = candidate
        return self.operations.layer(look, plate, c.homography, c.fit, c.is_plane), frame

    def render(
        self, look: Look, best: Candidate, found: list[Candidate], fallback: str | None
    ) -> Plate:
        """At full resolution."""
        is_useless = fallback is not None and self.track.is_useless(best.fit.residual)
        if is_useless:
            best = replace(best, is_plane=True)  # not worth the work of bending it
        layers = self.layers(look, best, [] if self.alone else found)
        operations = self.operations
        composed = operations.nothing() if is_useless else operations.compose(look, layers)
        is_holed = best.is_plane and composed.share < 1 - WORTH_SHARE
        if self.alone:
            self.alone -= 1
        elif found and (len(layers) > 1 or is_holed) and not composed.is_fused:
            self.alone = REST
        alignment = Alignment(
            plate_index=best.plate_index,
            keypoints=best.keypoints,
            matches=best.matches,
            inliers=best.inliers,
            residual=best.fit.residual,
            coverage=composed.share,
            fallback=fallback,
            homography_frame_from_plate=tuple(float(v) for v in best.homography.ravel()),
        )
        layer, source = layers[0]
        shown = look.view, layer.colour
        return Plate(composed.pixels, composed.coverage, alignment, shown, source.pixels)


def others(best: Candidate, found: list[Candidate]) -> list[Candidate]:
    """Of other clean-plate frames, each frame's cheapest, the cheapest first; none that costs too
    much beside the best."""
    cheapest: dict[int, Candidate] = {}
    for candidate in sorted(found, key=lambda c: c.cost):
        if candidate.cost < TOO_COSTLY * best.cost and candidate.plate_index != best.plate_index:
            cheapest.setdefault(candidate.plate_index, candidate)
    return list(cheapest.values())
