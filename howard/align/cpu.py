"""The aligner on the CPU, with OpenCV.

Each frame: the clean-plate frames near the track are aligned directly, starting from the last
homography; keypoints find the place anew at the start, after a loss, and now and then in case the
takes have drifted apart. The candidate that explains the frame best is refined, bent where the
place is no plane, completed from other candidates, and lit like the frame.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from howard.align.comparison import Comparison, Fit, Probe, texture_cost
from howard.align.debug import DebugPictures
from howard.align.direct import DirectFit, refine
from howard.align.features import WORKING_SIDE, Features, find_features, match
from howard.align.fusion import (
    TOO_COSTLY,
    Layer,
    covered_by,
    fused,
    is_worth,
    layer_of,
    left_over,
)
from howard.align.geometry import Homography, Resolution, fit_whole, is_plausible
from howard.align.light import lookup_table
from howard.align.mismatch import Mismatch
from howard.align.plate_index import PlateIndex
from howard.align.plate_track import LONGEST_STEP, PlateTrack
from howard.align.render import coverage_of, plate_map, relit, resampled
from howard.align.robust import FEWEST_INLIERS, robust_homography
from howard.align.view import View, agreement, half, texture_of, view_of, view_size
from howard.align.window import PlateWindow
from howard.config import AlignOptions
from howard.decode import VideoReader
from howard.frames import Alignment, Frame, Plate, VideoInfo

REPROJECTION_PIXELS = 2.0
"""MAGSAC++ threshold at the working scale of the features; scaled up with the frame."""
SUPPORT = 0.25
"""Share of the flow that must agree with a homography found by direct alignment."""
SWITCH_LEVELS = 0.25
"""How much lower the cost must be to leave the expected clean-plate frame: more than chance makes
of it, less than a view that really fits better."""
FEW_INLIERS = 40
"""With fewer, and nothing to follow, a thorough search is worth its time."""
FAR_SHARE = 0.25
"""How much lower, in shares of the cost, for one far from it: the takes seldom jump."""
REST = 8
"""Frames without other layers after some that were of no use."""
GAP = 7
"""View pixels across which what frame and plate share closes: flat places show no agreement."""
TEXTURE_WEIGHT = 0.5
"""Of the cost in textures, beside that in colours."""
MORE_LAYERS = 2
"""Other candidates that may complete the best one."""


@dataclass(eq=False)
class Look:
    """What is prepared once from a picture; the features when they are first needed."""

    pixels: NDArray[np.uint8]
    view: View
    probe: Probe
    found: dict[bool, Features] = field(default_factory=dict)

    def features(self, thorough: bool = False) -> Features:
        if thorough not in self.found:
            self.found[thorough] = find_features(self.pixels, thorough)
        return self.found[thorough]


@dataclass(frozen=True, eq=False)
class Candidate:
    """A clean-plate frame with its homography, and how well it fits."""

    plate_index: int
    homography: Homography
    """frame_from_plate."""
    fit: Fit
    cost: float
    """By which candidates are compared: of colour, and of texture."""
    keypoints: int = 0
    matches: int = 0
    inliers: int = 0
    """As in `Alignment`."""


class OpenCVAligner:
    """Aligner on the CPU. Not for use by several threads at once."""

    def __init__(
        self,
        shot: VideoInfo,
        clean_plate: VideoReader,
        resume: tuple[int, Alignment] | None = None,
        options: AlignOptions | None = None,
    ) -> None:
        """resume: index and alignment of the frame to go on after, from an earlier run.

        Raises InputError if the clean plate cannot be read, OutputError if there is no place for
        the debug pictures.
        """
        options = options or AlignOptions()
        plate = clean_plate.info
        self.frame_size, self.plate_size = (shot.width, shot.height), (plate.width, plate.height)
        sizes = self.frame_size, self.plate_size
        views = view_size(self.frame_size), view_size(self.plate_size)
        self.view_scale = Resolution.of(*sizes, *views)
        self.coarse_scale = Resolution.of(*sizes, half(views[0]), half(views[1]))
        self.comparison = Comparison(*sizes)
        self.window = PlateWindow(clean_plate, self.look_at_plate)
        plate_frames = 1 if plate.still else plate.frames
        self.track = PlateTrack(shot.frames, plate_frames, follows=options.search != "nearest")
        self.index: PlateIndex | None = None
        if options.search == "global" and (plate_frames or 0) > self.window.capacity:
            self.index = PlateIndex(clean_plate)
        self.mismatch = Mismatch(shot.path, plate.path, shot.frames, options.on_mismatch)
        self.alone = 0
        """For so many frames no other layers are tried, since the last ones were of no use."""
        self.shown: tuple[View, NDArray[np.uint8]] | None = None
        """The latest frame's view, and the plate's colour (h, w, 3) on it."""
        self.debug = DebugPictures(options.debug) if options.debug else None
        self.threshold = REPROJECTION_PIXELS * max(1.0, max(self.frame_size) / WORKING_SIDE)
        if resume is not None:
            index, last = resume
            homography = np.array(last.homography_frame_from_plate).reshape(3, 3)
            self.track.accept(index, last.plate_index, homography, last.residual)

    def __call__(self, frame: Frame) -> Plate:
        plate = self.align(frame)
        if self.debug:
            source, _ = self.window.get(plate.alignment.plate_index)
            self.debug.write(frame, source, plate)
        return plate

    def align(self, frame: Frame) -> Plate:
        """As __call__, without the debug picture."""
        look = self.look_at_frame(frame)
        found = self.search(frame.index, look)
        best = self.choose(frame.index, found)
        if best is None:
            fallback, best = self.fall_back(frame.index, look)
            self.mismatch.note(len(look.features()), found=False)
            return self.render(look, best, [], fallback)
        self.mismatch.note(best.keypoints, found=True)
        best = self.polished(look, best)
        self.track.accept(frame.index, best.plate_index, best.homography, best.fit.residual)
        return self.render(look, best, found, None)

    @property
    def warnings(self) -> list[str]:
        """What to tell the user at the end."""
        return self.mismatch.warnings

    def observe(self, alpha: NDArray[np.float32]) -> None:
        if self.shown is None:
            return
        # What a wrong matte takes for the person although the plate shows it too, in another light
        # perhaps, must not be hidden from the next alignment: the matte would never recover.
        frame, plate = self.shown
        small = cv2.resize(alpha, frame.size, interpolation=cv2.INTER_AREA)
        shared = agreement(frame.texture, texture_of(plate))
        closed = cv2.dilate(shared, np.ones((GAP, GAP), np.uint8))
        self.comparison.observe(np.asarray(small * (1 - closed), np.float32))

    def close(self) -> None:
        self.window.close()

    def look_at_frame(self, frame: Frame) -> Look:
        view = view_of(frame.pixels)
        return Look(frame.pixels, view, self.comparison.of_frame(view.colour))

    def look_at_plate(self, frame: Frame) -> Look:
        view = view_of(frame.pixels)
        return Look(frame.pixels, view, self.comparison.of_plate(view.colour))

    def person(self, size: tuple[int, int]) -> NDArray[np.uint8] | None:
        """(h, w), not 0 where the person of the latest matte may be."""
        return self.comparison.person_at(size)

    def search(self, frame_index: int, look: Look) -> list[Candidate]:
        """Candidates: near ones from the last homography; by keypoints where that is not enough."""
        track, window = self.track, self.window
        centre = track.predict(frame_index)
        if self.index and track.is_due_to_be_located(frame_index):
            located = self.index.locate(
                look.features(), self.threshold, self.plate_size, self.frame_size
            )
            centre = centre if located is None else located
        window.centre_on(centre)
        near = track.candidates(frame_index, False, window.low, window.high)
        found = kept(self.follow(i, look, track.last_homography) for i in near)
        best = self.choose(frame_index, found)
        if best is None or track.is_lost(best.fit.residual):
            found += kept(self.find(i, look) for i in near)
            best = self.choose(frame_index, found)
        due = track.is_due_for_a_look_around(frame_index)
        if best is None or due or track.is_lost(best.fit.residual):
            wide = track.candidates(frame_index, True, window.low, window.high)
            found += kept(self.find(i, look) for i in wide if i not in near)
        few = max((c.inliers for c in found), default=0) < FEW_INLIERS
        if few and track.is_due_to_be_located(frame_index):
            found += kept([self.find(self.expected_index(frame_index), look, thorough=True)])
        if not found:  # too little detail for keypoints, but perhaps the cameras stood alike
            whole = fit_whole(self.plate_size, self.frame_size)
            found = kept(self.follow(i, look, whole) for i in near)
        return found

    def choose(self, frame_index: int, found: list[Candidate]) -> Candidate | None:
        """The lowest cost, with a preference for going on as before: what a plane cannot explain
        lies elsewhere in every clean-plate frame, and flickers where they alternate."""
        if not found:
            return None
        expected = self.expected_index(frame_index)
        usual = min(c.cost for c in found)
        prices = []
        for c in found:
            away = abs(c.plate_index - expected)
            far = away > LONGEST_STEP and self.track.last_index is not None
            prices.append(c.cost + (FAR_SHARE * usual if far else SWITCH_LEVELS * (away > 0)))
        return found[int(np.argmin(prices))]

    def expected_index(self, frame_index: int) -> int:
        """Where the track leads, within the window."""
        return min(max(self.track.predict(frame_index), self.window.low), self.window.high)

    def follow(
        self, plate_index: int, look: Look, start_from: Homography | None
    ) -> Candidate | None:
        """Direct alignment from a homography that is nearly right: the last one, while the takes
        run alongside each other."""
        if start_from is None:
            return None
        _, plate = self.window.get(plate_index)
        start = self.coarse_scale.small(start_from)
        person = self.person(half(look.view.size))
        direct = refine(look.view.coarse, plate.view.coarse, start, person)
        if direct is None or direct.support < SUPPORT:
            return None
        candidate = self.judged(plate_index, look, self.coarse_scale.full(direct.homography))
        return candidate and counted(candidate, direct)

    def find(self, plate_index: int, look: Look, thorough: bool = False) -> Candidate | None:
        """By keypoints, from nothing."""
        _, plate = self.window.get(plate_index)
        frame, there = self.beside_person(look.features(thorough)), plate.features(thorough)
        matches = match(there, frame)
        found = robust_homography(
            there.keypoints[matches[:, 0]],
            frame.keypoints[matches[:, 1]],
            self.threshold,
            self.plate_size,
            self.frame_size,
        )
        if found is None:
            return None
        homography, inliers = found
        candidate = self.judged(plate_index, look, homography)
        return candidate and replace(
            candidate, keypoints=len(frame), matches=len(matches), inliers=inliers
        )

    def judged(self, plate_index: int, look: Look, homography: Homography) -> Candidate | None:
        """With its fit; None for a homography that no camera makes."""
        if not is_plausible(homography, self.plate_size, self.frame_size):
            return None
        return self.compared(plate_index, look, homography)

    def compared(self, plate_index: int, look: Look, homography: Homography) -> Candidate:
        """With its fit and cost."""
        _, plate = self.window.get(plate_index)
        fit = self.comparison.fit(look.probe, plate.probe, homography)
        texture = texture_cost(
            look.view.coarse,
            plate.view.coarse,
            self.coarse_scale.small(homography),
            self.person(half(look.view.size)),
        )
        return Candidate(plate_index, homography, fit, fit.cost + TEXTURE_WEIGHT * texture)

    def polished(self, look: Look, best: Candidate, finest: int = 0) -> Candidate:
        """As exact as can be: direct alignment on the finer view, kept unless it fits worse."""
        _, plate = self.window.get(best.plate_index)
        start = self.view_scale.small(best.homography)
        person = self.person(look.view.size)
        direct = refine(look.view.texture, plate.view.texture, start, person, finest)
        if direct is None or direct.support < SUPPORT:
            return best
        finer = self.judged(best.plate_index, look, self.view_scale.full(direct.homography))
        if finer is None or finer.cost > best.cost + SWITCH_LEVELS:
            return best
        return counted(finer, direct)

    def beside_person(self, features: Features) -> Features:
        """Without the keypoints on the person, unless hardly any would be left."""
        outside = self.comparison.is_outside_person(features.keypoints)
        return features.where(outside) if outside.sum() >= 4 * FEWEST_INLIERS else features

    def fall_back(self, frame_index: int, look: Look) -> tuple[str, Candidate]:
        """The last good homography, moved along the clean plate; before one, the identity."""
        index = self.expected_index(frame_index)
        name, homography = "last_homography", self.track.last_homography
        if homography is None:
            name, homography = "identity", fit_whole(self.plate_size, self.frame_size)
        return name, self.compared(index, look, homography)

    def layers(self, look: Look, best: Candidate, found: list[Candidate]) -> list[Layer]:
        """The best candidate, and others of other times that may explain what it leaves over."""
        first = self.layer(look, best)
        if not found:
            return [first]
        holes, poor = left_over(first, look.view, self.person(look.view.size))
        if not (is_worth(holes) or is_worth(poor)):
            return [first]
        dearest = TOO_COSTLY * best.cost
        others = {
            c.plate_index: c
            for c in found
            if c.plate_index != best.plate_index and c.cost < dearest
        }
        layers = [first]
        for candidate in sorted(others.values(), key=lambda c: c.cost)[:MORE_LAYERS]:
            if is_worth(poor) or is_worth(holes & (self.covered(look, candidate) == 255)):
                layers.append(self.layer(look, self.polished(look, candidate, finest=1)))
        return layers

    def covered(self, look: Look, candidate: Candidate) -> NDArray[np.uint8]:
        """(h, w) of the frame's view, 255 where the candidate has data."""
        _, plate = self.window.get(candidate.plate_index)
        homography = self.view_scale.small(candidate.homography)
        return covered_by(plate.view, homography, look.view.size)

    def layer(self, look: Look, candidate: Candidate) -> Layer:
        _, plate = self.window.get(candidate.plate_index)
        return layer_of(
            candidate,
            look.view,
            plate.view,
            self.view_scale.small(candidate.homography),
            lookup_table(candidate.fit.light),
            self.person(look.view.size),
        )

    def render(
        self, look: Look, best: Candidate, found: list[Candidate], fallback: str | None
    ) -> Plate:
        """Warp at full resolution and match the light."""
        layers = self.layers(look, best, [] if self.alone else found)
        self.shown = look.view, layers[0].colour
        pixels, coverage = self.drawn(layers[0])
        self.alone = max(0, self.alone - 1)
        if len(layers) > 1:
            weights = fused(layers, look.view, self.person(look.view.size))[1:]
            for layer, weight in zip(layers[1:], weights, strict=True):
                if weight.any():
                    pixels, coverage = laid_over(pixels, coverage, *self.drawn(layer), weight)
            if not any(weight.any() for weight in weights):
                self.alone = REST
        if fallback and self.track.is_useless(best.fit.residual):
            coverage[:] = 0
        pixels[coverage == 0] = 0
        alignment = Alignment(
            plate_index=best.plate_index,
            keypoints=best.keypoints,
            matches=best.matches,
            inliers=best.inliers,
            residual=best.fit.residual,
            coverage=float(coverage.mean()),
            fallback=fallback,
            homography_frame_from_plate=tuple(float(v) for v in best.homography.ravel()),
        )
        return Plate(pixels, coverage, alignment)

    def drawn(self, layer: Layer) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Pixels and coverage of a layer at full resolution."""
        candidate: Candidate = layer.candidate
        frame, _ = self.window.get(candidate.plate_index)
        where = plate_map(candidate.homography, self.frame_size, layer.field)
        pixels = resampled(cv2.LUT(frame.pixels, lookup_table(candidate.fit.light)), where)
        if layer.gain is not None:
            pixels = relit(pixels, layer.gain)
        return pixels, coverage_of(where, self.plate_size)


def counted(candidate: Candidate, direct: DirectFit) -> Candidate:
    """With what speaks for it."""
    return replace(
        candidate, keypoints=direct.points, matches=direct.matches, inliers=direct.inliers
    )


def kept(candidates: Iterable[Candidate | None]) -> list[Candidate]:
    """Those that came to something."""
    return [candidate for candidate in candidates if candidate is not None]


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
