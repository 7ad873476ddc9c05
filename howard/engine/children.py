"""Processes that make a range of a shot's frames each, in a seat of their own: a GPU, as a rule."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import MISSING, fields

from howard.config import RunConfig
from howard.cuda import cupy
from howard.engine.advice import AGAIN, how_to_go_on
from howard.errors import ConfigError, DeviceError, HowardError

END_SECONDS = 30.0
"""For a process to finish the picture that it is at, once it is told to stop."""
OWN = {"frames", "overwrite", "gpus"}
"""Options that are not handed on."""

Seat = Mapping[str, str]
"""Where a process computes: environment variables."""
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
"""Several processes whose threads wait for one another by spinning keep all from going on."""


def gpu_seats(count: int) -> list[Seat]:
    """One for each of `count` GPUs that this process can see, 0 for all. Raises ConfigError where
    there are fewer, DeviceError where there is none."""
    if count == 1:
        return [{}]
    try:
        there = cupy().cuda.runtime.getDeviceCount()
    except DeviceError as error:
        raise DeviceError(f"{error}, or leave --gpus out") from error
    if count > there:
        raise ConfigError(f"--gpus is {count}, but {there} can be used: give 0, for all of them")
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = given.split(",") if given else [str(number) for number in range(there)]
    return [{"CUDA_VISIBLE_DEVICES": name.strip()} for name in names[: count or there]]


class Child:
    """A process that makes a range of frames."""

    def __init__(self, config: RunConfig, frames: range, seat: Seat) -> None:
        self.frames = f"{frames.start}:{'' if frames.stop == sys.maxsize else frames.stop}"
        self.out = config.out / f".part-{frames.start:06d}"
        words = [f"--frames={self.frames}"]
        for field in fields(config):
            value = getattr(config, field.name)
            if field.default not in (MISSING, value) and field.name not in OWN:
                name = field.name.replace("_", "-")
                words.append(f"--no-{name}" if value is False else f"--{name}={value}")
        self.again = how_to_go_on(config.overwrite, begun=True)
        paths = map(str, (config.shot, config.clean_plate, self.out))
        self.said = tempfile.TemporaryFile()  # noqa: SIM115, closed by `end`
        self.process = subprocess.Popen(
            [sys.executable, "-m", "howard.engine", "run", *words, "--", *paths],
            env={**os.environ, **ONE_THREAD, **seat},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self.said,
            process_group=0,  # Ctrl-C reaches the parent alone, which passes it on, once
        )

    def has_ended(self) -> bool:
        """Raises HowardError for what the process could not do, RuntimeError for a bug."""
        status = self.process.poll()
        if not status:
            return status == 0
        self.said.seek(0)
        said = self.said.read().decode(errors="replace").strip()
        last = said.rpartition("\n")[2]
        if last.startswith("howard: "):
            why, *helps = last.removeprefix("howard: ").split(f"; {AGAIN}")
            raise self.advised(why) if helps else HowardError(why)
        if status < 0:
            name = signal.Signals(-status).name
            raise self.advised(
                f"the process for --frames {self.frames} was ended by {name}, perhaps for want of "
                "memory"
            )
        raise RuntimeError(f"the process for --frames {self.frames} failed:\n{said}")

    def advised(self, why: str) -> HowardError:
        """One after which the same command as the parent's helps."""
        error = HowardError(why)
        error.add_note(self.again)
        return error

    def end(self) -> None:
        """Wait until it has stopped, with whole pictures."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(END_SECONDS)
        self.process.kill()
        self.process.wait()
        self.said.close()


@contextmanager
def interrupted_by_any_signal() -> Iterator[None]:
    """What would end this process at once acts like Ctrl-C: the others must be told."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    is_main = threading.current_thread() is threading.main_thread()
    deadly = (signal.SIGTERM, signal.SIGHUP) if is_main else ()
    mine = [number for number in deadly if signal.getsignal(number) is signal.SIG_DFL]
    for number in mine:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number in mine:
            signal.signal(number, signal.SIG_DFL)
