"""What Howard's network is built of: layers, and resizing that runtimes are quick at."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

BLOCK = 16
"""Channels that ONNX Runtime's fastest convolutions take at once: they want a multiple of that
(of 8 without AVX-512). Others take half as long again."""


def conv(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """3x3 convolution, batch normalisation, ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class Residual(nn.Module):
    """Two 3x3 convolutions around an identity (He et al. 2016)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = conv(channels, channels)
        self.second = nn.Sequential(
            nn.Conv2d(channels, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.second(self.first(x)))


def separable(inputs: int, outputs: int, side: int, stride: int = 1) -> nn.Sequential:
    """A convolution of `side` x `side` in each channel, then one across them (Howard et al.,
    *MobileNets*, 2017), batch normalisation: wide for its parameters."""
    return nn.Sequential(
        nn.Conv2d(inputs, inputs, side, stride, side // 2, groups=inputs, bias=False),
        nn.Conv2d(inputs, outputs, 1, bias=False),
        nn.BatchNorm2d(outputs),
    )


def resize_like(x: Tensor, reference: Tensor) -> Tensor:
    """Bilinear, pixel centres at (x + 0.5) * s - 0.5."""
    return F.interpolate(x, size=reference.shape[2:], mode="bilinear", align_corners=False)


def alpha_of(logit: Tensor) -> Tensor:
    """Its sigmoid; in fp32 under autocast too: bfloat16 knows nothing between 0.996 and 1."""
    return torch.sigmoid(logit.float() if torch.is_autocast_enabled(logit.device.type) else logit)


def shuffled_up(x: Tensor, times: int) -> Tensor:
    """`F.pixel_shuffle(x, times)` of times^2 channels: first columns, then rows, which runtimes
    copy in whole runs; all at once takes ONNX Runtime twice as long."""
    n, _, h, w = x.shape
    rows = x.reshape(n, times, times, h, w).permute(0, 1, 3, 4, 2).reshape(n, times, h, times * w)
    return rows.permute(0, 2, 1, 3).reshape(n, 1, times * h, times * w)


def enlarged(x: Tensor, times: int) -> Tensor:
    """Each pixel of (N, C, H, W) a square of as many. As pictures of one channel: a convolution's
    few channels ONNX Runtime enlarges with those that its BLOCK puts beside them."""
    n, c, h, w = x.shape
    # By the size, since the export of a factor is not one that runs in halves.
    pictures = F.interpolate(x.reshape(n * c, 1, h, w), size=(times * h, times * w))
    return pictures.reshape(n, c, times * h, times * w)


class Joined(nn.Module):
    """Features and the plate's coverage along channels, for a convolution: `channels` of both
    together, zeros beside them up to whole BLOCKs."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.beside = -channels % BLOCK
        self.outputs = channels + self.beside

    def forward(self, features: Sequence[Tensor], coverage: Tensor) -> Tensor:
        return torch.cat([*features, F.pad(coverage, (0, 0, 0, 0, 0, self.beside))], 1)
