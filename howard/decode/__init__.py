"""Decode: a video, a folder or pattern of images, or one image -> frames, in order.

This module is the stage's contract. `cpu.py` finds out what a path names. Video files:
`container.py` opens them, `packets.py` lists where their frames are, `decoding.py` decodes (PyAV),
`damage.py` says what is missing, `colour.py` makes upright RGB of it, and `video.py` puts these
together. `images.py` reads images (OpenCV; `tiff.py` tells what it would read wrong, `jpeg.py` what
it would guess). `ahead.py` does it all a few frames in advance. `bars.py` cuts black bars off.
`gpu.py` is the reader whose frames lie on the GPU: decoded there (`nvdec.py`, DALI), or uploaded
(`upload.py`), as they are stored where kernels make RGB of that (`planes.py`).
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from pathlib import Path
from typing import Protocol

from howard.frames import Frame, VideoInfo


class VideoReader(Protocol):
    """Frames of one video, a bounded number read ahead, one pass over it at a time.

    `iter`, `read_from` and `sample` begin a pass, and end the one before: its iterator then
    gives nothing more. Every pass gives a frame the same index, time and pixels. What goes
    wrong while frames are read is raised from the iteration as InputError, after the frames
    before it.
    """

    info: VideoInfo
    warnings: list[str]
    """What went wrong without ending the video, in words for the report; complete after the
    last frame (for example a truncated file: the frames before the damage are delivered)."""

    @property
    def first(self) -> Frame:
        """The first frame, decoded when the file was opened; on the host, whoever reads."""
        ...

    def __iter__(self) -> Iterator[Frame]:
        """All frames: `read_from(0)`."""
        ...

    def read_from(self, index: int, without: Container[int] = ()) -> Iterator[Frame]:
        """Frames `index`, `index` + 1, ...; none if `index` is past the end. Those of the indices
        in `without` are left out, which costs as little as their kind allows.

        Decoding begins at the keyframe before, where the file's times are beyond doubt, and
        else at the start. In a damaged video that no pass has read yet, frames that cannot be
        decoded still count if they lie before that keyframe.
        """
        ...

    def sample(self, count: int) -> Iterator[Frame]:
        """About `count` frames (1 or more), evenly spread, in order, the first among them.

        Those nearby that are quick to decode are preferred to the exact places.
        """
        ...

    def close(self) -> None:
        """Stop reading ahead and release the file, for good; safe to call twice."""
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
