"""Decode: a video, a folder or pattern of images, or one image -> frames, in order.

This module is the stage's contract. `cpu.py` finds out what a path names, `video.py` (PyAV) and
`images.py` (OpenCV) read it, `colour.py` makes upright RGB of it, `damage.py` says what is
missing, and `ahead.py` does it all a few frames in advance.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from howard.frames import Frame, VideoInfo


class VideoReader(Protocol):
    """Frames of one video, decoded once, in order, a bounded number read ahead.

    Iterating again goes on where the last loop stopped. What goes wrong while frames are read
    is raised from the iteration as InputError, after the frames before it.
    """

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

    A pattern is numbered (`plate_%04d.png`) or a glob (`plates/*.jpg`); images are taken in
    natural order, frame2 before frame10. Colours follow the matrix and range that the file
    states, rotation is applied, pixels that are not square stay as they are.

    At most `read_ahead` decoded frames wait for the consumer. The first frame is decoded here:
    raises InputMissing if nothing is there, InputError if it holds no picture that can be read,
    ConfigError if `read_ahead` is less than 1.
    """
    from howard.decode.cpu import open_video_cpu

    return open_video_cpu(path, read_ahead)
