"""Which clean-plate frames to try for a frame of the shot, and what to do when none fits.

The policy alone: no images, no device. The clean plate's clock is mapped on the shot's in
proportion of their lengths; from the first good match on, the track follows the matches: the
last winner plus the pace of the recent ones. A window of the clean plate's frames around it is at
hand.

There is no search for the best path through the whole shot, which would have to wait for later
frames: on ten kinds of scene (`benchmarks/alignment_scenes.py`, 24 to 30 frames at 640 x 360) what
the frame-by-frame choice costs is within 1 % of the lowest cost of every frame by itself (0.1 to
0.9 %), which no path can beat, and it jumps less.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from howard.align.geometry import Homography

NEAR = (0, 1, -1, 3, -4)
"""Offsets from the predicted index that every frame tries: the takes drift apart slowly, but a
hand-held camera may stop or hurry."""
LONGEST_STEP = max(abs(offset) for offset in NEAR)
"""A match farther than this from where the track was, from where it should be, and from all that
lies between is a relocation and says nothing about the pace."""
STILL = (0, 1, -1)
"""Offsets from where the track was that are tried too while nothing has told the pace."""
WIDE_COUNT = 14
"""About how many indices, evenly spread over the window, are added when the track is new, lost,
or due for a look around: the takes' clocks may differ by seconds."""
LOOK_AROUND_EVERY = 30
LOCATE_EVERY = 8
"""Frames between two looks into the index while the track is new or nothing is found; after a cut,
the first is at once."""
LOST_RATIO = 1.6
"""The track counts as lost when a residual exceeds the running one by this factor."""
COSTLY_RATIO = 1.25
"""Or when the cost, in which holes have their price, exceeds the usual one so: what lies elsewhere
must cost a quarter less to be taken."""
COST_RISE = 1.01
"""By which the usual cost, the lowest so far, may rise from frame to frame."""
USELESS_LEVELS = 15.0
USELESS_RATIO = 2.0
"""A guess whose residual exceeds both, the levels and this multiple of the running residual, shows
another view: the network is better off without it."""
BLIND_RATIO = 2.0
"""How much larger a residual may be once the person is known: 1.8 to 1.9 times on photographs from
far apart, whose plates were dropped in the second frame without this."""
PACE_GAIN = 0.1
"""Share of an error of the prediction, per frame, by which the pace is corrected: about ten frames'
worth of memory. At first it is more: what the lengths say of the pace is no more than a guess,
since a take may begin earlier or end later than the other."""
CHANCE = 1
"""An error of the prediction up to this may be chance, and leaves that guess some weight."""


@dataclass
class PlateTrack:
    """The memory of the alignment."""

    shot_frames: int | None
    plate_frames: int | None
    """Number of frames of either video, as far as known."""
    position: float | None = None
    """In the clean plate at the last good match: within half a frame of its index."""
    steps: int = 0
    """How many matches have told something about the pace."""
    last_frame_index: int = 0
    """Shot index of the last good match."""
    last_homography: Homography | None = None
    """frame_from_plate of the last good match."""
    residual: float | None = None
    """Running residual of good matches."""
    expected: float = 0.0
    """What it may be as long as that is not known."""
    cost: float | None = None
    """The usual one of good matches."""
    started_at: int | None = None
    """Shot index of the first frame that was asked about: a run may begin anywhere."""
    follows: bool = True
    """Whether the matches move the prediction; else it is the clocks' proportion for ever."""
    is_steady: bool = False
    """Whether the last good match lay where it was predicted, on a plane, which looks the same from
    any of its neighbours."""
    pace: float = field(init=False)
    """Clean-plate frames per frame of the shot."""

    def __post_init__(self) -> None:
        self.pace = self.proportion()

    @property
    def is_new(self) -> bool:
        """Whether nothing has been found yet."""
        return self.position is None

    def proportion(self) -> float:
        """Clean-plate frames per frame of the shot, from the lengths; 1 if one is unknown."""
        if self.shot_frames and self.plate_frames and self.shot_frames > 1:
            return max(self.plate_frames - 1, 0) / (self.shot_frames - 1)
        return 1.0

    def predict(self, frame_index: int) -> int:
        """Where in the clean plate to look first."""
        if self.position is None or not self.follows:
            return round(frame_index * self.proportion())
        return round(self.position + self.pace * (frame_index - self.last_frame_index))

    def is_unsure(self, frame_index: int) -> bool:
        """Whether it is known where the frame before was, and nothing has told the pace."""
        is_next = frame_index - self.last_frame_index == 1
        return self.follows and not self.is_new and not self.steps and is_next

    def centre(self, frame_index: int) -> int:
        """Of the part of the clean plate that must be at hand."""
        if self.position is not None and self.is_unsure(frame_index):
            return round(self.position)
        return self.predict(frame_index)

    def is_due_for_a_look_around(self, frame_index: int) -> bool:
        """Whether to try the wide offsets too, whatever the near ones give."""
        return self.follows and (self.is_new or frame_index % LOOK_AROUND_EVERY == 0)

    def is_due_to_be_located(self, frame_index: int) -> bool:
        """Whether to ask an index of the whole clean plate: at the start, and now and then while
        nothing is found."""
        if self.started_at is None:
            self.started_at = frame_index
        if self.is_new:
            return (frame_index - self.started_at) % LOCATE_EVERY == 0
        missed = frame_index - self.last_frame_index - 1
        return missed == 1 or (missed > 0 and missed % LOCATE_EVERY == 0)

    def is_lost(self, residual: float) -> bool:
        """Whether the best near candidate is so bad that the wide ones should be tried."""
        return self.residual is not None and residual > LOST_RATIO * self.residual + 2.0

    def is_costly(self, cost: float) -> bool:
        """Whether something better may be found elsewhere in the clean plate."""
        return self.cost is not None and cost > COSTLY_RATIO * self.cost + 2.0

    def note_cost(self, cost: float, is_least: bool) -> None:
        """Of a match that is good; is_least: nothing better was found anywhere."""
        usual = cost if self.cost is None or is_least else COST_RISE * self.cost
        self.cost = min(cost, usual)

    def is_useless(self, residual: float) -> bool:
        """Whether a plate that was only guessed explains so little that none is better."""
        usual = self.expected if self.residual is None else self.residual
        return residual > max(USELESS_LEVELS, USELESS_RATIO * usual)

    def candidates(self, frame_index: int, wide: bool, low: int, high: int) -> list[int]:
        """Indices to try, near ones best guess first, each in [low, high] (the window) once."""
        if wide:
            # Multiples of the step: as the window moves, what was prepared of them is used again.
            step = self.wide_step(low, high)
            indices = list(range(-(-low // step) * step, high + 1, step))
        else:
            centre = min(max(self.predict(frame_index), low), high)
            indices = [centre + offset for offset in NEAR]
            if self.is_unsure(frame_index):
                indices += [self.centre(frame_index) + offset for offset in STILL]
            indices = [index for index in indices if low <= index <= high]
        return list(dict.fromkeys(indices))

    def is_on_track(self, frame_index: int, plate_index: int) -> bool:
        """Whether it lies between where the track was and where it should be, or near that."""
        expected = self.predict(frame_index)
        was = expected if self.position is None else round(self.position)
        low, high = min(was, expected), max(was, expected)
        return low - LONGEST_STEP <= plate_index <= high + LONGEST_STEP

    @staticmethod
    def wide_step(low: int, high: int) -> int:
        """Between the wide indices in [low, high]."""
        return max(1, (high - low + 1) // WIDE_COUNT)

    def beside(self, index: int, low: int, high: int) -> list[int]:
        """What lies between this one of the wide indices and those before and after it, no farther
        than a step of the track, in [low, high]."""
        reach = min(self.wide_step(low, high) // 2, LONGEST_STEP)
        around = range(max(index - reach, low), min(index + reach, high) + 1)
        return [i for i in around if i != index]

    def first_of(self, near: list[int], frame_index: int) -> list[int]:
        """Of the near ones, those to try before the others: while the track is steady, the best
        guess and a neighbour of it, after and before by turns."""
        neighbour = near[0] + (-1 if frame_index % 2 else 1)
        return [i for i in near if i in (near[0], neighbour)] if self.is_steady else near

    def sees_more(self) -> None:
        """From now on residuals are of all that is not the person, no longer of the better part of
        the picture: what is usual has to be told anew."""
        self.expected, self.residual = BLIND_RATIO * (self.residual or 0.0), None
        self.cost = None

    def accept(
        self,
        frame_index: int,
        plate_index: int,
        homography: Homography,
        residual: float,
        is_plane: bool = False,
    ) -> None:
        """Remember a good match; is_plane: whether its homography is known to be enough."""
        frames = frame_index - self.last_frame_index
        predicted = plate_index if self.position is None else self.position + self.pace * frames
        error = plate_index - predicted
        jump = abs(plate_index - self.predict(frame_index))
        self.is_steady = is_plane and jump == 0 and not self.is_new
        if not self.is_new and frames > 0 and self.is_on_track(frame_index, plate_index):
            self.steps += 1
            told = self.steps + (jump <= CHANCE)
            if jump:
                self.pace += max(PACE_GAIN, 1 / told) * error / frames
        self.position = plate_index if jump else predicted
        self.last_frame_index = frame_index
        self.last_homography = homography
        old = residual if self.residual is None else self.residual
        self.residual = 0.9 * old + 0.1 * residual
