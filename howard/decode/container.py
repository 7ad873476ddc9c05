"""Opening a video file: its container, the stream that is the picture, and what may be wrong."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import BinaryIO

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
        raise refusal(
            path, "holds no video that FFmpeg knows; convert it to MP4, MOV or MKV"
        ) from error
    except av.FFmpegError as error:
        raise InputError(
            f"{path} cannot be read: {error.strerror}; check the file and its rights"
        ) from error


def picture_stream(path: Path, container: InputContainer) -> VideoStream:
    """The first video stream; neither cover art nor text drawn as a terminal counts.

    Raises InputError if there is none, or none that FFmpeg can decode.
    """
    for stream in container.streams.video:
        is_cover = Disposition.attached_pic in stream.disposition
        if is_cover or container.format.name == "tty":
            continue
        if stream.codec_context is None:
            raise refusal(path, "has a codec that FFmpeg cannot decode; convert it to H.264")
        return stream
    if not container.streams:  # a header alone, or an index cut in two
        raise refusal(path, "holds no video that FFmpeg knows; convert it to MP4, MOV or MKV")
    raise refusal(path, "holds no video; give the file that has the picture")


def refusal(path: Path, reason: str) -> InputError:
    """`reason`, which follows the file's name and gives the remedy; but an empty file, or an MP4 or
    MOV that ends before its index does, is told to be that, whatever came of it."""
    with path.open("rb") as file:
        head = file.read(8)
        if not head:
            reason = "cannot be read: it is empty; export or copy it again"
        elif head[4:] == b"ftyp" and _lacks_index(file):
            reason = (
                "cannot be read: it is cut off, its index (moov) is missing or cut; export or copy "
                "it again"
            )
    return InputError(f"{path} {reason}")


def _lacks_index(file: BinaryIO) -> bool:
    """Whether the boxes (ISO/IEC 14496-12, clause 4.2) end before "moov" does."""
    size, place = file.seek(0, os.SEEK_END), 0
    while place + 16 <= size:
        file.seek(place)
        length, kind, large = struct.unpack(">I4sQ", file.read(16))
        length = {0: size - place, 1: large}.get(length, length)
        if kind == b"moov":
            return place + length > size
        place += max(length, 8)
    return True
