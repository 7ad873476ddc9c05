"""A coarse index of the whole clean plate: which part of it shows what a frame shows."""

from __future__ import annotations

from howard.align.operations import Look, Operations
from howard.decode import VideoReader

SAMPLES = 32
"""Frames of the clean plate that are indexed, evenly spread."""


class PlateIndex:
    """Features of some frames all over the clean plate."""

    def __init__(self, reader: VideoReader, operations: Operations) -> None:
        """Reads through the clean plate once; raises InputError if it cannot be read."""
        self.operations = operations
        self.entries = [(f.index, operations.features(f.pixels)) for f in reader.sample(SAMPLES)]

    def locate(self, frame: Look) -> int | None:
        """Index of the entry that most matches agree with; None if none shows this."""
        best, most = None, 0
        found = self.operations.locate(frame, [features for _, features in self.entries])
        for (index, _), match in zip(self.entries, found, strict=True):
            if match and match.inliers > most:
                best, most = index, match.inliers
        return best
