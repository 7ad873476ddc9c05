"""How the training's memory is kept."""

from __future__ import annotations

import ctypes

TRIM_THRESHOLD, MAPPED_AT_MOST = -1, -4
"""Of `mallopt`, as malloc.h names them: M_TRIM_THRESHOLD and M_MMAP_MAX."""
LARGEST = 2**31 - 1


def keep_freed_memory() -> None:
    """Freed memory stays with this process and those that it forks. Else the GNU C library gives
    every large tensor back to the system, which clears it anew for the next: a third of the
    processors' time in training on a CPU. Without that library nothing happens."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(MAPPED_AT_MOST, 0)
        mallopt(TRIM_THRESHOLD, LARGEST)
