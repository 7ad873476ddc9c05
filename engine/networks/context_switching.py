"""The network of Sengupta et al., *Background Matting: The World is Your Green Screen* (CVPR 2020).

Written from the paper; its modules bear the names of the authors' checkpoints
(`netG_epoch_*.pth`), so that these load. Image, background and soft segmentation have an encoder
each; the context-switching block pairs the image's features with those of one cue at a time;
seven residual blocks serve both results, three more each serve alpha and foreground.

The published network has a fourth encoder, for four neighbouring frames (`model_enc_multi`).
It is dead: the block meant for its features, `comb_multi`, is fed the background's features
once more (issue 36 of the authors' repository; their results were made with it so). This module
keeps `comb_multi` as it was trained and leaves the dead encoder out; a test proves that the
results are equal. Any width runs: the published one, and the half of it that we train.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

DEAD = "model_enc_multi."
"""Names in the authors' checkpoints that begin so belong to the motion encoder."""
MULTIPLE = 4
"""Height and width of the inputs must be multiples of this."""
SIDE = 512
"""Height and width of the crop that the network was made for."""
PUBLISHED_WIDTH = 64
"""Channels at full size in the paper: 17.5 M parameters."""
TRAINED_WIDTH = 32
"""Of what we train: 4.4 M parameters. A step takes a quarter of the time, and the file, of 9 MB
instead of 35, may lie in a repository."""


def normed(convolution: nn.Conv2d) -> list[nn.Module]:
    """Convolution, batch normalisation, ReLU."""
    return [convolution, nn.BatchNorm2d(convolution.out_channels), nn.ReLU(inplace=True)]


def begin(inputs: int, width: int) -> list[nn.Module]:
    """7x7 at full size."""
    return [nn.ReflectionPad2d(3), *normed(nn.Conv2d(inputs, width, 7))]


def halve(channels: int) -> list[nn.Module]:
    """Half the size, twice the channels."""
    return normed(nn.Conv2d(channels, 2 * channels, 3, 2, 1))


def double(inputs: int, outputs: int) -> list[nn.Module]:
    """Twice the size."""
    up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
    return [up, *normed(nn.Conv2d(inputs, outputs, 3, 1, 1))]


def end(width: int, outputs: int) -> list[nn.Module]:
    """7x7 at full size, linear."""
    return [nn.ReflectionPad2d(3), nn.Conv2d(width, outputs, 7)]


def encoder(inputs: int, width: int) -> nn.Sequential:
    """(N, inputs, H, W) -> (N, 4 width, H/4, W/4)."""
    return nn.Sequential(*begin(inputs, width), *halve(width), *halve(2 * width))


def mix(inputs: int, outputs: int) -> list[nn.Module]:
    """1x1."""
    return normed(nn.Conv2d(inputs, outputs, 1, bias=False))


class ResBlock(nn.Module):
    """Two 3x3 convolutions around an identity; no ReLU behind the sum."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        first, second = (nn.Conv2d(channels, channels, 3) for _ in range(2))
        self.conv_block = nn.Sequential(
            nn.ReflectionPad2d(1),
            *normed(first),
            nn.ReflectionPad2d(1),
            second,
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv_block(x)


def stored_width(weights: Mapping[str, Tensor]) -> int:
    """Of the network that these are the weights of, by its first convolution; the published one's
    where that is missing or odd, so that loading them names what does not fit."""
    first = weights.get("model_enc1.1.weight", torch.empty(0))
    known = first.dim() == 4 and 0 < len(first) <= PUBLISHED_WIDTH
    return len(first) if known else PUBLISHED_WIDTH


class ContextSwitching(nn.Module):
    """Alpha and foreground from a crop around the person, its plate, and a soft segmentation.

    `forward` speaks Howard's ranges ([0, 1]), `published` the authors' ([-1, 1]).
    width: channels at full size.
    """

    INPUTS = ("frame", "plate", "segmentation")
    OUTPUTS = ("alpha", "foreground")
    metadata: ClassVar[dict[str, int]] = {"full_multiple": MULTIPLE, "side": SIDE}

    def __init__(self, width: int = PUBLISHED_WIDTH) -> None:
        super().__init__()
        self.model_enc1 = nn.Sequential(*begin(3, width), *halve(width))
        self.model_enc2 = nn.Sequential(*halve(2 * width))
        self.model_enc_back = encoder(3, width)
        self.model_enc_seg = encoder(1, width)
        self.comb_back = nn.Sequential(*mix(8 * width, width))
        self.comb_seg = nn.Sequential(*mix(8 * width, width))
        self.comb_multi = nn.Sequential(*mix(8 * width, width))
        blocks = [ResBlock(4 * width) for _ in range(13)]
        self.model_res_dec = nn.Sequential(*mix(7 * width, 4 * width), *blocks[:7])
        self.model_res_dec_al = nn.Sequential(*blocks[7:10])
        self.model_res_dec_fg = nn.Sequential(*blocks[10:])
        self.model_al_out = nn.Sequential(
            *double(4 * width, 2 * width), *double(2 * width, width), *end(width, 1)
        )
        self.model_dec_fg1 = nn.Sequential(*double(4 * width, 2 * width))
        self.model_fg_out = nn.Sequential(*double(4 * width, width), *end(width, 3))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight, gain=2**0.5)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.weight, 1.0, 0.2)

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Also takes the authors' weights, of which it leaves the dead encoder's aside."""
        live = {name: value for name, value in state_dict.items() if not name.startswith(DEAD)}
        return super().load_state_dict(live, strict, assign)

    def published(
        self, image: Tensor, background: Tensor, segmentation: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(N, 3, H, W), (N, 3, H, W), (N, 1, H, W) in [-1, 1] -> alpha (N, 1, H, W) in [-1, 1] and
        foreground (N, 3, H, W), which is linear and may leave [-1, 1]."""
        unbounded, foreground = self.unbounded(image, background, segmentation)
        return torch.tanh(unbounded), foreground

    def unbounded(
        self, image: Tensor, background: Tensor, segmentation: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The same with alpha before its tanh: half of the logit of alpha in [0, 1]."""
        detail = self.model_enc1(image)
        features = self.model_enc2(detail)
        back, seg = self.model_enc_back(background), self.model_enc_seg(segmentation)
        pairs = ((self.comb_back, back), (self.comb_seg, seg), (self.comb_multi, back))
        switched = [combine(torch.cat([features, cue], 1)) for combine, cue in pairs]
        shared = self.model_res_dec(torch.cat([features, *switched], 1))
        alpha = self.model_al_out(self.model_res_dec_al(shared))
        y = self.model_dec_fg1(self.model_res_dec_fg(shared))
        return alpha, self.model_fg_out(torch.cat([y, detail], 1))

    def forward(self, frame: Tensor, plate: Tensor, segmentation: Tensor) -> tuple[Tensor, Tensor]:
        """The same with everything in [0, 1]."""
        alpha, foreground = self.published(*(2 * x - 1 for x in (frame, plate, segmentation)))
        return (alpha + 1) / 2, ((foreground + 1) / 2).clamp(0, 1)
