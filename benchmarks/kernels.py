"""How long our CUDA kernels take, beside the memory's speed and what libraries offer for the same.

    python -m benchmarks.kernels [--size 1080p] [--only NAME...] [--json FILE]

Every kernel's result is compared with its NumPy twin's first; one that is wrong is named and not
timed, and so is a counterpart that gives something else. The ceiling of a kernel is a copy on the
device that moves as many bytes, timed in turns with it; what is small lies in the cache for both.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro
from numpy.typing import NDArray

from benchmarks import kernel_frames, kernel_views
from benchmarks.device_clock import DeviceClock
from benchmarks.kernel_counterparts import COUNTERPARTS, Call, Counterpart, Missing
from benchmarks.kernel_work import OnDevice, Size, Work, check
from benchmarks.measure import (
    SIZES,
    SizeName,
    Spread,
    WrongResult,
    environment,
    take_turns,
    write_json,
)
from howard.cuda import cupy
from howard.errors import DeviceError

GROUPS = {"frames": kernel_frames.WORKS, "views": kernel_views.WORKS}
WORKS = {name: make for group in GROUPS.values() for name, make in group.items()}
KERNEL, COPY = "kernel", "copy"
"""Names among the variants that are timed in turns; the others are libraries."""
QUICK_SIZE = 96, 54
BALLAST_BYTES = 2**28
"""Far more than any cache holds."""


@dataclass(frozen=True)
class KernelsConfig:
    """Time the CUDA kernels."""

    device: Literal["gpu"] = "gpu"
    """Kernels run on a GPU only."""
    size: SizeName = "1080p"
    """Of the frames."""
    only: tuple[str, ...] = ()
    """Names of kernels, or of groups: frames, views."""
    rounds: int = 20
    """Measurements of each kernel."""
    repeats: int = 20
    """Launches per measurement."""
    quick: bool = False
    """Tiny pictures, few rounds: whether it works, not how fast."""
    json: Path | None = None
    """Write all numbers to this file."""


@dataclass(frozen=True)
class KernelSpeed:
    """One kernel, or a few in a row."""

    kernels: tuple[str, ...]
    bytes_moved: int
    """What has to be read and written at the least: every array once."""
    milliseconds: Spread
    gigabytes_per_second: float
    copy_milliseconds: Spread
    """Of a copy on the device that moves as many bytes."""
    memory_ceiling_share: float
    """That over the kernel's: 1 is as fast as memory allows."""
    counterparts: Mapping[str, Spread]
    """Milliseconds, by library."""
    left_out: Mapping[str, str]
    """Counterparts that were not timed, and why."""


def measured(name: str, size: Size, config: KernelsConfig, clock: DeviceClock) -> KernelSpeed:
    """Check, then time. Raises WrongResult."""
    work = WORKS[name](size)
    ours = OnDevice(work)
    given = OnDevice(work)  # not run, so that what is updated in place is as it was
    ours.run()
    made = ours.outputs()
    for output, want in work.expected().items():
        check(f"{name}: {output}", made[output], want, work.tolerances[output])
    calls: dict[str, Call] = {KERNEL: ours.run, COPY: copy_of(work.bytes_moved)}
    left_out: dict[str, str] = {}
    for counterpart in COUNTERPARTS.get(name, ()):
        try:
            calls[counterpart.library] = checked(counterpart, given, made)
        except (Missing, WrongResult) as error:
            left_out[counterpart.library] = str(error)
    rounds, warm_up = (2, 1) if config.quick else (config.rounds, 3)
    return sum_up(work, take_turns(calls, clock, rounds, warm_up), left_out)


def copy_of(bytes_moved: int) -> Call:
    """A copy that reads half as many bytes and writes the other half."""
    cp = cupy()
    here, there = (cp.zeros(max(1, bytes_moved // 2), cp.uint8) for _ in range(2))
    return lambda: cp.copyto(there, here)


def checked(
    counterpart: Counterpart, given: OnDevice, made: Mapping[str, NDArray[np.generic]]
) -> Call:
    """Its call, once it has been seen to do what the kernel did. Raises Missing or WrongResult."""
    call: Callable[[], Any] = counterpart.make(given.named(0))
    try:
        got = call().get()
    except Exception as error:  # whatever a library of any version may say
        raise Missing(f"{type(error).__name__}: {error}".splitlines()[0]) from error
    want = counterpart.part(made[counterpart.output])
    check(counterpart.library, got.reshape(want.shape), want, counterpart.tolerance)
    return call


def sum_up(work: Work, taken: dict[str, Spread], left_out: Mapping[str, str]) -> KernelSpeed:
    ours, copy = taken.pop(KERNEL), taken.pop(COPY)
    return KernelSpeed(
        tuple(f"{step.topic}.{step.name}" for step in work.steps),
        work.bytes_moved,
        ours,
        work.bytes_moved / ours.median / 1e6,
        copy,
        copy.median / ours.median,
        taken,
        left_out,
    )


def names_of(only: Sequence[str]) -> list[str]:
    """Raises ValueError for a name that is none."""
    if unknown := [name for name in only if name not in WORKS and name not in GROUPS]:
        known = ", ".join([*GROUPS, *WORKS])
        raise ValueError(f"{', '.join(unknown)}: no such kernel; there are {known}")
    return [
        name
        for group, works in GROUPS.items()
        for name in works
        if not only or name in only or group in only
    ]


def row(name: str, speed: KernelSpeed) -> str:
    """For people."""
    ms = speed.milliseconds
    others = [f"{k} {v.median:.4f}" for k, v in speed.counterparts.items()]
    others += [f"{k} left out ({v})" for k, v in speed.left_out.items()]
    return (
        f"{name:24}{ms.median:9.4f} ms ({ms.low:.4f} to {ms.high:.4f})"
        f"{speed.bytes_moved / 2**20:8.1f} MB{speed.gigabytes_per_second:8.0f} GB/s"
        f"{speed.memory_ceiling_share:7.0%} of the ceiling  {'; '.join(others)}"
    ).rstrip()


def run(config: KernelsConfig, names: Sequence[str]) -> tuple[dict[str, KernelSpeed], list[str]]:
    """The speeds by name, and a sentence for each kernel that is wrong."""
    size, speeds, wrong = QUICK_SIZE if config.quick else SIZES[config.size], {}, []
    cupy().cuda.Stream(non_blocking=True).use()
    repeats, ballast = (2, 2**10) if config.quick else (config.repeats, BALLAST_BYTES)
    clock = DeviceClock(repeats, ballast)
    for name in names:
        try:
            speeds[name] = measured(name, size, config, clock)
            print(row(name, speeds[name]), flush=True)
        except WrongResult as error:
            wrong.append(str(error))
        except Exception as error:  # it does not compile, say; the others are timed all the same
            wrong.append(f"{name}: {type(error).__name__}: {error}".splitlines()[0])
    return speeds, wrong


def main(arguments: Sequence[str]) -> int:
    """The command line; the exit status: 1 if a kernel is wrong, 2 if none could be run."""
    config = tyro.cli(KernelsConfig, args=arguments, prog="python -m benchmarks.kernels")
    where = environment()
    try:
        names = names_of(config.only)
        cupy()
    except (DeviceError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    speeds, wrong = run(config, names)
    print(*wrong, sep="\n", end="\n" if wrong else "", file=sys.stderr)
    if config.json:
        settings = {key: getattr(config, key) for key in ("size", "rounds", "repeats", "quick")}
        write_json(config.json, "kernels", where, settings, {"kernels": speeds, "wrong": wrong})
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
