"""How good mattes are where the plate is not: networks on two-pass scenes, by difficulty.

    python -m benchmarks.matting [--networks howard howard-int8 FILE.onnx] [--scenes 4]
    python -m benchmarks.matting --kinds parallax-mild nobody --people DIR --places DIR

Every network sees the same frames, over plates of four origins: by Howard's aligner, the true
background (the ceiling), another place, none. A difference key goes along for comparison; the
prototype's network does not: it lies outside the project. Alpha is judged as Howard writes it. The
bundled sample, with everything that a run does, is for `benchmarks.quality`.

Exit status: 0, or 2 if there is no result to report.
"""

from __future__ import annotations

import sys
import warnings
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks import metrics
from benchmarks.matting_networks import KEY, open_network
from benchmarks.matting_scenes import KINDS, PLATES, Scene, Truth
from benchmarks.measure import (
    Spread,
    WrongResult,
    environment,
    headline,
    interleave,
    unknown_names,
    write_json,
)
from benchmarks.tables import HUNDREDTHS, Columns, table
from build_engine import pixels
from engine.training.material import Material
from howard.errors import HowardError
from howard.frames import Matte
from howard.matte import DEFAULT_NETWORK, MattingNetwork
from howard.write.pack import pack_rgba, to_levels

ALL = "all kinds"
CEILING = "times_ceiling"
HEADINGS = {
    "mad": "MAD",
    CEILING: "x ceiling",
    "mse": "MSE",
    "grad": "Grad",
    "conn": "Conn",
    "dtssd": "dtSSD",
    "foreground_mad": "fg MAD",
    "foreground_mse": "fg MSE",
    "recomposition": "recomp.",
}
"""By key of a summary; units as in `benchmarks/metrics.py`."""
COLUMNS: Columns = {key: (heading, HUNDREDTHS) for key, heading in HEADINGS.items()}

Summary = dict[str, float]
Summaries = dict[str, dict[str, Summary]]
"""By network and origin of the plate."""


@dataclass(frozen=True)
class MattingConfig:
    """Compare matting networks on scenes with exact truth."""

    networks: tuple[str, ...] = (DEFAULT_NETWORK, KEY)
    """Names of networks that ship or were built, or ONNX files."""
    kinds: tuple[str, ...] = tuple(KINDS)
    """See benchmarks/matting_scenes.py."""
    plates: tuple[str, ...] = PLATES
    """Where the plates come from."""
    scenes: int = 4
    """Of each kind."""
    frames: int = 4
    """Of each scene."""
    size: str = "1280x720"
    """Width x height in pixels."""
    seed: int = 0
    """Another seed makes other scenes of the same kinds."""
    people: Path | None = None
    """Folder of cut-outs as the training takes them: every 20th, which it leaves out, is used."""
    places: Path | None = None
    """Folder of photographs of places, likewise."""
    rounds: int = 0
    """Time the networks by turns, so many calls each."""
    threads: int = 2
    """Of each network."""
    json: Path | None = None
    """Write all numbers to this file, as JSON."""


@dataclass(frozen=True)
class FrameScore(metrics.MatteScore):
    """One frame's errors."""

    recomposition: float
    """Over the true background, against the frame before noise and compression."""


def score_scene(scene: Scene, network: MattingNetwork, origin: str) -> list[FrameScore]:
    """Every frame over its plate of this origin, one at a time."""
    scores: list[FrameScore] = []
    earlier = None
    for frame, plate, truth in zip(scene.frames, scene.plates[origin], scene.truth, strict=True):
        alpha, foreground = as_written(network([frame], [plate])[0])
        scores.append(score(alpha, foreground, truth, earlier or (alpha, truth.alpha)))
        earlier = alpha, truth.alpha
    return scores


def as_written(matte: Matte) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Alpha and foreground in the steps of an 8-bit file; the foreground also where alpha is 0, for
    the true alpha may be more."""
    rgba = pack_rgba(matte.alpha, matte.foreground)
    colour = np.dstack([to_levels(matte.foreground[..., channel]) for channel in range(3)])
    full = np.float32(255)
    return rgba[..., 3].astype(np.float32) / full, colour.astype(np.float32) / full


def score(
    alpha: NDArray[np.float32],
    foreground: NDArray[np.float32],
    truth: Truth,
    earlier: tuple[NDArray[np.float32], NDArray[np.float32]],
) -> FrameScore:
    """earlier: alpha and true alpha of the frame before; the frame's own if it is the first."""
    judged = metrics.matte_score((alpha, truth.alpha), earlier, (foreground, truth.foreground))
    recomposed = metrics.recomposition(alpha, foreground, truth.background, truth.picture)
    return FrameScore(**asdict(judged), recomposition=recomposed)


def summarise(scores: Iterable[FrameScore]) -> Summary:
    """Means over the frames; of the foreground, over those with a person."""
    rows = [asdict(score) for score in scores]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # nobody in any frame: NaN
        return {name: float(np.nanmean([row[name] for row in rows])) for name in rows[0]}


def with_ceiling(summaries: Summaries) -> Summaries:
    """Adds how many times the MAD over perfect plates each MAD is; NaN where that is not known."""
    for by_origin in summaries.values():
        ceiling = by_origin.get("perfect", {}).get("mad", 0.0)
        for summary in by_origin.values():
            summary[CEILING] = summary["mad"] / ceiling if ceiling else float("nan")
    return summaries


def compare(
    config: MattingConfig,
    networks: dict[str, MattingNetwork],
    size: tuple[int, int],
    material: Material,
    console: Console,
) -> dict[str, Any]:
    """Summaries by kind, printed as they come, and of all kinds together; of the plates that the
    aligner found, too."""
    every: dict[tuple[str, str], list[FrameScore]] = defaultdict(list)
    results: dict[str, Any] = {}
    for kind in config.kinds:
        found: dict[tuple[str, str], list[FrameScore]] = defaultdict(list)
        plates = []
        for number in range(config.scenes):
            scene = Scene(kind, number, *size, config.frames, config.seed, material)
            plates += [plate.alignment for plate in scene.plates["aligned"]]
            for name, network in networks.items():
                for origin in config.plates:
                    found[name, origin] += score_scene(scene, network, origin)
        for key, scores in found.items():
            every[key] += scores
        results[kind] = {
            "fallback_share": float(np.mean([a.fallback is not None for a in plates])),
            "coverage": float(np.mean([a.coverage for a in plates])),
            "networks": nested(found),
        }
        console.print(by_origin(kind, results[kind]["networks"]))
    results[ALL] = {"networks": nested(every)}
    console.print(by_origin(ALL, results[ALL]["networks"]))
    return results


def nested(scores: dict[tuple[str, str], list[FrameScore]]) -> Summaries:
    """Summaries of what was found by (network, origin)."""
    summaries: Summaries = defaultdict(dict)
    for (name, origin), of_frames in scores.items():
        summaries[name][origin] = summarise(of_frames)
    return with_ceiling(summaries)


def time_networks(
    networks: dict[str, MattingNetwork], size: tuple[int, int], rounds: int
) -> dict[str, Spread]:
    """Milliseconds per frame, by turns."""
    scene = Scene("planar", 0, *size, frames=1)
    frames, plates = scene.frames, scene.plates["aligned"]

    def is_matte(mattes: list[Matte]) -> bool:
        alpha = mattes[0].alpha
        return alpha.shape == size[::-1] and bool(np.isfinite(alpha).all())

    # The default argument: a closure would see the loop's last network.
    calls = {name: lambda n=network: n(frames, plates) for name, network in networks.items()}
    return interleave(calls, is_matte, rounds, warm_up=1)


def by_origin(title: str, summaries: Summaries) -> Table:
    """For people: one network and origin of plates a row."""
    rows = (
        ([name, origin], summary)
        for name, of_network in summaries.items()
        for origin, summary in of_network.items()
    )
    return table(title, ["network", "plate"], COLUMNS, rows)


def times_table(times: dict[str, Spread]) -> str:
    """For people; the ratio is to the first network's median."""
    first = next(iter(times.values())).median
    lines = ["network              ms per frame (quartiles)   times the first"]
    for name, ms in times.items():
        figures = f"{ms.median:.0f} ({ms.low:.0f} to {ms.high:.0f})"
        lines.append(f"{name:20} {figures:24} {ms.median / first:17.2f}")
    return "\n".join([*lines, "Noisy on a machine that does other work: see its load."])


def held_out(config: MattingConfig) -> Material:
    """What training leaves out of the folders; nothing, which takes what ships, without them."""
    if not (config.people or config.places):
        return Material()
    # Imported here: it needs torch, the rest of the benchmark does not.
    from engine.training.batches import MaterialConfig, files_of, material_of

    folders = MaterialConfig(config.people, config.places)
    return material_of(files_of(folders)[1], folders.cache)


def main(arguments: Sequence[str]) -> int:
    """The command line; the exit status."""
    config = tyro.cli(MattingConfig, args=arguments, prog="python -m benchmarks.matting")
    if wrong := unknown_names(
        ("kind of scene", config.kinds, tuple(KINDS)),
        ("origin of plates", config.plates, PLATES),
    ):
        print(*wrong, sep="\n", file=sys.stderr)
        return 2
    where = environment()
    console = Console(width=130)
    try:
        size = pixels(config.size)
        # A file is called by its name alone: records hold no paths.
        networks = {Path(n).name: open_network(n, config.threads) for n in config.networks}
        material = held_out(config)
        console.print(
            f"{headline(where)}; "
            f"{config.size}, {config.scenes} scenes of {config.frames} frames of each kind"
        )
        results: dict[str, Any] = {"kinds": compare(config, networks, size, material, console)}
        if config.rounds:
            results["milliseconds"] = time_networks(networks, size, config.rounds)
            console.print(times_table(results["milliseconds"]))
    except (HowardError, WrongResult, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return 2
    if config.json:
        write_json(config.json, "matting", where, settings(config), results)
    return 0


def settings(config: MattingConfig) -> dict[str, Any]:
    """The options that shape the numbers, without paths."""
    names = ("kinds", "plates", "scenes", "frames", "size", "seed", "rounds", "threads")
    real = {"people": config.people is not None, "places": config.places is not None}
    networks = [Path(name).name for name in config.networks]
    return {"networks": networks, **real, **{name: getattr(config, name) for name in names}}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
