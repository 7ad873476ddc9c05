"""What is asked of a run's inputs before anything is written, and what is noted of them."""

from __future__ import annotations

import os
import re
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from howard.config import RunConfig
from howard.engine.device import Weights
from howard.errors import ConfigError, InputError, OutputError
from howard.frames import VideoInfo

LARGEST_SIDE = 2**15 - 2
WRITTEN = re.compile(r"\d{6,}\.(png|jpg)")
"""Names of what goes into OUT and into the folder of --debug."""


def check_inputs(config: RunConfig, shot: VideoInfo, clean_plate: VideoInfo) -> None:
    """All that can be said against a run before it begins. Raises InputError, OutputError or
    ConfigError."""
    check_inputs_apart(shot, clean_plate)
    check_sizes(shot, clean_plate)
    check_output_apart(config, shot, clean_plate)
    check_range(config, shot)


def check_inputs_apart(shot: VideoInfo, clean_plate: VideoInfo) -> None:
    """InputError if both are the same: nothing would be left of the person."""
    ours, theirs = ([os.path.realpath(file) for file in info.files] for info in (shot, clean_plate))
    if ours == theirs:
        raise InputError(
            f"{clean_plate.path} is the shot itself: give a video of the place without the person"
        )


def check_sizes(*inputs: VideoInfo) -> None:
    """InputError for pictures that cannot be warped: OpenCV counts pixels in 16 bits."""
    for info in inputs:
        if max(info.width, info.height) > LARGEST_SIDE:
            raise InputError(
                f"{info.path} is {info.width} x {info.height} pixels: reduce it to "
                f"{LARGEST_SIDE} or fewer on each side"
            )


def check_output_apart(config: RunConfig, *inputs: VideoInfo) -> None:
    """OutputError if pictures that are read lie where pictures will be written: these would take
    their names, or be read along with them the next time."""
    real = os.path.realpath  # Path's raises for a link that leads to itself
    folders = {real(folder): folder for folder in (config.debug, config.out) if folder}
    for info in inputs:
        is_sequence = info.path not in info.files
        for file in info.files:
            for place in (real(file.parent), os.path.dirname(real(file))):
                if (is_sequence or WRITTEN.fullmatch(file.name)) and place in folders:
                    raise OutputError(
                        f"{folders[place]} holds {file.name}, which is an input: choose another "
                        "folder"
                    )


def check_range(config: RunConfig, shot: VideoInfo) -> None:
    """ConfigError if frames are wanted that the shot does not have, as far as its length is
    known."""
    wanted, frames = config.wanted, shot.frames
    last = wanted.start if wanted.stop == sys.maxsize else wanted.stop - 1
    if frames is not None and last >= frames:
        frames = frames_in(shot)
    if frames is not None and last >= frames:
        raise ConfigError(
            f"--frames is {config.frames}, but {shot.path} has {frames} frames, 0 to {frames - 1}: "
            "give a range within them, or leave LAST out"
        )


def frames_in(shot: VideoInfo) -> int | None:
    """Number of frames: a video file is read through, since many state no more than about how
    long they are."""
    if shot.still or shot.path not in shot.files:
        return shot.frames
    from howard.decode.packets import count_packets

    return count_packets(shot.path)


def within(wanted: range, shot: VideoInfo) -> range | None:
    """Those of the wanted frames that the shot has; None where its length is unknown."""
    return None if shot.frames is None else range(wanted.start, min(wanted.stop, shot.frames))


def identify_run(
    config: RunConfig, device: str, shot: VideoInfo, clean_plate: VideoInfo
) -> dict[str, Any]:
    """What decides about the pixels of every frame. Which frames are made is no part of it: calls
    with other ranges add to the same folder."""
    weights = Weights.of(config)
    return {
        "shot": identify_shot(shot, config.shot),
        "clean_plate": identify(config.clean_plate, clean_plate.files),
        "network": config.network,
        "weights": identify(weights.files[0], weights.files),
        "plate_search": config.plate_search,
        "bit_depth": config.bit_depth,
        "steady": config.steady,
        "device": device,
        "runner": config.runner,
        "features": config.features,
    }


def identify(path: Path, files: Sequence[Path]) -> dict[str, Any]:
    """Enough to notice that a file was added, removed or replaced, without reading it."""
    stats = [file.stat() for file in files]
    return {
        "path": os.path.realpath(path),
        "files": len(stats),
        "bytes": sum(stat.st_size for stat in stats),
        "modified": max(stat.st_mtime_ns for stat in stats),
    }


def identify_shot(shot: VideoInfo, path: Path) -> dict[str, Any]:
    """The same; and of a sequence what tells which of its pictures were replaced, since one that
    was damaged may be, without harm to the frames made of others."""
    if path in shot.files:
        return identify(path, shot.files)
    stats = ((file.name, file.stat()) for file in shot.files)
    stamps = (f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in stats)
    return {
        "path": os.path.realpath(path),
        "files": len(shot.files),
        "stamps": "".join(f"{zlib.crc32(os.fsencode(stamp)):08x}" for stamp in stamps),
    }
