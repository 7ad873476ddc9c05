"""Howard's default network: frame and aligned plate in, alpha and foreground out.

Three parts. The *base* sees the whole picture at a reduced size (about 576 pixels on
the long side), where a person fits into its receptive field and a misaligned plate is
off by only a few pixels. The *refinement* sees the picture at full size and restores
edges and hair from the base's hidden features. The *detail* looks once more at what is mixed then,
with the colours that are now known on both sides of it.

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

from dataclasses import dataclass, replace

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from engine.networks.best_match import Compare, GlobalMatch
from engine.networks.detail import Detail
from engine.networks.layers import Joined, Residual, alpha_of, conv, resize_like
from engine.networks.refinement import FULL_MULTIPLE, Refinement
from howard.matte.holes import GUESS_PERCENT

BASE_MULTIPLE = 32
"""Height and width of the small inputs must be multiples of this."""
HAZE = 0.02
"""So near to 0 or 1 alpha is that, and from three times as far on it is itself. What the network is
sure of it says by 0.005 to 0.04, since its loss has no gradient beyond; a studio sees that in a
plain background."""


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
    detail: int
    """Channels at half of it, where alpha is mixed; 0 for no such look."""
    base_pixels: int
    """Area of the small inputs at most: the size of the pictures that the base was trained on, as
    far as how large people stand in them. Smaller frames go in as they are."""
    both_ways: bool
    """Whether the base, once it has learnt, looks at the mirror images too."""


DEFAULT = Size(
    (24, 40, 64, 96), (144, 192), (2, 2, 2), 8, 32, 64, 16, base_pixels=576 * 320, both_ways=True
)
FAST = replace(DEFAULT, around=0, detail=0, base_pixels=448 * 256, both_ways=False)
"""For work near real time on a CPU, with the weights of the default: a network with half of the
parameters was quicker still, and knew little of people."""


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
        self.refinement = Refinement(size.hidden, size.refinement, size.around)
        self.detail = Detail(size.detail) if size.detail else None
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        nn.init.zeros_(self.refinement.last.weight)
        if size.around:  # likewise: they begin as nothing
            for layer in (self.refinement.around.up, self.refinement.slopes):
                for parameter in layer.parameters():
                    nn.init.zeros_(parameter)
        if self.detail:
            self.detail.begin()
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
        alpha = self.detail(frame, plate, logit) if self.detail else alpha_of(logit)
        return *matte(alpha, step, frame, not self.training), doubt

    def coarse(
        self, frame: Tensor, plate: Tensor, coverage: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The base alone, for its own share of the training; and its step of colours."""
        logits, _, doubt = self.look(frame, plate, coverage)
        step = logits[:, 1:]
        alpha = alpha_of(logits[:, :1])
        return *matte(alpha, step, frame, not self.training), doubt, step

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


def matte(alpha: Tensor, step: Tensor, frame: Tensor, has_learnt: bool) -> tuple[Tensor, Tensor]:
    """Alpha and foreground from alpha and the coarse `step` = foreground - background.

    As frame = alpha F + (1 - alpha) B, F = frame + (1 - alpha) (F - B): the step is smooth where
    the person and the place behind are, so that it may come from the base, and alpha and frame
    bring the strands. An opaque pixel keeps exactly the frame's colour. While the network learns,
    HAZE stays: from what is cut it would learn no more.
    """
    if has_learnt:
        alpha = without_haze(alpha)
    return alpha, (frame + (1 - alpha) * step).clamp(0, 1)


def without_haze(alpha: Tensor) -> Tensor:
    """Alpha in [0, 1], of which what is nearer than HAZE to 0 or to 1 is that."""
    steep, least = 1.5 * alpha, 1.5 * HAZE
    return torch.maximum(torch.minimum(alpha, steep - least), steep - 0.5 + least).clamp(0, 1)
