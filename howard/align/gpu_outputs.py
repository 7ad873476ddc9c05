"""Arrays of the device that come to the host together."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from howard.cuda import cupy, read_back

ALIGNMENT = 16
"""Bytes: no type of the kernels needs more."""


class Outputs:
    """Arrays in one piece of device memory, all 0 at first: a single copy brings them.

    out = Outputs(scores=("float32", (3, 2)), counts=("int32", (3,)))
    kernel(grid, block, (..., out["scores"], out["counts"]))
    counts = out.get()["counts"]
    """

    def __init__(self, **fields: tuple[str, tuple[int, ...]]) -> None:
        """By name, the type and shape of each."""
        self.places: dict[str, tuple[int, int, np.dtype[Any], tuple[int, ...]]] = {}
        end = 0
        for name, (kind, shape) in fields.items():
            dtype = np.dtype(kind)
            start, end = end, end + prod(shape) * dtype.itemsize
            self.places[name] = start, end, dtype, shape
            end += -end % ALIGNMENT
        self.memory = cupy().zeros(end, "uint8")

    def __getitem__(self, name: str) -> Any:
        """The array on the device."""
        return self._part(self.memory, name)

    def get(self) -> dict[str, NDArray[Any]]:
        """All of them on the host; waits for the work of the current stream."""
        memory = read_back(self.memory)
        return {name: self._part(memory, name) for name in self.places}

    def _part(self, memory: Any, name: str) -> Any:
        start, end, dtype, shape = self.places[name]
        return memory[start:end].view(dtype).reshape(shape)
