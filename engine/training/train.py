"""Train networks from procedural two-pass scenes.

    python -m engine.training.train OUT --people DIR --places DIR --views DIR... --minutes 120

All networks that are named learn from the same scenes, side by side. The base is trained alone on
whole pictures of up to 640 x 352 first (`--base-share` of the run), and in the first part of that
(`--people-share`) half of them without a plate of any use, so that it learns what people look like;
then base and refinement together on pictures of one to three times that size; at the end
(`--edges-share`) the refinement alone, on pictures of one to six times it. OUT then holds, for
each network, NAME.pt (the latest averaged weights, and what `--resume` needs), NAME-best.pt (the
best on held-out scenes), and validation/*.png (frame, plate, alpha, true alpha).

`--start engine/weights` begins with the weights that ship, `--start DIR` with those of an earlier
OUT: with `--people` and `--places` of your own, that is fine-tuning. Scenes depend on the seed
alone; so does the whole run if its length is given in `--steps` and `--workers` and `--threads` are
kept. Time that the process spends stopped does not count.

On a GPU (`--device cuda`) scenes are composed there (`gpu_scenes.py`), from folders or from one
file that `python -m engine.training.pack` made: `--pack FILE`. That file brings its own held-out
scenes, so that the machine needs torch, NumPy, rich, tyro and any build of OpenCV, no more. With
`--sequence T` the batches hold clips of T frames, and flicker costs too.
"""

from __future__ import annotations

import math
import os
import sys
import time
from bisect import bisect
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import cv2
import numpy as np
import torch
import tyro
from rich.progress import Progress
from torch import Tensor
from torch.utils.data import DataLoader

from engine.training.batches import (
    PHASES,
    MaterialConfig,
    Phase,
    Scenes,
    command,
    files_of,
    load_material,
    material_of,
)
from engine.training.gpu_material import PROCEDURAL, DeviceMaterial, read_pictures
from engine.training.gpu_scenes import gpu_batches
from engine.training.learner import Learner
from engine.training.material import Material
from engine.training.memory import keep_freed_memory
from engine.training.pack import unpack
from engine.training.validate import HeldOut, Validation
from howard.errors import ConfigError, DeviceError
from howard.write.files import prepare_folder

LONGEST_STEP_SECONDS = 20.0
WARM_UP = 200
"""Steps in which the learning rate rises."""
EDGE_RATE = 3.0
"""Learning rate of the refinement alone, over that of the rest: it is small, and learns late."""
REPORT_EVERY = 100


@dataclass(frozen=True)
class TrainConfig:
    out: Annotated[Path, tyro.conf.Positional]
    """Folder for checkpoints and validation pictures."""
    networks: tuple[Literal["howard", "context-switching"], ...] = ("howard",)
    """`howard-fast` is `howard` used otherwise, and exported from the same checkpoint."""
    material: tyro.conf.OmitArgPrefixes[MaterialConfig] = field(default_factory=MaterialConfig)
    minutes: float = 120.0
    steps: int = 0
    """Length of the run in steps instead of minutes, if not 0."""
    people_share: float = 0.3
    """Share of the run in which half of the plates are of no use."""
    base_share: float = 0.5
    """Share of the run in which the base is trained alone, that one included."""
    edges_share: float = 0.15
    """Share of the run, at its end, in which the refinement is trained alone."""
    batch: int = 8
    """Scenes of 224 x 224; fewer of larger ones."""
    learning_rate: float = 1.5e-3
    validate_every: int = 500
    """Steps between validations."""
    threads: int = 2
    workers: int = 1
    seed: int = 1
    start: Path | None = None
    """OUT of an earlier run, or a folder of ONNX files (engine/weights), to begin with."""
    resume: bool = False
    """Go on with the run in OUT that was interrupted."""
    device: str = "cpu"
    generator: Literal["auto", "cpu", "gpu"] = "auto"
    """Where scenes are made: workers on the CPU, or batches in torch on the device; by itself the
    latter if the device is not the CPU, or with `--pack`."""
    pack: Path | None = None
    """Packed people, places, views and held-out scenes, instead of the folders."""
    sequence: int = 0
    """Frames of the clips that the batches hold, if not 0; from the gpu generator alone."""
    drawn: int = PROCEDURAL
    """Textures and silhouettes that the gpu generator draws before it begins."""

    @property
    def on_device(self) -> bool:
        """Whether scenes are made in torch."""
        if self.generator == "auto":
            return self.pack is not None or self.device != "cpu"
        return self.generator == "gpu"

    def validate(self) -> None:
        """Raises ConfigError, DeviceError."""
        if self.sequence and not self.on_device:
            raise ConfigError("--sequence needs --generator gpu: the other makes single frames")
        check_device(self.device)
        for name in self.networks:
            self.check_begin(name)

    def check_begin(self, name: str) -> None:
        """Raises ConfigError where a network's run cannot begin, or go on, as it was asked for."""
        checkpoint = self.out / f"{name}.pt"
        is_there = os.path.isfile(checkpoint)
        if self.resume and not is_there:
            raise ConfigError(f"{checkpoint} does not exist: leave --resume out to begin a run")
        if is_there and not self.resume:
            raise ConfigError(
                f"{checkpoint} is of an earlier run: give --resume to go on with it, or another OUT"
            )
        if not self.start or self.resume:
            return
        if not any(os.path.isfile(self.start / f"{name}{x}") for x in (".pt", ".onnx")):
            raise ConfigError(
                f"--start {self.start} holds neither {name}.pt nor {name}.onnx: give OUT of an "
                "earlier run, or engine/weights"
            )


class Clock:
    """How much of the run is done, in steps or in seconds of work."""

    def __init__(self, config: TrainConfig, steps: int = 0, spent: float = 0.0) -> None:
        self.config, self.steps, self.spent = config, steps, spent
        self.begun = time.monotonic()

    @property
    def progress(self) -> float:
        if self.config.steps:
            return self.steps / self.config.steps
        return self.spent / (self.config.minutes * 60)

    @property
    def phase(self) -> Phase:
        base = min(self.config.base_share, self.edges)
        people = min(self.config.people_share, base)
        return PHASES[bisect((people, base, self.edges), self.progress)]

    @property
    def edges(self) -> float:
        """From where on the refinement learns alone."""
        return 1 - self.config.edges_share

    def tick(self) -> None:
        now = time.monotonic()
        self.spent += min(now - self.begun, LONGEST_STEP_SECONDS)
        self.begun = now
        self.steps += 1

    @property
    def part(self) -> float:
        """How much of what the learning rate falls over is done: of all before the refinement
        learns alone, then of that."""
        if self.phase.frozen:
            return min(1.0, (self.progress - self.edges) / self.config.edges_share)
        return min(1.0, self.progress / self.edges)

    def learning_rate(self) -> float:
        """Cosine over the run after a warm-up; and once more while the refinement learns alone."""
        highest = EDGE_RATE if self.phase.frozen else 1.0
        falling = 0.5 + 0.5 * math.cos(math.pi * self.part) + 0.01
        rate = self.config.learning_rate * highest * falling
        return rate * min(1.0, (self.steps + 1) / WARM_UP)


def check_device(name: str) -> None:
    """Raises DeviceError where torch cannot use it."""
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:  # the latter where torch is built without CUDA
        reason = str(error).splitlines()[0]
        raise DeviceError(f"torch cannot use --device {name} ({reason}): give cpu") from error


def load(config: TrainConfig) -> tuple[Material | DeviceMaterial, Material | HeldOut]:
    """What to train on and what to validate on."""
    if not config.on_device:
        return load_material(config.material)
    if config.pack:
        found, held_out = unpack(config.pack)
        return DeviceMaterial(found, config.device, config.drawn), held_out
    files, kept = files_of(config.material)
    device = DeviceMaterial(read_pictures(*files), config.device, config.drawn)
    return device, material_of(kept, config.material.cache)


def batches(
    config: TrainConfig, material: Material | DeviceMaterial, clock: Clock
) -> Iterator[tuple[Tensor, ...]]:
    """Endless batches on the device; those of each phase from its begin on."""
    while True:
        phase, seed = clock.phase, config.seed * 10**9 + clock.steps * 97
        for batch in source(config, material, phase, seed):
            yield batch
            if clock.phase != phase:
                break


def source(
    config: TrainConfig, material: Material | DeviceMaterial, phase: Phase, seed: int
) -> Iterator[tuple[Tensor, ...]]:
    """Endless batches of one phase on the device."""
    made: Iterable[tuple[Tensor, ...]]
    if isinstance(material, DeviceMaterial):
        frames = max(1, config.sequence)
        made = gpu_batches(material, config.device, config.batch, phase, seed, frames)
    else:
        scenes = Scenes(material, config.batch, phase, seed)
        ahead = 6 if config.workers else None
        made = DataLoader(scenes, None, num_workers=config.workers, prefetch_factor=ahead)
    for batch in made:
        yield tuple(x.to(config.device, non_blocking=True) for x in batch)


def train(config: TrainConfig) -> None:
    """The loop. Raises HowardError for what the user can mend."""
    config.validate()
    prepare_folder(config.out)
    keep_freed_memory()
    torch.manual_seed(config.seed)
    torch.set_num_threads(config.threads)
    cv2.setNumThreads(0)  # its thread pool does not survive the fork of the data workers
    learners = [Learner(name, config.device, config.sequence) for name in config.networks]
    clock = Clock(config)
    material, held_out = load(config)
    for learner in learners:
        if config.resume:
            file = config.out / f"{learner.name}.pt"
            stored = torch.load(file, map_location=config.device, weights_only=True)
            learner.restore(stored)
            clock = Clock(config, stored["steps"], stored["spent"])
        elif config.start:
            learner.start_from(config.start, source(config, material, PHASES[2], config.seed))
    validation = Validation(held_out, config.device)
    clock.begun = time.monotonic()
    with Progress() as bar:
        task = bar.add_task("training", total=1.0)
        recent: list[list[Tensor]] = []
        phase = clock.phase
        for batch in batches(config, material, clock):
            rate = clock.learning_rate()
            recent.append([x.step(batch, phase, rate, clock.steps, clock.part) for x in learners])
            clock.tick()
            bar.update(task, completed=clock.progress)
            if clock.steps % REPORT_EVERY == 0:
                report(clock, learners, recent)
                recent = []
            done = clock.progress >= 1
            if clock.steps % config.validate_every == 0 or done or clock.phase != phase:
                for learner in learners:
                    check(config.out, learner, validation, clock, phase.joint)
            if clock.phase != phase:
                phase = clock.phase
                for learner in learners:
                    learner.best = math.inf
            if done:
                return


def report(clock: Clock, learners: list[Learner], recent: list[list[Tensor]]) -> None:
    """One line for the log."""
    means = torch.stack([torch.stack(step) for step in recent]).mean(0).tolist()
    mads = zip(learners, (1e3 * mean for mean in means), strict=True)
    line = "  ".join(f"{x.name} {mad:.1f}" for x, mad in mads)
    minutes = clock.spent / 60
    print(f"step {clock.steps}  {minutes:.1f} min  {clock.phase.name}  MAD {line}", flush=True)


def check(out: Path, learner: Learner, validation: Validation, clock: Clock, joint: bool) -> None:
    """Validate, save, and keep the best."""
    mads = validation.run(learner.average, joint)
    print(f"  {learner.name}: " + "  ".join(f"{k} {v:.1f}" for k, v in mads.items()), flush=True)
    validation.draw(out / "validation" / f"{learner.name}_{clock.steps:06d}.png")
    # Of logarithms: what no plate can tell is wrong by far more than the rest.
    mean = float(np.mean(np.log(list(mads.values()))))
    if mean < learner.best:
        learner.best = mean
        small = {"network": learner.name, "weights": learner.average.state_dict()}
        save(out / f"{learner.name}-best.pt", {**small, "steps": clock.steps})
    state = {**learner.state(), "steps": clock.steps, "spent": clock.spent}
    save(out / f"{learner.name}.pt", state)


def save(file: Path, state: dict[str, Any]) -> None:
    """Write the checkpoint whole or not at all."""
    partial = file.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(file)


if __name__ == "__main__":
    sys.exit(command("engine.training.train", TrainConfig, train, __doc__))
