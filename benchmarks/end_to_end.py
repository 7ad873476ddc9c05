"""How fast Howard is from two video files to the folder of PNG files, and in how much memory.

    python -m benchmarks.end_to_end [--size 1920x1080] [--frames 45] [--json FILE] [-- options]

Two clips, one twice as long, are cut from the bundled sample and each goes through the command
line in a process of its own. Peak memory must not grow with the length: hence the two. Options
after `--` go to `howard.engine run`. The file cache is warm: a short run goes first.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory
from typing import Any, Literal

import tyro

from benchmarks.child import ChildFailed, ChildRun, run_howard
from benchmarks.clips import frame_count, make_clip
from benchmarks.measure import (
    Spread,
    WrongResult,
    environment,
    own_and_passed_on,
    spread,
    without_paths,
    write_json,
)
from benchmarks.output import check_output
from sample.truth import CLEAN_PLATE, SHOT

WARM_UP_FRAMES = 4


@dataclass(frozen=True)
class EndToEndConfig:
    """Time the command line on clips of two lengths."""

    size: Literal["1280x720", "1920x1080", "3840x2160"] = "1920x1080"
    """Width x height of the clips."""
    frames: int = 45
    """Frames of the shorter clip; the longer has twice as many. Memory still grows between the two
    where the shorter clean plate (0.8 as long) fits into the aligner's window: see align/window.py.
    """
    rounds: int = 1
    """Runs of each clip, in turns."""
    work: Path | None = None
    """Folder for clips and results, kept; by default a temporary one."""
    json: Path | None = None
    """Write all numbers to this file."""


@dataclass(frozen=True)
class Clip:
    """A shot and its clean plate, ready to run."""

    frames: int
    width: int
    height: int
    folder: Path

    def run(self, options: Sequence[str]) -> tuple[ChildRun, dict[str, Any]]:
        """Run Howard anew, check what it wrote; what it took and its report."""
        output = self.folder / "result"
        rmtree(output, ignore_errors=True)  # here, so that clearing it is not timed
        took = run_howard(
            self.folder / "shot.mp4", self.folder / "clean_plate.mp4", output, options
        )
        return took, check_output(output, self.frames, self.width, self.height)


@dataclass(frozen=True)
class ClipSpeed:
    """Medians over the rounds of one clip."""

    frames: int
    seconds: Spread
    """Wall clock of the process, start-up included."""
    frames_per_second: float
    """Frames over the median of those seconds."""
    steady_frames_per_second: float
    """Without the start-up, as Howard's report has it."""
    cores_used: float
    peak_memory_mb: float
    """The largest of the rounds."""
    stage_milliseconds: dict[str, Spread]
    """Per frame; stages overlap, so that they may add up to more than a frame takes."""
    fallback_share: float


def make(folder: Path, frames: int, width: int, height: int) -> Clip:
    """Encode the clips. The plate keeps its length relative to the shot, so they turn together."""
    folder.mkdir(parents=True, exist_ok=True)
    plate_frames = max(1, round(frames * frame_count(CLEAN_PLATE) / frame_count(SHOT)))
    make_clip(SHOT, folder / "shot.mp4", frames, width, height)
    make_clip(CLEAN_PLATE, folder / "clean_plate.mp4", plate_frames, width, height)
    return Clip(frames, width, height, folder)


def sum_up(clip: Clip, runs: Sequence[tuple[ChildRun, dict[str, Any]]]) -> ClipSpeed:
    """One clip's runs as medians."""
    took, reports = [run[0] for run in runs], [run[1] for run in runs]
    rows = [row for report in reports for row in report["frames"]]
    stages = list(rows[0]["milliseconds"])
    seconds = spread(t.seconds for t in took)
    return ClipSpeed(
        clip.frames,
        seconds,
        clip.frames / seconds.median,
        spread(r["totals"]["frames_per_second"] for r in reports).median,
        spread(t.cores_used for t in took).median,
        max(t.peak_memory_mb for t in took),
        {stage: spread(row["milliseconds"][stage] for row in rows) for stage in stages},
        sum(row["fallback"] is not None for row in rows) / len(rows),
    )


def measure(config: EndToEndConfig, work: Path, options: Sequence[str]) -> list[ClipSpeed]:
    """Shorter clip, then longer. Raises WrongResult or ChildFailed before any time is known."""
    width, height = map(int, config.size.split("x"))
    make(work / "warm-up", WARM_UP_FRAMES, width, height).run(options)
    lengths = (config.frames, 2 * config.frames)
    clips = [make(work / f"{n}-frames", n, width, height) for n in lengths]
    rounds = [[clip.run(options) for clip in clips] for _ in range(config.rounds)]
    return [sum_up(clip, runs) for clip, runs in zip(clips, zip(*rounds, strict=True), strict=True)]


def comparison(short: ClipSpeed, long: ClipSpeed) -> dict[str, float]:
    """What the two lengths tell together."""
    extra = long.seconds.median - short.seconds.median
    return {
        "peak_memory_ratio": long.peak_memory_mb / short.peak_memory_mb,
        # The start-up cancels in the difference: a check on the report's steady rate.
        "marginal_frames_per_second": (long.frames - short.frames) / extra if extra > 0 else 0.0,
    }


def table(speeds: Sequence[ClipSpeed], together: dict[str, float], where: dict[str, Any]) -> str:
    """For people."""
    lines = [f"{where['processor']}, {where['cores']} cores, load {where['load_average'][0]:.1f}"]
    for s in speeds:
        lines += [
            f"{s.frames:4} frames  {s.frames_per_second:7.2f} fps from file to files, "
            f"{s.steady_frames_per_second:.2f} steady; {s.peak_memory_mb:.0f} MB at most; "
            f"{s.cores_used:.1f} cores busy; {s.fallback_share:.0%} of frames with a fallback",
            "  " + ", ".join(f"{k} {v.median:.1f} ms" for k, v in s.stage_milliseconds.items()),
        ]
    return "\n".join([*lines, *(f"{name} {value:.2f}" for name, value in together.items())])


def main(arguments: Sequence[str]) -> int:
    """The command line; the exit status."""
    own, options = own_and_passed_on(arguments)
    config = tyro.cli(EndToEndConfig, args=own, prog="python -m benchmarks.end_to_end")
    where = environment()
    with ExitStack() as stack:
        work = config.work or Path(stack.enter_context(TemporaryDirectory()))
        try:
            speeds = measure(config, work, options)
        except (ChildFailed, WrongResult) as error:
            print(error, file=sys.stderr)
            return 2
    together = comparison(*speeds)
    print(table(speeds, together, where))
    if config.json:
        settings = {
            "size": config.size,
            "frames": config.frames,
            "rounds": config.rounds,
            "warm_up_frames": WARM_UP_FRAMES,
            "options": without_paths(options),
        }
        write_json(config.json, "end_to_end", where, settings, {"clips": speeds, **together})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
