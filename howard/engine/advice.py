"""What to do after a run that ended before its time, said behind why it did."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from howard.engine.journal import Journal
from howard.errors import OutputError, is_out_of_memory
from howard.write.files import FULL

AGAIN = "run the same command again"


def how_to_go_on(overwrite: bool, begun: bool) -> str:
    """overwrite: whether the run was to replace an earlier one; begun: whether it has."""
    if overwrite and not begun:
        return AGAIN
    return f"{AGAIN}{', without --overwrite' if overwrite else ''}: it goes on from there"


@contextmanager
def advising(journal: Journal) -> Iterator[None]:
    """Note on a full disk, on short memory and on Ctrl-C how the run is gone on with."""
    try:
        yield
    except BaseException as error:
        is_full = isinstance(error, OutputError) and error.errno in FULL
        if is_full or isinstance(error, KeyboardInterrupt) or is_out_of_memory(error):
            error.add_note(how_to_go_on(journal.overwrite, journal.file is not None))
        raise
