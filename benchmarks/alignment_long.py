"""What a long clean plate costs the aligner's search: cheap frames, many of them.

A window that wanders over one large picture: no frame like another, a copy each, nothing else.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from benchmarks.alignment_person import Person
from benchmarks.alignment_scores import SUCCESS_SHARE, corner_vectors, lengths
from benchmarks.alignment_takes import FRAMES_PER_SECOND, Rendered
from benchmarks.alignment_textures import Pixels, normal, surface
from benchmarks.measure import Spread, WrongResult, spread
from howard.align.cpu import OpenCVAligner
from howard.align.geometry import corners
from howard.frames import Alignment, Frame, VideoInfo

MARGIN_SHARE = 0.5
"""Of the width and height: how far the window wanders."""
PERIODS = (500.0, 310.0)
"""Frames until it is back, across and down: some 6 pixels a frame at 1080p."""
NOISE_LEVELS = 2.0
SHOT_OFFSET = (3, 2)
"""Pixels right and down of the clean plate's window."""
LEAST_SUCCESS = 0.9
"""Share of frames that must be aligned before a time is reported."""


class Wander:
    """The large picture, and the window on it."""

    def __init__(self, width: int, height: int, frames: int) -> None:
        rng = np.random.default_rng(0)
        self.width, self.height = width, height
        shape = (int(height * (1 + MARGIN_SHARE)) + 8, int(width * (1 + MARGIN_SHARE)) + 8)
        self.ground = surface(rng, *shape, tile=max(0.15 * width, 8.0))
        self.person = Person(rng, width, height, 0.2)
        self.info = VideoInfo(Path("wander"), width, height, frames, FRAMES_PER_SECOND)

    def corner(self, index: int) -> tuple[int, int]:
        """Left and top of the window, in pixels of the large picture."""
        share = 0.5 - 0.5 * np.cos(2 * np.pi * index / np.array(PERIODS))
        x, y = np.rint(share * MARGIN_SHARE * (self.width, self.height)).astype(int).tolist()
        return x, y

    def window(self, index: int, right: int = 0, down: int = 0) -> Pixels:
        """A copy of the window."""
        x, y = self.corner(index)
        view = self.ground[y + down : y + down + self.height, x + right : x + right + self.width]
        return np.ascontiguousarray(view)

    def shot_frame(self, index: int) -> Frame:
        """The window a little to the side, with a person and noise."""
        background = self.window(index, *SHOT_OFFSET)
        seconds = index / FRAMES_PER_SECOND
        alpha = self.person.alpha(seconds)
        pixels = cv2.blendLinear(self.person.colour(seconds), background, alpha, 1 - alpha)
        rng = np.random.default_rng(index)
        noise = normal(rng, background.shape) * np.float32(NOISE_LEVELS)
        noisy = np.asarray(cv2.add(pixels, noise, dtype=cv2.CV_8U), np.uint8)
        return Frame(index, seconds, noisy)


@dataclass(frozen=True)
class SearchCost:
    """Processor time of Howard's aligner with a clean plate of one length."""

    plate_frames: int
    build_milliseconds: float
    """Before the first frame; reading and indexing the clean plate ahead belong here."""
    milliseconds: Spread
    """Per frame of the shot."""
    mean_milliseconds: float
    amortised_milliseconds: float
    """The mean, and the building spread over a shot as long as the clean plate."""


def search_cost(width: int, height: int, plate_frames: int, frames: int) -> SearchCost:
    """Align the first frames of a shot as long as its clean plate.

    Raises WrongResult if too few are aligned.
    """
    wander = Wander(width, height, plate_frames)
    started = time.process_time()
    aligner = OpenCVAligner(wander.info, Rendered(wander.info, wander.window))
    build = (time.process_time() - started) * 1e3
    taken, aligned = [], 0
    for index in range(min(frames, plate_frames)):
        frame, alpha = wander.shot_frame(index), wander.person.alpha(index / FRAMES_PER_SECOND)
        started = time.process_time()
        plate = aligner(frame)
        aligner.observe(plate, alpha)
        taken.append((time.process_time() - started) * 1e3)
        aligned += is_aligned(wander, index, plate.alignment)
    aligner.close()
    if aligned < LEAST_SUCCESS * len(taken):
        raise WrongResult(f"{aligned} of {len(taken)} frames aligned; they were not timed")
    mean = float(np.mean(taken))
    return SearchCost(plate_frames, build, spread(taken), mean, mean + build / plate_frames)


def is_aligned(wander: Wander, index: int, alignment: Alignment) -> bool:
    """Whether the frame's corners lie where the two windows put them."""
    points = corners(wander.width, wander.height)
    moved = np.subtract(wander.corner(index), wander.corner(alignment.plate_index))
    homography = np.reshape(alignment.homography_frame_from_plate, (3, 3))
    off = corner_vectors(homography, points, points + moved + SHOT_OFFSET)
    return bool(lengths(off).max() < SUCCESS_SHARE * wander.width)
