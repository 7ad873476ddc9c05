"""The window over the clean plate: what it holds, how much it reads for that, what it keeps."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from howard.align.window import WINDOW_BYTES, PlateWindow
from howard.frames import Frame, VideoInfo

LENGTH = 1000
GOP = 30


class Reader:
    """A VideoReader of frames without much in them, that counts what would be decoded."""

    def __init__(
        self, length: int = LENGTH, stated: int | None = LENGTH, width: int = 1920
    ) -> None:
        self.info = VideoInfo(Path("plate"), width, width * 9 // 16, stated, 30.0)
        self.warnings: list[str] = []
        self.length, self.decoded, self.passes, self.latest = length, 0, 0, 0

    def __iter__(self) -> Iterator[Frame]:
        return self.read_from(0)

    def read_from(self, index: int) -> Iterator[Frame]:
        self.latest += 1
        return self._frames(index, self.latest)

    def sample(self, count: int) -> Iterator[Frame]:
        raise NotImplementedError

    def close(self) -> None:
        self.latest += 1

    def _frames(self, start: int, number: int) -> Iterator[Frame]:
        self.passes += 1
        for index in range(start // GOP * GOP, self.length):
            if number != self.latest:
                return
            self.decoded += 1
            if index >= start:
                yield Frame(index, index / 30, np.zeros((1, 1, 3), np.uint8))


class Prepared:
    """What a window keeps of a frame; says of which."""

    def __init__(self, frame: Frame) -> None:
        self.index = frame.index


def assert_holds(window: PlateWindow[Prepared], centre: int, length: int = LENGTH) -> None:
    """All frames about `centre`, in order, in bounds."""
    centre = min(max(centre, 0), length - 1)
    margin = window.capacity // 5
    assert window.low <= max(0, centre - margin)
    assert window.high >= min(length - 1, centre + margin)
    assert window.high - window.low < window.capacity
    for index in range(window.low, window.high + 1):
        frame, prepared = window.get(index)
        assert frame.index == prepared.index == index
    for index in (window.low - 1, window.high + 1):
        with pytest.raises(KeyError):
            window.get(index)


def test_the_window_is_bounded_in_bytes():
    for width, frames in ((1280, 194), (1920, 86), (3840, 21), (160, 240), (16000, 12)):
        reader = Reader(width=width)
        window = PlateWindow(reader, Prepared)
        assert window.capacity == frames
        if 12 < frames < 240:
            assert frames * width * (width * 9 // 16) * 3 <= WINDOW_BYTES
        window.centre_on(500)
        window.centre_on(300)
        window.centre_on(600)
        assert window.high - window.low < frames


def test_nothing_is_read_before_it_is_asked_for():
    reader = Reader()
    PlateWindow(reader, Prepared)
    assert reader.passes == 0


def test_forward_every_frame_is_read_once():
    reader = Reader()
    window = PlateWindow(reader, Prepared)
    for centre in range(LENGTH + 50):
        window.centre_on(centre)
        assert_holds(window, centre)
    assert (reader.decoded, reader.passes) == (LENGTH, 1)


def test_forward_frames_are_read_as_the_centre_moves():
    reader = Reader()
    window = PlateWindow(reader, Prepared)
    window.centre_on(200)
    for centre in range(201, 400):
        before = reader.decoded
        window.centre_on(centre)
        assert reader.decoded == before + 1


def test_backward_frames_are_read_many_at_once():
    reader = Reader()
    window = PlateWindow(reader, Prepared)
    for centre in reversed(range(LENGTH)):
        window.centre_on(centre)
        assert_holds(window, centre)
    chunk = window.capacity * 0.4 - 2
    assert reader.passes <= LENGTH / chunk + 2
    assert reader.decoded <= LENGTH + window.capacity + reader.passes * (GOP + 1)


@pytest.mark.parametrize("step", [3, -3])
def test_an_unsteady_hand_costs_little(step):
    """Seven frames on, three back, in either direction."""
    reader = Reader()
    window = PlateWindow(reader, Prepared)
    walk = list(range(0, LENGTH - 7, 4)) if step > 0 else list(range(LENGTH - 7, 6, -4))
    for base in walk:
        for centre in (base, base + 7 if step > 0 else base - 7):
            window.centre_on(centre)
            assert_holds(window, centre)
    assert reader.decoded < 3 * LENGTH


@pytest.mark.parametrize(("here", "there"), [(0, 800), (900, 100), (0, 999), (999, 0), (50, 300)])
def test_a_jump_reads_nothing_in_between(here, there):
    reader = Reader()
    window = PlateWindow(reader, Prepared)
    window.centre_on(here)
    before = reader.decoded
    window.centre_on(there)
    assert_holds(window, there)
    assert reader.decoded - before <= GOP + window.capacity + 1


def test_a_small_leap_forward_reads_on():
    reader = Reader()
    window = PlateWindow(reader, Prepared)
    window.centre_on(100)
    passes, before = reader.passes, reader.decoded
    window.centre_on(100 + window.capacity)
    assert_holds(window, 100 + window.capacity)
    assert (reader.passes, reader.decoded) == (passes, before + window.capacity)


def test_what_was_prepared_stays_as_long_as_its_frame():
    random.seed(0)
    window = PlateWindow(Reader(), Prepared)
    known: dict[int, Prepared] = {}
    centre = 500
    for _ in range(300):
        centre = min(max(centre + random.randint(-40, 40), 0), LENGTH - 1)
        window.centre_on(centre)
        held = range(window.low, window.high + 1)
        known = {index: prepared for index, prepared in known.items() if index in held}
        for index in held:
            _, prepared = window.get(index)
            assert known.setdefault(index, prepared) is prepared
    assert window._prepared.keys() == known.keys()


@pytest.mark.parametrize("stated", [None, LENGTH, 3 * LENGTH])
@pytest.mark.parametrize("first", [0, 980, 2 * LENGTH])
def test_past_the_end_lies_the_end(stated, first):
    reader = Reader(stated=stated)
    window = PlateWindow(reader, Prepared)
    for centre in (first, 1500, 5000, 999, 2500):
        window.centre_on(centre)
        assert_holds(window, centre)
    before = reader.passes
    window.centre_on(7000)
    assert reader.passes == before, "the end is known by now"


@pytest.mark.parametrize("length", [1, 2, 11, 13])
def test_a_short_clean_plate_is_held_whole(length):
    reader = Reader(length)
    window = PlateWindow(reader, Prepared)
    for centre in (0, 500, 5, 0, length):
        window.centre_on(centre)
        assert (window.low, window.high) == (0, length - 1)
    assert reader.decoded == length


def test_random_walks_hold_what_they_should():
    for seed in range(20):
        random.seed(seed)
        window = PlateWindow(Reader(width=random.choice((640, 1920, 3840))), Prepared)
        centre = 0
        for _ in range(60):
            stride = random.choice((2, 20, 100, 600))
            centre = min(max(centre + random.randint(-stride, stride), 0), LENGTH + 30)
            window.centre_on(centre)
            assert_holds(window, centre)


def test_before_the_begin_is_the_begin():
    """A track that runs backwards and is lost predicts ever lower indices."""
    reader = Reader()
    window = PlateWindow(reader, Prepared)
    window.centre_on(5)
    held, passes = (window.low, window.high), reader.passes
    for centre in range(4, -200, -1):
        window.centre_on(centre)
    assert (window.low, window.high) == held
    assert reader.passes == passes
