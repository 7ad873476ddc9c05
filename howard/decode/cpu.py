"""The CPU's reader: finds out what a path names and reads it ahead."""

from __future__ import annotations

import re
from pathlib import Path

from howard.decode import images
from howard.decode.ahead import AheadReader, Source
from howard.decode.video import open_video_file
from howard.errors import HowardError, InputError, InputMissing


def open_video_cpu(path: Path, read_ahead: int) -> AheadReader:
    """Open what `path` names and decode up to `read_ahead` frames in advance.

    The first frame is decoded here, so that what cannot be used is refused at once: raises
    InputMissing, InputError, or ConfigError if `read_ahead` is less than 1.
    """
    return AheadReader(open_source(path), read_ahead)


def open_source(path: Path) -> Source:
    """Open what `path` names and decode its first frame; raises InputMissing or InputError."""
    try:
        return _source(path)
    except HowardError:  # first, because InputMissing is an OSError as well
        raise
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}; check its rights") from error


def _source(path: Path) -> Source:
    if path.is_dir():
        return images.open_folder(path)
    if path.exists():  # before patterns: a file's own name may hold a * or a %d
        if not path.is_file():
            raise InputError(
                f"{path} is a pipe or a device, which cannot be read twice; give a file"
            )
        images.check_format(path)
        return images.open_image(path) if images.is_image(path) else open_video_file(path)
    if images.is_pattern(path):
        return images.open_pattern(path)
    if "://" in str(path) or re.match(r"\w{2,}:/", str(path)):  # Path makes one slash of two
        raise InputMissing(f"{path} is an address: download the file, and give its path")
    raise InputMissing(
        f"{path} does not exist; give a video, an image, a folder of images, "
        "or a pattern such as plate_%04d.png"
    )
