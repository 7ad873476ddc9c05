"""What a run has finished: a line per frame while it works, report.json when it is done.

The journal OUT/report.partial.jsonl begins with a line that identifies the run (inputs, weights,
options that change pixels); each following line is one frame whose picture stands. An interrupted
run leaves it there, and the next run with the same identity goes on from it. It is read and
written line by line, so that its memory does not grow with the video.

OUT/report.json (schema 1):
    schema    1
    howard    version
    run       the identity: shot, clean_plate (path, bytes, modified), weights, device
    warnings  list of sentences
    frames    list of objects, in order of index:
        index, pts_seconds               of the shot's frame
        plate_index                      clean-plate frame that was used
        keypoints, matches, inliers      numbers of features
        residual                         mean |frame - plate| outside the person, levels of 255
        coverage                         share of the frame that the plate covers, [0, 1]
        fallback                         null, "last_homography" or "identity"
        homography_frame_from_plate      nine numbers by rows, pixel centres at integers
        milliseconds                     {decode, align, matte, write}; write includes packing
    totals    frames; seconds, frames_per_second, peak_memory_mb and fallbacks (frames without a
              plate of their own) of this call of the program; resumed: frames that an earlier
              call had finished
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from howard import __version__
from howard.errors import OutputError
from howard.frames import Alignment
from howard.write import frame_path
from howard.write.files import output_error, prepare_folder

Row = dict[str, Any]
PICTURE = re.compile(r"\d{6,}\.png")


class Journal:
    """The record of one output folder. Rows are begun by the loop, finished by the writer."""

    def __init__(self, out: Path, run: Row, overwrite: bool) -> None:
        self.out, self.identity = out, {"schema": 1, "howard": __version__, "run": run}
        self.partial, self.final = out / "report.partial.jsonl", out / "report.json"
        self.open_rows: dict[int, Row] = {}
        self.offsets: dict[int, int] = {}
        """Index of each finished frame -> where its line begins in the journal."""
        self.on_written: Callable[[], None] = lambda: None
        self.overwrite = overwrite
        if not overwrite:
            self.check_ownership()
            self.load()
        self.resumed = len(self.offsets)

    def check_ownership(self) -> None:
        """OutputError if the folder holds pictures that this run did not make."""
        stored = read_header(self.partial) or read_header(self.final)
        if stored is None and (self.final.exists() or any(pictures(self.out))):
            problem = "holds pictures or a report of something else, and no journal of a run"
        elif stored is not None and stored != self.identity:
            problem = "holds another run (other inputs, options or version)"
        else:
            return
        raise OutputError(f"{self.out} {problem}: choose another folder, or give --overwrite")

    def load(self) -> None:
        """Find what is finished; drop a line that was cut off, and rows without a picture."""
        if self.final.exists() and not self.partial.exists():
            report = json.loads(self.final.read_text())
            rows = (json.dumps(row) + "\n" for row in report["frames"])
            text = json.dumps(self.identity) + "\n" + "".join(rows)
            replace_text(self.partial, text)
        if not self.partial.exists():
            return
        with open(self.partial, "r+b") as file:
            position = len(file.readline())
            for line in file:
                if not line.endswith(b"\n"):
                    file.truncate(position)
                    break
                index = json.loads(line)["index"]
                if frame_path(self.out, index).exists():
                    self.offsets[index] = position
                position += len(line)

    def begin_writing(self) -> None:
        """Make the journal; with --overwrite, clear the folder of the earlier run first."""
        prepare_folder(self.out)
        with writing(self.partial):
            if self.overwrite:
                for stale in (self.partial, self.final, *pictures(self.out)):
                    stale.unlink(missing_ok=True)
            if not self.partial.exists():
                replace_text(self.partial, json.dumps(self.identity) + "\n")
            self.file = open(self.partial, "ab")  # noqa: SIM115 - open for the whole run

    def is_done(self, index: int) -> bool:
        return index in self.offsets

    def last_alignment(self) -> tuple[int, Alignment] | None:
        """Index and alignment of the last finished frame, for the aligner to go on from."""
        if not self.offsets:
            return None
        (row,) = self.rows([max(self.offsets)])
        stored = {k: row[k] for k in Alignment.__dataclass_fields__}
        stored["homography_frame_from_plate"] = tuple(stored["homography_frame_from_plate"])
        return row["index"], Alignment(**stored)

    def begin(self, index: int, pts_seconds: float, alignment: Alignment, **ms: float) -> None:
        """A frame is aligned; `ms` are milliseconds by stage."""
        row = {"index": index, "pts_seconds": round(pts_seconds, 6), **asdict(alignment)}
        self.open_rows[index] = {**row, "milliseconds": ms}

    def add_milliseconds(self, index: int, **ms: float) -> None:
        self.open_rows[index]["milliseconds"].update(ms)

    def written(self, index: int, milliseconds: float) -> None:
        """The writer has finished this frame: the row is complete."""
        row = self.open_rows.pop(index)
        row["milliseconds"]["write"] = milliseconds
        row["milliseconds"] = {k: round(v, 2) for k, v in row["milliseconds"].items()}
        self.offsets[index] = self.file.tell()
        with writing(self.partial):
            self.file.write(json.dumps(row).encode() + b"\n")
            self.file.flush()
        self.on_written()

    def rows(self, indices: Iterable[int]) -> Iterator[Row]:
        """Finished rows, read back one at a time."""
        if not self.offsets:
            return
        with open(self.partial, "rb") as file:
            for index in indices:
                file.seek(self.offsets[index])
                yield json.loads(file.readline())

    def close(self) -> None:
        """Safe to call twice."""
        self.file.close()

    def finish(self, warnings: list[str], totals: Row) -> None:
        """Write report.json from the journal, and remove the journal."""
        self.close()
        head = {**self.identity, "warnings": warnings}
        partial = self.final.with_suffix(".json.partial")
        with writing(self.final), open(partial, "w") as file:
            file.write(json.dumps(head)[:-1] + ', "frames": [')
            for position, row in enumerate(self.rows(sorted(self.offsets))):
                file.write((",\n" if position else "\n") + json.dumps(row))
            file.write('\n], "totals": ' + json.dumps(totals) + "}\n")
        partial.replace(self.final)
        self.partial.unlink()


@contextmanager
def writing(file: Path) -> Iterator[None]:
    """OutputError, with the remedy, for what the system refuses."""
    try:
        yield
    except OSError as error:
        raise output_error(file, error) from error


def pictures(folder: Path) -> Iterator[Path]:
    """The numbered pictures in a folder, if it exists."""
    if folder.is_dir():
        yield from (p for p in folder.iterdir() if PICTURE.fullmatch(p.name))


def read_header(file: Path) -> Row | None:
    """Identity of the run that wrote this journal or report; None if there is none."""
    try:
        text = file.read_text() if file.suffix == ".json" else file.open().readline()
        stored = json.loads(text)
        return {k: stored[k] for k in ("schema", "howard", "run")}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def replace_text(file: Path, text: str) -> None:
    """Write a small file whole or not at all."""
    partial = file.with_name(file.name + ".partial")
    partial.write_text(text)
    partial.replace(file)
