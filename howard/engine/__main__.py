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
    except KeyboardInterrupt as interrupt:
        from howard.command_line import with_notes

        stopped = "\nhoward: stopped, and what is in OUT is whole"
        print(with_notes(stopped, interrupt), file=sys.stderr)
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
