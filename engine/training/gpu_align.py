"""What Howard's aligner makes of a plate, for batches on a device, in place of
`scenes.as_aligned`.

The light is matched by the aligner's own arithmetic (`howard.align.light`), a Gaussian in place of
its edge-aware smoother. The field of displacements needs dense flow, which is not to be had in a
batch: it is modelled from the true displacements.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from engine.training.gpu_camera import pixel_grid
from engine.training.gpu_draw import Draw, Which, blur, smooth_field
from howard.align import light, view
from howard.align.comparison import PERSON_ALPHA, PERSON_MARGIN

KNOWN = 0.8
"""Of the plates are aligned with the person known from the frame before."""
VIEW_SIDE = 240
"""Longest side of the views in which the light is compared: half the aligner's, at a quarter of
the cost."""
GRADUAL = 0.06
"""Standard deviation of the smoother of the light, in longest sides."""
FAR_AWAY = -1e6
"""Stands for the place of a pixel that there is not."""
FAR = 0.065
"""Displacements, in widths, of which dense flow finds half."""


def aligned(
    draw: Draw,
    refined: Which,
    plausible: Which,
    frame: Tensor,
    plate: Tensor,
    covered: Tensor,
    alpha: Tensor,
    displacement: Tensor,
) -> tuple[Tensor, Tensor]:
    """Plate (N, 3, H, W) and coverage (N, 1, H, W) in the frame's light and, where `refined`, after
    the aligner's refinements. displacement
    (N, 2, H, W): what is at x of the frame is at x + displacement of the plate, if that is
    `plausible`: in a plate of another place nothing is found."""
    height, width = alpha.shape[2:]
    margin = max(1, round(PERSON_MARGIN * max(height, width)))
    near = F.max_pool2d(alpha, 2 * margin + 1, 1, margin) > PERSON_ALPHA
    open_ = 1 - near.float() * draw.tensor(draw.chance(KNOWN))
    plate = matched(frame, plate, covered * open_)
    # A person, known or not, matches nothing in the plate and is not followed.
    field = modelled_field(draw, displacement, covered * open_ * (alpha < PERSON_ALPHA))
    field = field * draw.tensor((refined & plausible).astype(np.float32))
    moved = sampled(torch.cat([plate, covered], 1), field)
    plate, covered = moved[:, :3], (moved[:, 3:] > 0.99).float()
    gain = light_field(draw, frame, plate, covered, open_)
    gain = gain ** draw.tensor(refined.astype(np.float32))
    return (plate * gain).clamp(0, 1), covered


def filled(plate: Tensor, covered: Tensor, reach: float) -> tuple[Tensor, Tensor]:
    """As `howard.matte.holes.fill_holes`, by jump flooding (Rong & Tan 2006): plate (N, 3, H, W)
    with the colours of the nearest covered pixels in its holes, up to `reach` pixels from those;
    and (N, 1, H, W), 1 where it was covered or is filled."""
    height, width = plate.shape[2:]
    ys, xs = pixel_grid(height, width, plate.device)
    place = torch.cat(torch.broadcast_tensors(xs, ys + 0 * covered), 1)
    nearest = torch.where(covered > 0, place, FAR_AWAY)
    step = 2 ** math.ceil(math.log2(max(reach, 1)))
    while step >= 1:
        around = F.pad(nearest, (step,) * 4, value=FAR_AWAY)
        for dy in (0, step, 2 * step):
            for dx in (0, step, 2 * step):
                other = around[:, :, dy : dy + height, dx : dx + width]
                nearest = torch.where(
                    squared(other - place) < squared(nearest - place), other, nearest
                )
        step //= 2
    reached = (squared(nearest - place) <= reach**2).to(plate.dtype)
    index = (nearest[:, 1:] * width + nearest[:, :1]) * reached
    colours = plate.flatten(2).gather(2, index.long().flatten(2).expand(-1, 3, -1))
    return torch.where(reached > covered, colours.reshape(plate.shape), plate), reached


def squared(vectors: Tensor) -> Tensor:
    """(N, 2, H, W) -> squared lengths (N, 1, H, W)."""
    return (vectors * vectors).sum(1, keepdim=True)


def modelled_field(draw: Draw, displacement: Tensor, seen: Tensor) -> Tensor:
    """The displacements that the aligner finds, (N, 2, H, W) in pixels. seen: (N, 1, H, W).

    Measured with `scenes.as_aligned` on 120 scenes of 288 x 224: outside people it takes back 0.66
    of a displacement of up to 4 % of the width (0.5 to 0.9, by texture), 0.15 of one beyond 6 %;
    within 3 % of a layer's edge the place behind moves along (error 3.7 pixels where 2.0 were, 1.3
    at 16 pixels); inside the person 0.24 at the edge, 0.08 at 3 %, 0.03 at 8 %.
    """
    height, width = seen.shape[2:]
    length = torch.linalg.vector_norm(displacement, dim=1, keepdim=True)
    found = displacement / (1 + (length / (FAR * width)) ** 6)
    trust = torch.sigmoid(1.1 + smooth_field(draw, height, width, 6))
    # What is displaced further is nearer, and takes its surroundings along.
    weight = seen * (1 + length / (0.01 * width)).clamp(max=8)
    reach = draw.uniform(0.008, 0.03) * width
    spread = blur(draw, torch.cat([found * weight, weight, seen], 1), reach)
    mean, near = spread[:, :2] / (spread[:, 2:3] + 1e-3), spread[:, 3:]
    wrong = smooth_field(draw, height, width, 16, channels=2) * (0.0008 * width)
    return (mean * trust + wrong) * near / (near + 0.2)


def sampled(pictures: Tensor, field: Tensor) -> Tensor:
    """Pictures (N, C, H, W) at x + field, bilinear; 0 outside."""
    height, width = pictures.shape[2:]
    ys, xs = pixel_grid(height, width, pictures.device)
    return warped(pictures, xs + field[:, :1], ys + field[:, 1:], "zeros")


def warped(pictures: Tensor, x: Tensor, y: Tensor, outside: str) -> Tensor:
    """Pictures (N, C, H, W) at x, y (N, 1, h, w) in pixels, bilinear; `outside` as grid_sample."""
    height, width = pictures.shape[2:]
    grid = torch.cat([x * (2 / (width - 1)) - 1, y * (2 / (height - 1)) - 1], 1)
    grid = grid.permute(0, 2, 3, 1)
    return F.grid_sample(pictures, grid, padding_mode=outside, align_corners=True)


def matched(frame: Tensor, plate: Tensor, seen: Tensor) -> Tensor:
    """The plate with the gain and bias per channel that `light.gain_and_bias` fits where seen."""
    x, y = 255 * plate, 255 * frame
    usable = seen * ((x > 2) & (x < 253) & (y > 2) & (y < 253))
    total = lambda v: v.sum((2, 3), keepdim=True)  # noqa: E731
    few = total(usable) < light.FEWEST_PIXELS
    bright = usable * (x > light.DARK_LEVEL)
    prior = (total(bright * y) + 1) / (total(bright * x) + 1)
    gain, bias, scale = prior.clamp(*light.GAIN_LIMITS), 0.0, 4 * light.SCALE_LEVELS
    for _ in range(light.ROUNDS):
        weight = usable / (1 + ((y - gain * x - bias) / scale) ** 2) ** 2
        sum_ = total(weight) + 1e-3
        mean_x, mean_y = total(weight * x) / sum_, total(weight * y) / sum_
        variance = total(weight * (x - mean_x) ** 2) / sum_
        covariance = total(weight * (x - mean_x) * (y - mean_y)) / sum_
        gain = (covariance + light.SHRINKAGE * prior) / (variance + light.SHRINKAGE)
        gain = gain.clamp(*light.GAIN_LIMITS)
        bias = mean_y - gain * mean_x
        scale = max(light.SCALE_LEVELS, scale / 2)
    return torch.where(few, plate, (plate * gain + bias / 255).clamp(0, 1))


def light_field(draw: Draw, frame: Tensor, plate: Tensor, covered: Tensor, open_: Tensor) -> Tensor:
    """Gain (N, 3, H, W) by which the light differs from place to place, as `light.light_field`; 1
    where one gain is enough."""
    size = frame.shape[2:]
    scale = min(1.0, VIEW_SIDE / max(size))
    small = [
        F.interpolate(v, size=[max(16, round(s * scale)) for s in size], mode="area")
        for v in (frame, plate, covered, open_)
    ]
    longest = max(small[0].shape[2:])
    trust = agreement(*(texture(v) for v in small[:2])) * (small[2] > 0.99) * (small[3] > 0.99)
    side = max(3, round(longest * light.PATCH)) | 1
    means = [box(255 * v, side) + light.DARKNESS for v in small[:2]]
    gain = torch.log(means[0] / means[1])
    found = trust.sum((2, 3), keepdim=True).clamp(min=1)
    off = (means[0] - means[1]).abs().amax(1, keepdim=True).clamp(max=light.MOST_LEVELS)
    wrong = (trust * off).sum((2, 3), keepdim=True) / found
    sigma = np.full(len(draw), GRADUAL * longest, np.float32)
    spread = blur(draw, torch.cat([gain * trust, trust], 1), sigma)
    gain = spread[:, :3] / (spread[:, 3:] + light.NO_EVIDENCE)
    gain = gain.clamp(*light.LOG_GAIN_LIMITS) * (wrong >= light.NEEDED_LEVELS)
    return torch.exp(F.interpolate(gain, size=size, mode="bilinear", align_corners=False))


def box(pictures: Tensor, side: int) -> Tensor:
    """Mean over a square, reflected at the borders."""
    r = side // 2
    padded = F.pad(pictures, (r, r, r, r), mode="reflect")
    return F.avg_pool2d(F.avg_pool2d(padded, (side, 1), 1), (1, side), 1)


def texture(colour: Tensor) -> Tensor:
    """`view.texture_of`: luma minus its local mean, over its local deviation, (N, 1, H, W)."""
    red, green, blue = (255 * colour).split(1, 1)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    side = max(3, round(max(luma.shape[2:]) * view.NEIGHBOURHOOD)) | 1
    mean = box(luma, side)
    deviation = (box(luma * luma, side) - mean * mean).clamp(min=0).sqrt()
    normal = (luma - mean) * (view.CONTRAST / (deviation + view.CONTRAST_FLOOR)) + 128
    return normal.clamp(0, 255)


def agreement(a: Tensor, b: Tensor) -> Tensor:
    """`view.agreement`: how surely two textures show the same surface, (N, 1, H, W)."""
    side = max(5, round(max(a.shape[2:]) * view.AGREEMENT_WINDOW)) | 1
    parts = box(torch.cat([a, b, a * a, b * b, a * b], 1), side).split(1, 1)
    mean_a, mean_b, mean_aa, mean_bb, mean_ab = parts
    flat = view.FLATNESS**2
    spread = (mean_aa - mean_a * mean_a + flat) * (mean_bb - mean_b * mean_b + flat)
    correlation = (mean_ab - mean_a * mean_b) / spread.clamp(min=1).sqrt()
    low, high = view.CORRELATION
    return ((correlation - low) / (high - low)).clamp(0, 1)
