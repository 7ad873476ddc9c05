"""Tables for people: names in front, then a number for each column."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from rich.table import Table

Columns = Mapping[str, tuple[str, Callable[[float], str]]]
"""Key of a number -> heading, and how it is written."""
WHOLE, HUNDREDTHS = "{:.0f}".format, "{:.2f}".format
PERCENT, TENTHS_OF_A_PERCENT = "{:.0%}".format, "{:.1%}".format


def table(
    title: str,
    names: Sequence[str],
    columns: Columns,
    rows: Iterable[tuple[Sequence[str], Mapping[str, float]]],
) -> Table:
    """names: headings of what stands in front of the numbers. rows: that, and the numbers."""
    shown = Table(title=title, title_justify="left", box=None, padding=(0, 1))
    for name in names:
        shown.add_column(name)
    for heading, _ in columns.values():
        shown.add_column(heading, justify="right")
    for called, numbers in rows:
        written = (cell(numbers[key], write) for key, (_, write) in columns.items())
        shown.add_row(*called, *written)
    return shown


def cell(value: float, write: Callable[[float], str]) -> str:
    """One number, or that there is none."""
    if not np.isfinite(value):
        return "inf" if value > 0 else "-"
    return write(value)


def measured(value: float) -> str:
    """Two decimals, none from 100 on."""
    return HUNDREDTHS(value) if value < 100 else WHOLE(value)
