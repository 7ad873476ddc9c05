"""The two kinds of encoder of BackgroundMattingV2, at output stride 16.

MobileNetV2 (Sandler et al. 2018) and ResNet-50/101 (He et al. 2016, stride on the 3x3), whose
last stage is dilated instead of strided. Modules bear the names of torchvision's, as the official
checkpoints have them. Each returns its features from small to large: 1/16, 1/8, 1/4, 1/2, and
the input.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn


def normed(
    inputs: int, outputs: int, kernel: int, stride: int = 1, dilation: int = 1, groups: int = 1
) -> nn.Sequential:
    """Convolution, batch normalisation, ReLU6."""
    padding = kernel // 2 * dilation
    convolution = nn.Conv2d(
        inputs, outputs, kernel, stride, padding, dilation, groups=groups, bias=False
    )
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU6(inplace=True))


class InvertedResidual(nn.Module):
    """Widen, filter each channel, narrow; around an identity where the shapes allow it."""

    def __init__(
        self, inputs: int, outputs: int, stride: int, dilation: int, expansion: int
    ) -> None:
        super().__init__()
        wide = inputs * expansion
        widen = [normed(inputs, wide, 1)] if expansion > 1 else []
        self.conv = nn.Sequential(
            *widen,
            normed(wide, wide, 3, stride, dilation, groups=wide),
            nn.Conv2d(wide, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.residual else self.conv(x)


class MobileNetV2(nn.Module):
    """Channels of the features, from 1/16 to the input: 320, 32, 24, 16, 6."""

    CHANNELS = (320, 32, 24, 16, 6)
    STAGES = (  # expansion, channels, blocks, stride, dilation of the first block and of the others
        (1, 16, 1, 1, 1, 1),
        (6, 24, 2, 2, 1, 1),
        (6, 32, 3, 2, 1, 1),
        (6, 64, 4, 2, 1, 1),
        (6, 96, 3, 1, 1, 1),
        (6, 160, 3, 1, 1, 2),
        (6, 320, 1, 1, 2, 2),
    )

    def __init__(self) -> None:
        super().__init__()
        features: list[nn.Module] = [normed(6, 32, 3, 2)]
        channels = 32
        for expansion, outputs, blocks, stride, first, others in self.STAGES:
            features.append(InvertedResidual(channels, outputs, stride, first, expansion))
            for _ in range(blocks - 1):
                features.append(InvertedResidual(outputs, outputs, 1, others, expansion))
            channels = outputs
        self.features = nn.Sequential(*features)

    def forward(self, x: Tensor) -> list[Tensor]:
        kept = [x]
        for i, block in enumerate(self.features):
            x = block(x)
            if i in (1, 3, 6):  # the last of each size
                kept.append(x)
        return [x, *reversed(kept)]


class Bottleneck(nn.Module):
    """Narrow, filter, widen fourfold, around an identity or its projection."""

    def __init__(self, inputs: int, narrow: int, stride: int, dilation: int) -> None:
        super().__init__()
        outputs = 4 * narrow
        self.conv1 = nn.Conv2d(inputs, narrow, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(narrow)
        self.conv2 = nn.Conv2d(narrow, narrow, 3, stride, dilation, dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(narrow)
        self.conv3 = nn.Conv2d(narrow, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = nn.Sequential()
        if inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        return F.relu(self.bn3(self.conv3(y)) + self.downsample(x))


class ResNet(nn.Module):
    """Channels of the features, from 1/16 to the input: 2048, 512, 256, 64, 6."""

    CHANNELS = (2048, 512, 256, 64, 6)

    def __init__(self, blocks: tuple[int, int, int, int]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(6, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = stage(64, 64, blocks[0], stride=1)
        self.layer2 = stage(256, 128, blocks[1], stride=2)
        self.layer3 = stage(512, 256, blocks[2], stride=2)
        self.layer4 = stage(1024, 512, blocks[3], stride=1, dilation=2)

    def forward(self, x: Tensor) -> list[Tensor]:
        x2 = F.relu(self.bn1(self.conv1(x)))
        x4 = self.layer1(F.max_pool2d(x2, 3, 2, 1))
        x8 = self.layer2(x4)
        return [self.layer4(self.layer3(x8)), x8, x4, x2, x]


def stage(inputs: int, narrow: int, blocks: int, stride: int, dilation: int = 1) -> nn.Sequential:
    """The first block changes size and channels and is never dilated."""
    first = Bottleneck(inputs, narrow, stride, 1)
    others = [Bottleneck(4 * narrow, narrow, 1, dilation) for _ in range(blocks - 1)]
    return nn.Sequential(first, *others)


BACKBONES: dict[str, Callable[[], MobileNetV2 | ResNet]] = {
    "mobilenetv2": MobileNetV2,
    "resnet50": partial(ResNet, (3, 4, 6, 3)),
    "resnet101": partial(ResNet, (3, 4, 23, 3)),
}
