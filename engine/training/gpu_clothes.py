"""`clothes` for batches on a device: premultiplied RGBA (N, 4, H, W)."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from engine.training.clothes import BADGE, KINDS, LINE, MARKS, NEAR, OF_THE_PLACE
from engine.training.gpu_camera import pixel_grid
from engine.training.gpu_draw import Draw
from engine.training.gpu_material import DeviceMaterial
from engine.training.gpu_shapes import OF_CLOTHES, Looks, Texture, soft_edge


def over(front: Tensor, back: Tensor) -> Tensor:
    """Premultiplied RGBA."""
    return front + back * (1 - front[:, 3:])


def chosen_pixels(draw: Draw, first: Tensor) -> Tensor:
    """One pixel of each clip's first picture, among those of (clips, H, W): (clips,) into H W."""
    scores = torch.rand(first.shape, generator=draw.generator, device=draw.device) * first
    return scores.flatten(1).argmax(1)


def rows_of(solid: Tensor) -> tuple[Tensor, Tensor]:
    """Of each picture (N, H, W): the first row in which it is solid, and how many more there are
    to the last one; H and 0 if there is none."""
    somewhere = solid.any(2)
    rows = torch.arange(solid.shape[1], device=solid.device)
    top = torch.where(somewhere, rows, solid.shape[1]).amin(1)
    return top, (torch.where(somewhere, rows, 0).amax(1) - top).clamp(min=0)


def patterned(draw: Draw, material: DeviceMaterial, layer: Tensor, looks: Looks) -> Tensor:
    """Dress the foregrounds in pictures below random heights, as `clothes.patterned`; the picture
    stays where it is through a clip."""
    height, width = layer.shape[2:]
    colour, alpha = layer[:, :3], layer[:, 3:]
    rows = torch.arange(height, device=draw.device).reshape(1, 1, -1, 1)
    top, tall = (v.reshape(-1, 1, 1, 1) for v in rows_of(alpha[:, 0] > 0.5))
    neck = top + draw.tensor(draw.choice([0.0, 0.2, 0.5], [0.3, 0.5, 0.2])) * tall
    ys, xs = pixel_grid(height, width, draw.device)
    x, y = torch.broadcast_tensors(xs + torch.zeros_like(neck), ys)
    pattern = Texture(draw, material, height, width, OF_CLOTHES, looks)(x, y)
    luma = colour.mean(1, keepdim=True)
    mean = luma.sum((2, 3), keepdim=True) / alpha.sum((2, 3), keepdim=True).clamp(min=1)
    dressed = (pattern * luma / mean.clamp(min=0.02)).minimum(alpha)
    share = draw.tensor(draw.uniform(0.4, 1.0)) * (rows >= neck)
    return torch.cat([torch.lerp(colour, dressed, share.expand_as(colour)), alpha], 1)


def robed(draw: Draw, material: DeviceMaterial, layer: Tensor, looks: Looks) -> Tensor:
    """Put skirts, dresses and coats on the foregrounds, as `clothes.robed`; without waves."""
    height, width = layer.shape[2:]
    solid = layer[:, 3] > 0.5
    head, below = rows_of(solid)
    tall = below + 1
    top, hem = (
        head + (draw.tensor(draw.uniform(*span)).flatten() * tall).long()
        for span in ((0.3, 0.65), (0.8, 1.0))
    )
    waist = solid[torch.arange(len(draw), device=draw.device), top.clamp(max=height - 1)]
    columns = torch.arange(width, device=draw.device)
    left, right = torch.where(waist, columns, width).amin(1), torch.where(waist, columns, 0).amax(1)
    wearable = (tall >= 16) & (hem - top >= 8) & (waist.sum(1) >= 3)
    left, right, top, hem, wearable = (
        v.reshape(-1, 1, 1, 1) for v in (left, right, top, hem, wearable)
    )
    length = (hem - top).clamp(min=1)
    ys, xs = pixel_grid(height, width, draw.device)
    down = ((ys - top) / length).clamp(0, 1)
    reach, shape = draw.uniform(0, 0.6, 2), draw.uniform(0.5, 2, 2)
    widening = [
        draw.tensor(reach[:, k]) * length * down ** draw.tensor(shape[:, k]) for k in range(2)
    ]
    beside = torch.minimum(xs - (left - widening[0]), right + widening[1] - xs)
    inside = torch.minimum(beside, torch.minimum(ys - top, hem - ys))
    sigma = draw.tensor(draw.choice([0.4, 0.7, 1.0]))
    alpha = soft_edge(inside / sigma) * wearable
    folds = torch.zeros_like(alpha[:, :, :1])
    for _ in range(3):
        period = draw.tensor(draw.uniform(0.03, 0.4)) * length + 4
        folds = folds + torch.cos(xs * (2 * np.pi / period) + draw.tensor(draw.uniform(0, 6))) / 3
    shade = draw.tensor(draw.uniform(0.4, 1.1)) * (1 + draw.tensor(draw.uniform(0, 0.45)) * folds)
    x, y = torch.broadcast_tensors(xs + torch.zeros_like(top), ys)
    cloth = Texture(draw, material, height, width, OF_CLOTHES, looks)(x, y)
    worn = torch.cat([(cloth * shade).clamp(0, 1) * alpha, alpha], 1)
    return over(worn, layer)


def adorned(draw: Draw, layer: Tensor, live: Tensor) -> Tensor:
    """Put straps, badges and the like on the foregrounds, as `clothes.adorned`; through a clip
    they stay where they are."""
    alpha = layer[:, 3:]
    solid = alpha[:, 0] > 0.9
    first = solid[:: draw.frames]
    _, below = rows_of(first)
    tall = below.repeat_interleave(draw.frames).reshape(-1, 1, 1, 1) + 1
    near = F.avg_pool2d(live, 2 * NEAR + 1, 1, NEAR, count_include_pad=False).flatten(2)
    count = draw.integers(*MARKS)
    colour = layer[:, :3]
    sigma = draw.tensor(draw.choice([0.4, 0.7, 1.0]))
    for k in range(MARKS[1] - 1):
        at = chosen_pixels(draw, first).repeat_interleave(draw.frames)
        behind = near.gather(2, at.reshape(-1, 1, 1).expand(-1, 3, 1))[..., None]
        behind = (behind * draw.tensor(draw.uniform(0.8, 1.2))).clamp(0, 1)
        of_place = draw.tensor(draw.chance(OF_THE_PLACE))
        shade = torch.where(of_place, behind, draw.tensor(draw.uniform(0, 1, 3)))
        cover = mark(draw, at, tall, alpha.shape[2:], sigma) * draw.tensor(count > k)
        colour = torch.lerp(colour, shade * alpha, cover)
    share = draw.tensor(draw.uniform(0.7, 1.0)) * solid.any((1, 2)).reshape(-1, 1, 1, 1)
    return torch.cat([torch.lerp(layer[:, :3], colour, share), alpha], 1)


def mark(draw: Draw, at: Tensor, tall: Tensor, size: torch.Size, sigma: Tensor) -> Tensor:
    """Cover (N, 1, H, W) of one of them about the pixels `at` (N,), as `clothes.mark`; lines bend
    in one parabola."""
    height, width = size
    ys, xs = pixel_grid(height, width, draw.device)
    x, y = xs - (at % width).reshape(-1, 1, 1, 1), ys - (at // width).reshape(-1, 1, 1, 1)
    kind = draw.choice(list(KINDS), list(KINDS.values()))
    is_line = kind == LINE
    angle = np.where(is_line, draw.uniform(0, 2 * np.pi), 0.3 * draw.normal())
    c, s = draw.tensor(np.cos(angle)), draw.tensor(np.sin(angle))
    along, across = x * c + y * s, y * c - x * s
    sides = draw.uniform(0.01, 0.08, 2)
    half = tall * draw.tensor(np.where(is_line, draw.uniform(0.025, 0.25), sides[:, 0]))
    thick = tall * draw.tensor(np.where(is_line, draw.uniform(0.002, 0.025), sides[:, 1]))
    bend = draw.tensor(np.where(is_line, 0.5 * draw.normal(), 0))
    across = across - bend * along * along / (2 * half)
    box = torch.minimum(half - along.abs(), thick.clamp(min=0.5) - across.abs())
    radius = torch.hypot(along / half, across / thick)
    disc = (1 - radius) * torch.minimum(half, thick)
    is_disc = draw.tensor((kind != LINE) & (kind != BADGE))
    return soft_edge(torch.where(is_disc, disc, box) / sigma)


def camouflage(draw: Draw, layer: Tensor, live: Tensor) -> Tensor:
    """Give the foreground the mean colour of the place behind it, in part."""
    colour, alpha = layer[:, :3], layer[:, 3:]
    weight = alpha.sum((2, 3), keepdim=True).clamp(min=1)
    mean, behind = ((x.sum((2, 3), keepdim=True) / weight) for x in (colour, live * alpha))
    share = draw.tensor(draw.uniform(0.4, 1.0))
    colour = (colour + alpha * (behind - mean) * share).clamp(min=0).minimum(alpha)
    return torch.cat([colour, alpha], 1)
