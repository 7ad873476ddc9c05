"""The part of the clean plate that is in memory: read forward once, bounded in bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from howard.decode import VideoReader
from howard.frames import Frame

WINDOW_BYTES = 512 * 2**20
"""Room for the window's pictures: 194 at 720p, 86 at 1080p, 21 at 4K."""
FRAMES = (12, 240)
"""Fewest and most frames in the window, whatever their size."""
AHEAD_SHARE = 0.6
"""Share of the window that lies ahead of the predicted index."""

Prepared = TypeVar("Prepared")


class PlateWindow(Generic[Prepared]):
    """Frames [low, high] of the clean plate, each with what the aligner prepared from it.

    `prepare` runs once per frame, when it is first used.
    """

    def __init__(self, reader: VideoReader, prepare: Callable[[Frame], Prepared]) -> None:
        self.reader, self.prepare = reader, prepare
        self.frames: OrderedDict[int, Frame] = OrderedDict()
        self.prepared: dict[int, Prepared] = {}
        self.source: Iterator[Frame] | None = iter(reader)
        size = reader.info.width * reader.info.height * 3
        self.capacity = max(FRAMES[0], min(FRAMES[1], WINDOW_BYTES // size))
        self.advance(0)

    @property
    def low(self) -> int:
        return next(iter(self.frames))

    @property
    def high(self) -> int:
        return next(reversed(self.frames))

    def advance(self, centre: int) -> None:
        """Read on until the window reaches well ahead of `centre`, or the plate ends."""
        target = centre + int(self.capacity * AHEAD_SHARE)
        while self.source is not None and (not self.frames or self.high < target):
            frame = next(self.source, None)
            if frame is None:
                self.source = None
                break
            self.frames[frame.index] = frame
            if len(self.frames) > self.capacity:
                old, _ = self.frames.popitem(last=False)
                self.prepared.pop(old, None)

    def get(self, index: int) -> tuple[Frame, Prepared]:
        """The frame and what was prepared from it; KeyError outside [low, high]."""
        frame = self.frames[index]
        if index not in self.prepared:
            self.prepared[index] = self.prepare(frame)
        return frame, self.prepared[index]

    def close(self) -> None:
        self.reader.close()
