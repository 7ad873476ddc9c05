"""Read ahead: one thread decodes a bounded number of frames before they are asked for."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Container, Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from howard.errors import ConfigError
from howard.frames import Frame, VideoInfo

if TYPE_CHECKING:
    from howard.decode.video import VideoFile

Pass = Generator[Frame | None]
"""Frames in order; None now and then while one is worked for, so that the pass can be ended
there. Closing it releases the file."""


@dataclass
class Source:
    """An opened video whose first frame is decoded already, as proof that it holds a picture."""

    info: VideoInfo
    warnings: list[str]
    """Grows while frames are read."""
    first: Frame
    rest: Pass
    """The second frame and after."""
    read_from: Callable[[int, Container[int]], Pass]
    sample: Callable[[int], Pass]
    """Both as in VideoReader. Only one pass may be under way, `rest` included."""
    video: VideoFile | None = None
    """What else is known of a video file, for decoders other than FFmpeg; None for images."""


def evenly(count: int, total: int) -> list[int]:
    """`count` indices at equal distances over 0 ... `total` - 1, from 0 on; all if there are
    fewer."""
    count = min(count, total)
    return [total * number // count for number in range(count)]


class AheadReader:
    """The VideoReader of every source: one pass at a time, in a thread of its own."""

    def __init__(self, source: Source, read_ahead: int) -> None:
        """Raises ConfigError if `read_ahead`, in frames, is less than 1."""
        if read_ahead < 1:
            source.rest.close()
            raise ConfigError(f"read_ahead is {read_ahead}; it must be 1 frame or more")
        self.info, self.warnings, self.first = source.info, source.warnings, source.first
        self._read_ahead, self._closed = read_ahead, False
        self._read_from, self._sample = source.read_from, source.sample
        # The pass from the start is under way before it is asked for.
        self._fresh = True
        self._pass = ReadAhead(source.rest, read_ahead, source.info.path.name, source.first)

    def __iter__(self) -> Iterator[Frame]:
        return self.read_from(0)

    def read_from(self, index: int, without: Container[int] = ()) -> ReadAhead:
        """The frames from `index` on; raises ValueError if it is negative."""
        if index < 0:
            raise ValueError(f"index is {index}; the first frame is 0")
        if index == 0 and not without and self._fresh:
            self._fresh = False
            return self._pass
        return self._begin(self._read_from(index, without))

    def sample(self, count: int) -> ReadAhead:
        """About `count` frames of the whole video; raises ValueError if it is less than 1."""
        if count < 1:
            raise ValueError(f"count is {count}; it must be 1 frame or more")
        return self._begin(self._sample(count))

    def close(self) -> None:
        """End the pass that is under way; there will be no other."""
        self._closed = True
        self._pass.close()

    def _begin(self, frames: Pass) -> ReadAhead:
        self._fresh = False
        self._pass.close()
        if not self._closed:
            self._pass = ReadAhead(frames, self._read_ahead, self.info.path.name)
        return self._pass


class ReadAhead:
    """One pass over a video: an iterator, fed by a daemon thread.

    The thread decodes a frame only after it has drawn a slot; taking a frame gives one back.
    So at most `read_ahead` decoded frames wait, whatever the length of the video and the pace
    of the consumer. An error of the thread is raised to the consumer after the frames that
    came before it. An iterator that is dropped without `close` stops its thread as well.
    """

    def __init__(
        self, frames: Pass, read_ahead: int, name: str, first: Frame | None = None
    ) -> None:
        """first: a frame that comes before `frames` and is decoded already."""
        # SimpleQueue, because its put is safe in a destructor, whichever thread that runs in.
        self._slots: SimpleQueue[None] = SimpleQueue()
        self._ready: SimpleQueue[Frame | BaseException] = SimpleQueue()
        if first is not None:
            self._ready.put(first)
        for _ in range(read_ahead - self._ready.qsize()):
            self._slots.put(None)
        stopped = threading.Event()
        # A static target: the thread must not keep alive the iterator whose end is to stop it.
        self._thread = threading.Thread(
            target=_decode_ahead,
            args=(frames, self._slots, self._ready, stopped),
            name=f"decode {name}",
            daemon=True,
        )
        # Runs once: at close, when the iterator is collected, or when the interpreter exits.
        self._stop = weakref.finalize(self, _stop, self._thread, self._slots, stopped)
        self._thread.start()

    def __iter__(self) -> ReadAhead:
        return self

    def __next__(self) -> Frame:
        """The next frame; blocks until it is decoded, raises what the decoding raised."""
        if not self._stop.alive:
            raise StopIteration
        item = self._ready.get()
        if isinstance(item, BaseException):
            self.close()
            raise item
        self._slots.put(None)
        return item

    def close(self) -> None:
        """Stop reading ahead, drop the frames that wait and release the file."""
        self._stop()
        self._thread.join()
        with suppress(Empty):
            while True:
                self._ready.get_nowait()
        self._ready.put(StopIteration())  # for a consumer in another thread that waits now


def _decode_ahead(
    frames: Pass,
    slots: SimpleQueue[None],
    ready: SimpleQueue[Frame | BaseException],
    stopped: threading.Event,
) -> None:
    """The thread: one frame for each slot; the end and any error go the way of the frames."""
    try:
        while slots.get() is None and not stopped.is_set():
            frame = next(frames)
            while frame is None and not stopped.is_set():
                frame = next(frames)
            if frame is not None:
                ready.put(frame)
    except BaseException as error:  # StopIteration too: it ends the consumer's loop
        ready.put(error)
    finally:
        frames.close()


def _stop(thread: threading.Thread, slots: SimpleQueue[None], stopped: threading.Event) -> None:
    """Wake the thread, let it end, and give it the time for the frame that it is at."""
    stopped.set()
    slots.put(None)
    # Bounded, for a destructor may run while locks are held; never the thread for itself.
    if thread is not threading.current_thread():
        thread.join(timeout=1)
