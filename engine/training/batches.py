"""What the training reads: people, places and views from folders, and endless batches of scenes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import IterableDataset

from engine.training.material import Material
from engine.training.people import People
from engine.training.scenes import PLATES, USELESS_PLATES, Sample, sample
from engine.training.views import ViewPair, view_pairs
from howard.command_line import parsed, say
from howard.errors import HowardError, InputError, InputMissing
from howard.matte.holes import GUESS_PERCENT

HELD_OUT = 20
"""Every HELD_OUT-th person and place is kept for validation."""
SHAPES = [
    *((224, 224), (160, 288), (288, 160), (192, 256), (160, 160), (128, 224)),
    *((288, 512), (512, 288), (384, 384), (256, 416)),
    *((352, 640), (640, 352), (480, 480), (320, 512)),
]
"""Height and width of the base's pictures: small ones, and, most often, such as it sees at run
time."""
RATIOS = [1, 2, 2, 3]
"""Full size over base size in the joint phase; the shapes are those that LARGEST allows."""
EDGE_RATIOS = [1, 2, 3, 4, 4, 6]
"""The same while the refinement or the detail learns alone: 1080p has 3.3, 2160p 6.7."""
LARGEST, EDGE_LARGEST = 750_000, 1_400_000
"""Pixels of a full-size picture at most; while a part learns alone, from windows that are
used again."""
PICTURES = (".webp", ".png", ".jpg", ".jpeg", ".tif", ".tiff")

Config = TypeVar("Config")


@dataclass(frozen=True)
class MaterialConfig:
    """Where scenes come from; without people and places they are drawn from what ships in
    scikit-image, which proves the code, not the weights."""

    people: Path | None = None
    """Folder of cut-outs: straight RGBA with exact alpha."""
    places: Path | None = None
    """Folder of photographs of places."""
    views: tuple[Path, ...] = ()
    """Folders, each of one place seen from neighbouring viewpoints."""
    cache: Path = Path("/tmp/howard-training")
    """Folder for decoded cut-outs."""


def command(
    program: str, kind: type[Config], work: Callable[[Config], object], about: str | None
) -> int:
    """Work by a config from the command line; the exit status: 0, or 2 for what the user can mend,
    told in one line."""
    import tyro

    try:
        work(parsed(lambda: tyro.cli(kind, prog=f"python -m {program}", description=about)))
    except (HowardError, FileNotFoundError) as error:
        # Of a photograph that a worker could not read, the last line: the others are its traceback.
        say(f"{program}: {str(error).splitlines()[-1]}")
        return 2
    return 0


def pictures(folder: Path) -> list[Path]:
    """The images of a folder, by name. Raises InputMissing if there are none."""
    found = sorted(f for f in folder.glob("*") if f.suffix.lower() in PICTURES)
    if not found:
        raise InputMissing(
            f"{folder} holds no pictures ({', '.join(PICTURES)}): give a folder of them"
        )
    return found


def split(files: list[Path], held_out: bool) -> list[Path]:
    """The training or the validation share of a sorted list of files; all of a short list."""
    if len(files) < HELD_OUT:
        return files
    return [f for i, f in enumerate(files) if (i % HELD_OUT == HELD_OUT - 1) == held_out]


class Files(NamedTuple):
    """What a MaterialConfig names: cut-outs, photographs, pairs of views."""

    people: list[Path]
    places: list[Path]
    pairs: list[ViewPair]


def files_of(config: MaterialConfig) -> tuple[Files, Files]:
    """Everything that the config names, for training and for validation; of each view folder the
    last tenth is held out. Raises InputError for one of which no two views can be aligned."""
    people, places = (pictures(f) if f else [] for f in (config.people, config.places))
    train, held_out = (
        Files(split(people, held), split(places, held), []) for held in (False, True)
    )
    for folder in config.views:
        found = view_pairs(pictures(folder))
        if not found:
            raise InputError(
                f"{folder} holds no two pictures, near one another by name, that can be aligned: "
                "give views of one place from neighbouring viewpoints"
            )
        cut = max(1, int(len(found) * 0.9))
        train.pairs.extend(found[:cut])
        held_out.pairs.extend(found[cut:])
    return train, held_out


def material_of(files: Files, cache: Path, side: int = 768) -> Material:
    """Cut-outs decoded into `cache`, at most `side` pixels long."""
    people = People(files.people, cache / "people", side) if files.people else None
    return Material(people, files.places, files.pairs)


def load_material(config: MaterialConfig, side: int = 768) -> tuple[Material, Material]:
    """For training and for validation."""
    train, held_out = files_of(config)
    return material_of(train, config.cache, side), material_of(held_out, config.cache, side)


class Phase(NamedTuple):
    """A part of a run."""

    name: str
    joint: bool
    """Base and refinement train together, on larger pictures; else the base alone."""
    plates: dict[str, float]
    """How often a plate comes about how."""
    alone: Literal["", "refinement", "detail"] = ""
    """The part that learns, if all the others have learnt."""


PHASES = (
    Phase("people", False, USELESS_PLATES),
    Phase("base", False, PLATES),
    Phase("joint", True, PLATES),
    Phase("edges", True, PLATES, alone="refinement"),
    Phase("detail", True, PLATES, alone="detail"),
)
"""In their order."""


class Shape(NamedTuple):
    """Of the pictures of a batch."""

    height: int
    width: int
    """At full size."""
    ratio: int
    """Full size over base size."""
    scenes: int
    """In the batch."""


def batch_shape(rng: np.random.Generator, batch: int, phase: Phase) -> Shape:
    """A shape, and as many pictures of it as cost about what `batch` of the first shape do."""
    ratios = EDGE_RATIOS if phase.alone else RATIOS if phase.joint else [1]
    ratio = ratios[rng.integers(len(ratios))]
    largest = EDGE_LARGEST if phase.alone else LARGEST
    shapes = [(h, w) for h, w in SHAPES if h * w * ratio**2 <= largest]
    height, width = shapes[rng.integers(len(shapes))]
    pixels = batch * SHAPES[0][0] * SHAPES[0][1]
    count = max(2, round(pixels / (height * width * ratio)))
    return Shape(height * ratio, width * ratio, ratio, count)


class Scenes(IterableDataset):
    """Endless batches as tuples of tensors (N, C, H, W), each of one shape (`batch_shape`)."""

    def __init__(self, material: Material, batch: int, phase: Phase, first_seed: int) -> None:
        self.material, self.batch = material, batch
        self.phase, self.first_seed = phase, first_seed

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        info = torch.utils.data.get_worker_info()
        worker = info.id if info else 0
        rng = np.random.default_rng((self.first_seed, worker))
        seed = self.first_seed + worker * 10**8
        while True:
            height, width, ratio, count = batch_shape(rng, self.batch, self.phase)
            seeds = range(seed, seed + count)
            seed += count
            scenes = [
                sample(s, height, width, self.material, self.phase.plates, ratio) for s in seeds
            ]
            yield stack(scenes, ratio)


def stack(samples: list[Sample], ratio: int) -> tuple[Tensor, ...]:
    """Samples as `network_inputs`."""
    frame, plate, coverage, alpha, foreground, unaligned = (
        torch.from_numpy(np.stack(field))
        .reshape(len(samples), *field[0].shape[:2], -1)
        .permute(0, 3, 1, 2)
        .contiguous()
        for field in zip(*samples, strict=True)
    )
    return network_inputs(frame, plate, coverage, alpha, foreground, unaligned, ratio)


def network_inputs(
    frame: Tensor,
    plate: Tensor,
    coverage: Tensor,
    alpha: Tensor,
    foreground: Tensor,
    unaligned: Tensor,
    ratio: int,
) -> tuple[Tensor, ...]:
    """true alpha and foreground, then the network's inputs: frame, plate and the small ones, of
    which the plate is the unaligned one where nothing is covered."""
    small_frame, small_plate, small_unaligned, seen, reached = (
        F.avg_pool2d(x, ratio) if ratio > 1 else x
        for x in (frame, plate, unaligned, (coverage == 1).float(), (coverage > 0).float())
    )
    seen, reached = ((x > 0.999).float() for x in (seen, reached))
    guess = GUESS_PERCENT / 100
    covered = guess * reached + (1 - guess) * seen
    background = small_plate * reached + small_unaligned * (1 - reached)
    return alpha, foreground, frame, plate, small_frame, background, covered
