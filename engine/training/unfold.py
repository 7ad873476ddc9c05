"""Weights that ship, made to learn on: batch normalisation unfolded from the convolutions again.

Folded weights do not tell what a layer's inputs were normalised by. Any mean and variance gives the
same network as long as they are fixed; those that training batches have let it learn on as before.
Nor do they tell how large the filters were. Before a normalisation that is as one likes, but it
says how much a step of the optimiser changes: folded ones are up to twenty times smaller than they
were, and would be forgotten within a hundred steps.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn

from engine.exported import network_from_onnx
from engine.networks import NETWORKS, HowardNetwork

GROWTH = 1.5
"""Of a trained filter over a new one."""


class Statistics:
    """Mean and variance of each channel of what a layer receives."""

    def __init__(self) -> None:
        self.moments: list[tuple[Tensor, Tensor]] = []

    def __call__(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        variance, mean = torch.var_mean(inputs[0], (0, 2, 3))
        self.moments.append((mean, variance + mean * mean))

    def mean_and_variance(self) -> tuple[Tensor, Tensor]:
        mean, square = (torch.stack(x).mean(0) for x in zip(*self.moments, strict=True))
        return mean, square - mean * mean


@torch.no_grad()
def unfolded(
    model: Path, name: str, batches: Iterable[tuple[Tensor, ...]], device: str = "cpu"
) -> HowardNetwork:
    """The network of an ONNX file that `engine.export` wrote, to learn on; in evaluation it is the
    same. batches: as `batches.network_inputs`. Raises WeightsError as `network_from_onnx` does."""
    shipped = network_from_onnx(model, name)
    network = NETWORKS[name]()
    assert isinstance(network, HowardNetwork)
    norms = norms_of(network)
    scales = [GROWTH * size_of(network, c) / size_of(shipped, c) for c, _ in norms]
    network.load_state_dict(shipped.state_dict(), strict=False)
    for convolution, norm in norms:
        norm.bias.copy_(shipped.get_parameter(f"{convolution}.bias"))
        norm.running_var = torch.ones_like(norm.bias) - norm.eps
    network.eval().to(device)
    found = [Statistics() for _ in norms]
    hooks = [norm.register_forward_pre_hook(s) for (_, norm), s in zip(norms, found, strict=True)]
    for _, _, *inputs in batches:
        network(*inputs)
    for hook in hooks:
        hook.remove()
    for (convolution, norm), statistics, scale in zip(norms, found, scales, strict=True):
        mean, variance = statistics.mean_and_variance()
        network.get_parameter(f"{convolution}.weight").mul_(scale)
        norm.running_mean, norm.running_var = scale * mean, scale**2 * variance
        norm.weight.copy_((norm.running_var + norm.eps).sqrt() / scale)
        norm.bias.add_(mean)
    return network.train()


def size_of(network: nn.Module, convolution: str) -> float:
    """Root of the mean square of its weights."""
    return float(network.get_parameter(f"{convolution}.weight").square().mean().sqrt())


def norms_of(network: nn.Module) -> list[tuple[str, nn.BatchNorm2d]]:
    """Each with the name of the convolution before it."""
    found = []
    for prefix, block in network.named_modules():
        for (key, first), (_, second) in pairwise(list(block.named_children())):
            if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                found.append((f"{prefix}.{key}", second))
    return found
