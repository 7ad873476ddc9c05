"""A shot in ranges of frames, each made by a process of its own: how several GPUs share it.

Each process is `howard run --frames A:B` into OUT/.part-A, a run like any other. When one ends, its
pictures and rows move to OUT. What an interrupted call left in such folders moves there first, so
that only frames that are still missing are shared out.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from howard.config import RunConfig
from howard.decode import open_video
from howard.engine.advice import advising
from howard.engine.children import Child, Seat, gpu_seats, interrupted_by_any_signal
from howard.engine.device import open_device
from howard.engine.inputs import check_inputs, identify_run, within
from howard.engine.journal import Journal
from howard.engine.progress import Progress
from howard.engine.records import Row, pictures
from howard.engine.report import RunReport, finish
from howard.engine.timing import peak_memory_mb
from howard.frames import VideoInfo
from howard.write import frame_path
from howard.write.files import writing

PART = re.compile(r"\.part-\d{6,}")
POLL_SECONDS = 0.2
SMALL_GAP = 16
"""Finished frames between missing ones that are made again, and dropped, rather than begin with
another process: that takes longer."""


def run_in_ranges(
    config: RunConfig, progress: Progress, seats: Sequence[Seat] | None = None
) -> RunReport:
    """As `run`, with a process at a time in each of `seats`; None stands for the GPUs that
    config.gpus asks for. Raises what is wrong with a process as HowardError."""
    config.validate()
    started = time.monotonic()
    if seats is None:
        seats = gpu_seats(config.gpus)
    if config.gpus != 1:
        config = replace(config, device="gpu")
    shot, journal = open_output(config)
    merge = Merge(journal)
    with interrupted_by_any_signal(), closing(journal), advising(journal):
        journal.begin_writing()
        if config.overwrite:
            journal.start()  # at once: what lies in parts is worth no more than the rest
        for part in parts(config.out):
            if config.overwrite:
                with writing(part):
                    shutil.rmtree(part)
            else:
                merge.take(part)
        resumed, there = len(journal.offsets), within(config.wanted, shot)
        if there is None and len(seats) > 1:
            merge.warnings.append(f"{shot.path}: its length is unknown, so one process made it all")
        done = sum(index in config.wanted for index in journal.offsets)
        progress.start(None if there is None else len(there), done)
        ranges = share_out(config.wanted, shot.frames, journal.is_done, len(seats))
        work(config, seats, ranges, merge, progress)
        return merge.report(time.monotonic() - started, resumed)


def open_output(config: RunConfig) -> tuple[VideoInfo, Journal]:
    """The shot's info, and the journal of OUT, where nothing is changed yet. Raises what
    `build_stages` raises for the inputs."""
    with (
        closing(open_video(config.shot)) as shot,
        closing(open_video(config.clean_plate)) as clean_plate,
    ):
        check_inputs(config, shot.info, clean_plate.info)
        device = open_device(config).name if config.gpus == 1 else "gpu"
        identity = identify_run(config, device, shot.info, clean_plate.info)
        return shot.info, Journal(config.out, identity, config.overwrite)


def parts(out: Path) -> list[Path]:
    """Folders of ranges in OUT: in use, or left by a call that was interrupted."""
    with writing(out):
        found = out.iterdir() if out.is_dir() else ()
        return sorted(folder for folder in found if PART.fullmatch(folder.name))


def share_out(
    wanted: range, frames: int | None, is_done: Callable[[int], bool], seats: int
) -> list[range]:
    """Ranges that cover what is missing of the wanted frames, in order: none longer than a seat's
    equal share. A shot of unknown length is one range."""
    if frames is None:
        first = next((index for index in wanted if not is_done(index)), wanted.stop)
        return [range(first, wanted.stop)] if first < wanted.stop else []
    runs: list[range] = []
    for index in range(wanted.start, min(wanted.stop, frames)):
        if is_done(index):
            continue
        if runs and index - runs[-1].stop <= SMALL_GAP:
            runs[-1] = range(runs[-1].start, index + 1)
        else:
            runs.append(range(index, index + 1))
    share = -(-sum(map(len, runs)) // seats)
    ranges = []
    for run in runs:
        count = -(-len(run) // share)
        ends = [run.start + len(run) * number // count for number in range(count + 1)]
        ranges += [range(a, b) for a, b in pairwise(ends)]
    if ranges and ranges[-1].stop == frames:  # the shot may be longer than its file says
        ranges[-1] = range(ranges[-1].start, wanted.stop)
    return ranges


class Merge:
    """Takes the parts of OUT together."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.made = 0
        """Frames taken."""
        self.warnings: list[str] = []
        self.by_seat: list[tuple[int, Row]] = []
        """Seat and totals of each process that has finished."""

    def take(self, part: Path, seat: int | None = None) -> None:
        """Move what is finished in `part` to OUT, and remove the rest of it."""
        with writing(self.journal.out):
            if any(part.glob("report.*")):  # else it was stopped before its first row
                self.take_rows(part, seat)
            shutil.rmtree(part)

    def take_rows(self, part: Path, seat: int | None) -> None:
        """Its pictures, rows, warnings and totals."""
        theirs = Journal(part, self.journal.run, overwrite=False)
        for row in theirs.rows(sorted(theirs.offsets)):
            index = row["index"]
            if self.journal.is_done(index):
                continue
            # In this order: a row without its picture counts for nothing, should we stop here.
            self.journal.append(row)
            os.replace(frame_path(part, index), frame_path(self.journal.out, index))
            self.made += 1
        if theirs.final.exists():
            report = json.loads(theirs.final.read_bytes())
            self.warnings += report["warnings"]
            if seat is not None:
                self.by_seat.append((seat, report["totals"]))

    def under_way(self, part: Path) -> int:
        """Number of frames that stand in `part` and are still to be taken."""
        return sum(not self.journal.is_done(int(picture.stem)) for picture in pictures(part))

    def report(self, seconds: float, resumed: int) -> RunReport:
        """Write report.json. seconds: of the whole; resumed: frames of earlier calls."""
        totals = self.totals()
        memory = peak_memory_mb() + totals.pop("peak_memory_mb", 0.0)
        return finish(self.journal, seconds, resumed, memory, self.warnings, totals)

    def totals(self) -> Row:
        """Of the processes of this call: memory, the most of each seat, added up; the smallest
        batch; means of what is given per frame."""
        result: Row = {}
        rows = [totals for _, totals in self.by_seat]
        for key in rows[0] if rows else ():
            if key.endswith("_mb"):
                most: dict[int, float] = {}
                for seat, totals in self.by_seat:
                    most[seat] = max(most.get(seat, 0.0), totals[key])
                result[key] = round(sum(most.values()), 1)
            elif key.endswith("_per_frame"):
                total = sum(totals[key] * totals["frames"] for totals in rows)
                result[key] = round(total / max(1, sum(totals["frames"] for totals in rows)), 3)
            elif key == "batch":
                result[key] = min(totals[key] for totals in rows)
        return result


def work(
    config: RunConfig,
    seats: Sequence[Seat],
    ranges: Sequence[range],
    merge: Merge,
    progress: Progress,
) -> None:
    """A process for each range, one at a time in each seat; none outlives this."""
    waiting, running = deque(ranges), dict[int, Child]()
    before = progress.done - merge.made
    try:
        while waiting or running:
            for number, seat in enumerate(seats):
                if number not in running and waiting:
                    running[number] = Child(config, waiting.popleft(), seat)
            time.sleep(POLL_SECONDS)
            for number, child in list(running.items()):
                if child.has_ended():
                    merge.take(child.out, number)
                    running.pop(number).end()
            under_way = sum(merge.under_way(child.out) for child in running.values())
            if (done := before + merge.made + under_way) > progress.done:
                progress.reach(done)
    finally:
        for child in running.values():
            child.process.send_signal(signal.SIGINT)
        for child in running.values():
            child.end()
