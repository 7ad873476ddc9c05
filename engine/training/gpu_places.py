"""`places.py` for batches on a device."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from engine.training.gpu_align import warped
from engine.training.gpu_camera import pixel_grid
from engine.training.gpu_draw import Draw, Values, Which, smooth_field
from engine.training.gpu_material import DeviceMaterial
from engine.training.gpu_people import put
from engine.training.gpu_shapes import OF_PLACES, Bar, Looks, Outline, Texture
from engine.training.places import (
    DEPTHS,
    EXACT,
    EXACTLY,
    FIGURES,
    MARGIN,
    MISTAKEN,
    STONE,
    TURNED,
    UNALIGNED,
    VIEWED,
)


class Places(NamedTuple):
    """The backgrounds of the frames (`live`), their plates and coverage, where in the plate is what
    the frame shows: at x + displacement (N, 2, H, W), in pixels, and the plates unaligned."""

    live: Tensor
    plate: Tensor
    coverage: Tensor
    displacement: Tensor
    unaligned: Tensor
    reliable: Which
    plausible: Which


def make_places(
    draw: Draw,
    material: DeviceMaterial,
    height: int,
    width: int,
    kind: np.ndarray,
    looks: Looks,
    reduced: Values,
) -> Places:
    """Both takes of the backgrounds. reduced: (N,), as of `places.make_place`; but all warps are
    bilinear."""
    my, mx = int(height * MARGIN), int(width * MARGIN)
    inside = np.s_[:, :, my : my + height, mx : mx + width]
    mild = (kind == "aligned") | draw.chance(0.35)
    pan = 0.004 * width * draw.drift(2)
    size = height + 2 * my, width + 2 * mx
    missing = kind == "missing"
    seen, mistaken = draw.chance(UNALIGNED), missing & draw.chance(MISTAKEN)
    can_tell = np.isin(kind, ("near", "aligned")) | (missing & seen & ~mistaken)
    figure = can_tell & draw.chance(FIGURES) & (material.people is not None)
    live, plate, shift = two_takes(draw, material, *size, mild, pan, looks, figure)
    plate, coverage, flow = misalign(draw, plate, np.where(mild, 0.6, 1.0), reduced)
    # Where y of the plate went, to first order: the flow is smooth.
    displacement = (shift - flow)[inside]
    live, plate, coverage = live[inside], plate[inside], coverage[inside]
    which = (kind == "pair") | (missing & draw.chance(VIEWED))
    if material.views and which.any():
        at = draw.index(np.flatnonzero(which))
        pair = real_pairs(draw.only(which), material, height, width)
        live, plate, coverage, displacement = (
            old.index_copy(0, at, new)
            for old, new in zip((live, plate, coverage, displacement), pair, strict=True)
        )
        mild = mild & ~which
    wrong = kind == "wrong"
    plate = draw.change(plate, wrong, lambda d, x: whole(d, material, x, looks[wrong]))
    holes = np.isin(kind, ("near", "aligned")) & ~figure & draw.chance(0.5)
    coverage = draw.change(coverage, holes, uncovered)
    view = plate * torch.maximum(coverage, draw.tensor(missing.astype(np.float32)))
    view = draw.change(view, mistaken, lambda d, x: whole(d, material, x, looks[mistaken]))
    unaligned = from_elsewhere(draw, view) * draw.tensor(seen.astype(np.float32))
    there, plausible = draw.tensor((~missing).astype(np.float32)), ~missing & ~wrong
    left = plate * there, coverage * there
    return Places(live, *left, displacement, unaligned, mild & plausible, plausible)


def whole(draw: Draw, material: DeviceMaterial, like: Tensor, looks: Looks) -> Tensor:
    """Photographs or textures, of the size of `like`."""
    height, width = like.shape[2:]
    ys, xs = pixel_grid(height, width, draw.device)
    x, y = torch.broadcast_tensors(xs + torch.zeros(len(draw), 1, 1, 1, device=draw.device), ys)
    return Texture(draw, material, height, width, OF_PLACES, looks)(x, y)


def two_takes(
    draw: Draw,
    material: DeviceMaterial,
    height: int,
    width: int,
    mild: Which,
    pan: Values,
    looks: Looks,
    figure: Which,
) -> tuple[Tensor, Tensor, Tensor]:
    """live, plate (N, 3, H, W), and by how much what is seen in live is moved in plate (N, 2, H,
    W): near objects stand in other places in the two takes, unless `mild`. pan: (N, 2), how far
    the camera has turned since the clip began. figure: where one belongs to the place."""
    ys, xs = pixel_grid(height, width, draw.device)
    turn = draw.tensor(pan)
    x, y = xs + turn[:, :1] + 0 * ys, ys + turn[:, 1:] + 0 * xs
    live = Texture(draw, material, height, width, OF_PLACES, looks)(x, y)
    live = draw.change(live, figure, lambda d, place: with_figure(d, place, material))
    plate, shift = live, torch.zeros_like(live[:, :2])
    reach = draw.choice([0.01, 0.025, 0.05, 0.09], [0.3, 0.3, 0.25, 0.15]) * width
    baseline = reach[:, None] * draw.normal(2) * (1, 0.4)
    travel = 0.004 * width * draw.drift(2)
    deep = draw.choice(list(DEPTHS), list(DEPTHS.values()))
    reliefs = ~mild & (deep != "objects")
    if reliefs.any():
        at = draw.index(np.flatnonzero(reliefs))
        new = relief(draw.only(reliefs), live[at], baseline[reliefs])
        plate, shift = plate.index_copy(0, at, new[0]), shift.index_copy(0, at, new[1])
    count = np.where(mild | (deep == "relief"), 0, draw.integers(1, 6))
    depths = np.where(np.arange(5) < count[:, None], draw.uniform(0.2, 1.3, 5), np.inf)
    depths.sort(1)
    for k in range(int(count.max(initial=0))):
        which = count > k
        at, part = draw.index(np.flatnonzero(which)), draw.only(which)
        depth = depths[which, k, None]
        own, offset = (part.tensor(v[which] * depth) for v in (travel, baseline))
        colours = Texture(part, material, height, width, OF_PLACES, looks[which])
        cover, colour, cover_moved, colour_moved = layer(
            part, height, width, colours, x[at] + own[:, :1], y[at] + own[:, 1:], offset
        )
        shifted = offset.expand(-1, -1, height, width)
        live = live.index_copy(0, at, torch.lerp(live[at], colour, cover))
        plate = plate.index_copy(0, at, torch.lerp(plate[at], colour_moved, cover_moved))
        shift = shift.index_copy(0, at, torch.where(cover > 0.5, shifted, shift[at]))
    return live, plate, shift


def relief(draw: Draw, live: Tensor, baseline: Values) -> tuple[Tensor, Tensor]:
    """The plate as `scenes.relief`, and by how much it is moved (N, 2, H, W). baseline: (N, 2)."""
    height, width = live.shape[2:]
    around = F.pad(F.avg_pool2d(live, 4), (3, 3, 3, 3), mode="replicate")
    colours = around.unfold(2, 7, 1).unfold(3, 7, 1).flatten(-2).median(-1).values
    rows, columns = colours.shape[2:]
    depth = (colours * draw.tensor(1.2 * draw.normal(3))).sum(1, keepdim=True)
    depth = depth + 0.4 * smooth_field(draw, rows, columns, int(draw.rng.integers(2, 6)))
    depth = depth - depth.flatten(1).median(1).values[:, None, None, None]
    steps = draw.tensor(draw.choice([1.5, 3.0, 6.0, 100.0]))
    depth = (depth * steps).round() / steps
    near = F.interpolate(depth, (height, width), mode="bilinear", align_corners=False)
    ys, xs = pixel_grid(height, width, draw.device)
    by = near * draw.tensor(baseline)
    moved = warped(live, xs + by[:, :1], ys + by[:, 1:], "reflection")
    return moved, -by


def layer(
    draw: Draw, height: int, width: int, colour: Texture, x: Tensor, y: Tensor, by: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One near object for each scene at x, y: cover and colour, and both moved by (N, 2, 1, 1)."""
    outline, bar = Outline(draw, height, width), Bar(draw, height, width)
    round_ = draw.tensor(draw.chance(0.6))
    flat = draw.chance(0.3)
    contrast = draw.tensor(np.where(flat, 0.5, 1))
    offset = draw.tensor(draw.uniform(0, 0.5, 3) * flat[:, None])
    sigma = torch.full_like(by[:, :1], 0.6)
    out = []
    for u, v in ((x, y), (x - by[:, :1], y - by[:, 1:])):
        cover = torch.where(round_, outline(u, v, sigma), bar(u, v, sigma))
        out += [cover, colour(u, v) * contrast + offset]
    return out[0], out[1], out[2], out[3]


def misalign(
    draw: Draw, plate: Tensor, strength: Values, reduced: Values
) -> tuple[Tensor, Tensor, Tensor]:
    """The residual of the alignment, EXACT or as `places.misalign`: the plate warped, its coverage,
    and the flow (N, 2, H, W): what is now at x was at x + flow."""
    height, width = plate.shape[2:]
    ys, xs = pixel_grid(height, width, draw.device)
    exact = draw.chance(EXACT)
    bent = draw.chance(0.5 * strength) & ~exact
    amplitude = draw.tensor(draw.uniform(0.002, 0.015) * width * strength * bent)
    cells = int(draw.rng.integers(3, 7))  # one for the batch
    wave = smooth_field(draw, height, width, cells, channels=2) * amplitude
    x, y = xs + wave[:, :1], ys + wave[:, 1:]
    reach = draw.choice([0, 0.0015, 0.004, 0.012, 0.025], [0.15, 0.35, 0.32, 0.13, 0.05]) * width
    reach = np.where(exact, draw.uniform(0, EXACTLY / reduced), reach * strength)[:, None, None]
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float64)
    moved = corners + reach * (draw.normal(4, 2) + 0.15 * draw.jitter(4, 2))
    x, y = projected(draw, homographies(corners, moved), x, y)
    coverage = ((x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)).float()
    flow = torch.cat([x - xs, y - ys], 1)
    return warped(plate, x, y, "reflection"), coverage, flow


def homographies(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """(N, 9) from four points (4, 2) to N times four points (N, 4, 2)."""
    n = len(target)
    points = np.broadcast_to(source, target.shape)
    ones, zeros = np.ones((n, 4, 1)), np.zeros((n, 4, 3))
    known = np.concatenate([points, ones], 2)
    across = np.concatenate([known, zeros, -target[..., :1] * points], 2)
    down = np.concatenate([zeros, known, -target[..., 1:] * points], 2)
    right = np.concatenate([target[..., 0], target[..., 1]], 1)
    solved = np.linalg.solve(np.concatenate([across, down], 1), right[..., None])
    return np.concatenate([solved[..., 0], np.ones((n, 1))], 1)


def projected(draw: Draw, homography: np.ndarray, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Where N homographies, (N, 9) or (N, 3, 3), take x, y."""
    h = draw.tensor(homography.reshape(-1, 9)).reshape(-1, 9, 1, 1).split(1, 1)
    scale = h[6] * x + h[7] * y + h[8]
    return (h[0] * x + h[1] * y + h[2]) / scale, (h[3] * x + h[4] * y + h[5]) / scale


def with_figure(draw: Draw, place: Tensor, material: DeviceMaterial) -> Tensor:
    """Somebody who is a part of the place."""
    nothing_held, plain = np.zeros(len(draw), bool), np.ones(len(draw), bool)
    height, width = place.shape[2:]
    layer = put(draw, material, height, width, nothing_held, plain)
    colour, alpha = layer[:, :3], layer[:, 3:]
    tint = draw.tensor(draw.uniform(0.6, 1.2, 1) * (1 + 0.1 * draw.normal(3)))
    grey = torch.minimum((colour.mean(1, keepdim=True) * tint).clamp(min=0), alpha)
    colour = torch.where(draw.tensor(draw.chance(STONE)) > 0, grey, colour)
    return place * (1 - alpha) + colour


def from_elsewhere(draw: Draw, view: Tensor) -> Tensor:
    """`places.from_elsewhere`."""
    height, width = view.shape[2:]
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float64)
    middle = np.array([width, height]) / 2
    turned = draw.chance(TURNED)
    angle = np.where(turned, draw.uniform(-np.pi, np.pi), 0.12 * draw.normal())
    c, s = np.cos(angle), np.sin(angle)
    turns = np.stack([np.stack([c, s], -1), np.stack([-s, c], -1)], -2)
    size = np.exp(draw.uniform(-0.6, 0.6))[:, None, None]
    moved = middle * (1 + 0.4 * draw.normal(1, 2)) + ((corners - middle) @ turns) * size
    moved = moved + 0.1 * draw.normal(4, 2) * middle
    there = homographies(corners, moved).reshape(-1, 3, 3)
    ys, xs = pixel_grid(height, width, draw.device)
    return warped(view, *projected(draw, np.linalg.inv(there), xs, ys), "reflection")


def real_pairs(
    draw: Draw, material: DeviceMaterial, height: int, width: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The same random windows of both pictures of real pairs; how far they are off is not known:
    the displacement is 0, so that the aligner's field changes little."""
    views = material.views
    assert views is not None
    pair = draw.integers(0, len(views) // 2)
    rows, columns = views.sizes[2 * pair].T
    scale = np.minimum(rows / height, columns / width) * draw.uniform(0.45, 1.0)
    left = draw.uniform(0, 1) * (columns - width * scale) + 0.004 * columns * draw.drift()
    top = draw.uniform(0, 1) * (rows - height * scale)
    mirror = draw.chance(0.5)
    ys, xs = pixel_grid(height, width, draw.device)
    xs = torch.where(draw.tensor(mirror), width - 1 - xs, xs)
    step = draw.tensor(scale)
    x, y = draw.tensor(left) + (xs + 0.5) * step - 0.5, draw.tensor(top) + (ys + 0.5) * step - 0.5
    x, y = torch.broadcast_tensors(x, y)
    live, plate = (views(draw.index(2 * pair + k), x, y, step.flatten()) for k in (0, 1))
    return live[:, :3], plate[:, :3], plate[:, 3:], torch.zeros_like(live[:, :2])


def uncovered(draw: Draw, coverage: Tensor) -> Tensor:
    """One or two half-planes miss."""
    height, width = coverage.shape[2:]
    ys, xs = pixel_grid(height, width, draw.device)
    for k in range(2):
        angle = draw.choice([0, 0.5, 1, 1.5]) * np.pi + 0.1 * draw.normal()
        edge = np.where((k == 0) | draw.chance(0.5), draw.uniform(-0.1, 0.5), 9)
        c, s, far = (draw.tensor(v) for v in (np.cos(angle), np.sin(angle), edge))
        along = (xs / width - 0.5) * c + (ys / height - 0.5) * s
        coverage = coverage * (along <= far)
    return coverage
