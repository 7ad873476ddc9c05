"""The folder of pictures: every file in it is whole, whatever happens while it is written.

A file is written under a temporary name in the same folder and renamed when it is complete, so a
crash of the process leaves no half picture under a final name. A crash of the whole machine may:
waiting for the disk after each file would cost more than encoding it.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from howard.errors import HowardError, OutputError

LOCK = ".lock"
"""In the folder, where the folder itself cannot be locked."""
FULL = errno.ENOSPC, errno.EDQUOT
REMEDIES = {
    **dict.fromkeys(FULL, "free some space"),
    errno.EACCES: "allow yourself to write there, or choose another output folder",
    errno.EPERM: "allow yourself to write there, or choose another output folder",
    errno.EROFS: "choose an output folder on a disk that can be written",
    errno.EEXIST: "a file stands where the folder should be; move it, or choose another folder",
    errno.ENOTDIR: "a file stands where a folder should be; move it, or choose another folder",
}


def output_error(path: Path, error: OSError) -> OutputError:
    """One line: the file or folder, the system's reason, the remedy; keeps the errno."""
    remedy = REMEDIES.get(error.errno or 0, "mend that, or choose another folder")
    return OutputError(error.errno, f"cannot write {path}: {error.strerror or error}: {remedy}")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """OutputError, with the remedy, for what the system refuses."""
    try:
        yield
    except HowardError:
        raise
    except OSError as error:
        raise output_error(path, error) from error


def prepare_folder(output: Path) -> None:
    """Make the folder and its parents, prove it writable.

    Raises OutputError, before any work is done in vain.
    """
    with writing(output):
        output.mkdir(parents=True, exist_ok=True)
        probe = partial_path(output / f"probe-{os.getpid()}")  # another run may share the folder
        try:
            probe.write_bytes(b"-")  # not empty: a full disk still takes a name
        finally:
            probe.unlink(missing_ok=True)


def clear_unfinished(output: Path) -> None:
    """Remove what a crash left unfinished in a folder that no other run writes into."""
    with writing(output):
        for stale in output.glob(partial_path(output / "*").name):
            stale.unlink(missing_ok=True)


def lock(folder: Path) -> int:
    """Keep other runs out of `folder`, which exists, until the returned descriptor is closed, by a
    crash too.

    Raises OutputError if another run has it, OSError if it cannot be opened.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if not is_locked(descriptor):  # NFS locks nothing but files that are open for writing
            os.close(descriptor)
            descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
            is_locked(descriptor)  # else it is a file system without locks
    except BlockingIOError:
        os.close(descriptor)
        raise OutputError(
            f"another run is writing into {folder}: wait until it has ended, or choose another "
            "folder"
        ) from None
    return descriptor


def is_locked(descriptor: int) -> bool:
    """Lock it; whether its file system can. Raises BlockingIOError if another process has."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        return False
    return True


def write_whole(path: Path, data: bytes) -> None:
    """Write a file whole or not at all, replacing one of the same name.

    Raises OutputError.
    """
    with writing(path), replacing(path) as file:
        file.write(data)


@contextmanager
def replacing(path: Path, at_once: bool = False) -> Iterator[IO[bytes]]:
    """A file that takes its name only when it is complete; with `at_once`, when it is on the disk:
    for the one without which the others would be nobody's."""
    partial = partial_path(path)
    try:
        with open(partial, "wb") as file:
            yield file
            if at_once:
                file.flush()
                os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        with suppress(OSError):  # it is gone already, or the first error says why it stays
            partial.unlink()


def partial_path(path: Path) -> Path:
    """The name of a file while it is incomplete: in the same folder, so that renaming is atomic."""
    return path.with_name(f".{path.name}.partial")
