"""`things` for batches on a device: premultiplied RGBA (N, 4, H, W)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from engine.training.gpu_camera import pixel_grid, ramp
from engine.training.gpu_clothes import chosen_pixels, over, rows_of
from engine.training.gpu_draw import Draw, Values
from engine.training.gpu_material import DeviceMaterial
from engine.training.gpu_shapes import OF_CLOTHES, Drawn, Looks, Texture, soft_edge
from engine.training.things import (
    BOX,
    CLOTH,
    COLOURS,
    FLAT,
    HANDS,
    HAT,
    IN_FRONT,
    KINDS,
    OUTLINE,
    SMALLEST,
    STICK,
)

DRAWN_BOX = 128
"""Pixels of the box in which held things are drawn, before they are scaled."""


def hold(draw: Draw, material: DeviceMaterial, layer: Tensor, x: Values, y: Values) -> Tensor:
    """Give each person something to hold or wear, as `things.hold`. x, y: (N,) where the person
    is, which the thing follows through a clip."""
    height, width = layer.shape[2:]
    first = layer[:: draw.frames, 3] > 0.5
    at = chosen_pixels(draw, first)
    somebody = first.flatten(1).any(1)
    _, tall = rows_of(first)
    repeat = lambda v: v.repeat_interleave(draw.frames, 0).reshape(-1, 1, 1, 1)  # noqa: E731
    size = draw.tensor(draw.uniform(0.15, 0.6)) * repeat(tall) + 8
    size = size.clamp(8, min(height, width))
    moved = [v - draw.each(v[:: draw.frames]) for v in (x, y)]
    left = repeat(at % width) + draw.tensor(moved[0]) - size / 2
    upper = repeat(at // width) + draw.tensor(moved[1]) - size / 2
    ys, xs = pixel_grid(height, width, draw.device)
    u, v = (xs - left) / size, (ys - upper) / size
    inside = (u >= 0) & (u < 1) & (v >= 0) & (v < 1) & repeat(somebody)
    u, v = torch.broadcast_tensors(u * DRAWN_BOX, v * DRAWN_BOX)
    thing = Drawn(draw, material, DRAWN_BOX, DRAWN_BOX)(u, v, DRAWN_BOX / size.flatten()) * inside
    in_front = draw.tensor(draw.chance(IN_FRONT))
    return torch.where(in_front, over(thing, layer), over(layer, thing))


def carried(
    draw: Draw, material: DeviceMaterial, layer: Tensor, live: Tensor, looks: Looks
) -> Tensor:
    """Give each person a stick, a box, a disc, or something on the head, as `things.carried`;
    it follows the person through a clip."""
    height, width = layer.shape[2:]
    solid = layer[:, 3] > 0.5
    kind = draw.choice(list(KINDS), list(KINDS.values()))
    is_hat = draw.tensor(kind == HAT)
    sigma = draw.tensor(draw.choice([0.4, 0.7, 1.0]))
    depth = torch.where(is_hat, hat(draw, solid), thing(draw, solid, kind))
    somebody = solid.sum((1, 2)).reshape(-1, 1, 1, 1) >= SMALLEST
    alpha = soft_edge(depth / sigma) * somebody
    how = draw.choice(list(COLOURS), list(COLOURS.values()))
    weight = alpha.sum((2, 3), keepdim=True).clamp(min=1)
    behind = (live * alpha).sum((2, 3), keepdim=True) / weight * draw.tensor(draw.uniform(0.8, 1.2))
    share = draw.tensor(np.where(draw.chance(0.5), draw.uniform(0, 0.8), 0))
    elsewhere = live.roll(int(draw.rng.integers(-(width // 4), width // 4 + 1)), 3)
    colour = behind + (elsewhere - behind) * share
    colour = torch.where(draw.tensor(how == FLAT), draw.tensor(draw.uniform(0, 1, 3)), colour)
    ys, xs = pixel_grid(height, width, draw.device)
    x, y = torch.broadcast_tensors(xs + torch.zeros_like(sigma), ys)
    cloth = Texture(draw, material, height, width, OF_CLOTHES, looks)(x, y)
    colour = torch.where(draw.tensor(how == CLOTH), cloth, colour)
    colour = (colour * ramp(draw, 2 * xs / width - 1, 2 * ys / height - 1)).clamp(0, 1)
    one = torch.cat([colour * alpha, alpha], 1)
    in_front = is_hat | draw.tensor(draw.chance(IN_FRONT))
    return torch.where(in_front, over(one, layer), over(layer, one))


def middles(solid: Tensor) -> tuple[Tensor, Tensor]:
    """Mean column and row of what is solid (N, H, W), (N,) each."""
    count = solid.sum((1, 2)).clamp(min=1)
    rows, columns = (torch.arange(n, device=solid.device) for n in solid.shape[1:])
    x, y = (solid.sum(axis) * at for axis, at in ((1, columns), (2, rows)))
    return x.sum(1) / count, y.sum(1) / count


def hands(draw: Draw, solid: Tensor) -> tuple[Tensor, Tensor]:
    """Column and row of one in each picture (N, H, W), which goes with the person."""
    x, y = middles(solid)
    first = solid[:: draw.frames]
    middle = x[:: draw.frames]
    some = torch.stack([chosen_pixels(draw, first) for _ in range(max(HANDS))], 1)
    out = (some % solid.shape[2] - middle[:, None]).abs()
    of = draw.tensor(draw.choice(HANDS)[:: draw.frames]).reshape(-1, 1)
    allowed = torch.arange(max(HANDS), device=solid.device) < of
    best = torch.where(allowed, out, -1).argmax(1, keepdim=True)
    at = some.gather(1, best).repeat_interleave(draw.frames)
    moved = [v - v[:: draw.frames].repeat_interleave(draw.frames) for v in (x, y)]
    return at % solid.shape[2] + moved[0], at // solid.shape[2] + moved[1]


def thing(draw: Draw, solid: Tensor, kind: Values) -> Tensor:
    """Pixels inside its edge (N, 1, H, W) of what is held, as `things.draw_thing`."""
    shape = lambda v: v.reshape(-1, 1, 1, 1)  # noqa: E731
    height, width = solid.shape[1:]
    x, y = (shape(v) for v in hands(draw, solid))
    tall = shape(rows_of(solid)[1]) + 1
    ys, xs = pixel_grid(height, width, draw.device)
    turn = draw.uniform(0, np.pi)
    c, s = draw.tensor(np.cos(turn)), draw.tensor(np.sin(turn))
    is_stick = kind == STICK
    sides = draw.uniform(0.03, 0.22, 2)
    half = tall * draw.tensor(np.where(is_stick, draw.uniform(0.075, 0.45), sides[:, 0]))
    thick = tall * draw.tensor(np.where(is_stick, draw.uniform(0.002, 0.02), sides[:, 1]))
    # OpenCV's lines are a pixel wider than they are told to be.
    thick = thick.clamp(min=0.5) + draw.tensor(np.where(is_stick, 0.5, 0))
    offset = draw.tensor(draw.uniform(-0.9, 0.9))
    aside = offset * draw.tensor((~is_stick).astype(np.float32))
    along = (xs - x) * c + (ys - y) * s - half * offset
    across = (ys - y) * c - (xs - x) * s - thick * aside
    bend = draw.tensor(np.where(is_stick, 0.1 * draw.normal(), 0)) * 2 * half
    across = across - bend * (along / half) ** 2
    box = torch.minimum(half - along.abs(), thick - across.abs())
    disc = (1 - torch.hypot(along / half, across / thick)) * torch.minimum(half, thick)
    depth = torch.where(draw.tensor((kind == BOX) | is_stick), box, disc)
    line = torch.minimum(half, thick) * draw.tensor(draw.uniform(0.025, 0.2))
    outlined = draw.tensor(draw.chance(OUTLINE) & ~is_stick)
    return torch.where(outlined, line.clamp(min=0.5) - depth.abs(), depth)


def hat(draw: Draw, solid: Tensor) -> Tensor:
    """Pixels inside its edge (N, 1, H, W) of what is on the head, as `things.hat`."""
    n, height, width = solid.shape
    top, below = rows_of(solid)
    tall = below + 1
    down = (draw.tensor(draw.uniform(0.02, 0.08)).flatten() * tall).round().clamp(min=1)
    row = (top + down.long()).clamp(max=height - 1)
    head = solid[torch.arange(n, device=draw.device), row]
    columns = torch.arange(width, device=draw.device)
    left, right = torch.where(head, columns, width).amin(1), torch.where(head, columns, 0).amax(1)
    wide, middle = (right - left).clamp(min=1) + 1.0, (left + right) / 2
    # Arms held up, or several people: about one of its columns.
    broad = wide > 0.4 * tall
    one = chosen_pixels(draw, head[:: draw.frames, None]).repeat_interleave(draw.frames)
    wide, middle = torch.where(broad, 0.12 * tall, wide), torch.where(broad, one, middle)
    row, wide, middle = (v.reshape(-1, 1, 1, 1) for v in (row, wide, middle))
    high, brim, flare = (
        wide * draw.tensor(draw.uniform(*span)) for span in ((0.2, 1.5), (0, 0.4), (-0.25, 0.6))
    )
    ys, xs = pixel_grid(height, width, draw.device)
    turn = 0.12 * draw.normal()
    c, s = draw.tensor(np.cos(turn)), draw.tensor(np.sin(turn))
    x, up = (xs - middle) * c + (ys - row) * s, (row - ys) * c + (xs - middle) * s
    half = wide / 2 + torch.lerp(brim, flare / 2, (up / high).clamp(0, 1))
    u = (x / (wide / 2 + flare / 2)).clamp(-1, 1)
    points = draw.tensor(draw.integers(2, 10)) - 1
    phase = (u + 1) / 2 * points
    valley = 1 - (2 * (phase - phase.floor()) - 1).abs()
    dip = draw.tensor(np.where(draw.chance(0.5), draw.uniform(0.2, 0.7), 0))
    edge = high * (1 - u * u * draw.tensor(draw.uniform(0, 0.6)) - dip * valley)
    return torch.minimum(torch.minimum(half - x.abs(), edge - up), up)
