"""A second opinion, where the network doubts what it made of a frame and its plate.

Much in doubt, it is asked again without an aligned plate: a homography that is wrong altogether is
worse than none, since what stands elsewhere in the plate is taken for people. Which of the two is
the better one the network's doubt tells. And where it would be surer if frame and plate were each
the other, the person stands in the clean plate: the takes are probably swapped (CONTRIBUTING.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from howard.frames import Frame, Plate, counted
from howard.matte import MattingNetwork

DOUBTED = 0.25
"""Confidence below which the network is asked without an aligned plate: it expects an error of
0.06 on average."""
UNSURE = 0.5
"""Confidence below which frame and plate may be swapped. It is no less if they are right then."""
SURER = 0.25
"""By how much."""
SOMEBODY = 0.01
"""Mean alpha of a matte that shows a person."""


class SecondOpinion:
    """A network whose mattes are made again without an aligned plate where it doubts them."""

    def __init__(
        self,
        network: MattingNetwork,
        tell: Callable[[Sequence[Any]], Sequence[float]],
        keep: Callable[[Any], Any],
    ) -> None:
        """tell: the confidences of mattes. keep: a matte that outlives the network's next call."""
        self.network, self.tell, self.keep = network, tell, keep
        self.alone: set[int] = set()
        """Frames whose aligned plate was left out; a batch that was too large comes twice."""
        self.unsure = 0
        self.swapped: list[bool] = []
        """Of the spot checks, whether frame and plate seemed swapped."""

    @property
    def warnings(self) -> list[str]:
        told = list(self.network.warnings)
        if self.alone:
            told.append(
                f"the plate of {counted(len(self.alone))} was left out, since the network was "
                f"surer without: the first is {min(self.alone)}; "
                "--debug DIR shows how the plates lie"
            )
        if 2 * sum(self.swapped) > len(self.swapped):
            told.append(
                "the clean plate seems to show the person, and the shot the empty place: if they "
                "are swapped, give SHOT first, then CLEAN_PLATE"
            )
        return told

    def __call__(self, frames: Sequence[Frame], plates: Sequence[Plate]) -> list[Any]:
        mattes = self.network(frames, plates)
        sure = self.tell(mattes)
        unsure = [
            i for i, plate in enumerate(plates) if sure[i] < UNSURE and plate.alignment.coverage > 0
        ]
        doubted = [i for i in unsure if sure[i] < DOUBTED]
        spots = [i for i in unsure if self.is_a_spot_check()]
        if doubted or spots:
            mattes = [self.keep(matte) for matte in mattes]
        for i in spots:
            self.swapped.append(self.seems_swapped(frames[i], plates[i], sure[i]))
        for i in doubted:
            alone = self.keep(self.network([frames[i]], [without_data(plates[i])])[0])
            if self.tell([alone])[0] > sure[i]:
                mattes[i] = alone
                self.alone.add(frames[i].index)
        return mattes

    def is_a_spot_check(self) -> bool:
        """Of every unsure frame, whether it is the 1st, 2nd, 4th, 8th and so on."""
        self.unsure += 1
        return self.unsure.bit_count() == 1

    def seems_swapped(self, frame: Frame, plate: Plate, sure: float) -> bool:
        """The network is surer that somebody stands in the plate."""
        shown = replace(frame, pixels=plate.pixels)
        swapped = replace(plate, pixels=frame.pixels, unaligned=frame.pixels)
        matte = self.network([shown], [swapped])[0]
        surer = self.tell([matte])[0] >= max(UNSURE, sure + SURER)
        return surer and float(matte.alpha.mean()) > SOMEBODY


def without_data(plate: Plate) -> Plate:
    """As if nothing had aligned the clean plate: it is still seen as it was filmed."""
    return replace(
        plate,
        pixels=plate.pixels * 0,
        coverage=plate.coverage * 0,
        alignment=replace(plate.alignment, coverage=0.0),
    )
