"""How good mattes are in places of yours: people put before real footage, with exact truth.

    python -m benchmarks.footage CLIP... --people DIR [-- options of howard.engine run]
    python -m benchmarks.footage VIEWS... --people DIR --frames 1 --gap 0 --plates 1

A place is a video in which nobody is, or a folder of pictures of it, in order. A take puts a
person, who walks, before some of its consecutive frames; frames on either side, a gap away, are
its clean plate: filmed at another time from another spot, as in life. With one frame and one plate
these are pairs of photographs. Howard runs from files to files.

Exit status: 0, or 2 if there is no result to report.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import chain, zip_longest
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import tyro
from numpy.typing import NDArray
from rich.console import Console

from benchmarks import metrics
from benchmarks.child import ChildFailed, run_howard
from benchmarks.matting_people import placed
from benchmarks.matting_scenes import PACE, Truth, levels, truth_of
from benchmarks.measure import (
    WrongResult,
    environment,
    headline,
    own_and_passed_on,
    without_paths,
    write_json,
)
from benchmarks.output import read_report, read_rgba
from benchmarks.tables import HUNDREDTHS, PERCENT, Columns, table
from engine.training.batches import MaterialConfig, pictures, split
from engine.training.people import People
from engine.training.scenes import composite
from howard.decode import open_video
from howard.errors import HowardError

Pixels = NDArray[np.uint8]
SCORES = [field.name for field in fields(metrics.MatteScore)]
ALL = "all places"
COLUMNS: Columns = {
    "mad": ("MAD", HUNDREDTHS),
    "mad_median": ("median", HUNDREDTHS),
    "mse": ("MSE", HUNDREDTHS),
    "grad": ("Grad", HUNDREDTHS),
    "conn": ("Conn", HUNDREDTHS),
    "dtssd": ("dtSSD", HUNDREDTHS),
    "foreground_mad": ("fg MAD", HUNDREDTHS),
    "foreground_mse": ("fg MSE", HUNDREDTHS),
    "fallback_share": ("fallback", PERCENT),
}
"""Units as in `benchmarks/metrics.py`; median is of the frames' MAD."""


@dataclass(frozen=True)
class FootageConfig:
    """Judge Howard on people put before real places."""

    places: tyro.conf.Positional[tuple[Path, ...]]
    """Videos, or folders of pictures, in which nobody is."""
    people: Path
    """Folder of cut-outs as the training takes them: every 20th, which it leaves out, is used."""
    takes: int = 4
    """Of each place, evenly spread."""
    frames: int = 8
    """Of each take."""
    gap: int = 8
    """Frames of the place between the take and its clean plate."""
    plates: int = 24
    """Frames of the clean plate at most."""
    longest: int = 1280
    """Larger pictures are reduced to this many pixels on their longest side."""
    seed: int = 0
    """Another seed puts other people elsewhere."""
    pictures: Path | None = None
    """Keep a picture of each frame here: the frame, alpha, and the true alpha."""
    json: Path | None = None
    """Write all numbers to this file."""


class Place:
    """Its frames; a take begins at each of `begins`."""

    def __init__(self, path: Path, config: FootageConfig) -> None:
        """Raises InputError, WrongResult if the place is too short for one take."""
        self.path, self.config = path, config
        reader = open_video(path)
        self.frames = [reduced(frame.pixels, config.longest) for frame in reader]
        reader.close()
        last = len(self.frames) - config.frames
        if last < 0 or not self.around(last // 2):
            raise WrongResult(f"{path} has {len(self.frames)} frames, too few for a take")
        # As far from the ends as from each other: those of a clip are often shaken or dark.
        self.begins = np.linspace(0, last, config.takes + 2).round().astype(int)[1:-1].tolist()

    def around(self, begin: int) -> list[int]:
        """The indices of the clean plate of the take that begins there, in their order."""
        before = range(begin - self.config.gap - 1, -1, -1)
        after = range(begin + self.config.frames + self.config.gap, len(self.frames))
        nearest = chain.from_iterable(zip_longest(before, after))
        return sorted([i for i in nearest if i is not None][: self.config.plates])


@dataclass(frozen=True)
class Scored(metrics.MatteScore):
    """One frame's errors."""

    index: int
    """In the place."""
    fallback: str | None


def people_of(folder: Path) -> People:
    """Those that the training leaves out. Raises FileNotFoundError if the folder has none."""
    return People(split(pictures(folder), held_out=True), MaterialConfig.cache / "people")


def reduced(pixels: Pixels, longest: int) -> Pixels:
    """(H, W, 3), even in both, at most that long."""
    height, width = pixels.shape[:2]
    scale = min(1.0, longest / max(height, width))
    size = (round(width * scale / 2) * 2, round(height * scale / 2) * 2)
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)


def put_before(places: Sequence[Pixels], person: NDArray[np.uint8], seed: int) -> list[Truth]:
    """What is true of each frame: the person walks through, plainly lit."""
    rng = np.random.default_rng(seed)
    height, width = places[0].shape[:2]
    reach = int(PACE * len(places) * width)
    layer = placed(rng, lambda _: person, height, width, reach, plain=True)
    walk = rng.uniform(-PACE, PACE) * width
    truths = []
    for index, place in enumerate(places):
        left = reach + round(index * walk)
        live = place.astype(np.float32) / np.float32(255)
        _, colour, alpha = composite(live, [layer[:, left : left + width]])
        truths.append(truth_of(alpha, colour, live))
    return truths


def write_pictures(folder: Path, frames: Sequence[Pixels]) -> Path:
    """As Howard reads them; the folder."""
    folder.mkdir()
    for index, pixels in enumerate(frames):
        cv2.imwrite(str(folder / f"{index:06d}.png"), cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
    return folder


def judged(
    place: Place, begin: int, person: NDArray[np.uint8], seed: int, options: Sequence[str]
) -> Iterator[Scored]:
    """Each frame of a take. Raises ChildFailed, WrongResult."""
    config = place.config
    truths = put_before(place.frames[begin : begin + config.frames], person, seed)
    with TemporaryDirectory() as scratch:
        work = Path(scratch)
        shot = write_pictures(work / "shot", [levels(truth.picture) for truth in truths])
        plates = [place.frames[index] for index in place.around(begin)]
        run_howard(shot, write_pictures(work / "clean_plate", plates), work / "out", options)
        earlier = None
        for row, truth in zip(read_report(work / "out")["frames"], truths, strict=True):
            rgba = read_rgba(work / "out", row["index"]).astype(np.float32) / np.float32(255)
            alphas = rgba[..., 3], truth.alpha
            score = metrics.matte_score(
                alphas, earlier or alphas, (rgba[..., :3], truth.foreground)
            )
            earlier = alphas
            index = begin + row["index"]
            if config.pictures:
                keep(config.pictures / f"{place.path.stem}_{index:06d}.jpg", truth, alphas)
            yield Scored(**vars(score), index=index, fallback=row["fallback"])


def keep(file: Path, truth: Truth, alphas: tuple[NDArray[np.float32], ...]) -> None:
    """Frame, alpha and true alpha side by side."""
    file.parent.mkdir(parents=True, exist_ok=True)
    shown = [truth.picture[..., ::-1], *(np.repeat(a[..., None], 3, -1) for a in alphas)]
    cv2.imwrite(str(file), levels(np.concatenate(shown, 1)))


def summarise(scores: Sequence[Scored]) -> dict[str, float]:
    """Means over the frames, the median of their MAD, and how many got no plate of their own."""
    summary = {name: float(np.mean([getattr(s, name) for s in scores])) for name in SCORES}
    summary["mad_median"] = float(np.median([s.mad for s in scores]))
    summary["fallback_share"] = float(np.mean([s.fallback is not None for s in scores]))
    return summary


def compare(config: FootageConfig, options: Sequence[str]) -> dict[str, list[Scored]]:
    """Every frame's errors by place. Raises HowardError, ChildFailed, WrongResult."""
    people = people_of(config.people)
    found = {}
    for path in config.places:
        place = Place(path, config)
        rng = np.random.default_rng((config.seed, zlib.crc32(path.stem.encode())))
        takes = [(begin, people.pick(rng), int(rng.integers(2**32))) for begin in place.begins]
        found[path.stem] = [score for take in takes for score in judged(place, *take, options)]
    return found


def main(arguments: Sequence[str]) -> int:
    """The command line; the exit status."""
    own, options = own_and_passed_on(arguments)
    config = tyro.cli(FootageConfig, args=own, prog="python -m benchmarks.footage")
    where = environment()
    try:
        found = compare(config, options)
    except (ChildFailed, WrongResult, HowardError, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return 2
    console = Console(width=130)
    console.print(headline(where))
    summaries = {name: summarise(scores) for name, scores in found.items()}
    summaries |= {ALL: summarise(list(chain.from_iterable(found.values())))}
    rows = (([name], summary) for name, summary in summaries.items())
    console.print(table("people before real places", ["place"], COLUMNS, rows))
    if config.json:
        names = ("takes", "frames", "gap", "plates", "longest", "seed")
        settings = {name: getattr(config, name) for name in names}
        settings["options"] = without_paths(options)
        results = {"summary": summaries, "frames": found}
        write_json(config.json, "footage", where, settings, results)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
