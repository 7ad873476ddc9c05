"""The last stage of Howard's network: alpha where it is mixed, from the colours on both sides."""

from __future__ import annotations

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from engine.networks.layers import BLOCK
from engine.networks.tiles import HALO, cut, inside, over, put_back, worth

QUARTER = 4
"""Side of the squares of pixels whose colours are averaged."""
SURE, LEAST_SURE = 0.05, 0.15
"""Squares whose mean alpha is nearer to 0 or 1 than the first show the place or the person alone;
from there to the second they count for less."""
NEAR, FAR = 3, 9
"""Side of the squares of squares that colours are averaged over: once from near, three times more
from far. Within 6 pixels, and within 54, the less the further."""
KNOWN = 0.02
"""Nearer to 0 or 1 alpha stays as it is."""
LEAST = 0.002
"""Weight at which a colour is half of what was seen."""
ENOUGH = 20, 100
"""Times the weight from which on a colour is as good as known."""
STEP_NOISE = 0.003
"""Of a squared distance of colours, what tells nothing."""
BOUND = 0.002
"""Nearest to 0 and to 1 that what is corrected by a logit comes."""
SHARES = [[3, 5, 0], [1, 7, 0], [0, 7, 1], [0, 5, 3]]
"""In eighths of a pixel's colour: what three squares in a row have in it, its own in the middle."""
SPREAD = [[[[a * b / 64 for b in x] for a in y]] for y in SHARES for x in SHARES]
"""The same of three by three squares, as weights of a convolution that enlarges bilinearly."""

CORRECTION = 2
"""Of alpha's logit, for 1 from the last layer: it learns the quicker."""
TRUST = 2.0
"""In the refinement's alpha, as logit of its weight, with which the learning begins."""


class Detail(nn.Module):
    """Alpha (N, 1, H, W), refined once more at half of the full size.

    What the refinement is sure of tells the colours of person and place: F, the average of the
    frame where alpha is nearly 1, and by how much the place is off the plate, the average of
    frame - plate where it is nearly 0. With these, alpha = (I - B) (F - B) / |F - B|^2: the matting
    equation, solved twice, with averages from near and from far. Neither is right everywhere, nor
    is the refinement; a small network weighs the three by what it sees, and corrects the result.
    Where alpha is within KNOWN of 0 or 1 in all of a tile, nothing changes.

    In tiles (`in_tiles`) only those are looked at where something does: a sixth of most pictures,
    for a third of the time. Else the result is the same, of operations whose shapes depend on the
    inputs' alone, as CUDA graphs and TensorRT want them.
    """

    spread: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.in_tiles = False
        # of their own, for runtimes like multiples of BLOCK: their sum is that of all together
        self.from_frame = nn.Conv2d(3, channels, 4, 2)
        self.from_rest = nn.Conv2d(BLOCK, channels, 4, 2, bias=False)
        self.second, self.third = (nn.Conv2d(channels, channels, 3) for _ in range(2))
        self.last = nn.Conv2d(channels, 4 * 4, 4)
        self.register_buffer("spread", torch.tensor(SPREAD))

    def begin(self) -> None:
        """With alpha nearly as the refinement has it."""
        nn.init.zeros_(self.last.weight)
        bias = torch.zeros(4, 4)
        bias[0] = TRUST
        self.last.bias = nn.Parameter(bias.flatten())

    def forward(self, frame: Tensor, plate: Tensor, logit: Tensor) -> Tensor:
        """frame and plate (N, 3, H, W) in [0, 1]; logit of alpha (N, 1, H, W)."""
        if not torch.is_autocast_enabled(logit.device.type):
            return self.detailed(frame, plate, logit)
        with torch.autocast(logit.device.type, enabled=False):  # differences of colours are small
            return self.detailed(frame, plate, logit.float())

    def detailed(self, frame: Tensor, plate: Tensor, logit: Tensor) -> Tensor:
        alpha = torch.sigmoid(logit)
        mixed = ((alpha > KNOWN) & (alpha < 1 - KNOWN)).to(alpha.dtype)
        tiles = worth(mixed)
        squares = colours(frame, plate, alpha)
        if not self.in_tiles:
            around = (HALO,) * 4
            pictures = [F.pad(x, around) for x in (frame, plate, logit)]
            pictures.append(F.pad(squares, (HALO // QUARTER + 1,) * 4, "replicate"))
            return torch.where(over(tiles, alpha) > 0, self.look(*pictures), alpha)
        at = (tiles[:, 0] > 0).nonzero()
        there = inside(frame, at)
        pictures = [cut(x, at) * there for x in (frame, plate, logit)]
        pictures.append(cut(squares, at, QUARTER, HALO + QUARTER))
        return put_back(self.look(*pictures), alpha, at)

    def look(self, frame: Tensor, plate: Tensor, logit: Tensor, squares: Tensor) -> Tensor:
        """Alpha of pictures with HALO around, and of squares with one more, without it."""
        logit = logit.clamp(-8, 8)
        alpha = torch.sigmoid(logit)
        apart = frame - plate
        features = [apart, logit / 4, alpha, 4 * square(apart)]
        estimates = [alpha]
        for enough, side in zip(ENOUGH, within(squares, self.spread).chunk(2, 1), strict=True):
            of_person, of_place, person, off = side.split([1, 1, 3, 3], 1)
            person, off = person / (of_person + LEAST), off / (of_place + LEAST)
            step = person - plate - off
            rest = apart - off
            estimate = (rest * step).sum(1, keepdim=True) / (square(step) + STEP_NOISE)
            known = [(enough * x).clamp(0, 1) for x in (of_person, of_place)]
            estimate = torch.lerp(alpha, estimate.clamp(0, 1), known[0] * known[1])
            estimates.append(estimate)
            features += [estimate, square(step), *known, 4 * square(rest - estimate * step)]
        x = F.relu(self.from_frame(frame) + self.from_rest(torch.cat(features, 1)))
        x = F.relu(self.second(x))
        x = F.pixel_shuffle(self.last(F.relu(self.third(x))), 2)
        weights = torch.exp(x[:, :3].clamp(-8, 8))  # a softmax, which runtimes are slow at
        inner = torch.cat(estimates, 1)[:, :, HALO:-HALO, HALO:-HALO]
        mean = (weights * inner).sum(1, keepdim=True) / weights.sum(1, keepdim=True)
        mean = mean.clamp(BOUND, 1 - BOUND)
        return torch.sigmoid(torch.log(mean / (1 - mean)) + CORRECTION * x[:, 3:])


def colours(frame: Tensor, plate: Tensor, alpha: Tensor) -> Tensor:
    """Of squares, from near and from far, eight channels each (N, 16, H/4, W/4): how much of the
    person and of the place was seen, and by that much the person's colour, and by how much the
    place is off the plate. To be divided once enlarged: a colour beside none is itself."""
    of_frame, of_plate, mean = (F.avg_pool2d(x, QUARTER) for x in (frame, plate, alpha))
    shown = (of_plate.amax(1, keepdim=True) > 0).to(mean.dtype)
    person = ((mean - 1 + LEAST_SURE) / (LEAST_SURE - SURE)).clamp(0, 1)
    place = ((LEAST_SURE - mean) / (LEAST_SURE - SURE)).clamp(0, 1) * shown
    sums = torch.cat([person, place, person * of_frame, place * (of_frame - of_plate)], 1)
    near = averaged(sums, NEAR)
    far = averaged(averaged(averaged(near, FAR), FAR), FAR)
    return torch.cat([near, far], 1)


def averaged(x: Tensor, side: int) -> Tensor:
    """Each with those around it, `side` in a row; beyond the picture is nothing."""
    return F.avg_pool2d(x, side, 1, side // 2)


def within(squares: Tensor, spread: Tensor) -> Tensor:
    """(N, C, h, w) -> (N, C, 4 h - 8, 4 w - 8): bilinear, as `resize_like`, without what the
    outermost squares become."""
    n, channels, height, width = squares.shape
    pixels = F.conv2d(squares.reshape(n * channels, 1, height, width), spread)
    pixels = F.pixel_shuffle(pixels, QUARTER)
    return pixels.reshape(n, channels, QUARTER * (height - 2), QUARTER * (width - 2))


def square(x: Tensor) -> Tensor:
    """Of the length of each pixel's colour."""
    return (x * x).sum(1, keepdim=True)
