"""A kernel, or a few in a row, with what they are given: to be run on the GPU and by the twins."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import WrongResult
from howard.cuda import cupy, kernel
from tests import reference

Size = tuple[int, int]
"""(width, height)."""


@dataclass(frozen=True)
class Tolerance:
    """How far a result may be from what is expected."""

    most: float
    relative: float = 0.0
    """Added to `most`: this share of what is expected."""
    beyond: float = 0.0
    """Share of the elements that may be further off: where a decision tips over."""


EXACT = Tolerance(0.0)
TIES = Tolerance(1.0)
"""Levels that fall to the other side of a tie between two."""
ROUNDED = Tolerance(1e-3, relative=1e-4)
"""float32 sums of some thousand terms, in another order."""
SOLVED = Tolerance(1e-6, relative=1e-4, beyond=0.01)
"""Equations solved in two ways. The worst of thousands of samples lose most of their digits."""


@dataclass(frozen=True, eq=False)
class Launch:
    """One kernel, its arguments in the kernel's order, arrays on the host."""

    topic: str
    name: str
    grid: tuple[int, ...]
    block: tuple[int, ...]
    args: tuple[Any, ...]
    updated: tuple[str, ...] = ()
    """Parameters that are read and written: their bytes count twice."""

    @property
    def named(self) -> dict[str, Any]:
        """The arguments by the parameters' names, which are those of the twin."""
        names = inspect.signature(getattr(reference, self.name)).parameters
        return dict(zip(names, self.args, strict=True))

    @property
    def bytes_moved(self) -> int:
        """What has to be read or written at the least: every array once."""
        named = self.named
        again = sum(named[name].nbytes for name in self.updated)
        return again + sum(a.nbytes for a in named.values() if isinstance(a, np.ndarray))


@dataclass(frozen=True, eq=False)
class Work:
    """Launches in a row; they share the arrays that are the same memory, in whatever shape."""

    steps: tuple[Launch, ...]
    tolerances: Mapping[str, Tolerance]
    """Of the last step's outputs, by the parameters' names."""
    judge: Callable[[], dict[str, NDArray[Any]]] | None = None
    """Gives what is expected, of each output the whole or its first rows and columns, where the
    twins would take minutes."""

    @property
    def bytes_moved(self) -> int:
        return sum(step.bytes_moved for step in self.steps)

    def arrays(self) -> dict[int, NDArray[Any]]:
        """Each array once, by its address."""
        return {a.ctypes.data: a for s in self.steps for a in s.args if isinstance(a, np.ndarray)}

    def expected(self) -> dict[str, NDArray[Any]]:
        """The outputs as the NumPy twins of tests/reference.py make them, or as `judge` does."""
        if self.judge:
            return self.judge()
        copies = {address: array.copy() for address, array in self.arrays().items()}
        for step in self.steps:
            getattr(reference, step.name)(*with_arrays(step.args, copies))
        last = self.steps[-1].named
        return {name: copies[last[name].ctypes.data] for name in self.tolerances}


def with_arrays(args: Sequence[Any], arrays: Mapping[int, Any]) -> tuple[Any, ...]:
    """The arguments, with these arrays in the places of those at their addresses."""
    return tuple(
        arrays[a.ctypes.data].reshape(a.shape) if isinstance(a, np.ndarray) else a for a in args
    )


class OnDevice:
    """A work with its arrays on the GPU."""

    def __init__(self, work: Work) -> None:
        self.work = work
        there = {address: cupy().asarray(array) for address, array in work.arrays().items()}
        self.calls = [
            (kernel(s.topic, s.name), s.grid, s.block, with_arrays(s.args, there))
            for s in work.steps
        ]

    def run(self) -> None:
        """Enqueue all launches."""
        for function, grid, block, args in self.calls:
            function(grid, block, args)

    def named(self, step: int) -> dict[str, Any]:
        """A step's arguments by the parameters' names."""
        return dict(zip(self.work.steps[step].named, self.calls[step][-1], strict=True))

    def outputs(self) -> dict[str, NDArray[Any]]:
        """On the host; waits for them."""
        last = self.named(-1)
        return {name: last[name].get() for name in self.work.tolerances}


def check(what: str, got: NDArray[Any], want: NDArray[Any], tolerance: Tolerance) -> None:
    """Raises WrongResult, which says by how much. `want` may be the first rows and columns."""
    expected = want.astype(np.float64)
    off = np.abs(got[tuple(map(slice, want.shape))].astype(np.float64) - expected)
    allowed = tolerance.most + tolerance.relative * np.abs(expected)
    share = float(np.mean(~(off <= allowed)))  # what is not a number is off too
    if share > tolerance.beyond:
        raise WrongResult(f"{what} is off by up to {np.nanmax(off):g}, {share:.2%} of it too far")


Maker = Callable[[Size], Work]
"""From the size of the frames."""
