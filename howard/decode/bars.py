"""Bars: black borders that takes were delivered with, which show nothing of the place.

Where the camera moves, bars stay. To an aligner that is the firmest evidence there is, that nothing
moved; and the plate's bars, moved with the rest, would be taken for somebody. So they are cut off
before anything looks at the pictures, where both takes have them.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from howard.decode import VideoReader
from howard.frames import Frame

DARK = 24
"""Levels of 255 that a bar has at most: black is 16 where a file does not tell its range."""
STEADY = 6
"""Levels by which it changes over the take: compression."""
MOST = 0.75
"""Of a bar's row that must be so: a timecode may stand in it."""
EDGE_ROWS, EDGE_SHARE = 3, 0.5
"""Within so many rows after it, half of one must be picture: a dark sky does not end in a line."""
LEAST = 0.25
"""Of a side, is left: an upright picture in a broad one leaves 0.32."""
SAMPLES = 32
INSET = 2
"""Rows at a bar's edge that are a blend of both."""


class Box(NamedTuple):
    """A part of a picture, in pixels; right and bottom are the first beyond it."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def inside(self) -> tuple[slice, slice]:
        """Rows and columns."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def __str__(self) -> str:
        size = f"{self.right - self.left} x {self.bottom - self.top}"
        return f"{size} pixels at ({self.left}, {self.top})"


def pictures_in(shot: VideoReader, clean_plate: VideoReader) -> tuple[Box, Box] | None:
    """What of the two takes is picture, where both have bars on a side: of the clean plate without
    what its bars blend with. None where they have none. Raises InputError."""
    ours = bars_of(shot)
    theirs = bars_of(clean_plate) if any(ours) else ours
    both = [a > 0 and b > 0 for a, b in zip(ours, theirs, strict=True)]
    if not any(both):
        return None
    return box_of(shot, ours, both, 0), box_of(clean_plate, theirs, both, INSET)


def box_of(reader: VideoReader, bars: tuple[int, ...], those: list[bool], inset: int) -> Box:
    """Without those of its bars."""
    left, top, right, bottom = ((bar + inset) * cut for bar, cut in zip(bars, those, strict=True))
    return Box(left, top, reader.info.width - right, reader.info.height - bottom)


def bars_of(reader: VideoReader) -> tuple[int, int, int, int]:
    """Pixels of the bar on the left, at the top, on the right, at the bottom; 0 where there is
    none. Reads more than the first frame only where that has one, or is so dark that it does not
    tell. Raises InputError."""
    low = high = brightest(reader.first)
    dark = is_bar(low, high)
    if not any(measured(dark)) and dark.mean() < MOST:
        return 0, 0, 0, 0
    for frame in reader.sample(SAMPLES):
        light = brightest(frame)
        low, high = np.minimum(low, light), np.maximum(high, light)
    return measured(is_bar(low, high))


def brightest(frame: Frame) -> NDArray[np.uint8]:
    """(H, W): each pixel's brightest channel, on the host."""
    pixels: Any = frame.pixels
    on_host = pixels.get() if hasattr(pixels, "get") else pixels
    red, green, blue = (on_host[..., channel] for channel in range(3))
    return np.maximum(np.maximum(red, green), blue)  # max(-1) takes eight times as long


def is_bar(low: NDArray[np.uint8], high: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """(H, W), from the least and most that each pixel was."""
    return (high <= DARK) & (high - low <= STEADY)


def measured(dark: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """The bars of where it is dark and steady, (H, W)."""
    columns = dark.mean(0)
    left, right = thickness(columns), thickness(columns[::-1])
    rows = dark[:, left : len(columns) - right].mean(1)
    return left, thickness(rows), right, thickness(rows[::-1])


def thickness(shares: NDArray[np.floating]) -> int:
    """Of a bar at the beginning, from how much of each row is dark; 0 if that is none."""
    others = np.flatnonzero(shares < MOST)
    if not others.size:
        return 0
    begin = int(others[0])
    is_straight = shares[begin : begin + EDGE_ROWS].min() <= 1 - EDGE_SHARE
    return begin if is_straight and begin <= len(shares) * (1 - LEAST) / 2 else 0


class Cropped:
    """A reader of a part of another's pictures."""

    def __init__(self, reader: VideoReader, box: Box) -> None:
        self.reader, self.box, self.warnings = reader, box, reader.warnings
        width, height = box.right - box.left, box.bottom - box.top
        self.info = replace(reader.info, width=width, height=height)

    @property
    def first(self) -> Frame:
        return self.cropped(self.reader.first)

    def __iter__(self) -> Iterator[Frame]:
        return self.read_from(0)

    def read_from(self, index: int, without: Container[int] = ()) -> Iterator[Frame]:
        return map(self.cropped, self.reader.read_from(index, without))

    def sample(self, count: int) -> Iterator[Frame]:
        return map(self.cropped, self.reader.sample(count))

    def close(self) -> None:
        self.reader.close()

    def cropped(self, frame: Frame) -> Frame:
        """Copied: a view would keep the whole picture, and kernels want it without gaps."""
        return replace(frame, pixels=frame.pixels[self.box.inside].copy())
