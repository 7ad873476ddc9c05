"""`scenes.make_people` for batches on a device: premultiplied RGBA (N, 4, H, W)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.training.gpu_camera import pixel_grid, ramp
from engine.training.gpu_clothes import adorned, camouflage, over, patterned, robed
from engine.training.gpu_draw import Draw, Which, blur, motion_blur
from engine.training.gpu_material import DeviceMaterial
from engine.training.gpu_shapes import Drawn, Looks, by_look
from engine.training.gpu_things import carried, hold
from engine.training.people import FILLS
from engine.training.scenes import (
    ADORNED,
    CARRIED,
    CARRIED_ALONE,
    DRESSED,
    HIDDEN,
    HIDDEN_ALONE,
)

MOVING_SHARE = 0.6
"""Of the clips, show a motion sequence; the others a still that moves as a whole."""


class Trust(NamedTuple):
    """What may be told of the foregrounds of each scene (N,)."""

    reliable: Which
    """From its plate, even things that are no people."""
    plausible: Which
    """From its plate, anything at all."""
    looks: Looks
    """By the look of the scene, how much people are disguised."""

    def of(self, which: Which) -> Trust:
        """For the scenes chosen."""
        return Trust(self.reliable[which], self.plausible[which], self.looks[which])


def make_people(
    draw: Draw, material: DeviceMaterial, live: Tensor, trust: Trust
) -> tuple[Tensor, Tensor]:
    """None to three foregrounds over one another, and the alpha (N, 1, H, W) of the nearest."""
    count = draw.choice([0, 1, 2, 3], [0.12, 0.67, 0.16, 0.05])
    together = torch.zeros_like(live[:, :1]).repeat(1, 4, 1, 1)
    nearest = together[:, 3:]
    for k in range(int(count.max())):
        which = count > k
        at, part = draw.index(np.flatnonzero(which)), draw.only(which)
        layer = foreground(part, material, live[at], trust.of(which))
        together = together.index_copy(0, at, over(layer, together[at]))
        nearest = nearest.index_copy(0, at, layer[:, 3:])
    return together, nearest


def foreground(draw: Draw, material: DeviceMaterial, live: Tensor, trust: Trust) -> Tensor:
    """One person or, where the plate can be trusted, a drawn object, for each scene."""
    height, width = live.shape[2:]
    plain = trust.looks == "plain"
    disguised = ~plain
    # Without a plate to trust only people can be told from the place: draw no objects there.
    objects = trust.reliable & disguised & draw.chance(0.35)
    if not material.people:
        objects[:] = True
    layer = torch.zeros_like(live[:, :1]).repeat(1, 4, 1, 1)
    layer = draw.change(layer, objects, lambda d, x: placed(d, material, height, width))
    holding = draw.chance(np.where(trust.plausible & disguised, 0.4, 0.1))[~objects]
    layer = draw.change(
        layer, ~objects, lambda d, x: put(d, material, height, width, holding, plain[~objects])
    )
    robes, patterns = (draw.chance(by_look(DRESSED, trust.looks)) for _ in range(2))
    layer = draw.change(layer, robes, lambda d, x: robed(d, material, x, trust.looks[robes]))
    layer = draw.change(
        layer, patterns, lambda d, x: patterned(d, material, x, trust.looks[patterns])
    )
    usual = by_look(HIDDEN, trust.looks)
    hidden = disguised & draw.chance(np.where(trust.plausible, usual, HIDDEN_ALONE))
    behind = lambda which: live[draw.index(np.flatnonzero(which))]  # noqa: E731
    layer = draw.change(layer, hidden, lambda d, x: camouflage(d, x, behind(hidden)))
    marked = draw.chance(ADORNED)
    layer = draw.change(layer, marked, lambda d, x: adorned(d, x, behind(marked)))
    carries = draw.chance(np.where(trust.plausible, CARRIED, CARRIED_ALONE))
    looks = trust.looks[carries]
    layer = draw.change(
        layer, carries, lambda d, x: carried(d, material, x, behind(carries), looks)
    )
    moved = draw.chance(0.15)
    layer = draw.change(
        layer,
        moved,
        lambda d, x: motion_blur(d, x, d.uniform(2, 0.05 * width), d.uniform(0, np.pi)),
    )
    soft = ~moved & draw.chance(0.15)
    return draw.change(layer, soft, lambda d, x: blur(d, x, d.uniform(0.4, 1.5)))


def placed(draw: Draw, material: DeviceMaterial, height: int, width: int) -> Tensor:
    """Drawn objects at the size of the frame, drifting."""
    ys, xs = pixel_grid(height, width, draw.device)
    x, y = torch.broadcast_tensors(xs - draw.tensor(0.006 * width * draw.drift()), ys)
    return Drawn(draw, material, height, width)(x, y)


def picked(draw: Draw, material: DeviceMaterial) -> NDArray[np.int64]:
    """Indices of people: of a sequence its frames in order, there and back; a still else."""
    run = draw.integers(0, len(material.runs))
    if draw.frames > 1 and material.moving:
        run = np.where(draw.chance(MOVING_SHARE), draw.choice(material.moving), run)
    begin = draw.integers(0, 64)
    index = np.empty(len(draw), np.int64)
    for i, (r, first) in enumerate(zip(run, begin, strict=True)):
        frames = material.runs[r]
        turn = (first + i % draw.frames) % max(1, 2 * len(frames) - 2)
        index[i] = frames[min(turn, 2 * len(frames) - 2 - turn)]
    return index


def put(
    draw: Draw, material: DeviceMaterial, height: int, width: int, holding: Which, plain: Which
) -> Tensor:
    """Recolour, scale, turn and place a person in each frame, as `people.put`."""
    assert material.people is not None
    index = picked(draw, material)
    rows, columns = material.people.sizes[index].T
    size = np.where(draw.chance(0.8), draw.uniform(0.35, 1.15), draw.uniform(0.15, 1.8))
    scale = np.minimum(size * height / rows, 1.3 * np.maximum(size, 0.5) * width / columns)
    left, right, cut_above = draw.each(material.cut[index[:: draw.frames]]).T
    broad = 1.05 * width / columns
    scale = np.where(left & right & (broad < FILLS * scale), np.maximum(scale, broad), scale)
    fills = left & right & (columns * scale > width)
    scale = scale * np.exp(0.004 * draw.drift())
    angle = 0.06 * draw.normal() + 0.006 * draw.drift()
    cut_below = draw.each(material.cut_below[index[:: draw.frames]])
    highest = height - rows * scale / 2
    lowest = np.maximum(highest + 0.2 * height, rows * scale / 2 + 0.05 * height)
    hanging = rows * scale / 2 - draw.uniform(0, 0.1) * np.minimum(height, 2 * rows * scale)
    free = np.where(cut_above, hanging, draw.uniform(0.3, 0.75) * height)
    centre_y = np.where(cut_below, draw.uniform(highest, lowest), free)
    mirror = np.where(draw.chance(0.5), -1, 1)
    left, right = np.where(mirror < 0, right, left), np.where(mirror < 0, left, right)
    out = columns * scale / 2 - draw.uniform(0.01, 0.2) * np.minimum(width, 2 * columns * scale)
    centre_x = np.select(
        [fills, left, right], [width / 2, out, width - out], draw.uniform(0.1, 0.9) * width
    )
    centre_x = centre_x + 0.006 * width * draw.drift()
    ys, xs = pixel_grid(height, width, draw.device)
    x, y, c, s, flip, middle_x, middle_y = (
        draw.tensor(v)
        for v in (
            *(centre_x, centre_y, np.cos(angle) / scale, np.sin(angle) / scale),
            *(mirror, (columns - 1) / 2, (rows - 1) / 2),
        )
    )
    across, down = xs - x, ys - y
    u, v = flip * (c * across + s * down) + middle_x, c * down - s * across + middle_y
    step = draw.tensor(1 / scale).flatten()
    person = material.people(draw.index(index), u, v, step, outside=True)
    light = ramp(draw, (u - middle_x) / middle_x, (v - middle_y) / middle_y)
    layer = recoloured(draw, person, light, plain)
    return draw.change(
        layer, holding, lambda d, p: hold(d, material, p, centre_x[holding], centre_y[holding])
    )


def recoloured(draw: Draw, person: Tensor, light: Tensor, plain: Which) -> Tensor:
    """Other light and, unless `plain`, clothes and contrast, as `people.recoloured`. light: a
    `ramp`."""
    colour, alpha = person[:, :3], person[:, 3:]
    colour = colour * draw.tensor(draw.uniform(0.5, 1.3, 1) * (1 + 0.06 * draw.normal(3)))
    colour = colour * light
    mix = draw.tensor(draw.uniform(0, 0.8) * (draw.chance(0.25) & ~plain))
    tint = draw.tensor(draw.uniform(0.3, 1.7, 3))
    colour = colour * (1 - mix) + colour.mean(1, keepdim=True) * tint * mix
    power = draw.tensor(np.where(draw.chance(0.25) & ~plain, draw.uniform(0.6, 1.7), 1))
    straight = (colour / alpha.clamp(min=1e-4)).clamp(0, 1)
    return torch.cat([alpha * straight**power, alpha], 1)
