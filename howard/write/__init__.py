"""Write: packed RGBA pictures -> files, by a pool of workers.

This module is the stage's contract; `cpu.py` holds the pool, `png.py` the format, `files.py` the
promise that every file is whole, and `pack.py` turns a matte into a picture.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from howard.frames import PendingRgba

Written = Callable[[int, float], None]
"""Called once for each frame, after its file stands under its final name: index, milliseconds
that it took (packing, encoding and writing). Called from a worker's thread, one call at a time,
in the order in which files are done, not that of their indices."""


class FrameWriter(Protocol):
    """Writes each picture whole or not at all, in any order.

    A context manager: leaving it normally waits for all that was submitted and raises the first
    error of a worker, if there was one; leaving it by an exception, Ctrl-C too, drops what has
    not begun. Either way no thread and no unfinished file is left behind.

    The error is OutputError where a file could not be written; one from `rgba.result` or from
    `written` is raised as it is.
    """

    def submit(self, rgba: PendingRgba) -> None:
        """Queue a picture; blocks while the queue is full; raises a worker's earlier error."""
        ...

    def __enter__(self) -> FrameWriter: ...

    def __exit__(
        self, kind: object, exception: BaseException | None, traceback: object
    ) -> None: ...


def open_writer(output: Path, workers: int, written: Written) -> FrameWriter:
    """A PNG sequence OUTPUT/000000.png and on, written by `workers` threads, one or more.

    The folder is made if it is not there. Raises OutputError if it cannot be made or written.
    """
    from howard.write.cpu import PngSequenceWriter

    return PngSequenceWriter(output, workers, written)


def frame_path(output: Path, index: int) -> Path:
    """Where the picture of this frame goes."""
    return output / f"{index:06d}.png"
