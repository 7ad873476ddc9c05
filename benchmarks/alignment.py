"""How well frames find their plates: Howard's aligner and published ones against exact truth.

    python -m benchmarks.alignment [--scenes planar night] [--methods howard truth] [--quick]
    python -m benchmarks.alignment --methods howard{-homography,-unfused,} --network howard
    python -m benchmarks.alignment --methods howard{-search-nearest,-search-track,}
    python -m benchmarks.alignment --long-plate 5000
    python -m benchmarks.alignment --pairs graf

Every method sees the same frames in the same run, by turns, on one thread. Times are processor
time of the alignment alone: the pictures are rendered before. What bending and fusion are worth,
Howard's aligner says without them: how much of what its homography alone leaves is left with them
(columns "x"). What `--plate-search` is worth, it says with each; where its window holds the whole
clean plate, track and global are the same, so give 300 frames of 640x360. With --long-plate, what
the search costs Howard on a clean plate of so many frames, beside a short one. With --pairs, real
pictures of a folder like the Oxford affine set's or OpenCV's samples/data: each onto the first, see
benchmarks/alignment_pairs.py.

Exit status: 0, or 2 if there is no result to report.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import tyro
from rich.console import Console
from rich.table import Table

from benchmarks.alignment_long import SearchCost, search_cost
from benchmarks.alignment_methods import COMPARED, METHODS
from benchmarks.alignment_pairs import pairs
from benchmarks.alignment_scenes import KINDS, Scene
from benchmarks.alignment_scores import (
    FrameScore,
    Summaries,
    alpha_mad,
    crash,
    score,
    summarise,
    with_ratios,
)
from benchmarks.alignment_takes import FRAMES_PER_SECOND
from benchmarks.matting_networks import open_network
from benchmarks.measure import (
    WrongResult,
    environment,
    headline,
    on_one_thread,
    unknown_names,
    write_json,
)
from benchmarks.published_alignment import ESTIMATORS
from benchmarks.tables import PERCENT, TENTHS_OF_A_PERCENT, WHOLE, Columns, measured, table
from build_engine import pixels
from howard.align import Aligner
from howard.errors import HowardError
from howard.frames import Frame
from howard.matte import MattingNetwork

QUICK_SIZE, QUICK_FRAMES = "640x360", 6
ALL = "all scenes"
COLUMNS: Columns = {
    "corner_median_pixels": ("corner px", measured),
    "corner_p90_pixels": ("p90", measured),
    "corner_p99_pixels": ("p99", measured),
    "corner_max_pixels": ("max", measured),
    "success_share": ("success", PERCENT),
    "crashes": ("crash", WHOLE),
    "fallbacks": ("fallb.", WHOLE),
    "residual": ("resid.", measured),
    "off_share": ("off>20", TENTHS_OF_A_PERCENT),
    "person_residual": ("person", measured),
    "coverage": ("cover", TENTHS_OF_A_PERCENT),
    "jitter_median_pixels": ("jitter", measured),
    "jitter_p99_pixels": ("p99", measured),
    "plate_index_error": ("index", WHOLE),
    "milliseconds": ("ms", WHOLE),
    "mean_milliseconds": ("mean", WHOLE),
    "build_milliseconds": ("build", WHOLE),
    "alpha_mad": ("MAD", measured),
    "residual_ratio": ("x resid.", measured),
    "off_share_ratio": ("x off", measured),
    "alpha_mad_ratio": ("x MAD", measured),
}
"""Of a summary."""


@dataclass(frozen=True)
class AlignmentConfig:
    """Compare aligners on scenes with exact truth."""

    scenes: tuple[str, ...] = tuple(KINDS)
    """Kinds of scene, see benchmarks/alignment_scenes.py."""
    methods: tuple[str, ...] = tuple(COMPARED)
    """See benchmarks/alignment_methods.py; one whose library is not installed is left out."""
    network: str | None = None
    """Matte over every plate with this network that ships or was built, or ONNX file."""
    frames: int = 30
    """Frames of the shot."""
    size: str = "1920x1080"
    """Width x height in pixels."""
    quick: bool = False
    """Small and short: 640x360, 6 frames."""
    observe: bool = True
    """--no-observe: `howard` is not told where the person was, as `howard-blind`."""
    seed: int = 0
    """Another seed makes other scenes of the same kinds."""
    long_plate: int | None = None
    """Frames of a long clean plate: report the cost of Howard's search instead."""
    pairs: Path | None = None
    """Folder of real pictures with their homographies: align these instead."""
    json: Path | None = None
    """Write all numbers to this file, as JSON."""


def run_scene(
    scene: Scene, aligners: dict[str, Aligner], network: MattingNetwork | None = None
) -> dict[str, list[FrameScore]]:
    """Every frame by every method, in turns."""
    scores: dict[str, list[FrameScore]] = {name: [] for name in aligners}
    for index in range(len(scene.shot)):
        for name, aligner in aligners.items():
            scores[name].append(run_frame(scene, index, aligner, network))
    return scores


def run_frame(
    scene: Scene, index: int, aligner: Aligner, network: MattingNetwork | None = None
) -> FrameScore:
    """One frame by one method; an error of the method is a score, too."""
    picture = scene.shot.picture(index)
    # A copy: a method that writes on it must not change another's.
    frame = Frame(index, index / FRAMES_PER_SECOND, picture.pixels.copy())
    started = time.process_time()
    try:
        plate = aligner(frame)
        aligner.observe(plate, picture.alpha)
    except Exception as error:
        print(f"{scene.name}, frame {index}: {error!r}", file=sys.stderr)
        return crash(index)
    milliseconds = (time.process_time() - started) * 1e3
    found = score(scene, index, plate, milliseconds)
    return replace(found, alpha_mad=alpha_mad(scene, index, plate, network))


def build(scene: Scene, methods: Sequence[str]) -> tuple[dict[str, Aligner], dict[str, float]]:
    """Aligners for a scene, and the milliseconds that each took to build."""
    scene.plate_pictures()  # rendered here, in nobody's time
    aligners, took = {}, {}
    for name in methods:
        started = time.process_time()
        aligners[name] = METHODS[name](scene)
        took[name] = (time.process_time() - started) * 1e3
    return aligners, took


def compare(
    scenes: Iterable[Scene],
    methods: Sequence[str],
    network: MattingNetwork | None,
    console: Console,
    save: Callable[[dict[str, Summaries]], None],
) -> None:
    """Summaries by scene, printed and saved as they come, and of all scenes together, which are of
    one size."""
    results: dict[str, Summaries] = {}
    everything: dict[str, list[list[FrameScore]]] = {name: [] for name in methods}
    for scene in scenes:
        width = scene.width
        aligners, took = build(scene, methods)
        scores = run_scene(scene, aligners, network)
        results[scene.name] = summarised({m: [found] for m, found in scores.items()}, width, took)
        console.print(by_method(scene.name, results[scene.name]))
        save(results)
        for method, aligner in aligners.items():
            aligner.close()
            everything[method].append(scores[method])
    took = {m: sum(of[m]["build_milliseconds"] for of in results.values()) for m in methods}
    results[ALL] = summarised(everything, width, {m: t / len(results) for m, t in took.items()})
    console.print(by_method(ALL, results[ALL]))
    save(results)


def summarised(
    takes: dict[str, list[list[FrameScore]]], width: int, build_milliseconds: dict[str, float]
) -> Summaries:
    """Of each method, with what building it took, and beside Howard's homography alone."""
    return with_ratios(
        {
            method: summarise(of_scenes, width) | {"build_milliseconds": build_milliseconds[method]}
            for method, of_scenes in takes.items()
        }
    )


def usable_methods(config: AlignmentConfig) -> list[str]:
    """Those asked for, without the ones whose library is missing; a note about each of these."""
    wanted = [
        "howard-blind" if name == "howard" and not config.observe else name
        for name in config.methods
    ]
    usable = []
    for name in dict.fromkeys(wanted):
        try:
            # To make an estimator imports its library.
            ESTIMATORS.get(name.removesuffix("-nearest"), object)()
            usable.append(name)
        except ImportError as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
    return usable


def by_method(title: str, summaries: Summaries, columns: Columns = COLUMNS) -> Table:
    """For people: one method a row; without columns in which there is no number."""
    shown = {
        key: column
        for key, column in columns.items()
        if not all(math.isnan(row[key]) for row in summaries.values())
    }
    return table(title, ["method"], shown, (([name], row) for name, row in summaries.items()))


def long_table(costs: Sequence[SearchCost]) -> str:
    """For people."""
    lines = ["plate frames   build ms   ms per frame (quartiles, mean)   with the building"]
    for c in costs:
        ms = c.milliseconds
        lines.append(
            f"{c.plate_frames:12}{c.build_milliseconds:11.0f}   "
            f"{ms.median:.0f} ({ms.low:.0f} to {ms.high:.0f}, mean {c.mean_milliseconds:.0f})"
            f"{c.amortised_milliseconds:26.0f}"
        )
    ratio = costs[-1].amortised_milliseconds / costs[0].amortised_milliseconds
    return "\n".join([*lines, f"long over short: {ratio:.2f}"])


def main(arguments: Sequence[str]) -> int:
    """The command line; the exit status."""
    config = tyro.cli(AlignmentConfig, args=arguments, prog="python -m benchmarks.alignment")
    if wrong := unknown_names(
        ("scene", config.scenes, tuple(KINDS)), ("method", config.methods, tuple(METHODS))
    ):
        print(*wrong, sep="\n", file=sys.stderr)
        return 2
    try:
        measure(config)
    except (HowardError, WrongResult) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def measure(config: AlignmentConfig) -> None:
    """Print and save what was asked for. Raises HowardError, WrongResult."""
    where = environment()
    size, frames = (QUICK_SIZE, QUICK_FRAMES) if config.quick else (config.size, config.frames)
    width, height = pixels(size)
    settings: dict[str, Any] = {"size": size, "frames": frames, "seed": config.seed}
    if config.network:
        settings["network"] = Path(config.network).name
    said = f"{size}, {frames} frames"
    scenes: Iterable[Scene] = (
        Scene(name, width, height, frames, config.seed) for name in config.scenes
    )
    if config.pairs:
        said = f"pairs of {config.pairs.resolve().name}"
        settings, scenes = {"pairs": config.pairs.resolve().name}, pairs(config.pairs)
    cv2.setNumThreads(1)
    console = Console(width=180)
    console.print(f"{headline(where)}; {said}")

    def save(results: Any) -> None:
        if config.json:
            write_json(config.json, "alignment", where, settings, results)

    if not config.long_plate:
        network = open_network(config.network, threads=1) if config.network else None
        compare(scenes, usable_methods(config), network, console, save)
        return
    settings["long_plate"] = config.long_plate
    lengths = (frames, config.long_plate)
    costs = [search_cost(width, height, length, frames) for length in lengths]
    console.print(long_table(costs))
    save(costs)


if __name__ == "__main__":
    on_one_thread("benchmarks.alignment")
    sys.exit(main(sys.argv[1:]))
