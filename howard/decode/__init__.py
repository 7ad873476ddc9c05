"""Decode: a video, a folder or pattern of images, or one image -> frames, in order.

This module is the stage's contract; `cpu.py` decodes with PyAV.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from howard.frames import Frame, VideoInfo


class VideoReader(Protocol):
    """Frames of one video, decoded once, in order, a bounded number read ahead."""

    info: VideoInfo
    warnings: list[str]
    """What went wrong without ending the video, in words for the report; complete after the
    last frame (for example a truncated file: the frames before the damage are delivered)."""

    def __iter__(self) -> Iterator[Frame]: ...

    def close(self) -> None:
        """Stop reading ahead and release the file; safe to call twice."""
        ...


def open_video(path: Path, read_ahead: int = 4) -> VideoReader:
    """Open what `path` names: a video file, a folder of images, a pattern, one image.

    Raises InputMissing if nothing is there, InputError if it holds no picture.
    """
    from howard.decode.cpu import open_video_cpu

    return open_video_cpu(path, read_ahead)
