"""A coarse index of the whole clean plate: which part of it shows what a frame shows."""

from __future__ import annotations

from howard.align.operations import Look, Operations
from howard.decode import VideoReader

SAMPLES = 32
"""Frames of the clean plate that are indexed, evenly spread."""
CLEARLY = 1.25
"""How many times as many matches must speak for another part than for where the place is thought to
be: while the clean plate's camera rests, chance decides between its entries."""


class PlateIndex:
    """Features of some frames all over the clean plate."""

    def __init__(self, reader: VideoReader, operations: Operations) -> None:
        """Reads through the clean plate once; raises InputError if it cannot be read."""
        self.operations = operations
        self.entries = [(f.index, operations.features(f.pixels)) for f in reader.sample(SAMPLES)]

    def locate(self, frame: Look) -> int | None:
        """Index of the entry that most matches agree with; None if none shows this."""
        inliers = self.inliers(frame)
        best = max(range(len(inliers)), key=lambda k: inliers[k])
        return self.entries[best][0] if inliers[best] else None

    def elsewhere(self, frame: Look, thought: int) -> int | None:
        """The same where it lies elsewhere than it is thought to be, at that index, and clearly
        so; else None."""
        inliers, indices = self.inliers(frame), [index for index, _ in self.entries]
        best = max(range(len(inliers)), key=lambda k: inliers[k])
        here = min(range(len(inliers)), key=lambda k: abs(indices[k] - thought))
        is_clear = inliers[best] > CLEARLY * inliers[here]
        return indices[best] if is_clear and abs(best - here) > 1 else None

    def inliers(self, frame: Look) -> list[int]:
        """How many matches agree with each entry."""
        found = self.operations.locate(frame, [features for _, features in self.entries])
        return [match.inliers if match else 0 for match in found]
