"""Candidates' homographies, made exact by the pictures themselves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Protocol

from howard.align.candidate import Candidate
from howard.align.geometry import Homography, Size, is_plausible_from
from howard.align.operations import Closeness, Look, Operations
from howard.align.photometric import CLOSE, FAR, Reach

SWITCH_LEVELS = 0.25
"""How much lower a cost must be to count: more than chance makes of it, less than a view that
really fits better."""
AS_WELL = 1.25
"""By which a finer homography's residual may be higher before the coarser one is kept: by 2 to 6 %
where the finer one was found to be the better."""


class Search(Protocol):
    """What finds the candidates (`PlateSearch`)."""

    operations: Operations
    frame_size: Size
    plate_size: Size

    def looks(self, indices: Iterable[int]) -> list[Look]: ...

    def direct(
        self, look: Look, indices: Sequence[int], starts: Sequence[Homography], how: Closeness
    ) -> list[Candidate]: ...


class Polish:
    """By the pictures; where the place is no plane, by direct alignment before that.

    What an exact homography leaves tells the two apart. So it is asked for first, unless the
    place was deep the last time: then it likely is again, and had to be asked for once more.
    """

    def __init__(self, search: Search) -> None:
        self.search = search
        self.is_deep = False
        """Whether the place was no plane when the best candidate was last looked at."""

    def best(self, look: Look, candidate: Candidate) -> Candidate:
        """The best of a frame's candidates, before any others of it."""
        (polished,) = self(look, [candidate])
        self.is_deep = not polished.is_plane
        return polished

    def __call__(self, look: Look, found: list[Candidate]) -> list[Candidate]:
        was_deep = self.is_deep
        start = found if was_deep else self.exactly(look, found)
        planes = [replace(c, is_plane=self.is_plane(look, c)) for c in start]
        deep = [
            i
            for i, (before, c) in enumerate(zip(found, planes, strict=True))
            # One that the pictures could not make exact is no closer than it was.
            if not c.is_plane or (not was_deep and c.homography is before.homography)
        ]
        closer = [
            replace(c, is_plane=planes[i].is_plane)
            for i, c in zip(deep, self.closer(look, [found[i] for i in deep]), strict=True)
        ]
        chosen = replaced(planes, deep, closer)
        unfinished = range(len(chosen)) if was_deep else deep
        return replaced(chosen, unfinished, self.exactly(look, [chosen[i] for i in unfinished]))

    def is_plane(self, look: Look, candidate: Candidate) -> bool:
        """Whether its homography is enough."""
        (plate,) = self.search.looks([candidate.plate_index])
        return self.search.operations.is_plane(look, plate, candidate.homography)

    def closer(self, look: Look, found: list[Candidate]) -> list[Candidate]:
        """By direct alignment, which tells one plane from another; each as it was where that fits
        worse. What it covers does not speak: the truth may well cover less."""
        indices, starts = [c.plate_index for c in found], [c.homography for c in found]
        direct = self.search.direct(look, indices, starts, Closeness.CLOSE)
        finer = {c.plate_index: c for c in direct}
        pairs = [(c, finer.get(c.plate_index)) for c in found]
        return [new if new and fits_as_well(new, old) else old for old, new in pairs]

    def exactly(self, look: Look, found: list[Candidate]) -> list[Candidate]:
        """With homographies by the pictures, as far as these are believable."""
        plates = self.search.looks(c.plate_index for c in found)
        exact = self.exact(look, plates, [c.homography for c in found])
        sizes = self.search.plate_size, self.search.frame_size
        return [
            replace(c, homography=homography)
            if is_plausible_from(c.homography, homography, *sizes)
            else c
            for c, homography in zip(found, exact, strict=True)
        ]

    def exact(
        self, look: Look, plates: Sequence[Look], starts: Sequence[Homography]
    ) -> list[Homography]:
        """By the pictures; from where their detail leads nowhere, by coarse ones first. Each start
        stays where that cannot be told either."""
        found, everything = list(starts), range(len(starts))
        lost = self.descend(look, plates, found, everything, CLOSE)
        away = self.descend(look, plates, found, lost, FAR)
        self.descend(look, plates, found, [i for i in lost if i not in away], CLOSE)
        return found

    def descend(
        self,
        look: Look,
        plates: Sequence[Look],
        homographies: list[Homography],
        those: Sequence[int],
        reach: Reach,
    ) -> list[int]:
        """Moves those of the homographies; returns which of them it could not."""
        if not those:
            return []
        starts = [homographies[i] for i in those]
        operations = self.search.operations
        found = operations.exact(look, [plates[i] for i in those], starts, reach)
        lost = []
        for i, homography in zip(those, found, strict=True):
            if homography is None:
                lost.append(i)
            else:
                homographies[i] = homography
        return lost


def fits_as_well(new: Candidate, old: Candidate) -> bool:
    """Whether what is covered differs hardly more."""
    return new.fit.residual <= AS_WELL * old.fit.residual + SWITCH_LEVELS


def replaced(
    found: list[Candidate], those: Sequence[int], by: Sequence[Candidate]
) -> list[Candidate]:
    """The same with others in those places."""
    out = list(found)
    for i, candidate in zip(those, by, strict=True):
        out[i] = candidate
    return out
