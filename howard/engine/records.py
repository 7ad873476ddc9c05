"""Reading what a run has left in its folder: `journal.py` says what stands there."""

from __future__ import annotations

import json
import re
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any

Row = dict[str, Any]
PICTURE = re.compile(r"\d{6,}\.png")
STAMP = 8
"""Letters for each picture of a sequence in its identity."""


def parse_row(line: bytes) -> Row | None:
    """A line of the journal or of report.json; None for one that is not a whole row."""
    try:
        row = json.loads(line.rstrip(b",\n")) if line.endswith(b"\n") else None
    except ValueError:
        return None
    return row if isinstance(row, dict) and "index" in row else None


def is_whole(picture: Path) -> bool:
    """Whether a picture stands: a crash of the machine may leave its name alone."""
    try:
        return picture.stat().st_size > 0
    except FileNotFoundError:
        return False


def read_head(file: Path) -> Row:
    """What the first line of a journal or report says; nothing if there is none."""
    try:
        with open(file, "rb") as opened:
            line = opened.readline().decode().rstrip()
        stored = json.loads(line + "]}" if line.endswith('"frames": [') else line)
        return stored if isinstance(stored, dict) else {}
    except (FileNotFoundError, ValueError):
        return {}


def read_header(file: Path) -> Row | None:
    """Identity of the run that wrote this journal or report; None if there is none."""
    head = read_head(file)
    keys = ("schema", "howard", "run")
    return {k: head[k] for k in keys} if all(k in head for k in keys) else None


def read_warnings(file: Path) -> list[str]:
    """Those that stand in this journal or report."""
    found = read_head(file).get("warnings")
    return [str(warning) for warning in found] if isinstance(found, list) else []


def told_apart(stored: Row, ours: Row, finished: Container[int]) -> str:
    """What the identity of another run has otherwise than this one's, in words; nothing if it is
    the same, but for pictures of the shot whose frames are not finished."""
    if (stored["schema"], stored["howard"]) != (ours["schema"], ours["howard"]):
        return f"of Howard {stored['howard']}"
    differences = []
    for name, now in ours["run"].items():
        before = stored["run"].get(name) if isinstance(stored["run"], dict) else None
        if before == now or (name == "shot" and same_pictures(before, now, finished)):
            continue
        if isinstance(before, dict):  # files
            is_same = before.get("path") == now["path"]
            before = "changed since" if is_same else before.get("path")
        differences.append(f"{name.replace('_', ' ')} {before}")
    return f"with {', '.join(differences)}" if differences else ""


def same_pictures(before: Any, now: Row, finished: Container[int]) -> bool:
    """Whether two identities of a sequence differ in nothing but pictures of unfinished frames."""
    if not isinstance(before, dict) or not isinstance(before.get("stamps"), str):
        return False
    theirs, ours = before["stamps"], now.get("stamps", "")
    if len(theirs) != len(ours) or {**before, "stamps": ours} != now:
        return False
    changed = (
        i for i in range(0, len(ours), STAMP) if theirs[i : i + STAMP] != ours[i : i + STAMP]
    )
    return not any(i // STAMP in finished for i in changed)


def pictures(folder: Path) -> Iterator[Path]:
    """The numbered pictures in a folder, if it exists."""
    if folder.is_dir():
        yield from (p for p in folder.iterdir() if PICTURE.fullmatch(p.name))
