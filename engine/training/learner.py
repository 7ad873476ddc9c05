"""A network that learns: its optimiser, the average of its weights, and what a step costs."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from engine.networks import TRAINABLE, ContextSwitching, HowardNetwork, Network, network_for
from engine.training.batches import Phase
from engine.training.checkpoints import taking_up
from engine.training.losses import matting_loss, outline_loss, temporal_loss
from engine.training.precision import autocast
from engine.training.windows import Windows, window_loss

STATISTICS_FROM = 24
"""Batches."""
UPDATES = 12
"""For each batch, while a part of the network learns alone."""
OUTLINE_WEIGHT = 0.1
"""Of the step along outlines, in the loss of the base."""
QUICK = 0.3
"""Of them, are of the quick one, which a smaller network with the same weights is."""


class Learner:
    """One network with its optimiser and the running average of its weights."""

    def __init__(self, name: str, device: str, frames: int = 0) -> None:
        """frames: of the clips in each batch, if it holds clips."""
        self.name, self.device, self.frames = name, device, frames
        self.best = math.inf
        self.teach(TRAINABLE[name]())

    def teach(self, network: Network) -> None:
        """This network, from its beginning."""
        assert isinstance(network, HowardNetwork | ContextSwitching)  # the others are not trained
        self.network = network.to(self.device)
        self.windows = Windows()
        if self.device != "cpu":  # there it is no faster
            self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.network)
        self.optimiser = torch.optim.AdamW(self.network.parameters(), weight_decay=1e-3)

    def step(
        self, batch: tuple[Tensor, ...], phase: Phase, rate: float, steps: int, part: float
    ) -> Tensor:
        """Learns from one batch; returns alpha's mean difference, without waiting for it. steps and
        part: done so far, of the run and of the present course of its learning rate."""
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        if phase.alone and isinstance(self.network, HowardNetwork):
            return self.refine(self.network, batch, phase.alone, steps)
        loss, difference = step_loss(self.network, batch, phase, self.frames, part)
        self.update(loss, steps)
        return difference

    def refine(
        self, network: HowardNetwork, batch: tuple[Tensor, ...], alone: str, steps: int
    ) -> Tensor:
        """Updates of one part alone, on windows of this batch and of those before."""
        network.requires_grad_(False).eval()
        network.get_submodule(alone).requires_grad_(True).train()
        if self.windows.alone != alone:
            self.windows = Windows(alone)
        self.windows.add(network, batch)
        difference = torch.zeros(())
        for _ in range(UPDATES):
            if alone == "refinement":
                network.refinement.be_quick(bool(torch.rand(()) < QUICK))
            loss, difference = window_loss(network, self.windows.draw(), alone)
            self.update(loss, steps)
        network.refinement.be_quick(False)
        return difference

    def update(self, loss: Tensor, steps: int) -> None:
        """One step down this loss, and the average with it."""
        self.optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimiser.step()
        update_average(self.average, self.network, min(0.998, steps / (steps + 50)))

    def state(self) -> dict[str, Any]:
        """What a run needs to go on."""
        return {
            "network": self.name,
            "weights": self.average.state_dict(),
            "latest": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "best": self.best,
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.teach(network_for(self.name, state["weights"]))
        self.average.load_state_dict(state["weights"])
        self.network.load_state_dict(state["latest"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.best = state["best"]

    def start_from(self, folder: Path, batches: Iterator[tuple[Tensor, ...]]) -> None:
        """The weights of a checkpoint there alone; else of an ONNX file, with the statistics of
        these batches. Raises WeightsError."""
        checkpoint = folder / f"{self.name}.pt"
        if not checkpoint.exists():
            # Here, since it needs onnx, which a machine that trains need not have.
            from engine.training.unfold import unfolded

            some = islice(batches, STATISTICS_FROM)
            return self.teach(unfolded(folder / f"{self.name}.onnx", self.name, some, self.device))
        with taking_up(checkpoint, "give OUT of an earlier run, or engine/weights") as stored:
            weights = stored["weights"]
            self.teach(network_for(self.name, weights))
            self.network.load_state_dict(weights)
            self.average.load_state_dict(weights)
        return None


def step_loss(
    network: HowardNetwork | ContextSwitching,
    batch: tuple[Tensor, ...],
    phase: Phase,
    frames: int = 0,
    part: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Loss of one batch, on the coarse output or on the full one; and the difference of alpha.
    frames: of the clips in the batch, if it holds clips. part: as in `matting_loss`."""
    if isinstance(network, ContextSwitching):
        # Here, since it needs ONNX Runtime, which a machine that trains Howard's own need not have.
        from engine.training.context_switching import supervised_loss

        return supervised_loss(network, batch)
    true_alpha, true_foreground, *inputs = batch
    step = None
    with autocast(true_alpha.device):
        if phase.joint:
            alpha, foreground, doubt = network(*inputs)
        else:
            alpha, foreground, doubt, step = network.coarse(*inputs[2:])
    outputs = alpha.float(), foreground.float(), doubt.float()
    loss, difference = matting_loss(*outputs, true_alpha, true_foreground, part)
    if step is not None:
        outlines = outline_loss(step.float(), inputs[0], true_alpha, true_foreground)
        loss = loss + OUTLINE_WEIGHT * outlines
    if frames > 1:
        loss = loss + temporal_loss(outputs[0], true_alpha, frames)
    return loss, difference


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Exponential moving average of weights; running statistics are copied."""
    for mean, now in zip(average.parameters(), network.parameters(), strict=True):
        mean.lerp_(now, 1 - decay)
    for kept, current in zip(average.buffers(), network.buffers(), strict=True):
        kept.copy_(current)
