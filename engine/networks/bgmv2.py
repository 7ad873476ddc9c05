"""BackgroundMattingV2: Lin et al., *Real-Time High-Resolution Background Matting* (CVPR 2021).

Written from the paper; its modules bear the names of the official checkpoints
(`pytorch_mobilenetv2.pth` and so on, MIT licence), so that these load strictly. The *base* sees
frame and plate at a quarter of their size and gives alpha, foreground, hidden features and an
estimate of its own error. The *refinement* replaces the patches of 4x4 pixels in which that error
is largest.

Patches are cut out and put back by Gather and ScatterND on rows of pixels, at most as many as
fits TensorRT's TopK: operators that ONNX Runtime and TensorRT have.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.networks.backbones import BACKBONES

Refinement = Literal["sampling", "thresholding", "full"]

MULTIPLE = 4
"""Height and width of the inputs must be multiples of this: the side of a patch."""
SAMPLE_PIXELS = 3840 * MULTIPLE**2
"""Refined pixels per picture at most. 3840 patches are the most that TensorRT's TopK takes; the
authors advise 5000 for 1080p, and their Table 7 finds 2500 nearly as good."""
HIDDEN = 32


def resize(x: Tensor, height: int, width: int) -> Tensor:
    """Bilinear, pixel centres at (x + 0.5) * s - 0.5."""
    return F.interpolate(x, size=(height, width), mode="bilinear", align_corners=False)


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling (Chen et al. 2017), dilated by 3, 6 and 9."""

    def __init__(self, inputs: int, outputs: int = 256) -> None:
        super().__init__()

        def normed(channels: int, kernel: int, rate: int = 1) -> list[nn.Module]:
            padding = kernel // 2 * rate
            convolution = nn.Conv2d(channels, outputs, kernel, 1, padding, rate, bias=False)
            return [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]

        self.convs = nn.ModuleList(
            [
                nn.Sequential(*normed(inputs, 1)),
                *(nn.Sequential(*normed(inputs, 3, rate)) for rate in (3, 6, 9)),
                nn.Sequential(nn.AdaptiveAvgPool2d(1), *normed(inputs, 1)),
            ]
        )
        self.project = nn.Sequential(*normed(5 * outputs, 1), nn.Dropout(0.5))

    def forward(self, x: Tensor) -> Tensor:
        *local, pooled = [convolution(x) for convolution in self.convs]
        return self.project(torch.cat([*local, pooled.expand_as(local[0])], 1))


class Decoder(nn.Module):
    """From 1/16 to the base's size, with the encoder's features on the way."""

    def __init__(self, features: tuple[int, ...], outputs: int) -> None:
        super().__init__()
        c8, c4, c2, c1 = features
        self.conv1 = nn.Conv2d(256 + c8, 128, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(128)
        self.conv2 = nn.Conv2d(128 + c4, 64, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(64)
        self.conv3 = nn.Conv2d(64 + c2, 48, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(48)
        self.conv4 = nn.Conv2d(48 + c1, outputs, 3, padding=1)

    def forward(self, x: Tensor, x8: Tensor, x4: Tensor, x2: Tensor, x1: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(join(x, x8))))
        x = F.relu(self.bn2(self.conv2(join(x, x4))))
        x = F.relu(self.bn3(self.conv3(join(x, x2))))
        return self.conv4(join(x, x1))


def join(x: Tensor, reference: Tensor) -> Tensor:
    """`x` enlarged to the reference's size, and the reference behind it."""
    return torch.cat([resize(x, *reference.shape[2:]), reference], 1)


class Refiner(nn.Module):
    """Replaces patches of 4x4 pixels of the enlarged coarse result.

    mode: "sampling" takes the `sample_pixels` / 16 patches of largest error per picture,
    "thresholding" those whose error exceeds `threshold`, "full" refines everywhere by plain
    convolutions.
    """

    def __init__(self, mode: Refinement, sample_pixels: int, threshold: float) -> None:
        super().__init__()
        self.mode, self.count, self.threshold = mode, sample_pixels // MULTIPLE**2, threshold
        self.conv1 = nn.Conv2d(HIDDEN + 4 + 6, 24, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(24)
        self.conv2 = nn.Conv2d(24, 16, 3, bias=False)
        self.bn2 = nn.BatchNorm2d(16)
        self.conv3 = nn.Conv2d(16 + 6, 12, 3, bias=False)
        self.bn3 = nn.BatchNorm2d(12)
        self.conv4 = nn.Conv2d(12, 4, 3)

    def forward(self, pictures: Tensor, coarse: Tensor, error: Tensor, hidden: Tensor) -> Tensor:
        """pictures (N, 6, H, W): frame and plate; at the base's size: coarse (N, 4, h, w), error
        (N, 1, h, w), hidden (N, 32, h, w). Returns alpha and foreground residual (N, 4, H, W)."""
        height, width = pictures.shape[2:]
        half = [resize(x, height // 2, width // 2) for x in (hidden, coarse, pictures)]
        if self.mode == "full":
            return self.convolve(F.pad(torch.cat(half, 1), (3,) * 4), F.pad(pictures, (2,) * 4))
        error = resize(error, height // MULTIPLE, width // MULTIPLE).flatten(1)
        index = self.choose(error)
        near, wide = crop(pictures, index, 4, 2), crop(torch.cat(half, 1), index, 2, 3)
        worth = error.flatten()[index] > 0
        return replace(resize(coarse, height, width), self.convolve(wide, near), index, worth)

    def convolve(self, half: Tensor, full: Tensor) -> Tensor:
        """Of both sizes with their margins: (P, 42, s/2 + 6, s/2 + 6) and (P, 6, s + 4, s + 4) ->
        (P, 4, s, s)."""
        x = F.relu(self.bn1(self.conv1(half)))
        x = F.relu(self.bn2(self.conv2(x)))
        x = torch.cat([F.interpolate(x, scale_factor=2.0, mode="nearest"), full], 1)
        return self.conv4(F.relu(self.bn3(self.conv3(x))))

    def choose(self, error: Tensor) -> Tensor:
        """(N, patches of a picture) -> (P,) indices into all patches of the batch."""
        if self.mode == "thresholding":
            return (error.flatten() > self.threshold).nonzero()[:, 0]
        pictures, patches = error.shape
        best = error.topk(at_most(self.count, patches), dim=1).indices
        return (best + torch.arange(pictures, device=error.device)[:, None] * patches).flatten()


def at_most(count: int, size: int) -> int:
    """min(count, size), as an operation while a graph is traced, in which `size` is a tensor."""
    if not torch.jit.is_tracing():
        return min(count, size)
    return torch.minimum(torch.tensor(count), torch.as_tensor(size))  # type: ignore[return-value]


def crop(x: Tensor, index: Tensor, size: int, margin: int) -> Tensor:
    """(N, C, H, W) -> (P, C, size + 2 margin, size + 2 margin): patch `index` of the grid of
    `size`, with a margin that is zero beyond the picture."""
    channels, height, width = x.shape[1:]
    rows, columns = height // size, width // size
    height, width = height + 2 * margin, width + 2 * margin
    picture, row, column = index // (rows * columns), index // columns % rows, index % columns
    corner = (picture * height + row * size) * width + column * size
    steps = torch.arange(size + 2 * margin, device=x.device)
    pixels = corner[:, None, None] + steps[:, None] * width + steps
    flat = F.pad(x, (margin,) * 4).permute(0, 2, 3, 1).reshape(-1, channels)
    return flat[pixels].permute(0, 3, 1, 2)


def replace(x: Tensor, refined: Tensor, index: Tensor, worth: Tensor) -> Tensor:
    """(N, C, H, W) with patch `index` of the grid replaced by `refined` (P, C, 4, 4) where it is
    `worth` it (P,)."""
    n, c, h, w = x.shape
    grid = x.reshape(n, c, h // 4, 4, w // 4, 4).permute(0, 2, 4, 1, 3, 5).reshape(-1, c * 16)
    patches = torch.where(worth[:, None], refined.reshape(-1, c * 16), grid[index])
    grid = grid.index_put((index,), patches)
    return grid.reshape(n, h // 4, w // 4, c, 4, 4).permute(0, 3, 1, 4, 2, 5).reshape(n, c, h, w)


class BackgroundMattingV2(nn.Module):
    """Alpha and foreground from a frame and its plate.

    backbone: "mobilenetv2", "resnet50" or "resnet101". scale_divisor: the base works at the frame's
    size divided by this; the authors advise 4 for 1080p, 8 for 4K.
    """

    INPUTS = ("frame", "plate")
    OUTPUTS = ("alpha", "foreground")
    metadata: ClassVar[dict[str, int]] = {"full_multiple": MULTIPLE}

    def __init__(
        self,
        backbone: str,
        scale_divisor: int = 4,
        refinement: Refinement = "sampling",
        sample_pixels: int = SAMPLE_PIXELS,
        threshold: float = 0.1,
    ) -> None:
        super().__init__()
        self.scale_divisor = scale_divisor
        self.backbone = BACKBONES[backbone]()
        deepest, *features = self.backbone.CHANNELS
        self.aspp = ASPP(deepest)
        self.decoder = Decoder(tuple(features), 1 + 3 + 1 + HIDDEN)
        self.refiner = Refiner(refinement, sample_pixels, threshold)

    def forward(self, frame: Tensor, plate: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 3, H, W) each, RGB in [0, 1] -> alpha (N, 1, H, W) and foreground (N, 3, H, W)."""
        pictures = torch.cat([frame, plate], 1)
        height, width = (side // self.scale_divisor for side in frame.shape[2:])
        deepest, *features = self.backbone(resize(pictures, height, width))
        x = self.decoder(self.aspp(deepest), *features)
        coarse = torch.cat([x[:, :1].clamp(0, 1), x[:, 1:4]], 1)
        error, hidden = x[:, 4:5].clamp(0, 1), F.relu(x[:, 5:])
        refined = self.refiner(pictures, coarse, error, hidden)
        return refined[:, :1].clamp(0, 1), (frame + refined[:, 1:]).clamp(0, 1)
