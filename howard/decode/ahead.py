"""Read ahead: one thread decodes a bounded number of frames before they are asked for."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Generator
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue

from howard.errors import ConfigError
from howard.frames import Frame, VideoInfo


@dataclass
class Source:
    """An opened video whose first frame is decoded already, as proof that it holds a picture."""

    info: VideoInfo
    warnings: list[str]
    """Grows while `rest` is read."""
    first: Frame
    rest: Generator[Frame]
    """The second frame and after; closing it releases the file."""


class ReadAhead:
    """The VideoReader of every source: its own iterator, fed by one daemon thread.

    The thread decodes a frame only after it has drawn a slot; taking a frame gives one back.
    So at most `read_ahead` decoded frames wait, whatever the length of the video and the pace
    of the consumer. An error of the thread is raised to the consumer after the frames that
    came before it. A reader that is dropped without `close` stops its thread as well.
    """

    def __init__(self, source: Source, read_ahead: int) -> None:
        """Raises ConfigError if `read_ahead`, in frames, is less than 1."""
        if read_ahead < 1:
            source.rest.close()
            raise ConfigError(f"read_ahead is {read_ahead}; it must be 1 frame or more")
        self.info = source.info
        self.warnings = source.warnings
        # SimpleQueue, because its put is safe in a destructor, whichever thread that runs in.
        self._slots: SimpleQueue[None] = SimpleQueue()
        self._ready: SimpleQueue[Frame | BaseException] = SimpleQueue()
        self._ready.put(source.first)
        for _ in range(read_ahead - 1):
            self._slots.put(None)
        stopped = threading.Event()
        # A static target: the thread must not keep alive the reader whose end is to stop it.
        self._thread = threading.Thread(
            target=_decode_ahead,
            args=(source.rest, self._slots, self._ready, stopped),
            name=f"decode {self.info.path.name}",
            daemon=True,
        )
        # Runs once: at close, when the reader is collected, or when the interpreter exits.
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
    frames: Generator[Frame],
    slots: SimpleQueue[None],
    ready: SimpleQueue[Frame | BaseException],
    stopped: threading.Event,
) -> None:
    """The thread: one frame for each slot; the end and any error go the way of the frames."""
    try:
        while slots.get() is None and not stopped.is_set():
            ready.put(next(frames))
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
