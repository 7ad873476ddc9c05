"""`python -m howard.engine`, and `howard`. The command line is in `commands.py`; it is loaded here,
so that Ctrl-C ends a program that is still being loaded as quietly as one at work."""

from __future__ import annotations

import sys

INTERRUPTED = 130


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status: that of the command, or 130 when interrupted."""
    try:
        from howard.engine.commands import run_command_line

        return run_command_line(sys.argv[1:] if arguments is None else arguments)
    except KeyboardInterrupt:
        advice = (
            "\nhoward: stopped; what is in OUT is whole, and the same command goes on from there: "
            "without --overwrite, if pictures of this run are there already"
        )
        print(advice, file=sys.stderr)
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
