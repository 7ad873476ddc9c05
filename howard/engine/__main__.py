"""The command line: `python -m howard.engine run SHOT CLEAN_PLATE OUT`, and `info`."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from howard.config import RunConfig
from howard.errors import ConfigError, HowardError

USER_ERROR = 2
INTERRUPTED = 130


@dataclass(frozen=True)
class InfoConfig:
    """Print device, versions, weights and threads: what to paste into a bug report."""


COMMANDS: dict[str, Any] = {"run": RunConfig, "info": InfoConfig}


def parse(arguments: Sequence[str]) -> RunConfig | InfoConfig:
    """Raises ConfigError for an option that does not exist, naming the nearest."""
    import tyro

    check_options(arguments)
    return tyro.extras.subcommand_cli_from_dict(
        COMMANDS, prog="howard", description=__doc__, args=list(arguments)
    )


def check_options(arguments: Sequence[str]) -> None:
    """ConfigError for a misspelt command or option: one line, before tyro's page of help."""
    command, *rest = arguments or [""]
    if command.startswith("-"):
        return
    if command not in COMMANDS:
        raise ConfigError(f"there is no command {command!r}{nearest(command, list(COMMANDS))}")
    known = [f"--{f.name.replace('_', '-')}" for f in fields(COMMANDS[command])]
    known += ["--no-overwrite", "--help"]
    for word in rest:
        option = word.split("=")[0].replace("_", "-")
        if option.startswith("--") and option not in known:
            raise ConfigError(f"there is no option {option}{nearest(option, known)}")


def nearest(word: str, known: Sequence[str]) -> str:
    """The remedy that goes behind a misspelt word."""
    close = difflib.get_close_matches(word, known, 1, 0.5)
    return f": did you mean {close[0]}?" if close else f": try {', '.join(known)}"


def run_command(config: RunConfig) -> int:
    """Run with a progress bar, and say what came of it."""
    from howard.engine.progress import Progress
    from howard.engine.run import run

    with Progress() as progress:
        try:
            report = run(config, progress.begin)
        except KeyboardInterrupt:
            print(
                f"\nStopped: {progress.done} whole frames are in {config.out}; "
                "the same command goes on from there",
                file=sys.stderr,
            )
            return INTERRUPTED
    for warning in report.warnings:
        print(f"howard: warning: {warning}", file=sys.stderr)
    if report.fallbacks:
        print(f"howard: {report.fallbacks} frames have no plate of their own", file=sys.stderr)
    print(
        f"{report.frames} frames in {config.out}, {report.frames_per_second:.2f} frames/s, "
        f"peak memory {report.peak_memory_mb:.0f} MB; details in {config.out / 'report.json'}"
    )
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0, 2 for what the user can mend, 130 when interrupted."""
    try:
        config = parse(sys.argv[1:] if arguments is None else arguments)
        if isinstance(config, RunConfig):
            return run_command(config)
        from howard.engine.info import info

        print("\n".join(f"{name:32} {value}" for name, value in info().items()))
    except HowardError as error:
        print(f"howard: {error}", file=sys.stderr)
        return USER_ERROR
    return 0


if __name__ == "__main__":
    sys.exit(main())
