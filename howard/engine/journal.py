"""What a run has finished: a line per frame while it works, report.json when it is done.

The journal OUT/report.partial.jsonl begins with a line that identifies the run (inputs, weights,
options that change pixels) and holds the warnings so far; each following line is one frame whose
picture stands. An interrupted run leaves it there, and the next run with the same identity goes on
from it. report.json holds the same lines, so that both are read and written one row at a time: of a
finished frame only the place of its row is kept in memory.

OUT/report.json (schema 1):
    schema    1
    howard    version
    run       the identity: shot, clean_plate and weights (path, files, bytes, modified; a shot in
              pictures has stamps instead, eight letters for each), network, plate_search,
              bit_depth, steady, device, runner, features
    warnings  list of sentences, of all calls that made the frames
    frames    list of objects, in order of index:
        index, pts_seconds               of the shot's frame
        plate_index                      clean-plate frame that was used
        keypoints, matches, inliers      numbers of features, or of places in the picture, looked
                                         at, found in the clean plate, and agreeing
        residual                         mean |frame - plate| outside the person, levels of 255
        coverage                         share of the frame that the plate covers, [0, 1]
        fallback                         null, "last_homography" or "identity"
        homography_frame_from_plate      nine numbers by rows, pixel centres at integers
        confidence                       of the network in its matte, [0, 1]; 0.5 where it expects
                                         alpha to be off by 0.02 on average
        milliseconds                     {decode, align, matte, write}; write includes packing
    totals    frames, and of them fallbacks (without a plate of their own); of the last call that
              made pictures: seconds, frames_per_second, peak_memory_mb, batch (frames per call of
              the network), and resumed, the frames that earlier calls had finished; on a GPU also
              device_memory_mb (in use at the end, by whomever), downloads_per_frame (pictures),
              read_backs_per_frame (a few numbers, for decisions) and bytes_read_back_per_frame.
              Where several processes shared the frames, memory is that of all of them, and batch
              the smallest

A run on several GPUs (ranges.py) keeps each range in OUT/.part-FIRST, a folder like OUT, until it
is done.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import asdict
from io import FileIO
from itertools import count, takewhile
from pathlib import Path
from typing import IO, SupportsFloat

from howard import __version__
from howard.engine.records import (
    Row,
    is_whole,
    parse_row,
    pictures,
    read_header,
    read_warnings,
    told_apart,
)
from howard.errors import OutputError
from howard.frames import Alignment
from howard.write import frame_path
from howard.write.files import clear_unfinished, lock, replacing, writing
from howard.write.png import is_ours


class Journal:
    """The record of one output folder. Rows are begun by the loop, finished by the writer.

    Making one only reads; `begin_writing` is the first to change the folder, and an earlier run's
    pictures stay until `start`.
    """

    def __init__(self, out: Path, run: Row, overwrite: bool) -> None:
        self.out, self.run = out, run
        self.identity = {"schema": 1, "howard": __version__, "run": run}
        self.partial, self.final = out / "report.partial.jsonl", out / "report.json"
        self.overwrite = overwrite
        self.open_rows: dict[int, Row] = {}
        self.offsets: dict[int, int]
        """Index of each finished frame -> where its row begins in `source`."""
        self.noted: set[int] = set()
        """Indices of all rows, also of those whose pictures do not stand."""
        self.stale: list[Path] = []
        self.told: list[str] = []
        """Warnings of earlier calls."""
        self.file: FileIO | None = None
        self.on_written: Callable[[], None] = lambda: None
        self.lock: int | None = None
        self.look()

    def look(self) -> None:
        """See what is there. Raises OutputError."""
        with writing(self.out):
            finished = self.final.exists() and not self.partial.exists()
            self.source = self.final if finished else self.partial
            stored = self.stored_identity()
            self.told = read_warnings(self.source)
            self.offsets = {}
            self.end = self.find_rows()
            self.check_identity(stored)
            self.check_strangers()
            if self.overwrite:
                self.stale = list(pictures(self.out))
                self.offsets, self.end, self.told = {}, 0, []
        self.resumed = len(self.offsets)

    def stored_identity(self) -> Row | None:
        """Of the run that stands there, if any. OutputError if none of Howard's made it."""
        stored = read_header(self.source)
        if stored is None and (self.source.exists() or any(pictures(self.out))):
            raise OutputError(
                f"{self.out} holds numbered pictures or a report that no run of Howard made: "
                "choose another folder"
            )
        return stored

    def check_identity(self, stored: Row | None) -> None:
        """OutputError if that is another run, which this one may not replace."""
        if stored is None or self.overwrite:
            return
        if apart := told_apart(stored, self.identity, self.offsets):
            raise OutputError(
                f"{self.out} holds another run, {apart}: choose another folder, or give --overwrite"
            )

    def find_rows(self) -> int:
        """Find the rows whose pictures stand; returns where the last whole row ends."""
        self.noted = set()
        if not self.source.exists():
            return 0
        with open(self.source, "rb") as file:
            end = len(file.readline())
            for line in file:
                row = parse_row(line)
                if row is None:  # cut off, or the end of report.json
                    break
                self.noted.add(row["index"])
                if is_whole(frame_path(self.out, row["index"])):
                    self.offsets[row["index"]] = end
                end += len(line)
        return end

    def check_strangers(self) -> None:
        """OutputError if there are pictures that Howard did not make, whose names this run may
        need. One that it made may be noted nowhere, if it was killed."""
        noted = {frame_path(self.out, index) for index in self.noted}
        for picture in pictures(self.out):
            if picture not in noted and not is_ours(picture):
                raise OutputError(
                    f"{self.out} holds {picture.name}, which is not in its report: move it away or "
                    "delete it, or choose another folder"
                )

    def begin_writing(self) -> None:
        """Make the folder, and keep other runs out of it until `close`."""
        with writing(self.out):
            self.out.mkdir(parents=True, exist_ok=True)
            self.lock = lock(self.out)
        try:
            self.look()  # again: another run may have ended since
            clear_unfinished(self.out)
        except BaseException:
            self.close()
            raise

    def start(self) -> None:
        """The first picture is ready: with --overwrite, clear the folder of the earlier run; and
        open the journal, since a picture without one would be a stranger's. Does so once."""
        if self.file is None:
            with writing(self.partial):
                if self.overwrite:
                    self.clear()
                self.file = self.open_for_rows()

    def clear(self) -> None:
        """Remove pictures and report of the earlier run, the report last: after an
        interruption the next call still knows whose they are."""
        for stale in (*self.stale, self.partial, self.final):
            stale.unlink(missing_ok=True)
        self.source = self.partial

    def open_for_rows(self) -> FileIO:
        """The journal, ready to be appended to; made, or made from report.json, as need be."""
        if read_header(self.partial) == self.identity:
            os.truncate(self.partial, self.end)
        else:
            with replacing(self.partial, at_once=True) as new:
                header = {**self.identity, "warnings": self.told}
                new.write(json.dumps(header).encode() + b"\n")
                self.offsets = self.copy_rows(new, b"")
            self.source = self.partial
        # Unbuffered: what a full disk refused must not be tried again when the file is closed.
        file = FileIO(self.partial, "ab")
        file.seek(0, os.SEEK_END)
        return file

    def copy_rows(self, file: IO[bytes], between: bytes) -> dict[int, int]:
        """Write all finished rows in order, a line each; returns where each begins."""
        indices, places = sorted(self.offsets), {}
        for row in self.rows(indices):
            index = row["index"]
            places[index] = file.tell()
            file.write(
                json.dumps(row).encode() + (between if index != indices[-1] else b"") + b"\n"
            )
        return places

    def is_done(self, index: int) -> bool:
        return index in self.offsets

    def last_alignment(self, first: int = 0) -> tuple[int, Alignment] | None:
        """Index and alignment of the last frame that had a plate of its own, to go on from with
        the first missing frame from `first` on; None where no finished frames lead up to that."""
        missing = next(index for index in count(first) if not self.is_done(index))
        for row in self.rows(takewhile(self.is_done, range(missing - 1, -1, -1))):
            if row["fallback"] is None:
                stored = {k: row[k] for k in Alignment.__dataclass_fields__}
                stored["homography_frame_from_plate"] = tuple(stored["homography_frame_from_plate"])
                return row["index"], Alignment(**stored)
        return None

    def fallbacks(self) -> int:
        """Number of finished frames without a plate of their own."""
        return sum(row["fallback"] is not None for row in self.rows(self.offsets))

    def begin(
        self, index: int, pts_seconds: float, alignment: Alignment, **ms: SupportsFloat
    ) -> None:
        """A frame is aligned; `ms` are milliseconds by stage. Numbers that are still on their way
        from the GPU are asked for when the frame is written."""
        row = {"index": index, "pts_seconds": round(pts_seconds, 6), **asdict(alignment)}
        self.open_rows[index] = {**row, "milliseconds": ms}

    def matted(self, index: int, confidence: SupportsFloat, milliseconds: SupportsFloat) -> None:
        """A frame has its matte."""
        row = self.open_rows[index]
        row["confidence"] = confidence
        row["milliseconds"]["matte"] = milliseconds

    def written(self, index: int, milliseconds: float) -> None:
        """The writer has finished this frame: the row is complete."""
        row = self.open_rows.pop(index)
        row["milliseconds"]["write"] = milliseconds
        row["milliseconds"] = {k: round(float(v), 2) for k, v in row["milliseconds"].items()}
        row["confidence"] = round(float(row["confidence"]), 4)
        self.append(row)

    def append(self, row: Row) -> None:
        """Note a finished frame."""
        line = json.dumps(row).encode() + b"\n"
        self.start()
        assert self.file is not None
        with writing(self.partial):
            place = self.file.tell()
            if self.file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.offsets[row["index"]] = place
        self.on_written()

    def rows(self, indices: Iterable[int]) -> Iterator[Row]:
        """Finished rows, read back one at a time."""
        if not self.offsets:
            return
        with open(self.source, "rb") as file:
            for index in indices:
                file.seek(self.offsets[index])
                row = parse_row(file.readline())
                assert row is not None, f"row {index} was whole when it was found"
                yield row

    def close(self) -> None:
        """Let other runs into the folder. Safe to call twice."""
        if self.file is not None:
            self.file.close()
        if self.lock is not None:
            os.close(self.lock)
            self.lock = None

    def finish(self, warnings: list[str], totals: Row) -> None:
        """Write report.json from the journal, remove the journal, and close. Where no frame was
        made, a report that stands, or a run that would have been replaced, stays as it is."""
        with closing(self), writing(self.final):
            if self.file is None and (self.source == self.final or self.overwrite):
                return
            warnings = list(dict.fromkeys([*self.told, *warnings]))
            head = json.dumps({**self.identity, "warnings": warnings})[:-1] + ', "frames": [\n'
            with replacing(self.final, at_once=True) as file:
                file.write(head.encode())
                self.copy_rows(file, b",")
                file.write(f'], "totals": {json.dumps(totals)}}}\n'.encode())
            self.partial.unlink(missing_ok=True)
