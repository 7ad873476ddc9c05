"""Howard's default network: frame and aligned plate in, alpha and foreground out.

Two parts. The *base* sees the whole picture at a reduced size (about 576 pixels on
the long side), where a person fits into its receptive field and a misaligned plate is
off by only a few pixels. The *refinement* sees the picture at full size and restores
edges and hair from the base's hidden features.

What makes it expect misalignment: frame and plate go through one shared encoder, and at
1/4, 1/8 and 1/16 of the base size the trunk receives the *smallest* difference of their
features within a few pixels (`best_match`), not the difference at the same pixel. An
object that parallax moved finds its match nearby and is explained; a person is not. And at
1/16 it is told how well anything in the plate matches (`GlobalMatch`), wherever that is: where no
plate is aligned the network still gets to see the place as the clean plate shows it.
The two-part shape follows Lin et al., *Real-Time High-Resolution Background Matting*
(CVPR 2021); the neighbourhood comparison is ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from engine.networks.best_match import Compare, GlobalMatch
from howard.matte.holes import GUESS_PERCENT

BASE_MULTIPLE = 32
"""Height and width of the small inputs must be multiples of this."""
FULL_MULTIPLE = 4
"""Height and width of the full-size inputs must be multiples of this: the refinement works at a
quarter of them."""
BLOCK = 16
"""Channels that ONNX Runtime's fastest convolutions take at once: they want a multiple of that
(of 8 without AVX-512). Others take half as long again."""
STEP_NOISE = 0.01
"""Of a squared distance of colours, what tells nothing: a tenth of the range."""


@dataclass(frozen=True)
class Size:
    """How large a network of this family is."""

    encoder: tuple[int, int, int, int]
    """Channels at 1/2, 1/4, 1/8 and 1/16 of the base size."""
    trunk: tuple[int, int]
    """At 1/16 and 1/32."""
    radii: tuple[int, int, int]
    """Of the search for the best match at 1/4, 1/8 and 1/16, in pixels there."""
    hidden: int
    """Channels that the base hands to the refinement."""
    refinement: int
    """Channels at a quarter of the full size."""
    around: int
    """Channels at an eighth of it, where the refinement sees what is around; 0 for none."""
    base_pixels: int
    """Area of the small inputs at most: the size of the pictures that the base was trained on, as
    far as how large people stand in them. Smaller frames go in as they are."""
    both_ways: bool
    """Whether the base, once it has learnt, looks at the mirror images too."""


DEFAULT = Size((24, 40, 64, 96), (144, 192), (2, 2, 2), 8, 32, 64, 576 * 320, both_ways=True)
FAST = replace(DEFAULT, around=0, base_pixels=448 * 256, both_ways=False)
"""For work near real time on a CPU, with the weights of the default: a network with half of the
parameters was quicker still, and knew little of people."""


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


def resize_like(x: Tensor, reference: Tensor) -> Tensor:
    """Bilinear, pixel centres at (x + 0.5) * s - 0.5."""
    return F.interpolate(x, size=reference.shape[2:], mode="bilinear", align_corners=False)


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


class Base(nn.Module):
    """The whole picture at reduced size: coarse alpha and colour, hidden features, doubt."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        e2, e4, e8, e16 = size.encoder
        t16, t32 = size.trunk
        self.encode2 = conv(3, e2, 2)
        self.encode4 = nn.Sequential(conv(e2, e4, 2), conv(e4, e4))
        self.encode8 = nn.Sequential(conv(e4, e8, 2), conv(e8, e8))
        self.encode16 = nn.Sequential(conv(e8, e16, 2), conv(e16, e16))
        self.compare4, self.compare8, self.compare16 = (
            Compare(channels, radius)
            for channels, radius in zip(size.encoder[1:], size.radii, strict=True)
        )
        self.anywhere = GlobalMatch(e16)
        c4, c8, c16 = (c.outputs for c in (self.compare4, self.compare8, self.compare16))
        self.join16 = Joined(e16 + c16 + self.anywhere.outputs + 1)
        self.join8 = Joined(e16 + e8 + c8 + 1)
        self.join4, self.join2 = Joined(e8 + e4 + c4 + 1), Joined(e4 + 2 * e2 + 1)
        self.trunk16 = nn.Sequential(conv(self.join16.outputs, t16), Residual(t16), Residual(t16))
        self.trunk32 = nn.Sequential(conv(t16, t32, 2), Residual(t32), Residual(t32))
        self.context = nn.Linear(t32, t32)
        self.trunk32b = Residual(t32)
        self.decode16 = conv(t32 + t16, e16)
        self.decode8 = nn.Sequential(conv(self.join8.outputs, e8), conv(e8, e8))
        self.decode4 = nn.Sequential(conv(self.join4.outputs, e4), conv(e4, e4))
        self.decode2 = conv(self.join2.outputs, e2)
        self.head = nn.Conv2d(e2, 4 * 4 + size.hidden, 3, 1, 1)
        self.doubt = nn.Conv2d(e2, 1, 3, 1, 1)

    def forward(
        self, frame: Tensor, plate: Tensor, coverage: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(N, C, h, w) in; out: logits (N, 4, h, w), hidden features (N, hidden, h/2, w/2) and
        doubt (N, 1, h/2, w/2), the error of alpha that the network expects, in [0, 1]."""
        n = frame.shape[0]
        x2 = self.encode2(torch.cat([frame, plate]) - 0.5)
        x4 = self.encode4(x2)
        x8 = self.encode8(x4)
        x16 = self.encode16(x8)
        covered = [F.avg_pool2d(coverage, k) for k in (2, 4, 8, 16)]
        c16 = self.compare16(x16[:n], x16[n:]) * covered[3]
        shown = (F.max_pool2d(plate, 16).amax(1, keepdim=True) > 0).float()
        anywhere = self.anywhere(x16[:n], x16[n:], shown)
        y16 = self.trunk16(self.join16([x16[:n], c16, anywhere], covered[3]))
        y = self.trunk32(y16)
        y = self.trunk32b(y + self.context(y.mean((2, 3)))[:, :, None, None])
        y = self.decode16(torch.cat([resize_like(y, y16), y16], 1))
        c8 = self.compare8(x8[:n], x8[n:]) * covered[2]
        y = self.decode8(self.join8([resize_like(y, x8), x8[:n], c8], covered[2]))
        c4 = self.compare4(x4[:n], x4[n:]) * covered[1]
        y = self.decode4(self.join4([resize_like(y, x4), x4[:n], c4], covered[1]))
        d2 = (x2[:n] - x2[n:]).abs() * covered[0]
        y = self.decode2(self.join2([resize_like(y, x2), x2[:n], d2], covered[0]))
        head = self.head(y)
        return F.pixel_shuffle(head[:, :16], 2), head[:, 16:], torch.sigmoid(self.doubt(y))


def inverse_square(step: Tensor) -> Tensor:
    """(N, 1, h, w) of a step (N, 3, h, w), bounded."""
    return 1 / ((step * step).sum(1, keepdim=True) + STEP_NOISE)


class Refinement(nn.Module):
    """Alpha at full size: restores what the base's size lost, at a quarter of it and shuffled up.

    At half of the full size with half of the channels it did no better and took half as long
    again: at 1080p most of the time goes into moving memory. For the same reason the full-size
    pictures enter by convolutions of their own, whose sum is what one convolution over all of
    them would give, colour is not refined here (see `matte`), and the pictures enter as they are,
    not centred about 0.

    Where the plate is aligned, frame - plate = alpha (F - B), so that their product with the step
    F - B, over the step's square, is alpha itself: it tells strands that the base is too small for.
    And as alpha is nearly linear in the frame's colours wherever F and B are (Levin et al., *A
    Closed-Form Solution to Natural Image Matting*, 2008), each square of pixels is told its
    slopes, by which the frame's own detail enters, and one of the squared distance from the plate.
    What is a strand and what a plate that is a little off, the surroundings tell, at an eighth of
    the size. `quick` leaves out both.
    """

    def __init__(self, size: Size) -> None:
        super().__init__()
        channels = size.refinement
        self.quick = size.around == 0
        self.from_frame = nn.Conv2d(3, channels, 6, FULL_MULTIPLE, 1)
        self.from_plate = nn.Conv2d(3, channels, 6, FULL_MULTIPLE, 1, bias=False)
        self.from_difference = nn.Conv2d(3, channels, 6, FULL_MULTIPLE, 1, bias=False)
        self.from_base = nn.Conv2d(4 + size.hidden, channels, 3, 1, 1, bias=False)
        if size.around:
            self.around = Surroundings(channels, size.around)
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


class HowardNetwork(nn.Module):
    """Alpha, foreground and doubt from a frame, its aligned plate and the plate's coverage.

    Colours are RGB in [0, 1]; coverage is 1 where the plate has data, 0 elsewhere, and the
    plate must be 0 where coverage is 0. The `small` inputs are the same pictures at the base
    size (multiples of BASE_MULTIPLE), the others at full size (multiples of FULL_MULTIPLE); but
    where coverage is 0 the small plate may hold what the clean plate shows there unaligned.
    """

    INPUTS = ("frame", "plate", "small_frame", "small_plate", "small_coverage")
    OUTPUTS = ("alpha", "foreground", "doubt")

    def __init__(self, size: Size = DEFAULT) -> None:
        super().__init__()
        self.metadata = {
            "base_multiple": BASE_MULTIPLE,
            "full_multiple": FULL_MULTIPLE,
            "base_pixels": size.base_pixels,
            "guess_percent": GUESS_PERCENT,
            "takes_unaligned": 1,
        }
        self.both_ways = size.both_ways
        self.base = Base(size)
        self.refinement = Refinement(size)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        nn.init.zeros_(self.refinement.last.weight)
        if size.around:  # likewise: they begin as nothing
            for layer in (self.refinement.around.up, self.refinement.slopes):
                for parameter in layer.parameters():
                    nn.init.zeros_(parameter)
        nn.init.normal_(self.base.head.weight, std=0.01)
        nn.init.normal_(self.base.doubt.weight, std=0.01)

    def forward(
        self,
        frame: Tensor,
        plate: Tensor,
        small_frame: Tensor,
        small_plate: Tensor,
        small_coverage: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Alpha (N, 1, H, W) and foreground (N, 3, H, W) at full size, doubt (N, 1, h/2, w/2) at
        half the base size, all in [0, 1]."""
        logits, hidden, doubt = self.look(small_frame, small_plate, small_coverage)
        step = resize_like(logits[:, 1:], frame)
        logit = self.refinement(frame, plate, logits, step, hidden)
        return *matte(logit, step, frame), doubt

    def coarse(
        self, frame: Tensor, plate: Tensor, coverage: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The base alone, for its own share of the training."""
        logits, _, doubt = self.look(frame, plate, coverage)
        return *matte(logits[:, :1], logits[:, 1:], frame), doubt

    def look(self, frame: Tensor, plate: Tensor, coverage: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What the base says of small pictures (see `Base.forward`); if `both_ways`, once it has
        learnt, the mean of what it says of them and of their mirror images. Where it is sure it
        says the same of both, and where it guesses it guesses twice: a tenth less is wrong."""
        if self.base.training or not self.both_ways:
            return self.base(frame, plate, coverage)
        n = frame.shape[0]
        both = self.base(*(torch.cat([x, x.flip(3)]) for x in (frame, plate, coverage)))
        logits, hidden, doubt = ((x[:n] + x[n:].flip(3)) / 2 for x in both)
        return logits, hidden, doubt


def matte(logit: Tensor, step: Tensor, frame: Tensor) -> tuple[Tensor, Tensor]:
    """Alpha and foreground from alpha's logit and the coarse `step` = foreground - background.

    As frame = alpha F + (1 - alpha) B, F = frame + (1 - alpha) (F - B): the step is smooth where
    the person and the place behind are, so that it may come from the base, and alpha and frame
    bring the strands. An opaque pixel keeps exactly the frame's colour.
    """
    alpha = torch.sigmoid(logit.float() if torch.is_autocast_enabled(logit.device.type) else logit)
    return alpha, (frame + (1 - alpha) * step).clamp(0, 1)
