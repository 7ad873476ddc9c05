"""`scenes.py` for batches on a device: the same scenes, N at a time, in torch alone.

Thousands of scenes a second on a large GPU, so that training never waits. The kinds of plate and
their shares are those of `scenes.PLATES`. With `frames` above 1 a batch holds short clips: the
camera and the people move on smoothly, the alignment trembles, the noise is new in each frame.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from engine.training.batches import Phase, batch_shape, network_inputs
from engine.training.gpu_align import aligned, filled, warped
from engine.training.gpu_camera import Lens, Light, expose, pixel_grid
from engine.training.gpu_draw import Draw, Values, blur
from engine.training.gpu_material import DeviceMaterial
from engine.training.gpu_people import Trust, make_people
from engine.training.gpu_places import Places, make_places
from engine.training.gpu_shapes import Looks, by_look
from engine.training.scenes import (
    ALIGNED_SHARE,
    FAR_SHARE,
    FILMED,
    FLOODED,
    LOOKS,
    PLATES,
    SIGNS,
)
from howard.matte.holes import GUESS_PERCENT, REACH


class Batch(NamedTuple):
    """As `scenes.Sample`, but tensors (N, C, H, W); the frames of a clip in a row."""

    frame: Tensor
    plate: Tensor
    coverage: Tensor
    alpha: Tensor
    foreground: Tensor
    unaligned: Tensor


class Composites(NamedTuple):
    """Before the light and the sensor: frame = alpha foreground + (1 - alpha) live, through a
    lens."""

    places: Places
    live: Tensor
    frame: Tensor
    foreground: Tensor
    alpha: Tensor


def batch(
    seed: int,
    count: int,
    height: int,
    width: int,
    material: DeviceMaterial,
    device: torch.device | str,
    plates: dict[str, float] = PLATES,
    frames: int = 1,
    ratio: float = 1.0,
) -> Batch:
    """The scenes of this seed, `count` clips of `frames`. ratio: as of `scenes.sample`."""
    draw = Draw(seed, count, frames, device)
    kind = draw.choice(list(plates), list(plates.values()))
    looks = draw.choice(list(LOOKS), list(LOOKS.values()))
    reduced = np.maximum(1, draw.choice(FILMED) / ratio).astype(np.float32)
    scene = composites(draw, material, height, width, kind, looks, reduced)
    return photographed(draw, scene, kind, looks, reduced)


def photographed(
    draw: Draw, scene: Composites, kind: np.ndarray, looks: Looks, reduced: Values
) -> Batch:
    """What the cameras of both takes, and then the aligner, make of it."""
    height, width = scene.alpha.shape[2:]
    plain = looks == "plain"
    shot_light = Light(draw, height, width, draw.chance(0.5).astype(np.float32))
    shot_light.night(draw.chance(0.15) & ~plain)
    shot_light.lamps(draw.chance(0.25) & ~plain)
    shot_light.black_level(draw.chance(0.2) & ~plain)
    strength = draw.choice([0.0, 0.3, 1.0], [0.3, 0.4, 0.3])
    plate_light = Light(draw, height, width, strength)
    plate_light.lamps(draw.chance(np.where(plain, 0.15, 0.4)))
    plate_light.signs(draw.chance(by_look(SIGNS, looks)))
    plate_light.floodlight(draw.chance(by_look(FLOODED, looks)))
    frame = expose(draw, shot_light(scene.frame), reduced)
    lens = Lens(draw, reduced)
    plate = plate_light(shot_light(lens(scene.places.plate)))
    far = draw.chance(FAR_SHARE)
    plate = draw.change(plate, far, lambda d, x: blur(d, x, d.uniform(0.0015, 0.006) * width))
    plate = expose(draw, plate, reduced)
    view = scene.places.unaligned
    seen = plate_light(shot_light(lens(view)))
    unaligned = expose(draw, seen, reduced) * (view.amax(1, keepdim=True) > 0)
    covered = (scene.places.coverage > 0.99).float()
    refined, there = draw.chance(ALIGNED_SHARE), kind != "missing"
    if there.any():
        at, part = draw.index(np.flatnonzero(there)), draw.only(there)
        known = (frame, plate, covered, scene.alpha, scene.places.displacement)
        which = refined[there], scene.places.plausible[there]
        moved, here = aligned(part, *which, *(x[at] for x in known))
        plate, covered = plate.index_copy(0, at, moved), covered.index_copy(0, at, here)
    plate, reached = filled(plate, covered, REACH * max(height, width))
    guess = GUESS_PERCENT / 100
    coverage = guess * reached + (1 - guess) * covered
    foreground = shot_light(scene.foreground)
    return Batch(frame, plate * reached, coverage, scene.alpha, foreground, unaligned)


def composites(
    draw: Draw,
    material: DeviceMaterial,
    height: int,
    width: int,
    kind: np.ndarray,
    looks: Looks,
    reduced: Values,
) -> Composites:
    """People in places, as the lens shows them. kind: (N,) of the plates."""
    places = make_places(draw, material, height, width, kind, looks, reduced)
    trust = Trust(places.reliable, places.plausible, looks)
    people, nearest = make_people(draw, material, places.live, trust)
    live = cast_shadow(draw, places.live, nearest)
    people = people.clamp(0, 1)
    behind = live * (1 - people[:, 3:])
    seen = Lens(draw, reduced)(torch.cat([people, behind], 1)).clamp(0, 1)
    colour, alpha, frame = seen[:, :3], seen[:, 3:4], seen[:, :3] + seen[:, 4:]
    straight = torch.where(alpha > 0.01, colour / alpha.clamp(min=0.01), frame).clamp(0, 1)
    return Composites(places, live, frame, straight, alpha)


def cast_shadow(draw: Draw, live: Tensor, nearest: Tensor) -> Tensor:
    """The nearest person's shadow darkens the place, in the shot alone; it is background."""
    which = draw.chance(0.35)
    if not which.any():
        return live
    shadows = nearest[draw.index(np.flatnonzero(which))]
    return draw.change(live, which, lambda d, x: shadowed(d, x, shadows))


def shadowed(draw: Draw, live: Tensor, shadow: Tensor) -> Tensor:
    """live (N, 3, H, W) under the sheared and squashed shadow (N, 1, H, W)."""
    height, width = live.shape[2:]
    shear, squash = 0.6 * draw.normal(), draw.uniform(0.3, 1.1)
    across = 0.15 * draw.normal() * width - shear * height * 0.7
    ys, xs = pixel_grid(height, width, draw.device)
    slope, tall, left = (draw.tensor(v) for v in (shear, squash, across))
    y = (ys - height * (1 - tall)) / tall
    x, y = torch.broadcast_tensors(xs - slope * y - left, y)
    soft = blur(draw, warped(shadow, x, y, "zeros"), draw.uniform(0.004, 0.06) * width)
    return live * (1 - draw.tensor(draw.uniform(0.1, 0.6)) * soft)


def gpu_batches(
    material: DeviceMaterial,
    device: str,
    size: int,
    phase: Phase,
    first_seed: int,
    frames: int = 1,
) -> Iterator[tuple[Tensor, ...]]:
    """As `batches.Scenes`: endless batches as the training takes them; with `frames`, of that many
    in clips."""
    rng = np.random.default_rng(first_seed)
    for seed in iter(lambda: int(rng.integers(2**62)), None):
        height, width, ratio, count = batch_shape(rng, size, phase)
        count = max(2, round(count / frames))
        scene = batch(seed, count, height, width, material, device, phase.plates, frames, ratio)
        yield network_inputs(*scene, ratio)
