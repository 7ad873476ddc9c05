"""What changed between frame and plate, tolerant of small displacement."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

GROUPS = 8
"""Of channels, each with a difference of its own."""
LENGTH_NOISE = 1e-3
"""Of a feature's squared length: nothing is like nothing."""


def differences(frame: Tensor, plate: Tensor, radius: int) -> Iterator[Tensor]:
    """(N, GROUPS, H, W) for each displacement: the mean absolute difference in each group of
    channels of frame and plate, (N, C, H, W) both; beyond its border the plate goes on as there."""
    n, c, h, w = frame.shape
    padded = F.pad(plate, (radius,) * 4, mode="replicate")
    for dy in range(2 * radius + 1):
        for dx in range(2 * radius + 1):
            shifted = padded[:, :, dy : dy + h, dx : dx + w]
            yield (frame - shifted).abs().reshape(n, GROUPS, c // GROUPS, h, w).mean(2)


def best_match(frame: Tensor, plate: Tensor, radius: int) -> Tensor:
    """Smallest feature difference over displacements of up to `radius` pixels.

    frame, plate: (N, C, H, W). Returns (N, GROUPS, H, W): per group of channels, the minimum
    over (2 radius + 1)^2 displacements of the mean absolute difference. Written with slices and
    minima alone, so that every runtime has its operators.
    """
    return functools.reduce(torch.minimum, differences(frame, plate, radius))


class BestMatch(torch.autograd.Function):
    """`best_match` for training: the gradient flows through the best displacement alone, which
    automatic differentiation finds too, at four times the cost."""

    @staticmethod
    def forward(ctx: Any, frame: Tensor, plate: Tensor, radius: int) -> Tensor:
        best, at = None, torch.empty(0)
        for k, difference in enumerate(differences(frame, plate, radius)):
            if best is None:
                best, at = difference, torch.zeros_like(difference, dtype=torch.int64)
            else:
                at.masked_fill_(difference < best, k)
                best = torch.minimum(best, difference)
        assert best is not None
        ctx.save_for_backward(frame, plate, at)
        ctx.radius = radius
        return best

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        frame, plate, at = ctx.saved_tensors
        _, c, h, w = frame.shape
        side = 2 * ctx.radius + 1
        ys = torch.arange(h, device=at.device)[:, None] + at // side - ctx.radius
        xs = torch.arange(w, device=at.device) + at % side - ctx.radius
        index = ys.clamp_(0, h - 1) * w + xs.clamp_(0, w - 1)
        index = index.repeat_interleave(c // GROUPS, 1).flatten(2)
        share = (gradients[0] / (c // GROUPS)).repeat_interleave(c // GROUPS, 1).flatten(2)
        step = torch.sign(frame.flatten(2) - plate.flatten(2).gather(2, index)) * share
        back = torch.zeros_like(step).scatter_add_(2, index, -step)
        return step.reshape(frame.shape), back.reshape(frame.shape), None


class Compare(nn.Module):
    """What changed between frame and plate at one scale, tolerant of small displacement."""

    def __init__(self, channels: int, radius: int, embedding: int = 16) -> None:
        super().__init__()
        self.radius = radius
        self.embed = nn.Conv2d(channels, embedding, 1)
        self.outputs = GROUPS + embedding

    def forward(self, frame: Tensor, plate: Tensor) -> Tensor:
        # In fp32 even under autocast: the sums of bf16 differences are slow and coarse.
        a, b = self.embed(frame).float(), self.embed(plate).float()
        best = BestMatch.apply if self.training else best_match
        return torch.cat([best(a, b, self.radius), (a - b).abs()], 1)


class GlobalMatch(nn.Module):
    """Where the plate shows what the frame shows, wherever that is: for plates that no warp aligns.

    The comparison with all of a reference is that of Voigtlaender et al., *FEELVOS* (CVPR 2019).
    """

    def __init__(self, channels: int, groups: int = 4, embedding: int = 16) -> None:
        super().__init__()
        self.groups = groups
        self.embed = nn.Conv2d(channels, groups * embedding, 1)
        self.outputs = groups

    def forward(self, frame: Tensor, plate: Tensor, shown: Tensor) -> Tensor:
        """frame, plate: features (N, C, H, W); shown: (N, 1, H, W), 1 where the plate shows
        anything. Returns (N, groups, H, W): in each group of channels the largest cosine of the
        frame's feature and any of the plate's; -1 where that shows nothing at all."""
        n, _, h, w = frame.shape
        a, b = self.units(frame), self.units(plate)
        # One more number each: their product takes what is not shown out of the running.
        unseen = (2 * (shown - 1)).reshape(n, 1, 1, h * w).expand(n, self.groups, 1, h * w)
        a, b = torch.cat([a, torch.ones_like(unseen)], 2), torch.cat([b, unseen], 2)
        best = inner_products(a, b).amax(3)
        return best.clamp(min=-1).reshape(n, self.groups, h, w)

    def units(self, features: Tensor) -> Tensor:
        """(N, groups, embedding, H * W), of length 1."""
        n, _, h, w = features.shape
        # In fp32 even under autocast: what is alike differs in the last digits.
        x = self.embed(features).float().reshape(n, self.groups, -1, h * w)
        return x * torch.rsqrt((x * x).sum(2, keepdim=True) + LENGTH_NOISE)


def inner_products(a: Tensor, b: Tensor) -> Tensor:
    """(..., n, m) of the columns of (..., k, n) and of (..., k, m); in fp32 even under autocast."""
    # Outside autocast without a word of it, or an exported program would keep the word.
    if not torch.is_autocast_enabled(a.device.type):
        return torch.matmul(a.transpose(2, 3), b)
    with torch.autocast(a.device.type, enabled=False):
        return torch.matmul(a.transpose(2, 3), b)
