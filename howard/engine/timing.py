"""Wall time of the stages, and the process's peak memory."""

from __future__ import annotations

import resource
import sys
import time
from types import TracebackType


class Stopwatch:
    """`with Stopwatch() as watch: ...` and then `watch.milliseconds`."""

    milliseconds = 0.0

    def __enter__(self) -> Stopwatch:
        self.started = time.perf_counter()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.milliseconds = (time.perf_counter() - self.started) * 1e3


def peak_memory_mb() -> float:
    """Largest resident size of this process so far, in MB (2**20 bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
