"""The two ways to run a kernel on NumPy arrays: on the host, compiled by g++, and on a GPU."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from hostcuda import MEMORY, RACES, HostKernel, HostModule, Parameter, declarations

from howard import cuda

SOURCES = sorted(cuda.folder().glob("*.cu"))
FLAGS = MEMORY if os.environ.get("HOWARD_SANITIZE") else RACES


@functools.cache
def topics() -> dict[str, str]:
    """The topic of every kernel, by the kernel's name."""
    return {name: source.stem for source in SOURCES for name in declarations(source)}


@functools.cache
def parameters(name: str) -> list[Parameter]:
    return declarations(source_of(name))[name]


def source_of(name: str) -> Path:
    return cuda.folder() / f"{topics()[name]}.cu"


@functools.cache
def host_module(topic: str) -> HostModule:
    return HostModule(cuda.folder() / f"{topic}.cu", FLAGS)


def host_kernel(name: str) -> HostKernel:
    return host_module(topics()[name]).get_function(name)


class Host:
    """Runs every kernel twice, in the order of the threads' numbers and in a shuffled one."""

    seeds = (0, 1)

    def __call__(
        self, name: str, grid: tuple[int, ...], block: tuple[int, ...], args: Sequence[Any], seed=0
    ) -> None:
        host_kernel(name)(grid, block, args, seed=seed)


class Gpu:
    """Copies arrays there and back. Each is in memory of its own, not in a pool's, so that
    compute-sanitizer sees what lies beyond it."""

    seeds = (0,)

    def __call__(
        self, name: str, grid: tuple[int, ...], block: tuple[int, ...], args: Sequence[Any], seed=0
    ) -> None:
        cupy = cuda.cupy()
        with cupy.cuda.using_allocator(None):
            there = [cupy.asarray(a) if isinstance(a, np.ndarray) else a for a in args]
        cuda.kernel(topics()[name], name)(grid, block, tuple(there))
        for here, array in zip(args, there, strict=True):
            if isinstance(here, np.ndarray):
                here[...] = cupy.asnumpy(array)
