"""Train networks from procedural two-pass scenes.

    python -m engine.training.train OUT --people DIR --places DIR --views DIR... --minutes 120

All networks that are named learn from the same scenes, side by side. The base is trained alone on
whole pictures of up to 640 x 352 first (`--base-share` of the run), and in the first part of that
(`--people-share`) half of them without a plate of any use, so that it learns what people look like;
then all of it together on pictures of one to three times that size; at the end, on pictures of one
to six times it, the refinement alone (`--edges-share`), then the detail (`--detail-share`). OUT
then holds, for each network, NAME.pt (the latest averaged weights, and what `--resume` needs),
NAME-best.pt (the best on held-out scenes), and validation/*.png (frame, plate, alpha, true alpha).

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
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from rich.progress import Progress
from torch import Tensor
from torch.utils.data import DataLoader

from engine.training.batches import (
    PHASES,
    Phase,
    Scenes,
    command,
    files_of,
    load_material,
    material_of,
)
from engine.training.checkpoints import save, taking_up
from engine.training.clock import Clock
from engine.training.config import TrainConfig
from engine.training.gpu_material import DeviceMaterial, read_pictures
from engine.training.gpu_scenes import gpu_batches
from engine.training.learner import Learner
from engine.training.material import Material
from engine.training.memory import keep_freed_memory
from engine.training.pack import unpack
from engine.training.validate import HeldOut, Validation
from howard.write.files import prepare_folder

REPORT_EVERY = 100
MEND = "put a copy of it in its place, or begin with another OUT"
"""What helps where a run cannot go on."""


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
    material, held_out = load(config)
    clock = begun(config, learners, material)
    validation = Validation(held_out, config.device)
    clock.start()
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


def begun(
    config: TrainConfig, learners: list[Learner], material: Material | DeviceMaterial
) -> Clock:
    """The run's clock, with the learners as an earlier run or `--start` left them, if there is one.
    Raises WeightsError."""
    clock = Clock(config)
    for learner in learners:
        if config.resume:
            with taking_up(config.out / f"{learner.name}.pt", MEND) as stored:
                learner.restore(stored)
                clock = Clock(config, stored["steps"], stored["spent"])
        elif config.start:
            learner.start_from(config.start, source(config, material, PHASES[2], config.seed))
    return clock


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


if __name__ == "__main__":
    sys.exit(command("engine.training.train", TrainConfig, train, __doc__))
