"""What the command lines have in common: whatever is wrong is told in one line."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from collections.abc import Callable, Iterator
from typing import TypeVar

from howard.errors import ConfigError, OutputError

Parsed = TypeVar("Parsed")

MISSING = re.compile(r"(\S+)(?: .*?)? \(required\)")
"""An argument's name, and what the help says of it."""
REWORDED = (
    (
        r"invalid choice (.*) for argument '(.*)'\. Expected one of \((.*)\)\.?",
        lambda m: f"{m[2]} is {m[1]}: give {m[3].replace(chr(39), '')}",
    ),
    (
        r"Error parsing (\S+): invalid literal for int\(\) with base 10: (.*)",
        lambda m: f"{m[1]} is {m[2]}: give a whole number",
    ),
    (
        r"Unrecognized options: (-[^\s,=]*).* Perhaps you meant: (--\S+).*",
        lambda m: f"there is no option {m[1]}: did you mean {m[2]}?",
    ),
    (
        r"Unrecognized options: ([^-\s][^\s,]*).*",
        lambda m: f"{m[1]} is one path too many: put a pattern in quotes, 'plates/*.jpg'",
    ),
    (
        r"Missing from (.*?): (.*)",
        lambda m: f"missing: {', '.join(MISSING.findall(m[2]))}; see {m[1]} --help",
    ),
)
"""How tyro says it, and how Howard does."""


@contextlib.contextmanager
def printing() -> Iterator[None]:
    """For what is printed inside, all of it. Raises OutputError where standard output takes no
    more, but a pipe that was closed is a BrokenPipeError as ever."""
    try:
        try:
            yield
        finally:
            print(end="", flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        drop(1)
        raise OutputError(
            f"cannot print to standard output: {error.strerror}: free some space, or let it go "
            "elsewhere"
        ) from error


def say(line: str) -> None:
    """On standard error; where that takes no more (a log on a full disk), nobody is told, and the
    work goes on."""
    try:
        print(line, file=sys.stderr, flush=True)
    except BrokenPipeError:
        raise
    except OSError:
        drop(2)


def with_notes(line: str, error: BaseException) -> str:
    """The line and what was noted on the error, how to go on, as one."""
    return "; ".join([line, *getattr(error, "__notes__", ())])


def drop(*descriptors: int) -> None:
    """Lose what is still to be flushed there: at the end of the process it would fail again."""
    for descriptor in descriptors:
        os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)


def parsed(parser: Callable[[], Parsed]) -> Parsed:
    """What `parser`, a call of tyro's, makes of the arguments. Raises ConfigError, in one line,
    for what it cannot understand."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return parser()
    except SystemExit as ending:
        if not ending.code:
            raise
        raise ConfigError(in_one_line(said.getvalue())) from None


def in_one_line(page: str) -> str:
    """tyro's page of complaint without its headline, its frame and what it quotes of the help."""
    _, _, text = page.partition("\n")
    text = re.sub("[╭╮╰╯│─]|-{10,}", " ", text)  # where the terminal lacks the lines, of hyphens
    text = re.split("For full helptext|Argument helptext", text)[0]
    line = " ".join(text.split()).rstrip(" :")
    for pattern, worded in REWORDED:
        if said := re.fullmatch(pattern, line):
            return worded(said)
    return f"{line}: see --help"
