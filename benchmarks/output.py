"""Read what a run of Howard left in its folder: report.json and 000000.png, 000001.png ..."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import WrongResult
from howard.write import frame_path

Report = dict[str, Any]
"""The whole of report.json, which howard/engine/journal.py describes."""
PER_FRAME = ("downloads_per_frame", "read_backs_per_frame", "bytes_read_back_per_frame")
"""In the totals of a run on a GPU."""


def read_report(results: Path) -> Report:
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


def check_output(results: Path, frames: int, width: int, height: int) -> Report:
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


def occupancy(reports: Sequence[Report]) -> dict[str, float]:
    """By stage, its time as a share of the runs' wall clock: what is near 1 holds up the others;
    beyond 1 several threads were at it. On a GPU it is the device's time, but for writing."""
    wall = 1e3 * sum(report["totals"]["seconds"] for report in reports)
    rows = [row["milliseconds"] for report in reports for row in report["frames"]]
    return {stage: sum(row[stage] for row in rows) / wall for stage in rows[0]}


def on_device(reports: Sequence[Report]) -> dict[str, float]:
    """What the reports say of the GPU: its memory in use, at most, and what came down per frame.

    Empty on the CPU.
    """
    totals = [report["totals"] for report in reports]
    said = {name: [t[name] for t in totals if name in t] for name in PER_FRAME}
    memory = [t["device_memory_mb"] for t in totals if "device_memory_mb" in t]
    return ({"device_memory_mb": max(memory)} if memory else {}) | {
        name: float(np.median(values)) for name, values in said.items() if values
    }


def as_sentence(numbers: dict[str, float], form: str = ".2f") -> str:
    """Name and value of each, for people."""
    return ", ".join(f"{name} {value:{form}}" for name, value in numbers.items())
