"""Howard's default network: frame and aligned plate in, alpha and foreground out.

Two parts. The *base* sees the whole picture at a reduced size (about 512 pixels on
the long side), where a person fits into its receptive field and a misaligned plate is
off by only a few pixels. The *refinement* sees the picture at full size and restores
edges and hair from the base's hidden features.

What makes it expect misalignment: frame and plate go through one shared encoder, and at
1/4, 1/8 and 1/16 of the base size the trunk receives the *smallest* difference of their
features within a few pixels (`best_match`), not the difference at the same pixel. An
object that parallax moved finds its match nearby and is explained; a person is not.
The two-part shape follows Lin et al., *Real-Time High-Resolution Background Matting*
(CVPR 2021); the neighbourhood comparison is ours.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

BASE_MULTIPLE = 32
"""Height and width of the small inputs must be multiples of this."""
FULL_MULTIPLE = 2
"""Height and width of the full-size inputs must be multiples of this."""
BASE_PIXELS = 512 * 288
"""Area of the small inputs at most: the size of the pictures that the base was trained on, as
far as how large people stand in them. Smaller frames go in as they are."""
GROUPS = 8
HIDDEN = 8


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


def best_match(frame: Tensor, plate: Tensor, radius: int) -> Tensor:
    """Smallest feature difference over displacements of up to `radius` pixels.

    frame, plate: (N, C, H, W). Returns (N, GROUPS, H, W): per group of channels, the
    minimum over (2 radius + 1)^2 displacements of the mean absolute difference. Written
    with slices and minima alone, so that every runtime has its operators.
    """
    n, c, h, w = frame.shape
    padded = F.pad(plate, (radius,) * 4, mode="replicate")
    best = None
    for dy in range(2 * radius + 1):
        for dx in range(2 * radius + 1):
            shifted = padded[:, :, dy : dy + h, dx : dx + w]
            difference = (frame - shifted).abs().reshape(n, GROUPS, c // GROUPS, h, w).mean(2)
            best = difference if best is None else torch.minimum(best, difference)
    assert best is not None
    return best


def resize_like(x: Tensor, reference: Tensor) -> Tensor:
    """Bilinear, pixel centres at (x + 0.5) * s - 0.5."""
    return F.interpolate(x, size=reference.shape[2:], mode="bilinear", align_corners=False)


class Compare(nn.Module):
    """What changed between frame and plate at one scale, tolerant of small displacement."""

    def __init__(self, channels: int, radius: int, embedding: int = 16) -> None:
        super().__init__()
        self.radius = radius
        self.embed = nn.Conv2d(channels, embedding, 1)
        self.outputs = GROUPS + embedding

    def forward(self, frame: Tensor, plate: Tensor) -> Tensor:
        a, b = self.embed(frame), self.embed(plate)
        return torch.cat([best_match(a, b, self.radius), (a - b).abs()], 1)


class Base(nn.Module):
    """The whole picture at reduced size: coarse alpha, foreground residual, hidden features."""

    def __init__(self) -> None:
        super().__init__()
        self.encode2 = conv(3, 24, 2)
        self.encode4 = nn.Sequential(conv(24, 40, 2), conv(40, 40))
        self.encode8 = nn.Sequential(conv(40, 64, 2), conv(64, 64))
        self.encode16 = nn.Sequential(conv(64, 96, 2), conv(96, 96))
        self.compare4 = Compare(40, radius=2)
        self.compare8 = Compare(64, radius=3)
        self.compare16 = Compare(96, radius=3)
        c4, c8, c16 = (c.outputs for c in (self.compare4, self.compare8, self.compare16))
        self.trunk16 = nn.Sequential(conv(96 + c16 + 1, 144), Residual(144), Residual(144))
        self.trunk32 = nn.Sequential(conv(144, 192, 2), Residual(192), Residual(192))
        self.context = nn.Linear(192, 192)
        self.trunk32b = Residual(192)
        self.decode16 = conv(192 + 144, 96)
        self.decode8 = nn.Sequential(conv(96 + 64 + c8 + 1, 64), conv(64, 64))
        self.decode4 = nn.Sequential(conv(64 + 40 + c4 + 1, 40), conv(40, 40))
        self.decode2 = conv(40 + 24 * 2 + 1, 24)
        self.head = nn.Conv2d(24, 4 * 4 + HIDDEN, 3, 1, 1)

    def forward(self, frame: Tensor, plate: Tensor, coverage: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C, h, w) in; logits (N, 4, h, w) and hidden features (N, HIDDEN, h/2, w/2) out."""
        n = frame.shape[0]
        x2 = self.encode2(torch.cat([frame, plate]) - 0.5)
        x4 = self.encode4(x2)
        x8 = self.encode8(x4)
        x16 = self.encode16(x8)
        covered = [F.avg_pool2d(coverage, k) for k in (2, 4, 8, 16)]
        y16 = torch.cat([x16[:n], self.compare16(x16[:n], x16[n:]) * covered[3], covered[3]], 1)
        y16 = self.trunk16(y16)
        y = self.trunk32(y16)
        y = self.trunk32b(y + self.context(y.mean((2, 3)))[:, :, None, None])
        y = self.decode16(torch.cat([resize_like(y, y16), y16], 1))
        c8 = self.compare8(x8[:n], x8[n:]) * covered[2]
        y = self.decode8(torch.cat([resize_like(y, x8), x8[:n], c8, covered[2]], 1))
        c4 = self.compare4(x4[:n], x4[n:]) * covered[1]
        y = self.decode4(torch.cat([resize_like(y, x4), x4[:n], c4, covered[1]], 1))
        d2 = (x2[:n] - x2[n:]).abs() * covered[0]
        y = self.decode2(torch.cat([resize_like(y, x2), x2[:n], d2, covered[0]], 1))
        head = self.head(y)
        return F.pixel_shuffle(head[:, :16], 2), head[:, 16:]


class Refinement(nn.Module):
    """Full size: restores what the base's size lost, at half resolution and shuffled up.

    The full-size pictures enter by strided convolutions of their own, whose sum is what one
    convolution over all of them would give, without the memory traffic of joining them first:
    at 1080p that traffic cost as much as the arithmetic.
    """

    def __init__(self, channels: int = 16) -> None:
        super().__init__()
        self.from_frame = nn.Conv2d(3, channels, 4, 2, 1, bias=False)
        self.from_difference = nn.Conv2d(3, channels, 4, 2, 1, bias=False)
        self.from_base = nn.Conv2d(4 + HIDDEN, channels, 3, 1, 1, bias=False)
        self.first = nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(inplace=True))
        self.second = conv(channels, channels)
        self.last = nn.Conv2d(channels, 16, 3, 1, 1)

    def forward(
        self, frame: Tensor, plate: Tensor, coverage: Tensor, logits: Tensor, hidden: Tensor
    ) -> Tensor:
        y = self.from_frame(frame - 0.5)
        y = y + self.from_difference((frame - plate).abs() * coverage)
        y = y + resize_like(self.from_base(torch.cat([logits, resize_like(hidden, logits)], 1)), y)
        y = self.last(self.second(self.first(y)))
        return resize_like(logits, frame) + F.pixel_shuffle(y, 2)


class HowardNetwork(nn.Module):
    """Alpha and foreground from a frame, its aligned plate and the plate's coverage.

    Colours are RGB in [0, 1]; coverage is 1 where the plate has data, 0 elsewhere, and the
    plate must be 0 where coverage is 0. The `small` inputs are the same pictures at the base
    size (multiples of BASE_MULTIPLE), the others at full size (multiples of FULL_MULTIPLE).
    """

    INPUTS = ("frame", "plate", "coverage", "small_frame", "small_plate", "small_coverage")
    OUTPUTS = ("alpha", "foreground")
    METADATA: ClassVar[dict[str, int]] = {
        "base_multiple": BASE_MULTIPLE,
        "full_multiple": FULL_MULTIPLE,
        "base_pixels": BASE_PIXELS,
    }

    def __init__(self) -> None:
        super().__init__()
        self.base = Base()
        self.refinement = Refinement()
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        nn.init.zeros_(self.refinement.last.weight)
        nn.init.normal_(self.base.head.weight, std=0.01)

    def forward(
        self,
        frame: Tensor,
        plate: Tensor,
        coverage: Tensor,
        small_frame: Tensor,
        small_plate: Tensor,
        small_coverage: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Full size in, alpha (N, 1, H, W) and foreground (N, 3, H, W) in [0, 1] out."""
        logits, hidden = self.base(small_frame, small_plate, small_coverage)
        return matte(self.refinement(frame, plate, coverage, logits, hidden), frame)

    def coarse(self, frame: Tensor, plate: Tensor, coverage: Tensor) -> tuple[Tensor, Tensor]:
        """The base alone, for its own share of the training."""
        return matte(self.base(frame, plate, coverage)[0], frame)


def matte(logits: Tensor, frame: Tensor) -> tuple[Tensor, Tensor]:
    """(N, 4, H, W) -> alpha and foreground; the foreground is the frame plus a residual."""
    return torch.sigmoid(logits[:, :1]), (frame + logits[:, 1:4]).clamp(0, 1)
