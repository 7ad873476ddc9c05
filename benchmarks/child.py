"""Run a command as a child process and say what it took: time, processor time, peak memory.

Linux hands a process's peak memory down through fork and exec, so that the child of a large
parent reports its parent's peak. Hence this file is also a script: a small launcher, started
between the two, measures the one child that it ever has.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
"""The repository."""


class ChildFailed(RuntimeError):
    """The command did not exit with status 0."""


@dataclass(frozen=True)
class ChildRun:
    """What one run of a command took."""

    seconds: float
    """Wall clock, from starting the process to its end."""
    processor_seconds: float
    """User and system, all threads, the child and the processes that it waited for."""
    peak_memory_mb: float
    """Peak resident memory in MB (2**20 bytes) of the largest process among those."""

    @property
    def cores_used(self) -> float:
        """Cores kept busy, on average."""
        return self.processor_seconds / self.seconds


def run_child(command: Sequence[str]) -> ChildRun:
    """Run the command in the repository; its output goes to stderr. Raises ChildFailed."""
    launcher = [sys.executable, "-I", str(Path(__file__).resolve()), *command]
    done = subprocess.run(launcher, cwd=ROOT, stdout=subprocess.PIPE)
    if done.returncode:
        raise ChildFailed(f"exit status {done.returncode} from: {' '.join(command)}")
    return ChildRun(**json.loads(done.stdout))


def run_howard(
    shot: Path, clean_plate: Path, output: Path, options: Sequence[str] = ()
) -> ChildRun:
    """`python -m howard.engine run SHOT CLEAN_PLATE OUTPUT`, as a user would start it.

    Always with --overwrite: going on from an earlier run would judge the code of that time.
    """
    paths = [str(path.resolve()) for path in (shot, clean_plate, output)]
    howard = [sys.executable, "-m", "howard.engine", "run"]
    return run_child([*howard, *paths, "--overwrite", *options])


def launch(command: Sequence[str]) -> int:
    """The launcher's side: run, measure, print one line of JSON; the child's exit status."""
    started = time.perf_counter()
    status = subprocess.call(command, stdout=sys.stderr)
    seconds = time.perf_counter() - started
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    took = ChildRun(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)
    print(json.dumps(vars(took)))
    return status if status >= 0 else 128 - status  # as a shell says "killed by this signal"


if __name__ == "__main__":
    sys.exit(launch(sys.argv[1:]))
