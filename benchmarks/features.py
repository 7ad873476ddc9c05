"""Which keypoints find the plate best, and at what cost: OpenCV's features beside Howard's own way.

    python -m benchmarks.features [--scenes planar night] [--methods howard orb] [--quick]

Every method sees the same pairs of a frame and a clean-plate frame in the same run, by turns, on
one thread: the nearest view, and one a second from it. Each matches its own descriptors under their
own distance, all with the same ratio test, and hands its matches to the same robust estimate. Times
are processor time. That a method works is checked on a picture that is warped, before anything.

Exit status: 0, or 2 if there is no result to report.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tyro
from rich.console import Console

from benchmarks.alignment import ALL, by_method
from benchmarks.alignment_scenes import KINDS, Scene
from benchmarks.alignment_scores import SUCCESS_SHARE, Summaries
from benchmarks.alignment_takes import FRAMES_PER_SECOND
from benchmarks.feature_methods import METHODS, Method
from benchmarks.feature_scores import PairScore, check, score_pair, summarise
from benchmarks.measure import (
    WrongResult,
    environment,
    headline,
    on_one_thread,
    unknown_names,
    write_json,
)
from benchmarks.tables import HUNDREDTHS, PERCENT, WHOLE, Columns

QUICK_SIZE, QUICK_FRAMES = "640x360", 1
CHECK_SIZE = 320, 180
SECONDS = 2.5
"""Length of a shot, over which its frames are spread."""
GAPS_SECONDS = {"nearest view": 0.0, "a second off": 1.0}
"""From the nearest view to the clean-plate frame of a pair. Howard's index of the clean plate holds
32 of its frames: of a minute, the nearest is up to a second away."""
COLUMNS: Columns = {
    "keypoints": ("keypoints", WHOLE),
    "matches": ("matches", WHOLE),
    "inlier_share": ("inliers", PERCENT),
    "success_share": ("success", PERCENT),
    "corner_median_pixels": ("corner px", HUNDREDTHS),
    "corner_p90_pixels": ("p90", HUNDREDTHS),
    "find_milliseconds": ("find ms", WHOLE),
    "match_milliseconds": ("match ms", WHOLE),
    "estimate_milliseconds": ("fit ms", WHOLE),
}
"""Of a summary."""


@dataclass(frozen=True)
class FeaturesConfig:
    """Compare keypoints and descriptors on scenes with exact truth."""

    scenes: tuple[str, ...] = tuple(KINDS)
    """Kinds of scene, see benchmarks/alignment_scenes.py."""
    methods: tuple[str, ...] = tuple(METHODS)
    """See benchmarks/feature_methods.py; one that OpenCV was built without is left out."""
    frames: int = 3
    """Frames of each shot, each in two pairs."""
    size: str = "1280x720"
    """Width x height in pixels."""
    quick: bool = False
    """Small and short: 640x360, 1 frame."""
    seed: int = 0
    """Another seed makes other scenes of the same kinds."""
    json: Path | None = None
    """Write all numbers to this file, as JSON."""


def usable_methods(names: Sequence[str]) -> dict[str, Method]:
    """Without those that this OpenCV does not have; a note about each of these."""
    methods = {}
    for name in dict.fromkeys(names):
        try:
            methods[name] = METHODS[name]()
        except ImportError as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
    return methods


def pairs_of(scene: Scene, frames: int) -> list[tuple[str, int, int]]:
    """(gap, index of a frame, index of a clean-plate frame)."""
    pairs, last = [], len(scene.clean_plate) - 1
    for frame in np.linspace(0, len(scene.shot) - 1, frames + 2)[1:-1].astype(int).tolist():
        nearest = scene.nearest_plate_index(frame)
        for gap, seconds in GAPS_SECONDS.items():
            away = round(seconds * FRAMES_PER_SECOND)
            later = nearest + away
            pairs.append((gap, frame, later if later <= last else max(0, nearest - away)))
    return pairs


def run_scene(
    scene: Scene, frames: int, methods: dict[str, Method]
) -> dict[tuple[str, str], list[PairScore]]:
    """Every pair by every method, in turns, forward and backward; by (gap, method)."""
    scores: dict[tuple[str, str], list[PairScore]] = defaultdict(list)
    for turn, (gap, frame, plate) in enumerate(pairs_of(scene, frames)):
        for name in list(methods)[:: -1 if turn % 2 else 1]:
            scores[gap, name].append(score_pair(scene, frame, plate, methods[name]))
    return scores


def pooled(
    scores: dict[tuple[str, str], list[PairScore]], methods: Sequence[str], width: int
) -> Summaries:
    """By method, of the pairs at all gaps that are in `scores`."""
    every: dict[str, list[PairScore]] = {name: [] for name in methods}
    for (_, name), found in scores.items():
        every[name] += found
    return {name: summarise(found, width) for name, found in every.items()}


def compare(
    config: FeaturesConfig,
    size: tuple[int, int],
    frames: int,
    console: Console,
    save: Callable[[dict[str, Summaries]], None],
) -> None:
    """Summaries by scene, printed and saved as they come, and of all: each gap, and together.

    Raises WrongResult if a method does not do its work on a plain task.
    """
    methods = usable_methods(config.methods)
    shot_frames = round(SECONDS * FRAMES_PER_SECOND)
    plain = Scene("planar", *CHECK_SIZE, 1).clean_plate.picture(0).pixels
    for name, method in methods.items():
        check(name, method, plain)
    results: dict[str, Summaries] = {}
    every: dict[tuple[str, str], list[PairScore]] = defaultdict(list)
    for kind in config.scenes:
        scores = run_scene(Scene(kind, *size, shot_frames, config.seed), frames, methods)
        for key, found in scores.items():
            every[key] += found
        results[kind] = pooled(scores, list(methods), size[0])
        console.print(by_method(kind, results[kind], COLUMNS))
        save(results)
    for gap in GAPS_SECONDS:
        of_gap = {key: found for key, found in every.items() if key[0] == gap}
        results[f"{ALL}, {gap}"] = pooled(of_gap, list(methods), size[0])
    results[ALL] = pooled(every, list(methods), size[0])
    for title in list(results)[-len(GAPS_SECONDS) - 1 :]:
        console.print(by_method(title, results[title], COLUMNS))
    save(results)


def main(arguments: Sequence[str]) -> int:
    """The command line; the exit status."""
    config = tyro.cli(FeaturesConfig, args=arguments, prog="python -m benchmarks.features")
    if wrong := unknown_names(
        ("scene", config.scenes, tuple(KINDS)), ("method", config.methods, tuple(METHODS))
    ):
        print(*wrong, sep="\n", file=sys.stderr)
        return 2
    where = environment()
    size, frames = (QUICK_SIZE, QUICK_FRAMES) if config.quick else (config.size, config.frames)
    width, height = map(int, size.split("x"))
    cv2.setNumThreads(1)
    console = Console(width=120)
    success = SUCCESS_SHARE * width
    console.print(
        f"{headline(where)}; "
        f"{size}, {len(GAPS_SECONDS) * frames} pairs of each kind; "
        f"success: all corners within {success:.1f} px"
    )
    settings: dict[str, Any] = {"size": size, "frames": frames, "seed": config.seed}
    settings["success_pixels"] = success

    def save(results: Any) -> None:
        if config.json:
            write_json(config.json, "features", where, settings, results)

    try:
        compare(config, (width, height), frames, console, save)
    except WrongResult as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    on_one_thread("benchmarks.features")
    sys.exit(main(sys.argv[1:]))
