"""Read what a run of Howard left in its folder: report.json and 000000.png, 000001.png ..."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import WrongResult
from howard.write import frame_path


def read_report(results: Path) -> dict[str, Any]:
    """The run's report. Raises WrongResult if there is none, or one that cannot be read."""
    try:
        report = json.loads((results / "report.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise WrongResult(f"no report in {results}: {error}") from error
    return report


def read_rgba(results: Path, index: int) -> NDArray[np.uint8]:
    """(H, W, 4) straight RGBA of one frame. Raises WrongResult if it is not there or not that."""
    path = frame_path(results, index)
    # cv2.imread would print its own complaint about a missing file.
    bgra = cv2.imread(str(path), cv2.IMREAD_UNCHANGED) if path.is_file() else None
    if bgra is None or bgra.dtype != np.uint8 or bgra.ndim != 3 or bgra.shape[2] != 4:
        raise WrongResult(f"{path} is not an 8-bit RGBA picture, or not there")
    return np.asarray(cv2.cvtColor(bgra, cv2.COLOR_BGRA2RGBA), np.uint8)


def check_output(results: Path, frames: int, width: int, height: int) -> dict[str, Any]:
    """The report of a run whose pictures are all there, of that size, with a person in each.

    Raises WrongResult otherwise. It says that work was done, not that it was done well: that is
    for `benchmarks.quality`.
    """
    report = read_report(results)
    pictures = len(list(results.glob("*.png")))
    if not frames == pictures == len(report["frames"]):
        reported = len(report["frames"])
        raise WrongResult(f"{pictures} pictures, {reported} reported, but {frames} frames were fed")
    for index in range(frames):
        rgba = read_rgba(results, index)
        if rgba.shape[:2] != (height, width):
            raise WrongResult(f"frame {index} is {rgba.shape[1::-1]}, not {(width, height)}")
        opaque = float(np.mean(rgba[..., 3] > 127))
        if not 0 < opaque < 1:
            raise WrongResult(f"frame {index}'s alpha is {'full' if opaque else 'empty'}")
    return report
