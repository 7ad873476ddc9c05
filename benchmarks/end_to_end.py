"""How fast Howard is from two video files to the folder of PNG files, and in how much memory.

    python -m benchmarks.end_to_end [--device gpu] [--sizes 480p 1080p 2160p] [--frames 45]
                                    [--json FILE] [-- options]

Two clips of each size, one twice as long, are cut from the bundled sample and each goes through the
command line in a process of its own. Peak memory must not grow with the length: hence the two.
Options after `--` go to `howard.engine run`. The file cache is warm, and a GPU's kernels are
compiled: a short run goes first.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory

import tyro

from benchmarks.child import ChildFailed, ChildRun, run_howard
from benchmarks.clips import frame_count, make_clip
from benchmarks.measure import (
    SIZES,
    SizeName,
    Spread,
    WrongResult,
    environment,
    headline,
    own_and_passed_on,
    spread,
    without_paths,
    write_json,
)
from benchmarks.output import Report, as_sentence, check_output, occupancy, on_device
from howard.config import Device
from sample.truth import CLEAN_PLATE, SHOT

WARM_UP_FRAMES = 4


@dataclass(frozen=True)
class EndToEndConfig:
    """Time the command line on clips of two lengths."""

    device: Device = "auto"
    """Where to compute, as Howard's own option has it."""
    sizes: tuple[SizeName, ...] = ("1080p",)
    """Of the clips, one after the other."""
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

    def run(self, options: Sequence[str]) -> tuple[ChildRun, Report]:
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
    occupancy: dict[str, float]
    """By stage, its time over the wall clock's without the start-up."""
    on_device: dict[str, float]
    """Device memory (the largest of the rounds), and pictures and numbers that came down per frame;
    empty on the CPU."""
    fallback_share: float


@dataclass(frozen=True)
class SizeSpeed:
    """Both clips of one size."""

    device: str
    """That computed."""
    clips: tuple[ClipSpeed, ClipSpeed]
    """The shorter one first."""
    peak_memory_ratio: float
    """The longer one's over the shorter one's."""
    marginal_frames_per_second: float
    """The start-up cancels in the difference: a check on the report's steady rate."""


def make(folder: Path, frames: int, width: int, height: int) -> Clip:
    """Encode the clips. The plate keeps its length relative to the shot, so they turn together."""
    folder.mkdir(parents=True, exist_ok=True)
    plate_frames = max(1, round(frames * frame_count(CLEAN_PLATE) / frame_count(SHOT)))
    make_clip(SHOT, folder / "shot.mp4", frames, width, height)
    make_clip(CLEAN_PLATE, folder / "clean_plate.mp4", plate_frames, width, height)
    return Clip(frames, width, height, folder)


def sum_up(clip: Clip, runs: Sequence[tuple[ChildRun, Report]]) -> ClipSpeed:
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
        occupancy(reports),
        on_device(reports),
        sum(row["fallback"] is not None for row in rows) / len(rows),
    )


def measure(
    config: EndToEndConfig, size: SizeName, work: Path, options: Sequence[str]
) -> SizeSpeed:
    """Raises WrongResult or ChildFailed before any time is known."""
    options = ["--device", config.device, *options]
    make(work / "warm-up", WARM_UP_FRAMES, *SIZES[size]).run(options)
    lengths = (config.frames, 2 * config.frames)
    clips = [make(work / f"{n}-frames", n, *SIZES[size]) for n in lengths]
    rounds = [[clip.run(options) for clip in clips] for _ in range(config.rounds)]
    short, long = map(sum_up, clips, zip(*rounds, strict=True))
    return together(rounds[0][0][1]["run"]["device"], short, long)


def together(device: str, short: ClipSpeed, long: ClipSpeed) -> SizeSpeed:
    """With what the two lengths tell only together."""
    extra = long.seconds.median - short.seconds.median
    return SizeSpeed(
        device,
        (short, long),
        long.peak_memory_mb / short.peak_memory_mb,
        (long.frames - short.frames) / extra if extra > 0 else 0.0,
    )


def table(size: SizeName, speed: SizeSpeed) -> str:
    """For people."""
    lines = [f"{size} on the {speed.device}"]
    for s in speed.clips:
        medians = {stage: ms.median for stage, ms in s.stage_milliseconds.items()}
        lines += [
            f"{s.frames:4} frames  {s.frames_per_second:7.2f} fps from file to files, "
            f"{s.steady_frames_per_second:.2f} steady; {s.peak_memory_mb:.0f} MB at most; "
            f"{s.cores_used:.1f} cores busy; {s.fallback_share:.0%} of frames with a fallback",
            f"  milliseconds: {as_sentence(medians, '.1f')}",
            f"  share of the time: {as_sentence(s.occupancy)}",
            *([f"  {as_sentence(s.on_device, '.1f')}"] if s.on_device else []),
        ]
    lines.append(f"peak_memory_ratio {speed.peak_memory_ratio:.2f}")
    lines.append(f"marginal_frames_per_second {speed.marginal_frames_per_second:.2f}")
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    """The command line; the exit status."""
    own, options = own_and_passed_on(arguments)
    config = tyro.cli(EndToEndConfig, args=own, prog="python -m benchmarks.end_to_end")
    where = environment()
    print(headline(where))
    speeds: dict[str, SizeSpeed] = {}
    with ExitStack() as stack:
        work = config.work or Path(stack.enter_context(TemporaryDirectory()))
        try:
            for size in config.sizes:
                speeds[size] = measure(config, size, work / size, options)
                print(table(size, speeds[size]), flush=True)
        except (ChildFailed, WrongResult) as error:
            print(error, file=sys.stderr)
            return 2
    if config.json:
        settings = {
            "device": config.device,
            "sizes": config.sizes,
            "frames": config.frames,
            "rounds": config.rounds,
            "warm_up_frames": WARM_UP_FRAMES,
            "options": without_paths(options),
        }
        write_json(config.json, "end_to_end", where, settings, speeds)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
