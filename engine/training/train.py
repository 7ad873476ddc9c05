"""Train a network from procedural two-pass scenes.

    python -m engine.training.train OUT.pt --people DIR --places DIR --views DIR --minutes 120

The base is trained alone on whole pictures at about 224 x 224 first (`--base-share` of the
time); then base and refinement together on pictures of one to three times that size. Without
`--people` and `--places` the scenes are drawn from what ships in scikit-image: that proves the
code, not the weights. Time that the process spends stopped does not count.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import torch
import torch.nn.functional as F
import tyro
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from engine.networks import NETWORKS, HowardNetwork
from engine.training.losses import matting_loss
from engine.training.people import People
from engine.training.scenes import Material, Sample, sample
from engine.training.views import view_pairs

HELD_OUT = 20
"""Every HELD_OUT-th person and place is kept for validation."""
SHAPES = [(224, 224), (160, 288), (288, 160), (192, 256)]
RATIOS = [1, 2, 2, 3]
"""Full size over base size in the joint phase."""
LONGEST_STEP_SECONDS = 20.0


@dataclass(frozen=True)
class TrainConfig:
    out: Annotated[Path, tyro.conf.Positional]
    """Checkpoint to write (.pt); continued from if it exists and --resume is given."""
    network: str = "howard"
    people: Path | None = None
    """Folder of straight RGBA people with exact alpha."""
    places: Path | None = None
    """Folder of photographs of places."""
    views: tuple[Path, ...] = ()
    """Folders, each of one place seen from neighbouring viewpoints."""
    cache: Path = Path("/tmp/howard-training")
    minutes: float = 120.0
    base_share: float = 0.75
    """Share of the time in which the base is trained alone."""
    batch: int = 8
    learning_rate: float = 1.5e-3
    threads: int = 2
    workers: int = 1
    seed: int = 1
    resume: bool = False
    device: str = "cpu"


def split(files: list[Path], held_out: bool) -> list[Path]:
    """The training or the validation share of a sorted list of files."""
    return [f for i, f in enumerate(files) if (i % HELD_OUT == HELD_OUT - 1) == held_out]


def load_material(config: TrainConfig, held_out: bool = False, side: int = 768) -> Material:
    """Everything that the command line names; the last tenth of each view folder is held out."""
    people, places, pairs = None, [], []
    if config.people:
        files = split(sorted(config.people.glob("*.webp")), held_out)
        people = People(files, config.cache / "people", side)
    if config.places:
        places = split(sorted(config.places.glob("*.jpg")), held_out)
    for folder in config.views:
        found = view_pairs(folder)
        cut = int(len(found) * 0.9)
        pairs += found[cut:] if held_out else found[:cut]
    return Material(people, places, pairs)


class Scenes(IterableDataset):
    """Endless batches as tuples of tensors (N, C, H, W): one shape and one ratio a batch."""

    def __init__(
        self, material: Material, config: TrainConfig, joint: bool, first_seed: int
    ) -> None:
        self.material, self.config, self.joint, self.first_seed = (
            material,
            config,
            joint,
            first_seed,
        )

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        info = torch.utils.data.get_worker_info()
        worker = info.id if info else 0
        rng = np.random.default_rng((self.first_seed, worker))
        seed = self.first_seed + worker * 10**8
        while True:
            height, width = SHAPES[rng.integers(len(SHAPES))]
            ratio = RATIOS[rng.integers(len(RATIOS))] if self.joint else 1
            count = max(2, self.config.batch // ratio)
            seeds = range(seed, seed + count)
            seed += count
            yield stack(
                [sample(s, height * ratio, width * ratio, self.material) for s in seeds], ratio
            )


def stack(samples: list[Sample], ratio: int) -> tuple[Tensor, ...]:
    """frame, plate, coverage, alpha, foreground and the three small inputs."""
    full = [
        torch.from_numpy(np.stack(field))
        .reshape(len(samples), *field[0].shape[:2], -1)
        .permute(0, 3, 1, 2)
        for field in zip(*samples, strict=True)
    ]
    frame, plate, coverage = full[:3]
    small = [F.avg_pool2d(x, ratio) if ratio > 1 else x for x in (frame, plate, coverage)]
    covered = (small[2] > 0.999).float()
    return tuple(x.contiguous() for x in (*full, small[0], small[1] * covered, covered))


def step_loss(
    network: HowardNetwork, batch: tuple[Tensor, ...], joint: bool
) -> tuple[Tensor, Tensor]:
    """Loss of one batch, on the coarse output or on the full one."""
    frame, plate, coverage, true_alpha, true_foreground, *small = batch
    with torch.autocast(frame.device.type, torch.bfloat16):
        if joint:
            alpha, foreground = network(frame, plate, coverage, *small)
        else:
            alpha, foreground = network.coarse(frame, plate, coverage)
    return matting_loss(alpha.float(), foreground.float(), true_alpha, true_foreground)


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Exponential moving average of weights; running statistics are copied."""
    for mean, now in zip(average.parameters(), network.parameters(), strict=True):
        mean.lerp_(now, 1 - decay)
    for kept, current in zip(average.buffers(), network.buffers(), strict=True):
        kept.copy_(current)


def train(config: TrainConfig) -> None:
    """The loop: cosine schedule on the time budget, checkpoint with the averaged weights."""
    torch.manual_seed(config.seed)
    torch.set_num_threads(config.threads)
    cv2.setNumThreads(0)  # its thread pool does not survive the fork of the data workers
    network = NETWORKS[config.network]().to(config.device)
    steps, spent = 0, 0.0
    if config.resume and config.out.exists():
        stored = torch.load(config.out, weights_only=True)
        network.load_state_dict(stored["weights"])
        steps = stored["steps"]
    average = copy.deepcopy(network)
    optimiser = torch.optim.AdamW(network.parameters(), config.learning_rate, weight_decay=1e-3)
    material = load_material(config)
    budget = config.minutes * 60
    batches: Iterator[tuple[Tensor, ...]] | None = None
    joint = None
    recent: list[float] = []
    while spent < budget:
        started = time.monotonic()
        progress = spent / budget
        if joint != (progress >= config.base_share):
            joint = progress >= config.base_share
            scenes = Scenes(material, config, joint, config.seed * 10**9 + steps * 97)
            ahead = 6 if config.workers else None
            loader = DataLoader(scenes, None, num_workers=config.workers, prefetch_factor=ahead)
            batches = iter(loader)
        assert batches is not None
        rate = config.learning_rate * (0.5 + 0.5 * math.cos(math.pi * progress) + 0.01)
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1.0, (steps + 1) / 200)
        batch = tuple(x.to(config.device) for x in next(batches))
        loss, difference = step_loss(network, batch, joint)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        steps += 1
        update_average(average, network, min(0.998, steps / (steps + 50)))
        recent.append(difference.item())
        spent += min(time.monotonic() - started, LONGEST_STEP_SECONDS)
        if steps % 100 == 0:
            mad = 1e3 * float(np.mean(recent[-100:]))
            print(
                f"step {steps}  {spent / 60:.1f} min  alpha MAD {mad:.1f}e-3  joint {joint}",
                flush=True,
            )
        if steps % 200 == 0 or spent >= budget:
            save(config.out, average, config.network, steps)


def save(out: Path, network: nn.Module, name: str, steps: int) -> None:
    """Write the checkpoint whole or not at all."""
    partial = out.with_suffix(".partial")
    torch.save({"network": name, "weights": network.state_dict(), "steps": steps}, partial)
    partial.replace(out)


if __name__ == "__main__":
    train(tyro.cli(TrainConfig))
