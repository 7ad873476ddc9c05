"""Which clean-plate frames may become the plate of a frame, and what speaks for each.

Those near the track are aligned directly, starting from the last homography; keypoints find the
place anew at the start, after a loss, and now and then in case the takes have drifted apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from howard.align.candidate import Candidate, Guess
from howard.align.geometry import Homography, Size, fit_whole, is_plausible_from
from howard.align.operations import Closeness, Look, Operations
from howard.align.plate_index import PlateIndex
from howard.align.plate_track import LONGEST_STEP, PlateTrack
from howard.align.polish import SWITCH_LEVELS, Polish
from howard.align.window import PlateWindow
from howard.decode import VideoReader

SUPPORT = 0.25
"""Share of the flow that must agree with a homography found by direct alignment."""
BESIDE_BEST = 0.7
"""Share of the most inliers of any that one found by direct alignment must have: where little is to
be seen, a wrong homography that covers more would cost less."""
FEW_INLIERS = 40
"""With fewer, and nothing to follow, a thorough search is worth its time."""
FAR_SHARE = 0.25
"""How much lower, in shares of the cost, for one that is off the track: the takes seldom jump."""
WALK, WALK_STEPS = 3, (1, 3)
"""How often the track may be left in one frame, and how far at a time."""
TEXTURE_WEIGHT = 0.5
"""Of the cost in textures, beside that in colours."""


class PlateSearch:
    """Finds candidates in the clean plate, and remembers where the last ones were."""

    def __init__(
        self,
        frame_size: Size,
        clean_plate: VideoReader,
        operations: Operations,
        track: PlateTrack,
        everywhere: bool,
    ) -> None:
        """everywhere: look up the whole clean plate, not only what is in memory. Raises InputError
        if it cannot be read."""
        plate = clean_plate.info
        self.frame_size, self.plate_size = frame_size, (plate.width, plate.height)
        self.operations, self.track = operations, track
        self.window: PlateWindow[Look] = PlateWindow(clean_plate, operations.look_at_plate)
        self.index: PlateIndex | None = None
        frames = track.plate_frames
        if everywhere and (frames is None or frames > self.window.capacity):
            self.index = PlateIndex(clean_plate, operations)
        self.polish = Polish(self)
        self.doubts = False
        """Whether the index is to be asked at the next frame."""
        self.spared: list[int] = []
        """Clean-plate frames near the track that were not tried for this frame."""

    def candidates(self, frame_index: int, look: Look) -> list[Candidate]:
        """Near ones from the last homography; by keypoints where that is not enough."""
        track, window = self.track, self.window
        has_doubted, is_due = self.doubts, track.is_due_for_a_look_around(frame_index)
        centre = track.centre(frame_index)
        elsewhere: int | None = None
        if self.index and track.is_due_to_be_located(frame_index):
            located = self.index.locate(look)
            centre = centre if located is None else located
        elif self.index and (has_doubted or is_due):
            elsewhere = self.index.elsewhere(look, centre)
            centre = centre if elsewhere is None else elsewhere
            is_due = elsewhere is not None
        window.centre_on(centre)
        near = track.candidates(frame_index, False, window.low, window.high)
        first = track.first_of(near, frame_index)
        self.spared = [index for index in near if index not in first]
        followed = believable(self.explaining(self.follow(first, look, track.last_homography)))
        best = self.choose(frame_index, followed)
        if best is None or best.plate_index != first[0] or track.is_lost(best.fit.residual):
            followed += self.follow_spared(look)
            followed += self.walk(look, near, followed) if track.follows else []
            followed = believable(followed)
            best = self.choose(frame_index, followed)
        sought: list[Candidate] = []
        begins = track.is_new and track.follows  # then the window holds all that is worth a look
        if not begins and (best is None or track.is_lost(best.fit.residual)):
            sought += self.find(near, look)
            best = self.choose(frame_index, followed + sought)
        is_costly = best is not None and track.follows and track.is_costly(best.cost)
        self.doubts = is_costly and self.index is not None and not has_doubted
        is_due |= is_costly and self.index is None
        if best is None or is_due or track.is_lost(best.fit.residual):
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
        best = self.choose(frame_index, found)
        if best is not None:
            track.note_cost(best.cost, is_least=is_costly and not self.doubts)
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
            near = self.track.is_new or self.track.is_on_track(frame_index, c.plate_index)
            switch = SWITCH_LEVELS * (c.plate_index != expected)
            prices.append(c.cost + (switch if near else FAR_SHARE * usual))
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
        return self.direct(look, indices, starts, Closeness.CHOOSE)

    def direct(
        self, look: Look, indices: Sequence[int], starts: Sequence[Homography], how: Closeness
    ) -> list[Candidate]:
        """Direct alignment, each from a homography of its own."""
        directs = self.operations.direct(look, self.looks(indices), starts, how)
        guesses = [
            Guess.of_direct(index, direct)
            for index, start, direct in zip(indices, starts, directs, strict=True)
            if direct
            and direct.support >= SUPPORT
            and is_plausible_from(start, direct.homography, self.plate_size, self.frame_size)
        ]
        return self.judged(look, guesses)

    def walk(self, look: Look, near: Sequence[int], followed: list[Candidate]) -> list[Candidate]:
        """Farther ones, as long as nothing was tried beside the best, before or after it: where the
        takes' paces part, it leads to where they are now."""
        tried, found = set(near), list[Candidate]()
        for _ in range(WALK):
            best = min(believable(followed + found), key=lambda c: c.cost, default=None)
            if best is None:
                break
            untried = [way for way in (-1, 1) if not is_tried(tried, best.plate_index, way)]
            farther = [best.plate_index + way * step for way in untried for step in WALK_STEPS]
            farther = [i for i in farther if self.window.low <= i <= self.window.high]
            if not farther:
                break
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
        """With their cost."""
        if not guesses:
            return []
        plates = self.looks(g.plate_index for g in guesses)
        verdicts = self.operations.judge(look, plates, [g.homography for g in guesses])
        return [
            Candidate.of(guess, fit, fit.cost + TEXTURE_WEIGHT * texture)
            for guess, (fit, texture) in zip(guesses, verdicts, strict=True)
        ]

    def fall_back(self, frame_index: int, look: Look) -> tuple[str, Candidate]:
        """The last good homography, moved along the clean plate; before one, the identity."""
        index = self.expected_index(frame_index)
        name, homography = "last_homography", self.track.last_homography
        if homography is None:
            name, homography = "identity", fit_whole(self.plate_size, self.frame_size)
        return name, self.judged(look, [Guess(index, homography, 0, 0, 0)])[0]

    def looks(self, indices: Iterable[int]) -> list[Look]:
        """What was prepared of clean-plate frames of the window."""
        return [self.window.get(index)[1] for index in indices]


def believable(followed: list[Candidate]) -> list[Candidate]:
    """Of those found by direct alignment."""
    least = BESIDE_BEST * max((c.inliers for c in followed), default=0)
    return [c for c in followed if c.inliers >= least]


def is_tried(tried: set[int], index: int, way: int) -> bool:
    """Whether something was, within a step of the track this way from an index."""
    return any(index + way * step in tried for step in range(1, LONGEST_STEP + 1))
