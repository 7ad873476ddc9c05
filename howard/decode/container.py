"""Opening a video file: its container, the stream that is the picture, and what may be wrong."""

from __future__ import annotations

from pathlib import Path

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from howard.errors import InputError


def open_container(path: Path) -> InputContainer:
    """Raises InputError if the file is no video, or one that FFmpeg cannot open."""
    try:
        # "file:" so that a colon in the name is no protocol; tags in any encoding are no error.
        return av.open(f"file:{path}", metadata_errors="replace")
    except (av.InvalidDataError, av.EOFError) as error:
        raise InputError(f"{path} cannot be read: {_why(path)}") from error
    except av.FFmpegError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}; check the file") from error


def picture_stream(path: Path, container: InputContainer) -> VideoStream:
    """The first video stream; neither cover art nor text drawn as a terminal counts.

    Raises InputError if there is none, or none that FFmpeg can decode.
    """
    for stream in container.streams.video:
        is_cover = Disposition.attached_pic in stream.disposition
        if is_cover or container.format.name == "tty":
            continue
        if stream.codec_context is None:
            raise InputError(f"{path} has a codec that FFmpeg cannot decode; convert it to H.264")
        return stream
    if not container.streams:  # a header alone, or an index cut in two
        raise InputError(f"{path} cannot be read: {_why(path)}")
    raise InputError(f"{path} holds no video; give the file that has the picture")


def _why(path: Path) -> str:
    """The likely cause that FFmpeg could not open `path`, and the remedy."""
    with path.open("rb") as file:
        head = file.read(12)
    if not head:
        return "it is empty; export or copy it again"
    if head[4:8] == b"ftyp":  # MP4 and MOV
        return "it is cut off, its index (moov) is missing; export or copy it again"
    return "it holds no video that FFmpeg knows; convert it to MP4, MOV or MKV"
