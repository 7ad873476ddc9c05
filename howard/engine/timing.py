"""Wall time of the stages, and the process's peak memory."""

from __future__ import annotations

import resource
import sys
import time

from howard.cuda import cupy


class Stopwatch:
    """`with Stopwatch() as watch: ...` and then `float(watch)`, in milliseconds."""

    milliseconds = 0.0

    def __float__(self) -> float:
        return self.milliseconds

    def __enter__(self) -> Stopwatch:
        self.started = time.perf_counter()
        return self

    def __exit__(self, *exception: object) -> None:
        self.milliseconds = (time.perf_counter() - self.started) * 1e3


class DeviceStopwatch:
    """The same for work that is enqueued on the GPU: from when it begins there to when it ends.

    `float(watch)` waits for that end; asked for once a picture has come down, it does not wait.
    """

    def __init__(self) -> None:
        self.begin, self.end = (cupy().cuda.Event() for _ in range(2))

    def __enter__(self) -> DeviceStopwatch:
        self.begin.record()
        return self

    def __exit__(self, *exception: object) -> None:
        self.end.record()

    def __float__(self) -> float:
        self.end.synchronize()
        return float(cupy().cuda.get_elapsed_time(self.begin, self.end))


def peak_memory_mb() -> float:
    """Largest resident size of this process so far, in MB (2**20 bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
