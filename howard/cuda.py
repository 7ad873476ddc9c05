"""The CUDA kernels of `kernels/`, compiled by CuPy (NVRTC) when they are first used."""

from __future__ import annotations

import functools
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from howard.errors import DeviceError

OPTIONS = ("--std=c++17", "--fmad=false")
"""Products and sums are rounded one by one, as on the CPU that tests the kernels: what limits
these kernels is memory, not arithmetic."""
INSTALL = "in Howard's folder pip install '.[gpu]' (or '.[gpu-cuda12]', as the driver's CUDA)"
"""Brings CuPy, the compiler, and what decodes and runs the network."""
GPUS = Path("/proc/driver/nvidia/gpus")
"""Where the driver lists them."""
TILE = (32, 8)
"""Columns and rows of the blocks of kernels that run a thread per pixel."""


@functools.cache
def kernel(topic: str, name: str) -> Any:
    """The kernel `name` of kernels/`topic`.cu, as a CuPy RawKernel: kernel(grid, block, args). The
    same one each time: a new one has to find its function again.

    Pass floats as numpy.float32: CuPy makes a double of Python's. Raises DeviceError without
    CuPy or without a GPU.
    """
    return module(topic).get_function(name)


@functools.cache
def module(topic: str) -> Any:
    """The CuPy RawModule of a topic; it compiles when its first kernel is asked for."""
    return cupy().RawModule(code=source(topic), options=OPTIONS)


def cupy() -> Any:
    """CuPy. Raises DeviceError if it, or a GPU that it can use, is not there."""
    return loaded()


@functools.cache
def loaded() -> Any:
    """As `cupy`: in one place, so that tests can put another in its place."""
    try:
        import cupy
    except ImportError as error:
        raise DeviceError(f"CuPy is not installed, which a GPU needs: {INSTALL}") from error
    try:
        cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise DeviceError(
            f"no NVIDIA GPU can be used ({error}): see whether nvidia-smi lists one"
        ) from error
    try:
        cupy.cuda.nvrtc.getVersion()
    except (ImportError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise DeviceError(
            f"CUDA's compiler NVRTC, which the kernels need, cannot be loaded ({reason}): {INSTALL}"
        ) from error
    return cupy


@dataclass
class Traffic:
    """What came from the device to the host."""

    pictures: int = 0
    read_backs: int = 0
    """Of a few numbers, for decisions."""
    bytes_read_back: int = 0

    def since(self, before: Traffic) -> Traffic:
        """What came after a copy of this was made."""
        return Traffic(
            *(now - then for now, then in zip(astuple(self), astuple(before), strict=True))
        )

    def note(self, array: Any) -> None:
        self.read_backs += 1
        self.bytes_read_back += int(array.nbytes)


traffic = Traffic()
"""Of this process."""


def read_back(array: Any) -> Any:
    """A few numbers of the device, on the host, for a decision: waits for them, and is counted."""
    traffic.note(array)
    return array.get()


def source(topic: str) -> str:
    """The text of kernels/`topic`.cu with common.cuh in its place.

    CuPy keeps compiled kernels by the hash of their text, which knows nothing of included files.
    """
    common = (folder() / "common.cuh").read_text().replace("#pragma once\n", "")
    return (folder() / f"{topic}.cu").read_text().replace('#include "common.cuh"\n', common)


def folder() -> Path:
    """Where the kernels are: inside the package when installed, beside it in a checkout."""
    package = Path(__file__).parent
    installed = package / "kernels"
    return installed if installed.is_dir() else package.parent / "kernels"


def tiles(width: int, height: int, images: int = 1) -> tuple[int, int, int]:
    """The grid of TILEs that covers pictures of this size."""
    return -(-width // TILE[0]), -(-height // TILE[1]), images
