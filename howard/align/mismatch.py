"""Whether the clean plate shows the scene of the shot at all: a verdict on the first frames of a
run, those included that earlier calls have made."""

from __future__ import annotations

from pathlib import Path

from howard.config import OnMismatch
from howard.errors import InputError

FRAMES = 15
"""Frames with something to see in them before the verdict; fewer where fewer are wanted."""
FEWEST_KEYPOINTS = 100
"""A frame with fewer (black, out of focus) says nothing."""
CHANCE = 0.2
"""Of the frames: so many may be aligned with another scene by chance."""


class Mismatch:
    """Counts the first frames of a run for which a clean-plate frame was found, and all."""

    def __init__(
        self, shot: Path, clean_plate: Path, wanted: int | None, on_mismatch: OnMismatch
    ) -> None:
        """wanted: number of frames to make, if known."""
        self.shot, self.clean_plate, self.on_mismatch = shot, clean_plate, on_mismatch
        self.needed = min(FRAMES, wanted or FRAMES)
        self.looked_at = self.found = 0
        self.settled = False
        self.warnings: list[str] = []

    def note(self, keypoints: int, found: bool) -> None:
        """One more frame, and the keypoints in it. Raises InputError if the verdict is that the
        plate shows another scene and the user wants to stop."""
        if self.settled or keypoints < FEWEST_KEYPOINTS:
            return
        self.looked_at += 1
        self.found += found
        if self.found > CHANCE * self.needed:
            self.settled = True
        elif self.looked_at == self.needed:
            self.settled = True
            message = (
                f"{self.clean_plate}: the clean plate does not show this scene: its frames could "
                f"be aligned with {self.found or 'none'} of the first {self.looked_at} frames of "
                f"{self.shot} that have detail"
            )
            if self.on_mismatch == "stop":
                raise InputError(f"{message}; check the files, or give --on-mismatch continue")
            self.warnings.append(f"{message}; went on without it where nothing was found")
