"""Pictures in tiles, of which only some are worth the work: chosen, cut out, and put back."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

SIDE = 64
"""Of a tile, in pixels at full size. With tiles of 32 as much work: fewer pixels, more halo."""
HALO = 8
"""Pixels around a tile that are cut out with it."""
NEAR = 4
"""Pixels beyond a tile in which what is marked makes it worth the work."""
RUN = 4
"""Pixels in a row that are copied at once: the width of pictures must be a multiple of this."""


def worth(marked: Tensor) -> Tensor:
    """(N, 1, H, W) of 0 and 1 -> the same of tiles, (N, 1, rows, columns): 1 where something is
    marked in the tile or within NEAR pixels of it."""
    near = F.max_pool2d(marked, NEAR, NEAR, ceil_mode=True)
    return F.max_pool2d(near, SIDE // NEAR + 2, SIDE // NEAR, 1, ceil_mode=True)


def over(tiles: Tensor, picture: Tensor) -> Tensor:
    """(N, 1, rows, columns) of tiles -> (N, 1, H, W) of a picture's pixels."""
    row, column = (count(length, tiles) // SIDE for length in picture.shape[2:])
    return tiles[:, :, row][..., column]


def cut(picture: Tensor, at: Tensor, scale: int = 1, halo: int = HALO) -> Tensor:
    """Tiles of (N, C, H, W) with what is around them: (K, C, s + 2h, s + 2h) for a side s and a
    halo h, both divided by the picture's `scale`. Beyond the picture is, in columns of RUN /
    `scale`, what is at its edge.

    at: (K, 3), picture, row and column of each.
    """
    _, channels, height, width = picture.shape
    side, halo, run = SIDE // scale, halo // scale, RUN // scale
    length = side + 2 * halo
    of, row, column = (x[:, None] for x in at.unbind(1))
    y = (row * side - halo + count(length, at)).clamp(0, height - 1)
    x = (column * side - halo) // run + count(length // run, at)
    line = (of * channels + count(channels, at))[:, :, None] * height + y[:, None]
    runs = line[..., None] * (width // run) + x.clamp(0, width // run - 1)[:, None, None]
    return picture.reshape(-1, run)[runs].reshape(-1, channels, length, length)


def inside(picture: Tensor, at: Tensor) -> Tensor:
    """(K, 1, SIDE + 2 HALO, SIDE + 2 HALO): 1 in the picture and 0 beyond it."""
    steps = count(SIDE + 2 * HALO, at) - HALO
    rows, columns = (
        ((x >= 0) & (x < length)).to(picture.dtype)
        for x, length in zip(
            (SIDE * at[:, 1:2] + steps, SIDE * at[:, 2:] + steps), picture.shape[2:], strict=True
        )
    )
    return (rows[:, :, None] * columns[:, None])[:, None]


def count(length: int, like: Tensor) -> Tensor:
    """0, 1, ... on the device of the other."""
    return torch.arange(length, device=like.device)


def put_back(tiles: Tensor, picture: Tensor, at: Tensor) -> Tensor:
    """(N, 1, H, W) with these (K, 1, SIDE, SIDE) in their places."""
    n, _, height, width = picture.shape
    below, right = -height % SIDE, -width % SIDE
    whole = F.pad(picture, (0, right, 0, below))
    of, row, column = (x[:, None] for x in at.unbind(1))
    line = of * (height + below) + row * SIDE + count(SIDE, at)
    x = column * (SIDE // RUN) + count(SIDE // RUN, at)
    runs = line[:, :, None] * ((width + right) // RUN) + x[:, None]
    put = whole.reshape(-1, RUN).index_put((runs.reshape(-1),), tiles.reshape(-1, RUN))
    return put.reshape(n, 1, height + below, width + right)[:, :, :height, :width]
