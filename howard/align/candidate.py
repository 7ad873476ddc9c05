"""A clean-plate frame that may become the plate, and what speaks for it."""

from __future__ import annotations

from dataclasses import dataclass

from howard.align.comparison import Fit
from howard.align.direct import DirectFit
from howard.align.geometry import Homography
from howard.align.robust import Match


@dataclass(frozen=True, eq=False)
class Guess:
    """A clean-plate frame and how it may lie on the frame."""

    plate_index: int
    homography: Homography
    """frame_from_plate."""
    keypoints: int
    matches: int
    inliers: int
    """As in `Alignment`; 0 for what was not looked for."""

    @classmethod
    def of_direct(cls, plate_index: int, found: DirectFit) -> Guess:
        """From direct alignment."""
        return cls(plate_index, found.homography, found.points, found.matches, found.inliers)

    @classmethod
    def of_match(cls, plate_index: int, found: Match) -> Guess:
        """By keypoints."""
        return cls(plate_index, found.homography, found.keypoints, found.matches, found.inliers)


@dataclass(frozen=True, eq=False)
class Candidate(Guess):
    """A guess that was judged."""

    fit: Fit
    cost: float
    """By which candidates are compared: of colour, and of texture."""
    is_plane: bool = False
    """Whether its homography is known to be enough."""

    @classmethod
    def of(cls, guess: Guess, fit: Fit, cost: float) -> Candidate:
        counts = guess.keypoints, guess.matches, guess.inliers
        return cls(guess.plate_index, guess.homography, *counts, fit, cost)
