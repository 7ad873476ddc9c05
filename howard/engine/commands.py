"""The command line: `python -m howard.engine run SHOT CLEAN_PLATE OUT`, `info`, and `--version`."""

from __future__ import annotations

import difflib
import io
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, fields
from itertools import takewhile
from typing import Any

from howard import __version__
from howard.command_line import drop, parsed, printing, say, with_notes
from howard.config import RunConfig
from howard.errors import ConfigError, HowardError, is_out_of_memory
from howard.frames import counted

USER_ERROR = 2
NOBODY_LISTENS = 141
"""What a shell shows of a program that wrote into a closed pipe."""


@dataclass(frozen=True)
class InfoConfig:
    """Print device, versions, weights and threads: what to paste into a bug report."""


COMMANDS: dict[str, Any] = {"run": RunConfig, "info": InfoConfig}
VERSION = "--version"


def parse(arguments: Sequence[str]) -> RunConfig | InfoConfig:
    """Raises ConfigError, in one line, for what cannot be understood."""
    import tyro

    check_words(arguments)
    with printing():  # the help
        return parsed(
            lambda: tyro.extras.subcommand_cli_from_dict(
                COMMANDS, prog="howard", description=__doc__, args=list(arguments)
            )
        )


def check_words(arguments: Sequence[str]) -> None:
    """ConfigError for a misspelt command or option that names the nearest."""
    command, *rest = arguments or [""]
    options = list(takewhile(lambda word: word != "--", rest))  # behind it, all are paths
    bare = [word[:-1] for word in options if word.startswith("--") and word.endswith("=")]
    if "" in rest or bare:
        which = bare[0] if bare else "an argument"
        raise ConfigError(f"{which} is empty: is a variable of the shell not set?")
    if command in ("-h", "--help"):
        return
    if command not in COMMANDS:
        raise ConfigError(
            f"there is no command {command!r}{nearest(command, [*COMMANDS, VERSION])}"
        )
    known = ["--help"]
    for field in fields(COMMANDS[command]):
        if field.default is not MISSING:  # the others are positional
            name = field.name.replace("_", "-")
            known.append(f"--{name}")
            if isinstance(field.default, bool):
                known.append(f"--no-{name}")
    for word in options:
        option = word.split("=")[0].replace("_", "-")
        is_option = option.startswith("-") and not option[1:2].isdigit()
        if option == "--resume":
            raise ConfigError("--resume is no option: the same command goes on by itself")
        if is_option and option not in (*known, "-h"):
            raise ConfigError(f"there is no option {option}{nearest(option, known)}")


def nearest(word: str, known: Sequence[str]) -> str:
    """The remedy that goes behind a misspelt word."""
    close = difflib.get_close_matches(word, known, 1, 0.5)
    return f": did you mean {close[0]}?" if close else f": try {', '.join(known)}"


def run_command(config: RunConfig) -> None:
    """Run with a progress bar, and say what came of it."""
    from howard.engine.progress import Progress
    from howard.engine.ranges import parts, run_in_ranges
    from howard.engine.run import run

    with Progress() as progress:
        if config.gpus == 1 and not any(parts(config.out)):
            report = run(config, progress.begin)
        else:
            report = run_in_ranges(config, progress)
    for warning in report.warnings:
        say(f"howard: warning: {warning}")
    if report.fallbacks:
        say(
            f"howard: no plate of its own was found for {counted(report.fallbacks)}: see "
            f"fallback in {config.out / 'report.json'}"
        )
    where, speed = report.device.upper(), f"{report.frames_per_second:.2f} frames/s"
    with printing():
        print(
            f"{counted(report.frames)} in {config.out}, {speed} on the {where}, "
            f"peak memory {report.peak_memory_mb:.0f} MB; details in {config.out / 'report.json'}"
        )


def memory_is_short(error: Exception) -> str:
    """The line about it; what the library says of it tells how much was wanted."""
    reason = textwrap.shorten(str(error) or type(error).__name__, 140, placeholder=" ...")
    return (
        f"memory is short ({reason}): give a smaller --batch or smaller pictures, or end other "
        "programs"
    )


def run_command_line(words: Sequence[str]) -> int:
    """Returns the exit status: 0, 2 for what the user can mend, 141 when what is printed goes to a
    pipe that was closed."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # a name may hold letters that it lacks
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        if list(words[:1]) == [VERSION]:
            with printing():
                print(f"howard {__version__}")
        elif isinstance(config := parse(words), RunConfig):
            run_command(config)
        else:
            from howard.engine.info import info

            rows = info()
            with printing():
                print("\n".join(f"{name:32} {value}" for name, value in rows.items()))
    except HowardError as error:
        say(with_notes(f"howard: {error}", error))
        return USER_ERROR
    except BrokenPipeError:
        drop(1, 2)
        return NOBODY_LISTENS
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        say(with_notes(f"howard: {memory_is_short(error)}", error))
        return USER_ERROR
    return 0
