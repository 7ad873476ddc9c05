"""A coarse index of the whole clean plate: which part of it shows what a frame shows."""

from __future__ import annotations

from dataclasses import dataclass

from howard.align.features import Features, find_features, match
from howard.align.geometry import Size
from howard.align.robust import robust_homography
from howard.decode import VideoReader

SAMPLES = 32
"""Frames of the clean plate that are indexed, evenly spread."""


@dataclass(frozen=True, eq=False)
class Entry:
    """One indexed clean-plate frame."""

    plate_index: int
    features: Features


class PlateIndex:
    """Features of some frames all over the clean plate."""

    def __init__(self, reader: VideoReader) -> None:
        """Reads through the clean plate once; raises InputError if it cannot be read."""
        self.entries = [Entry(f.index, find_features(f.pixels)) for f in reader.sample(SAMPLES)]

    def locate(
        self, features: Features, threshold: float, plate_size: Size, frame_size: Size
    ) -> int | None:
        """Index of the entry that most matches agree with; None if none shows this."""
        best, most = None, 0
        for entry in self.entries:
            pairs = match(entry.features, features)
            found = robust_homography(
                entry.features.keypoints[pairs[:, 0]],
                features.keypoints[pairs[:, 1]],
                threshold,
                plate_size,
                frame_size,
            )
            if found and found[1] > most:
                best, most = entry.plate_index, found[1]
        return best
