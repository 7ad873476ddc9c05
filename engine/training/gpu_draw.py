"""Random numbers and filters for batches of scenes on a device.

What happens to a scene is drawn on the host, with NumPy, for the whole batch at once: it costs
little, and no decision has to come back from the device. Fields of numbers are drawn there.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

Values = NDArray[np.float32]
"""(N, ...): one row for each scene."""
Which = NDArray[np.bool_]
"""(N,)"""


class Draw:
    """Draws for N = clips x frames scenes, the frames of a clip in a row.

    All frames of a clip get the same numbers, but for `drift`, which wanders, and `jitter` and
    `noise`, which are new in each frame.
    """

    def __init__(self, seed: int, clips: int, frames: int, device: torch.device | str) -> None:
        self.rng = np.random.default_rng(seed)
        self.device = torch.device(device)
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self.clips, self.frames = clips, frames

    def __len__(self) -> int:
        return self.clips * self.frames

    def only(self, which: Which) -> Draw:
        """For the scenes (N,) chosen, whole clips."""
        part = copy.copy(self)
        part.clips = int(which[:: self.frames].sum())
        return part

    def each(self, values: NDArray) -> NDArray:
        """(clips, ...) -> (N, ...)."""
        return np.repeat(values, self.frames, 0)

    def uniform(self, low: ArrayLike, high: ArrayLike, *shape: int) -> Values:
        """low, high: numbers, or one row a scene."""
        share = self.each(self.rng.random((self.clips, *shape), dtype=np.float32))
        return (low + (np.asarray(high) - low) * share).astype(np.float32)

    def normal(self, *shape: int) -> Values:
        return self.each(self.rng.standard_normal((self.clips, *shape), dtype=np.float32))

    def chance(self, probability: float | NDArray) -> Which:
        return self.uniform(0, 1) < probability

    def integers(self, low: int, high: int) -> NDArray[np.int64]:
        """low to high - 1."""
        return self.each(self.rng.integers(low, high, self.clips))

    def choice(self, values: Sequence, weights: Sequence[float] | None = None) -> NDArray:
        p = None if weights is None else np.array(weights) / sum(weights)
        return self.each(np.array(values)[self.rng.choice(len(values), self.clips, p=p)])

    def drift(self, *shape: int) -> Values:
        """A smooth path through each clip, 0 at its begin, of about one unit a frame."""
        t = np.arange(self.frames, dtype=np.float32).reshape(1, -1, *[1] * len(shape))
        speed, sway, phase = (
            self.rng.standard_normal((self.clips, 1, *shape), dtype=np.float32) for _ in range(3)
        )
        path = 0.7 * speed * t + 2 * sway * (np.sin(0.5 * t + 3 * phase) - np.sin(3 * phase))
        return path.reshape(len(self), *shape)

    def jitter(self, *shape: int) -> Values:
        """Normal, new in each frame; 0 in a batch of stills."""
        if self.frames == 1:
            return np.zeros((len(self), *shape), np.float32)
        return self.rng.standard_normal((len(self), *shape), dtype=np.float32)

    def tensor(self, values: NDArray) -> Tensor:
        """On the device; (N,) becomes (N, 1, 1, 1), (N, C) becomes (N, C, 1, 1)."""
        tensor = torch.from_numpy(np.ascontiguousarray(values))
        tensor = tensor.float() if tensor.is_floating_point() else tensor
        if self.device.type == "cuda":  # from pinned memory no copy waits
            tensor = tensor.pin_memory().to(self.device, non_blocking=True)
        return tensor.reshape(*tensor.shape, *[1] * (4 - tensor.dim()))

    def index(self, values: NDArray) -> Tensor:
        """Integers (K,) on the device."""
        return self.tensor(values.astype(np.int64)).reshape(-1)

    def cells(self, channels: int, height: int, width: int) -> Tensor:
        """Unit normal numbers (N, channels, height, width), the same in each frame of a clip."""
        shape = (self.clips, channels, height, width)
        numbers = torch.randn(shape, generator=self.generator, device=self.device)
        return numbers.repeat_interleave(self.frames, 0) if self.frames > 1 else numbers

    def noise(self, channels: int, height: int, width: int) -> Tensor:
        """Unit normal noise (N, channels, height, width), new in each frame."""
        shape = (len(self), channels, height, width)
        return torch.randn(shape, generator=self.generator, device=self.device)

    def change(
        self, pictures: Tensor, which: Which, change: Callable[[Draw, Tensor], Tensor]
    ) -> Tensor:
        """Pictures (N, ...) with those chosen put through `change`."""
        if not which.any():
            return pictures
        at = self.index(np.flatnonzero(which))
        return pictures.index_copy(0, at, change(self.only(which), pictures[at]))


def smooth_field(draw: Draw, height: int, width: int, cells: int, channels: int = 1) -> Tensor:
    """Smooth unit-scale random fields (N, channels, H, W)."""
    grid = draw.cells(channels, cells, cells)
    return F.interpolate(grid, size=(height, width), mode="bicubic", align_corners=False)


def depthwise(pictures: Tensor, kernels: Tensor) -> Tensor:
    """Convolve each picture (N, C, H, W) with its own kernel (N, kh, kw), reflected at borders."""
    n, c, h, w = pictures.shape
    _, kh, kw = kernels.shape
    padded = F.pad(pictures, (kw // 2, kw // 2, kh // 2, kh // 2), mode="reflect")
    weights = kernels[:, None, None].expand(n, c, 1, kh, kw).reshape(n * c, 1, kh, kw)
    joined = padded.reshape(1, n * c, *padded.shape[2:])
    return F.conv2d(joined, weights, groups=n * c).reshape(n, c, h, w)


def blur(draw: Draw, pictures: Tensor, sigma: Values) -> Tensor:
    """Gaussian, sigma (N,) in pixels."""
    reach = min(max(1, int(np.ceil(3 * sigma.max()))), min(pictures.shape[2:]) - 1)
    at = np.arange(-reach, reach + 1, dtype=np.float32)
    kernels = np.exp(-0.5 * (at / np.maximum(sigma, 0.05)[:, None]) ** 2)
    line = draw.tensor(kernels / kernels.sum(1, keepdims=True))[..., 0]
    return depthwise(depthwise(pictures, line), line.transpose(1, 2))


def motion_blur(draw: Draw, pictures: Tensor, length: Values, angle: Values) -> Tensor:
    """Along lines of `length` pixels at `angle` radians, (N,) both."""
    reach = min(int(np.ceil(length.max() / 2)), min(pictures.shape[2:]) - 1)
    ys, xs = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float32)
    c, s = np.cos(angle)[:, None, None], np.sin(angle)[:, None, None]
    beyond = np.maximum(np.abs(xs * c + ys * s) - length[:, None, None] / 2, 0)
    kernels = np.maximum(1 - np.hypot(beyond, ys * c - xs * s), 0)
    kernels /= kernels.sum((1, 2), keepdims=True)
    return depthwise(pictures, draw.tensor(kernels)[..., 0])
