"""How far a run is: a bar with rate and time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from howard.command_line import say

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

    from howard.engine.stages import Stages

PLAIN_EVERY_SECONDS = 5.0


class Progress:
    """A context manager; `begin` is what `run` calls once the number of frames is known."""

    def __init__(self) -> None:
        self.done, self.resumed = 0, 0
        self.total: int | None = None
        self.started = self.said = time.monotonic()
        self.bar: Bar | None = None

    def begin(self, stages: Stages) -> None:
        """Follow a run from here on."""
        self.start(stages.total, stages.resumed)
        stages.journal.on_written = lambda: self.reach(self.done + 1)

    def start(self, total: int | None, resumed: int) -> None:
        """Of `total` frames, if known, `resumed` stand already."""
        self.total = total
        self.done = self.resumed = resumed
        if self.resumed:
            say(f"Going on after {self.resumed} finished frames")
        if sys.stderr and sys.stderr.isatty():  # None where a service closed it
            self.bar = make_bar()
            self.task = self.bar.add_task("frames", total=self.total, completed=self.done, rate="")
            self.bar.start()
        self.started = self.said = time.monotonic()

    def reach(self, done: int) -> None:
        """So many frames stand."""
        self.done = done
        now = time.monotonic()
        rate = (self.done - self.resumed) / max(now - self.started, 1e-6)
        if self.bar is not None:
            self.bar.update(self.task, completed=self.done, rate=f"{rate:.2f} frames/s")
        elif now - self.said >= PLAIN_EVERY_SECONDS:
            self.said = now
            say(f"{self.done}{self.of_total(rate)}, {rate:.2f} frames/s")

    def of_total(self, rate: float) -> str:
        """ " of N frames, S s left", as far as known."""
        if not self.total:
            return " frames"
        return f" of {self.total} frames, {max(self.total - self.done, 0) / rate:.0f} s left"

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *exception: object) -> None:
        if self.bar is not None:
            self.bar.stop()


def make_bar() -> Bar:
    """Frames done, frames per second, time left."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
    return Bar(*columns, TimeRemainingColumn(), console=Console(stderr=True))
