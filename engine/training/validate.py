"""Held-out scenes: the training's yardstick, and its pictures."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from engine.networks import ContextSwitching, HowardNetwork, Network
from engine.training.batches import stack
from engine.training.material import Material
from engine.training.scenes import PLATES, Sample, sample

FIRST_SEED = 7_000_000_000_000
"""Beyond any seed that training uses."""
SHAPE = (224, 288)
RATIO = 2

HeldOut = list[tuple[str, Sample]]
"""Scenes with the kind of their plate."""


def held_out_scenes(material: Material, scenes: int = 6) -> HeldOut:
    """`scenes` of each kind of plate."""
    height, width = (RATIO * side for side in SHAPE)
    return [
        (kind, sample(FIRST_SEED + i, height, width, material, {kind: 1.0}, RATIO))
        for kind in PLATES
        for i in range(scenes)
    ]


class Validation:
    """A few scenes of each kind of plate, from people and places that training never sees, if
    there are enough of them (`batches.split`)."""

    def __init__(self, held_out: Material | HeldOut, device: str, scenes: int = 6) -> None:
        if isinstance(held_out, Material):
            held_out = held_out_scenes(held_out, scenes)
        self.scenes: list[tuple[str, tuple[Tensor, ...]]] = []
        for kind, scene in held_out:
            inputs = stack([scene], RATIO)
            self.scenes.append((kind, tuple(x.to(device) for x in inputs)))
        self.rows: list[NDArray[np.uint8]] = []

    @torch.no_grad()
    def run(self, network: Network, joint: bool) -> dict[str, float]:
        """Alpha MAD x1e3 of each kind, of the full output or of the coarse one."""
        network.eval()
        errors: dict[str, list[float]] = {kind: [] for kind, _ in self.scenes}
        self.rows = []
        for kind, batch in self.scenes:
            shown = estimate(network, batch, joint)
            errors[kind].append(1e3 * float((shown[2] - shown[3]).abs().mean()))
            if len(errors[kind]) <= 2:
                self.rows.append(row(*shown))
        network.train()
        return {kind: float(np.mean(values)) for kind, values in errors.items()}

    def draw(self, file: Path) -> None:
        """The latest run as a picture: frame, plate, alpha, true alpha."""
        file.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(file), np.concatenate(self.rows)[..., ::-1])


def estimate(
    network: Network, batch: tuple[Tensor, ...], joint: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """frame, plate, alpha and true alpha, of the full output or of the coarse one."""
    if isinstance(network, ContextSwitching):
        from engine.training import context_switching  # needs ONNX Runtime

        return context_switching.estimate(network, batch)
    true_alpha, _, *inputs = batch
    if isinstance(network, HowardNetwork) and not joint:
        alpha = network.coarse(*inputs[2:])[0]
        true_alpha = nn.functional.avg_pool2d(true_alpha, RATIO)
    else:
        named = dict(zip(HowardNetwork.INPUTS, inputs, strict=True))
        alpha = network(*(named[name] for name in network.INPUTS))[0]
    return inputs[2], inputs[3], alpha, true_alpha


def row(*pictures: Tensor) -> NDArray[np.uint8]:
    """(1, C, h, w) each, shown side by side at the validation's shape."""
    shown = []
    for picture in pictures:
        array = picture[0].float().clamp(0, 1).cpu().expand(3, -1, -1).permute(1, 2, 0).numpy()
        shown.append(cv2.resize(array, SHAPE[::-1], interpolation=cv2.INTER_AREA))
    return np.asarray(np.concatenate(shown, 1) * 255 + 0.5, np.uint8)
