"""How good Howard's mattes are: its command line on the bundled sample, against the truth.

    python -m benchmarks.quality [--json FILE] [--max-mad 12] [-- options of howard.engine run]
    python -m benchmarks.quality --results FOLDER

Exit status: 0, 1 if a bound that was asked for is broken, 2 if there is no result to judge.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import tyro
from numpy.typing import NDArray

from benchmarks import metrics
from benchmarks.child import ChildFailed, run_howard
from benchmarks.measure import (
    WrongResult,
    environment,
    own_and_passed_on,
    without_paths,
    write_json,
)
from benchmarks.output import read_report, read_rgba
from sample.truth import CLEAN_PLATE, SHOT, Truth, load_truth

WORST = 5
"""Frames listed below the table."""


@dataclass(frozen=True)
class QualityConfig:
    """Compare Howard's result on the sample with the truth."""

    shot: Path = SHOT
    """The sample's shot, or another encoding of it."""
    clean_plate: Path = CLEAN_PLATE
    """The sample's clean plate, or another encoding of it."""
    out: Path | None = None
    """Keep the result in this folder; an earlier one in it is replaced."""
    results: Path | None = None
    """Judge this folder, the result of an earlier run, instead of running Howard."""
    json: Path | None = None
    """Write all numbers to this file."""
    max_mad: float | None = None
    """Bound on alpha's MAD (x 1000)."""
    max_dtssd: float | None = None
    """Bound on alpha's dtSSD (x 100)."""
    max_transfer: float | None = None
    """Bound on the median transfer error at the frame's corners (pixels)."""


@dataclass(frozen=True)
class FrameScore(metrics.MatteScore):
    """One frame's errors."""

    index: int
    transfer_pixels: tuple[float, ...]
    """At the frame's four corners, clockwise from the top left."""
    fallback: str | None


def compare(results: Path, truth: Truth) -> list[FrameScore]:
    """Score every frame of a result folder. Raises WrongResult if a frame is missing."""
    rows, frames = read_report(results)["frames"], len(truth.poses)
    if [row["index"] for row in rows] != list(range(frames)):
        raise WrongResult(f"{results} reports {len(rows)} frames; the truth has {frames}")
    scores: list[FrameScore] = []
    earlier = None
    for row in rows:
        rgba = read_rgba(results, row["index"]).astype(np.float32) / np.float32(255)
        alphas = rgba[..., 3], truth.alpha(row["index"])
        scores.append(_score(row, rgba[..., :3], alphas, earlier or alphas, truth))
        earlier = alphas
    return scores


def _score(
    row: dict[str, Any],
    foreground: NDArray[np.float32],
    alphas: tuple[NDArray[np.float32], NDArray[np.float32]],
    earlier: tuple[NDArray[np.float32], NDArray[np.float32]],
    truth: Truth,
) -> FrameScore:
    index, (height, width) = row["index"], alphas[1].shape
    if alphas[0].shape != (height, width):
        raise WrongResult(f"frame {index} is {alphas[0].shape[::-1]}; the truth {width, height}")
    judged = metrics.matte_score(alphas, earlier, (foreground, truth.foreground(index)))
    transfer = metrics.transfer_errors(
        row["homography_frame_from_plate"],
        truth.homography_frame_from_plate(index, row["plate_index"]),
        width,
        height,
    )
    return FrameScore(
        **asdict(judged),
        index=index,
        transfer_pixels=tuple(transfer.tolist()),
        fallback=row["fallback"],
    )


def summarise(scores: Sequence[FrameScore]) -> dict[str, float]:
    """Means over the frames; percentiles of the transfer error over all corners of all frames."""
    names = [field.name for field in fields(metrics.MatteScore)]
    # Frames without a person have no colour to judge, hence nanmean.
    summary = {name: float(np.nanmean([getattr(s, name) for s in scores])) for name in names}
    corners = list(chain.from_iterable(s.transfer_pixels for s in scores))
    for name, percent in (("median", 50), ("p90", 90), ("p99", 99)):
        # "higher" picks a measured value: nothing to interpolate where some are infinite.
        value = np.percentile(corners, percent, method="higher")
        summary[f"transfer_{name}_pixels"] = float(value)
    summary["fallback_share"] = float(np.mean([s.fallback is not None for s in scores]))
    return summary


def broken_bounds(summary: dict[str, float], config: QualityConfig) -> list[str]:
    """A sentence for each bound that does not hold; a number that is not there breaks it too."""
    bounds = {
        "mad": config.max_mad,
        "dtssd": config.max_dtssd,
        "transfer_median_pixels": config.max_transfer,
    }
    return [
        f"{name} is {summary[name]:.3f}, above the bound {bound:g}"
        for name, bound in bounds.items()
        if bound is not None and not summary[name] <= bound
    ]


def table(scores: Sequence[FrameScore], summary: dict[str, float]) -> str:
    """The summary, one number a line, and the frames with the largest MAD."""
    lines = [f"{name:24}{value:10.3f}" for name, value in summary.items()]
    lines += ["", "worst frames     MAD   dtSSD   transfer (largest, pixels)   fallback"]
    for s in sorted(scores, key=lambda s: -s.mad)[:WORST]:
        transfer, fallback = max(s.transfer_pixels), s.fallback or "-"
        lines.append(f"{s.index:12}{s.mad:8.2f}{s.dtssd:8.2f}{transfer:11.2f}{'':20}{fallback}")
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    """The command line; the exit status."""
    own, options = own_and_passed_on(arguments)
    config = tyro.cli(QualityConfig, args=own, prog="python -m benchmarks.quality")
    where = environment()
    try:
        with TemporaryDirectory() as scratch:
            results = config.results or config.out or Path(scratch) / "result"
            if not config.results:
                run_howard(config.shot, config.clean_plate, results, options)
            scores = compare(results, load_truth())
    except (ChildFailed, WrongResult) as error:
        print(error, file=sys.stderr)
        return 2
    summary = summarise(scores)
    print(table(scores, summary))
    if config.json:
        settings = {
            "shot": config.shot.name,
            "frames": len(scores),
            "options": without_paths(options),
        }
        # The index first, for who reads it.
        frames = [{"index": score.index, **asdict(score)} for score in scores]
        found = {"summary": summary, "frames": frames}
        write_json(config.json, "quality", where, settings, found)
    broken = broken_bounds(summary, config)
    print(*broken, sep="\n", end="\n" if broken else "", file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
