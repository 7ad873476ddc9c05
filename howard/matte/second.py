"""A second opinion: where the network doubts much what it made with a plate, it is asked without.

A homography that is wrong altogether is worse than no plate: what stands elsewhere in it is taken
for people. Which of the two mattes is the better one the network's doubt tells (CONTRIBUTING.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from howard.frames import Frame, Plate
from howard.matte import MattingNetwork

DOUBTED = 0.25
"""Confidence below which the network is asked again: it expects an error of 0.06 on average."""


class SecondOpinion:
    """A network whose mattes are made again without the plate where it doubts them."""

    def __init__(
        self,
        network: MattingNetwork,
        tell: Callable[[Sequence[Any]], Sequence[float]],
        keep: Callable[[Any], Any],
    ) -> None:
        """tell: the confidences of mattes. keep: a matte that outlives the network's next call."""
        self.network, self.tell, self.keep = network, tell, keep
        self.alone: set[int] = set()
        """Frames whose plate was left out; a batch that was too large comes twice."""

    @property
    def warnings(self) -> list[str]:
        told = list(self.network.warnings)
        if self.alone:
            frames = "1 frame" if len(self.alone) == 1 else f"{len(self.alone)} frames"
            told.append(
                f"the plate of {frames} was left out, since the network was surer without: the "
                f"first is {min(self.alone)}; --debug DIR shows how the plates lie"
            )
        return told

    def __call__(self, frames: Sequence[Frame], plates: Sequence[Plate]) -> list[Any]:
        mattes = self.network(frames, plates)
        sure = self.tell(mattes)
        doubted = [
            i
            for i, plate in enumerate(plates)
            if sure[i] < DOUBTED and plate.alignment.coverage > 0
        ]
        if not doubted:
            return mattes
        mattes = [self.keep(matte) for matte in mattes]
        for i in doubted:
            alone = self.keep(self.network([frames[i]], [without_data(plates[i])])[0])
            if self.tell([alone])[0] > sure[i]:
                mattes[i] = alone
                self.alone.add(frames[i].index)
        return mattes


def without_data(plate: Plate) -> Plate:
    """As if the clean plate had not shown what the frame shows."""
    return replace(plate, pixels=plate.pixels * 0, coverage=plate.coverage * 0)
