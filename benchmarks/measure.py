"""What every benchmark needs: where it ran, fair timing of variants, median and spread, JSON."""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np

from benchmarks.child import ROOT
from howard.engine.info import FOR_A_GPU, processor

SCHEMA = 1
LIBRARIES = (
    *("numpy", "opencv-contrib-python-headless", "av", "onnxruntime", "isal"),
    *FOR_A_GPU,
    "pynvvideocodec",
)
"""Distributions whose versions are recorded where they are installed."""

SizeName = Literal["360p", "480p", "720p", "1080p", "2160p"]
SIZES: dict[SizeName, tuple[int, int]] = {
    "360p": (640, 360),
    "480p": (854, 480),
    "720p": (1280, 720),
    "1080p": (1920, 1080),
    "2160p": (3840, 2160),
}
"""(width, height) by the name that the command lines take."""

THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""Libraries read them when they are loaded."""

Result = TypeVar("Result")


class WrongResult(AssertionError):
    """What was to be timed does not do its work; no time is reported."""


@dataclass(frozen=True)
class Spread:
    """Median and quartiles of repeated measurements, in the unit of what was measured."""

    median: float
    low: float
    """First quartile."""
    high: float
    """Third quartile."""
    count: int


def spread(values: Iterable[float]) -> Spread:
    """Median and quartiles. Raises ValueError if there is nothing to sum up."""
    measured = list(values)
    if not measured:
        raise ValueError("no measurement to sum up")
    low, median, high = (float(v) for v in np.percentile(measured, [25, 50, 75]))
    return Spread(median, low, high, len(measured))


def interleave(
    variants: Mapping[str, Callable[[], Result]],
    correct: Callable[[Result], bool],
    rounds: int = 20,
    warm_up: int = 3,
) -> dict[str, Spread]:
    """Milliseconds per call of each variant, taken in turns so that drift meets all alike.

    Each variant's result is checked first: WrongResult names the one that `correct` refuses.
    Rounds run forward and backward by turns. A variant that works on a device has to wait for
    it before it returns.
    """
    for name, call in variants.items():
        if not correct(call()):
            raise WrongResult(f"variant {name!r} gives a wrong result; it was not timed")
    return take_turns(variants, wall_milliseconds, rounds, warm_up)


def take_turns(
    variants: Mapping[str, Callable[[], Result]],
    milliseconds: Callable[[Callable[[], Result]], float],
    rounds: int = 20,
    warm_up: int = 3,
) -> dict[str, Spread]:
    """The same of variants that are known to be right, by any clock."""
    taken: dict[str, list[float]] = {name: [] for name in variants}
    for round_index in range(warm_up + rounds):
        for name in list(variants)[:: -1 if round_index % 2 else 1]:
            took = milliseconds(variants[name])
            if round_index >= warm_up:
                taken[name].append(took)
    return {name: spread(values) for name, values in taken.items()}


def wall_milliseconds(call: Callable[[], object]) -> float:
    """Of one call."""
    started = time.perf_counter()
    call()
    return (time.perf_counter() - started) * 1e3


def environment() -> dict[str, Any]:
    """Commit, date, hardware, versions and load, as they are now; None for what is not known."""
    changes = _output("git", "status", "--porcelain")
    return {
        "commit": _output("git", "rev-parse", "HEAD") or None,
        "uncommitted_changes": None if changes is None else bool(changes),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "gpu": _output("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"),
        "load_average": os.getloadavg(),
        "system": platform.system() + " " + platform.release(),
        "python": platform.python_version(),
        "libraries": {name: version for name in LIBRARIES if (version := _version(name))},
    }


def headline(where: Mapping[str, Any]) -> str:
    """What decides about times, of an `environment()`, for people."""
    load = where["load_average"][0]
    return f"{where['processor']}, {where['cores']} cores, load {load:.1f}"


def write_json(
    path: Path, benchmark: str, where: Mapping[str, Any], config: Mapping[str, Any], results: Any
) -> None:
    """One record of the schema in results/README.md; the folder is made if it is not there.

    `where` is the environment() from before the run: the load should not be the benchmark's own.
    """
    record = {"schema": SCHEMA, "benchmark": benchmark, "environment": where}
    record |= {"config": config, "results": results}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(_plain(record), indent=2, allow_nan=False) + "\n", "utf-8")


def unknown_names(*kinds: tuple[str, Iterable[str], Iterable[str]]) -> list[str]:
    """A sentence for each name that is none. kinds: what it is called, names, those there are."""
    return [
        f"{name!r} is no {what}; there are: {' '.join(known)}"
        for what, names, known in kinds
        for name in names
        if name not in known
    ]


def on_one_thread(module: str) -> None:
    """Start `python -m module` anew with the thread counts set, unless they are."""
    if any(os.environ.get(name) != "1" for name in THREADS):
        os.environ.update(dict.fromkeys(THREADS, "1"))
        os.execv(sys.executable, [sys.executable, "-m", module, *sys.argv[1:]])


def own_and_passed_on(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Options before `--` are the benchmark's own, those after it go to Howard's command line."""
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    return list(arguments[:cut]), list(arguments[cut + 1 :])


def without_paths(options: Sequence[str]) -> list[str]:
    """Options for a record: of a path only the name, which says enough on any machine."""
    return [
        f"{name}{equals}{Path(value).name}" if "/" in value else option
        for option in options
        for name, equals, value in [option.rpartition("=")]
    ]


def _plain(value: Any) -> Any:
    """Dataclasses as objects, NaN and infinity as null: JSON has neither."""
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _output(*command: str) -> str | None:
    """What the command prints; None where it is missing or fails."""
    try:
        return subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
