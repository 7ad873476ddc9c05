"""The frame loop."""

from __future__ import annotations

from collections.abc import Callable

from howard.config import RunConfig
from howard.engine.advice import advising
from howard.engine.report import RunReport
from howard.engine.stages import Stages, build_stages
from howard.write import open_writer

Begun = Callable[[Stages], None]
"""Called once, when the inputs are open and the first frame is about to be read."""


def run(config: RunConfig, begun: Begun = lambda stages: None) -> RunReport:
    """Cut the person out of every frame of the shot; OUT then holds the pictures and the report.

    Raises a HowardError for anything that a user can mend. Interrupted at any point, it leaves
    whole pictures, and the next call goes on from there.
    """
    with build_stages(config) as stages, advising(stages.journal):
        with open_writer(config.out, config.writers, stages.journal.written) as writer:
            begun(stages)
            for frames, plates in stages.aligned():
                for rgba in stages.matte(frames, plates):
                    writer.submit(rgba)
        return stages.report()
