"""The aligner, on any device: which clean-plate frames to try, and which to believe.

Each frame: the clean-plate frames near the track are aligned directly, starting from the last
homography; keypoints find the place anew at the start, after a loss, and now and then in case the
takes have drifted apart. The candidate that explains the frame best is refined, bent where the
place is no plane, completed from other candidates, and lit like the frame. What is computed on
pictures, `Operations` computes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from howard.align.candidate import Candidate, Guess
from howard.align.debug import DebugPictures
from howard.align.fusion import TOO_COSTLY, WORTH_SHARE, Layer
from howard.align.geometry import Homography, fit_whole, is_plausible
from howard.align.mismatch import Mismatch
from howard.align.operations import Closeness, Look, Operations
from howard.align.plate_index import PlateIndex
from howard.align.plate_track import LONGEST_STEP, PlateTrack
from howard.align.window import PlateWindow
from howard.config import AlignOptions
from howard.decode import VideoReader
from howard.frames import Alignment, Frame, Plate, VideoInfo

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
"""Frames without other layers after one that found none of use."""
WALK, WALK_STEPS = 3, (1, 3)
"""How often the track may be left in one frame, and how far at a time."""
TEXTURE_WEIGHT = 0.5
"""Of the cost in textures, beside that in colours."""
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
        plate = clean_plate.info
        self.frame_size, self.plate_size = (shot.width, shot.height), (plate.width, plate.height)
        self.operations = operations
        self.window: PlateWindow[Look] = PlateWindow(clean_plate, operations.look_at_plate)
        plate_frames = 1 if plate.still else plate.frames
        self.track = PlateTrack(shot.frames, plate_frames, follows=options.search != "nearest")
        self.index: PlateIndex | None = None
        if options.search == "global" and (plate_frames or 0) > self.window.capacity:
            self.index = PlateIndex(clean_plate, operations)
        self.mismatch = Mismatch(shot.path, plate.path, shot.frames, options.on_mismatch)
        self.alone = 0
        """For so many frames no other layers are tried, since the last ones were of no use."""
        self.spared: list[int] = []
        """Clean-plate frames near the track that were not tried for this frame."""
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
            source, _ = self.window.get(plate.alignment.plate_index)
            on_host = self.operations.on_host
            here, there = (replace(f, pixels=on_host(f.pixels)) for f in (frame, source))
            pixels, coverage = on_host(plate.pixels), on_host(plate.coverage)
            self.debug.write(here, there, Plate(pixels, coverage, plate.alignment))
        return plate

    def align(self, frame: Frame) -> Plate:
        """As __call__, without the debug picture."""
        look = self.operations.look_at_frame(frame)
        found = self.search(frame.index, look)
        best = self.choose(frame.index, found)
        if best is None:
            fallback, best = self.fall_back(frame.index, look)
            self.mismatch.note(self.operations.keypoints(look), found=False)
            return self.render(look, best, [], fallback)
        self.mismatch.note(best.keypoints, found=True)
        best = self.polished(look, [best])[0]
        plate = self.render(look, best, found, None)
        match = best.plate_index, best.homography, best.fit.residual
        self.track.accept(frame.index, *match, best.is_plane)
        return plate

    @property
    def warnings(self) -> list[str]:
        """What to tell the user at the end."""
        return self.mismatch.warnings

    def observe(self, plate: Plate, alpha: Any) -> None:
        if self.is_blind:
            self.is_blind = False
            self.track.residual = None  # of the better part of the picture: too little from now on
        self.operations.observe(plate.shown, alpha)

    def close(self) -> None:
        self.window.close()

    def looks(self, indices: Iterable[int]) -> list[Look]:
        """What was prepared of clean-plate frames of the window."""
        return [self.window.get(index)[1] for index in indices]

    def search(self, frame_index: int, look: Look) -> list[Candidate]:
        """Candidates: near ones from the last homography; by keypoints where that is not enough."""
        track, window = self.track, self.window
        centre = track.predict(frame_index)
        if self.index and track.is_due_to_be_located(frame_index):
            located = self.index.locate(look)
            centre = centre if located is None else located
        window.centre_on(centre)
        near = track.candidates(frame_index, False, window.low, window.high)
        first = track.first_of(near, frame_index)
        self.spared = [index for index in near if index not in first]
        followed = self.explaining(self.follow(first, look, track.last_homography))
        best = self.choose(frame_index, followed)
        if best is None or best.plate_index != first[0] or track.is_lost(best.fit.residual):
            followed += self.follow_spared(look)
            followed += self.walk(look, near, followed) if track.follows else []
            best = self.choose(frame_index, followed)
        sought: list[Candidate] = []
        begins = track.is_new and track.follows  # then the window holds all that is worth a look
        if not begins and (best is None or track.is_lost(best.fit.residual)):
            sought += self.find(near, look)
            best = self.choose(frame_index, followed + sought)
        due = track.is_due_for_a_look_around(frame_index)
        if best is None or due or track.is_lost(best.fit.residual):
            wide = track.candidates(frame_index, True, window.low, window.high)
            if begins:
                wide = list(dict.fromkeys([self.in_window(centre), *wide]))
            else:
                wide = [i for i in wide if i not in near]
            sought += self.look_around(frame_index, look, wide, followed + sought)
        few = max((c.inliers for c in followed + sought), default=0) < FEW_INLIERS
        if few and track.is_due_to_be_located(frame_index):
            sought += self.find([self.expected_index(frame_index)], look, thorough=True)
        found = followed + sought
        if not found:  # too little detail for keypoints, but perhaps the cameras stood alike
            alike = fit_whole(self.plate_size, self.frame_size)
            found = self.explaining(self.follow(near, look, alike))
        return found

    def look_around(
        self, frame_index: int, look: Look, wide: Sequence[int], known: list[Candidate]
    ) -> list[Candidate]:
        """By keypoints all over the window; if the best is among them, what lies beside it too."""
        found = self.find(wide, look)
        best = self.choose(frame_index, known + found)
        if best is None or best.plate_index in {c.plate_index for c in known}:
            return found
        beside = self.track.beside(best.plate_index, self.window.low, self.window.high)
        return found + self.follow(beside, look, best.homography)

    def explaining(self, followed: list[Candidate]) -> list[Candidate]:
        """Those that explain something: the flow agrees on something in any two pictures, after a
        cut in the shot as well, and on everything in flat ones."""
        return [c for c in followed if not self.track.is_useless(c.fit.residual)]

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
            far = away > LONGEST_STEP and not self.track.is_new
            prices.append(c.cost + (FAR_SHARE * usual if far else SWITCH_LEVELS * (away > 0)))
        return found[int(np.argmin(prices))]

    def expected_index(self, frame_index: int) -> int:
        """Where the track leads, within the window."""
        return self.in_window(self.track.predict(frame_index))

    def in_window(self, index: int) -> int:
        return min(max(index, self.window.low), self.window.high)

    def follow(
        self, indices: Sequence[int], look: Look, start_from: Homography | None
    ) -> list[Candidate]:
        """Direct alignment from a homography that is nearly right: the last one, while the takes
        run alongside each other."""
        if start_from is None or not indices:
            return []
        starts = [start_from] * len(indices)
        directs = self.operations.direct(look, self.looks(indices), starts, Closeness.CHOOSE)
        guesses = [
            Guess.of_direct(index, direct)
            for index, direct in zip(indices, directs, strict=True)
            if direct and direct.support >= SUPPORT
        ]
        return self.judged(look, guesses)

    def walk(self, look: Look, near: Sequence[int], followed: list[Candidate]) -> list[Candidate]:
        """Farther ones, as long as the best is the outermost that was tried: where the takes' paces
        part, it leads to where they are now."""
        tried, found = set(near), list[Candidate]()
        for _ in range(WALK):
            best = min(followed + found, key=lambda c: c.cost, default=None)
            if best is None or best.plate_index not in (min(tried), max(tried)):
                break
            way = -1 if best.plate_index == min(tried) else 1
            farther = [best.plate_index + way * step for step in WALK_STEPS]
            farther = [i for i in farther if self.window.low <= i <= self.window.high]
            tried.update(farther)
            found += self.explaining(self.follow(farther, look, best.homography))
        return found

    def follow_spared(self, look: Look) -> list[Candidate]:
        """The near ones that were not tried at first."""
        indices, self.spared = self.spared, []
        return self.explaining(self.follow(indices, look, self.track.last_homography))

    def find(self, indices: Sequence[int], look: Look, thorough: bool = False) -> list[Candidate]:
        """By keypoints, from nothing."""
        if not indices:
            return []
        matches = self.operations.find(look, self.looks(indices), thorough)
        pairs = zip(indices, matches, strict=True)
        return self.judged(look, [Guess.of_match(i, found) for i, found in pairs if found])

    def judged(self, look: Look, guesses: list[Guess]) -> list[Candidate]:
        """Those that a camera could have made, with their cost."""
        sizes = self.plate_size, self.frame_size
        return self.compared(look, [g for g in guesses if is_plausible(g.homography, *sizes)])

    def compared(self, look: Look, guesses: list[Guess]) -> list[Candidate]:
        """With their cost."""
        if not guesses:
            return []
        plates = self.looks(g.plate_index for g in guesses)
        verdicts = self.operations.judge(look, plates, [g.homography for g in guesses])
        return [
            Candidate.of(guess, fit, fit.cost + TEXTURE_WEIGHT * texture)
            for guess, (fit, texture) in zip(guesses, verdicts, strict=True)
        ]

    def polished(self, look: Look, found: list[Candidate]) -> list[Candidate]:
        """By direct alignment where the place is no plane; then by the pictures."""
        if not found:
            return []
        operations, plates = self.operations, self.looks(c.plate_index for c in found)
        found = [
            replace(c, is_plane=operations.is_plane(look, plate, c.homography))
            for c, plate in zip(found, plates, strict=True)
        ]
        closer = {c.plate_index: c for c in self.closer(look, [c for c in found if not c.is_plane])}
        found = [closer.get(c.plate_index, c) for c in found]
        exact = operations.exact(look, plates, [c.homography for c in found])
        sizes = self.plate_size, self.frame_size
        return [
            replace(c, homography=homography) if is_plausible(homography, *sizes) else c
            for c, homography in zip(found, exact, strict=True)
        ]

    def closer(self, look: Look, found: list[Candidate]) -> list[Candidate]:
        """By direct alignment, which tells one plane from another; each as it was where that fits
        worse."""
        plates = self.looks(c.plate_index for c in found)
        starts = [c.homography for c in found]
        directs = self.operations.direct(look, plates, starts, Closeness.CLOSE)
        guesses = [
            Guess.of_direct(c.plate_index, direct)
            for c, direct in zip(found, directs, strict=True)
            if direct and direct.support >= SUPPORT
        ]
        finer = {c.plate_index: c for c in self.judged(look, guesses)}
        pairs = [(c, finer.get(c.plate_index)) for c in found]
        return [new if new and new.cost <= old.cost + SWITCH_LEVELS else old for old, new in pairs]

    def fall_back(self, frame_index: int, look: Look) -> tuple[str, Candidate]:
        """The last good homography, moved along the clean plate; before one, the identity."""
        index = self.expected_index(frame_index)
        name, homography = "last_homography", self.track.last_homography
        if homography is None:
            name, homography = "identity", fit_whole(self.plate_size, self.frame_size)
        return name, self.compared(look, [Guess(index, homography, 0, 0, 0)])[0]

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
        found = found + self.follow_spared(look)
        dearest = TOO_COSTLY * best.cost
        others = {
            c.plate_index: c
            for c in found
            if c.plate_index != best.plate_index and c.cost < dearest
        }
        more = sorted(others.values(), key=lambda c: c.cost)[:MORE_LAYERS]
        if not is_poor:
            more = self.filling(look, more, holes)
        return [first, *(self.layer(look, c) for c in self.polished(look, more))]

    def filling(self, look: Look, found: list[Candidate], holes: Any) -> list[Candidate]:
        """Those that cover enough of the holes."""
        plates, homographies = (
            self.looks(c.plate_index for c in found),
            [c.homography for c in found],
        )
        fills = self.operations.fills(look, plates, homographies, holes)
        return [c for c, is_filling in zip(found, fills, strict=True) if is_filling]

    def layer(self, look: Look, candidate: Candidate) -> tuple[Layer, Frame]:
        """With the clean-plate frame that it is of."""
        frame, plate = self.window.get(candidate.plate_index)
        c = candidate
        return self.operations.layer(look, plate, c.homography, c.fit, c.is_plane), frame

    def render(
        self, look: Look, best: Candidate, found: list[Candidate], fallback: str | None
    ) -> Plate:
        """At full resolution."""
        layers = self.layers(look, best, [] if self.alone else found)
        composed = self.operations.compose(look, layers)
        is_holed = best.is_plane and composed.share < 1 - WORTH_SHARE
        if self.alone:
            self.alone -= 1
        elif found and (len(layers) > 1 or is_holed) and not composed.is_fused:
            self.alone = REST
        if fallback and self.track.is_useless(best.fit.residual):
            composed = self.operations.nothing()
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
        shown = look.view, layers[0][0].colour
        return Plate(composed.pixels, composed.coverage, alignment, shown)
