"""The part of the clean plate that is in memory: a run of its frames, bounded in bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Generic, TypeVar

from howard.decode import VideoReader
from howard.frames import Frame

WINDOW_BYTES = 512 * 2**20
"""Room for the window's pictures: 194 at 720p, 86 at 1080p, 21 at 4K."""
FRAMES = (12, 240)
"""Fewest and most frames in the window, whatever their size."""
AHEAD_SHARE = 0.6
"""Share of the window that lies ahead of its centre, where ahead is the way that it moves."""
MARGIN_SHARE = 0.2
"""Share of the window that is left on either side of its centre when reading starts anew. What
AHEAD_SHARE has more than this is read at once: the larger, the fewer keyframes to start from."""

Prepared = TypeVar("Prepared")


class PlateWindow(Generic[Prepared]):
    """Frames [low, high] of the clean plate, each with what the aligner prepared from it.

    Empty until `centre_on` is called. `prepare` runs once per frame while that stays in the
    window, when it is first used. No other pass over `reader` may begin while the window is used.
    """

    def __init__(self, reader: VideoReader, prepare: Callable[[Frame], Prepared]) -> None:
        self.reader, self.prepare = reader, prepare
        size = reader.info.width * reader.info.height * 3
        self.capacity = max(FRAMES[0], min(FRAMES[1], WINDOW_BYTES // size))
        self._ahead, self._margin = (
            int(share * self.capacity) for share in (AHEAD_SHARE, MARGIN_SHARE)
        )
        self._behind = self.capacity - self._ahead
        self._frames: dict[int, Frame] = {}
        self._prepared: dict[int, Prepared] = {}
        self._source: Iterator[Frame] | None = None
        """Gives the frame after `high`; None where reading would have to start anew."""
        self._end: int | None = None
        """Number of frames of the clean plate, once it was read to its end."""

    @property
    def low(self) -> int:
        return next(iter(self._frames))

    @property
    def high(self) -> int:
        return next(reversed(self._frames))

    def centre_on(self, centre: int) -> None:
        """Move so that there are frames on both sides of index `centre`, or the plate ends there.

        Forward, frames are read as the centre moves; backward, many at once. A jump reads only
        what it needs. Raises InputError if the clean plate cannot be read.
        """
        centre = max(centre, 0)
        if self._end is not None:
            centre = min(centre, self._end - 1)
        if self._is_far(centre):
            self._jump(max(0, centre - self._behind))
        if self._frames and self.low > max(0, centre - self._margin):
            self._read_back(max(0, centre - self._ahead))
        self._read_on(centre)
        if self._end is not None and centre >= self._end:  # found out just now
            self.centre_on(self._end - 1)

    def get(self, index: int) -> tuple[Frame, Prepared]:
        """The frame and what was prepared from it; KeyError outside [low, high]."""
        frame = self._frames[index]
        if index not in self._prepared:
            self._prepared[index] = self.prepare(frame)
        return frame, self._prepared[index]

    def close(self) -> None:
        self.reader.close()

    def _is_far(self, centre: int) -> bool:
        """Whether nothing would be kept, and no more than a window's length need be read over."""
        if not self._frames:
            return True
        return not self.low - self._behind < centre <= self.high + self.capacity

    def _jump(self, start: int) -> None:
        """Hold frame `start` alone; past the end, where there is none, what was held is kept."""
        self._source = self.reader.read_from(start)
        frame = next(self._source, None)
        if frame is None:
            self._source = None
        else:
            self._drop(list(self._frames))
            self._frames[frame.index] = frame

    def _read_back(self, start: int) -> None:
        """Hold the frames from `start`, which is below `low`, as many as there is room for."""
        self._source = None
        stop = min(self.low, start + self.capacity)
        self._drop([index for index in self._frames if index >= start + self.capacity])
        frames = islice(self.reader.read_from(start), stop - start)
        self._frames = {frame.index: frame for frame in frames} | self._frames

    def _read_on(self, centre: int) -> None:
        """Read until the window reaches well ahead of `centre`, or the plate ends."""
        if self._source is None:
            next_index = self.high + 1 if self._frames else 0
            if next_index == self._end or next_index > centre + self._margin:
                return
            self._source = self.reader.read_from(next_index)
        while not self._frames or self.high < centre + self._ahead:
            frame = next(self._source, None)
            if frame is None:
                self._source, self._end = None, self.high + 1
                return
            self._frames[frame.index] = frame
            if len(self._frames) > self.capacity:
                self._drop([self.low])

    def _drop(self, indices: list[int]) -> None:
        for index in indices:
            del self._frames[index]
            self._prepared.pop(index, None)
