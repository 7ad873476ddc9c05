"""Where the time of a run goes: decode, align, matte and write, frame by frame.

    python -m benchmarks.stages [--device gpu] [--size 1080p] [--batches 1 2 4] [--json FILE]
                                [-- options of howard.engine run]

Reads what Howard's own report says of each frame: on a GPU, times of the device (from when a stage
begins there to when it ends), but for writing. A short run goes first, so that files are in the
cache and kernels compiled; of each run, the first frames are left out.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import tyro

from benchmarks.child import ChildFailed
from benchmarks.end_to_end import WARM_UP_FRAMES, make
from benchmarks.measure import (
    SIZES,
    SizeName,
    WrongResult,
    environment,
    own_and_passed_on,
    without_paths,
    write_json,
)
from benchmarks.output import Report, as_sentence, occupancy, on_device
from howard.config import Device

FIRST_FRAMES = 8
"""Left out: they find the first plate, and load what is loaded once. Of short clips, half."""


@dataclass(frozen=True)
class StagesConfig:
    """Time the stages of a run."""

    device: Device = "auto"
    """Where to compute, as Howard's own option has it."""
    size: SizeName = "1080p"
    """Of the clip."""
    frames: int = 60
    """Of the clip."""
    batches: tuple[int, ...] = (0,)
    """Frames per call of the network, a run for each; 0 leaves it to Howard."""
    work: Path | None = None
    """Folder for clips and results, kept; by default a temporary one."""
    json: Path | None = None
    """Write all numbers to this file."""


@dataclass(frozen=True)
class StageTime:
    """One stage, per frame."""

    median_milliseconds: float
    p90_milliseconds: float
    share: float
    """Of the time of all stages together."""
    occupancy: float
    """Of the run's wall clock; stages overlap."""


@dataclass(frozen=True)
class RunTimes:
    """One run."""

    batch: int
    """That was asked for; 0 where Howard chose."""
    device: str
    """That computed."""
    frames: int
    """That were timed, without the first."""
    frames_per_second: float
    """Of the whole run, without the start-up."""
    peak_memory_mb: float
    on_device: dict[str, float]
    """Device memory, and pictures and numbers that came down per frame; empty on the CPU."""
    stages: dict[str, StageTime]


def sum_up(report: Report, batch: int) -> RunTimes:
    """From the rows of a report."""
    rows = [row["milliseconds"] for row in report["frames"]]
    rows = rows[min(FIRST_FRAMES, len(rows) // 2) :]
    everything = sum(sum(row.values()) for row in rows)
    busy = occupancy([report])
    totals = report["totals"]
    return RunTimes(
        batch,
        report["run"]["device"],
        len(rows),
        totals["frames_per_second"],
        totals["peak_memory_mb"],
        on_device([report]),
        {
            stage: stage_time([row[stage] for row in rows], everything, busy[stage])
            for stage in rows[0]
        },
    )


def stage_time(milliseconds: Sequence[float], everything: float, busy: float) -> StageTime:
    median, p90 = (float(v) for v in np.percentile(milliseconds, (50, 90)))
    share = sum(milliseconds) / everything if everything else 0.0
    return StageTime(median, p90, share, busy)


def table(run: RunTimes) -> str:
    """For people."""
    batch = f"batch {run.batch}" if run.batch else "the usual batch"
    lines = [
        f"{run.device}, {batch}: {run.frames_per_second:.2f} fps, {run.peak_memory_mb:.0f} MB",
        *([f"  {as_sentence(run.on_device, '.1f')}"] if run.on_device else []),
        f"  {'stage':10}{'median':>10}{'p90':>10} ms {'share':>8}{'busy':>8}",
    ]
    lines += [
        f"  {name:10}{t.median_milliseconds:10.2f}{t.p90_milliseconds:10.2f}    "
        f"{t.share:8.0%}{t.occupancy:8.0%}"
        for name, t in run.stages.items()
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    """The command line; the exit status."""
    own, options = own_and_passed_on(arguments)
    config = tyro.cli(StagesConfig, args=own, prog="python -m benchmarks.stages")
    where, runs = environment(), []
    with ExitStack() as stack:
        work = config.work or Path(stack.enter_context(TemporaryDirectory()))
        try:
            passed_on = ["--device", config.device, *options]
            make(work / "warm-up", WARM_UP_FRAMES, *SIZES[config.size]).run(passed_on)
            clip = make(work / "clip", config.frames, *SIZES[config.size])
            for batch in config.batches:
                _, report = clip.run([*passed_on, "--batch", str(batch)])
                runs.append(sum_up(report, batch))
                print(table(runs[-1]), flush=True)
        except (ChildFailed, WrongResult) as error:
            print(error, file=sys.stderr)
            return 2
    if config.json:
        settings = {
            "device": config.device,
            "size": config.size,
            "frames": config.frames,
            "first_frames": FIRST_FRAMES,
            "options": without_paths(options),
        }
        write_json(config.json, "stages", where, settings, {"runs": runs})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
