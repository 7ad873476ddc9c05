"""Pictures from the GPU: packed there, downloaded while the GPU goes on with the next frames."""

from __future__ import annotations

import math
from contextlib import suppress
from threading import Semaphore

import numpy as np

from howard.cuda import TILE, cupy, kernel, tiles, traffic
from howard.frames import Noun, Rgba
from howard.matte.gpu import DeviceMatte

TAIL = 4
"""Bytes behind a picture: its confidence, as float32, which thus needs no copy of its own."""


class Slot:
    """Memory for one picture and what goes with it, on the device and pinned on the host."""

    def __init__(self, picture_bytes: int) -> None:
        cp = cupy()
        count = picture_bytes + TAIL
        self.device = cp.empty(count, cp.uint8)
        self.pinned = cp.cuda.alloc_pinned_memory(count)  # kept: the array below does not own it
        self.host = np.frombuffer(self.pinned, np.uint8, count)
        # Whoever waits sleeps: the cores are for encoding.
        self.arrived = cp.cuda.Event(block=True, disable_timing=True)


class Downloads:
    """Packs mattes and downloads them, through a ring of slots that are used again."""

    def __init__(self, width: int, height: int, slots: int, bit_depth: int) -> None:
        """width, height: of the pictures, in pixels. slots: pictures that may be under way.
        bit_depth: 8 or 16, of each channel."""
        self.size = width, height
        self.dtype = np.dtype(f"uint{bit_depth}")
        self._kernel = f"unpack_rgba{bit_depth}"
        self._free = [Slot(width * height * 4 * self.dtype.itemsize) for _ in range(slots)]
        self._available = Semaphore(slots)

    def __call__(self, index: int, matte: DeviceMatte) -> DownloadedRgba:
        """Enqueue packing and download on CuPy's current stream; waits only for a free slot."""
        self._available.acquire()
        slot = self._free.pop()
        (width, height), cp = self.size, cupy()
        alpha, foreground = (x.view(cp.uint16) for x in (matte.alpha, matte.foreground))
        padded_height, padded_width = alpha.shape[-2:]
        rgba = slot.device[:-TAIL].view(self.dtype)
        args = alpha, foreground, padded_width, padded_height, width, height, rgba
        kernel("pack", self._kernel)(tiles(width, height), TILE, args)
        slot.device[-TAIL:] = matte.confidence.view(cp.uint8)
        slot.device.get(out=slot.host, blocking=False)
        slot.arrived.record()
        traffic.pictures += 1
        return DownloadedRgba(index, slot, self)

    def give_back(self, slot: Slot) -> None:
        """For the next picture; from any thread."""
        self._free.append(slot)
        self._available.release()


class Later:
    """A number that is known once its picture has come down."""

    value = math.nan

    def __float__(self) -> float:
        return self.value


class DownloadedRgba(Noun):
    """A picture on its way down."""

    def __init__(self, index: int, slot: Slot, downloads: Downloads) -> None:
        self.index = index
        self.confidence = Later()
        self._slot: Slot | None = slot
        self._downloads = downloads

    def result(self) -> Rgba:
        """The picture, contiguous; waits for the download, then frees its slot, whatever became of
        it: the loop may be waiting for one."""
        slot = self._slot
        assert slot is not None, "a picture is asked for once"
        try:
            slot.arrived.synchronize()
            width, height = self._downloads.size
            rgba = slot.host[:-TAIL].view(self._downloads.dtype).reshape(height, width, 4).copy()
            self.confidence.value = float(slot.host[-TAIL:].copy().view(np.float32)[0])
        finally:
            self._release()
        return rgba

    def _release(self) -> None:
        if self._slot is not None:
            self._downloads.give_back(self._slot)
            self._slot = None

    def __del__(self) -> None:
        """A picture that nobody asked for, since writing failed, must not keep its slot: the loop
        would wait for it for ever."""
        if self._slot is not None:
            with suppress(RuntimeError):  # of the device, which is told elsewhere
                self._slot.arrived.synchronize()
            self._release()
