"""Write: packed RGBA pictures -> files, by a pool of workers.

This module is the stage's contract; `cpu.py` holds the pool, `png.py` the format.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from howard.frames import PendingRgba

Written = Callable[[int, float], None]
"""Called after a frame's file stands under its final name: index, milliseconds that it took
(packing, encoding and writing). Called from a worker's thread, one call at a time."""


class FrameWriter(Protocol):
    """Writes each picture whole or not at all. A context manager: leaving it normally waits for
    all that was submitted; leaving it by an exception drops what has not begun."""

    def submit(self, rgba: PendingRgba) -> None:
        """Queue a picture; blocks while the queue is full; raises a worker's earlier error."""
        ...

    def __enter__(self) -> FrameWriter: ...

    def __exit__(self, *exception: object) -> None: ...


def open_writer(output: Path, workers: int, written: Written) -> FrameWriter:
    """A PNG sequence OUTPUT/000000.png and on; the folder is made if it is not there.

    Raises OutputError if the folder cannot be made or written.
    """
    from howard.write.cpu import PngSequenceWriter

    return PngSequenceWriter(output, workers, written)


def frame_path(output: Path, index: int) -> Path:
    """Where the picture of this frame goes."""
    return output / f"{index:06d}.png"
