"""Alpha MAD and MSE of a checkpoint on scenes from held-out people and places, by kind of plate.

python -m engine.training.evaluate CHECKPOINT.pt --people DIR --places DIR --views DIR
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro

from engine.export import load_checkpoint
from engine.training.batches import MaterialConfig, command, load_material, stack
from engine.training.scenes import PLATES, sample
from engine.training.validate import FIRST_SEED, estimate


@dataclass(frozen=True)
class EvaluateConfig:
    checkpoint: Annotated[Path, tyro.conf.Positional]
    network: str | None = None
    """Name of the network, for published weights, which do not say."""
    material: tyro.conf.OmitArgPrefixes[MaterialConfig] = field(default_factory=MaterialConfig)
    scenes: int = 40
    """Scenes of each kind."""
    height: int = 448
    width: int = 576
    ratio: int = 2
    """Full size over base size."""
    threads: int = 2


@torch.no_grad()
def evaluate(config: EvaluateConfig) -> dict[str, tuple[float, float]]:
    """MAD and MSE, both x1e3, of each kind of plate."""
    torch.set_num_threads(config.threads)
    _, network = load_checkpoint(config.checkpoint, config.network)
    _, material = load_material(config.material)
    results = {}
    for kind in PLATES:
        errors = []
        for i in range(config.scenes):
            size, only = (config.height, config.width), {kind: 1.0}
            scene = sample(FIRST_SEED + i, *size, material, only, config.ratio)
            _, _, alpha, true_alpha = estimate(network, stack([scene], config.ratio), joint=True)
            difference = (alpha - true_alpha).numpy()
            errors.append((np.abs(difference).mean() * 1e3, (difference**2).mean() * 1e3))
        results[kind] = tuple(np.mean(errors, 0))
    return results


def tell(config: EvaluateConfig) -> None:
    """For people."""
    for kind, (mad, mse) in evaluate(config).items():
        print(f"{kind:8}  MAD {mad:6.1f}  MSE {mse:6.1f}")


if __name__ == "__main__":
    sys.exit(command("engine.training.evaluate", EvaluateConfig, tell, __doc__))
