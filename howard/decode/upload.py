"""Decoded pictures from the host to the GPU, through a ring of pinned memory."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np
from numpy.typing import NDArray

from howard import cuda

SLOTS = 3
"""One is filled, one is copied from, and one to spare for a GPU that is behind."""


class Uploader:
    """Uploads pictures, most of them as large as the first, on CuPy's current stream.

    The pinned slots are taken in turn. An event after each copy tells when its slot is free, so
    that the host waits for the GPU only where this is SLOTS pictures behind.
    """

    def __init__(self) -> None:
        self._slots: list[tuple[NDArray[np.uint8], Any]] = []
        """Pinned memory, and the event after the latest copy from it."""
        self._taken = 0
        # CuPy gives freed pinned memory to the next who asks: no copy from it may be under way.
        self._settle = weakref.finalize(self, _wait_for, self._slots)
        self._settle.atexit = False  # nobody asks then

    def __call__(self, pixels: NDArray[Any]) -> Any:
        """`pixels` as a CuPy array of the same shape; its memory may be reused at once."""
        if len(self._slots) < SLOTS:
            self._slots.append(_slot(pixels.nbytes))
        at = self._taken % SLOTS
        self._taken += 1
        slot, copied = self._slots[at]
        copied.synchronize()
        if slot.nbytes < pixels.nbytes:
            self._slots[at] = slot, copied = _slot(pixels.nbytes)
        staged = slot[: pixels.nbytes].view(pixels.dtype).reshape(pixels.shape)
        np.copyto(staged, pixels)
        device = cuda.cupy().empty(pixels.shape, pixels.dtype)
        stream = cuda.cupy().cuda.get_current_stream()
        device.set(staged, stream=stream)  # without a stream it would wait for the copy
        copied.record(stream)
        return device

    def close(self) -> None:
        """Wait for the copies under way and free the pinned memory; safe to call twice."""
        self._settle()
        self._slots.clear()
        self._taken = 0


def _slot(size: int) -> tuple[NDArray[np.uint8], Any]:
    runtime = cuda.cupy().cuda
    memory = np.frombuffer(runtime.alloc_pinned_memory(size), np.uint8, size)
    return memory, runtime.Event(disable_timing=True)


def _wait_for(slots: list[tuple[NDArray[np.uint8], Any]]) -> None:
    for _, copied in slots:
        copied.synchronize()
