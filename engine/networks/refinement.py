"""The refinement of Howard's network: edges and hair at full size."""

from __future__ import annotations

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from engine.networks.layers import conv, enlarged, resize_like, separable, shuffled_up

FULL_MULTIPLE = 4
"""Height and width of the full-size inputs must be multiples of this: the refinement works at a
quarter of them."""
STEP_NOISE = 0.01
"""Of a squared distance of colours, what tells nothing: a tenth of the range."""


class Surroundings(nn.Module):
    """What is around each pixel of (N, channels, h, w), seen at half of the size with `inner`
    channels: the same shape."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.down = separable(channels, inner, 3, stride=2)
        self.first, self.second = (separable(inner, inner, 5) for _ in range(2))
        self.up = nn.Conv2d(inner, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.down(x))
        y = F.relu(y + self.first(y))
        y = F.relu(y + self.second(y))
        return resize_like(self.up(y), x)


def inverse_square(step: Tensor) -> Tensor:
    """(N, 1, h, w) of a step (N, 3, h, w), bounded."""
    return 1 / ((step * step).sum(1, keepdim=True) + STEP_NOISE)


class Refinement(nn.Module):
    """Alpha at full size: restores what the base's size lost, at a quarter of it and shuffled up.

    At half of the full size with half of the channels it did no better and took half as long
    again: at 1080p most of the time goes into moving memory. For the same reason the full-size
    pictures enter by convolutions of their own, whose sum is what one convolution over all of
    them would give, colour is not refined here (`matte` in howard.py), and the pictures enter as
    they are, not centred about 0.

    Where the plate is aligned, frame - plate = alpha (F - B), so that their product with the step
    F - B, over the step's square, is alpha itself: it tells strands that the base is too small for.
    And as alpha is nearly linear in the frame's colours wherever F and B are (Levin et al., *A
    Closed-Form Solution to Natural Image Matting*, 2008), each square of pixels is told its
    slopes, by which the frame's own detail enters, and one of the squared distance from the plate.
    What is a strand and what a plate that is a little off, the surroundings tell, at an eighth of
    the size. `quick` leaves out both.
    """

    def __init__(self, hidden: int, channels: int, around: int) -> None:
        """hidden: channels of the base's features. The others as in `Size` in howard.py."""
        super().__init__()
        self.quick = around == 0
        self.from_frame = nn.Conv2d(3, channels, 6, FULL_MULTIPLE, 1)
        self.from_plate = nn.Conv2d(3, channels, 6, FULL_MULTIPLE, 1, bias=False)
        self.from_difference = nn.Conv2d(3, channels, 6, FULL_MULTIPLE, 1, bias=False)
        self.from_base = nn.Conv2d(4 + hidden, channels, 3, 1, 1, bias=False)
        if around:
            self.around = Surroundings(channels, around)
            self.slopes = nn.Conv2d(channels, 4, 1)
        self.second = conv(channels, channels)
        self.last = nn.Conv2d(channels, FULL_MULTIPLE**2, 3, 1, 1)

    def be_quick(self, quick: bool) -> None:
        """To learn, now and then, as a network without surroundings and slopes: with the running
        statistics of the other, which two kinds of batches would blur."""
        self.quick = quick
        self.second.train(not quick)

    def forward(
        self, frame: Tensor, plate: Tensor, logits: Tensor, step: Tensor, hidden: Tensor
    ) -> Tensor:
        """Full-size pictures, the base's output, and its step of colours at full size; returns the
        logit of alpha (N, 1, H, W)."""
        y = self.from_frame(frame) + self.from_plate(plate)
        apart = frame - plate
        along = self.from_difference(apart * step)
        y = y + along * resize_like(inverse_square(logits[:, 1:]), y)
        y = y + self.from_base(torch.cat([resize_like(x, y) for x in (logits, hidden)], 1))
        y = F.relu(y)
        if not self.quick:
            y = F.relu(y + self.around(y))
        y = self.second(y)
        logit = resize_like(logits[:, :1], frame) + shuffled_up(self.last(y), FULL_MULTIPLE)
        if not self.quick:
            detail = torch.cat([frame, (apart * apart).sum(1, keepdim=True)], 1)
            slopes = enlarged(self.slopes(y), FULL_MULTIPLE)
            logit = logit + (slopes * detail).sum(1, keepdim=True)
        return logit
