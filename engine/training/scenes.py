"""One training sample: a frame, the plate as Howard's aligner would hand it over, the truth.

The place is filmed twice. Between the two takes near objects move by parallax, the whole
plate is off by a residual homography and a smooth flow (rolling shutter, lens), the light
differs, parts are not covered; in a share of the samples the plate is missing or of another
place, so that the network also learns what people look like.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.training import camera, textures
from engine.training.clothes import adorned, camouflage, patterned, robed
from engine.training.material import Material
from engine.training.people import Foreground, drawn, put
from engine.training.places import Place, make_place, photograph
from engine.training.textures import Image
from engine.training.things import carried, hold
from howard.align.comparison import PERSON_ALPHA, PERSON_MARGIN
from howard.align.field import displaced, residual_field
from howard.align.light import gain_and_bias, light_field
from howard.align.view import view_of, view_size
from howard.matte.holes import GUESS_PERCENT, REACH, fill_holes

LOOKS = {"plain": 0.43, "stage": 0.24, "odd": 0.33}
"""What scenes look like, and how often. Plain: what most people film, a photographed place in its
own light and people as they were rendered, perhaps ADORNED. Stage: a place full of lamps, people
in costumes. Odd: disguised in every way there is."""
SIGNS = {"plain": 0.0, "stage": 0.3, "odd": 0.08}
"""How often what is bright in a place has another colour in the plate."""
FLOODED = {"plain": 0.04, "stage": 0.4, "odd": 0.12}
"""How often a building is lit in one of the takes alone."""
DRESSED = {"plain": 0.0, "stage": 0.5, "odd": 0.2}
"""How often people of these looks wear robes, and how often patterns."""
HIDDEN = {"plain": 0.0, "stage": 0.5, "odd": 0.3}
"""How often they have the colour of the place; where no plate could tell, HIDDEN_ALONE."""
HIDDEN_ALONE = 0.1
ADORNED = 0.35
"""How often they wear straps, badges and the like, whatever the look."""
CARRIED = 0.2
"""How often they carry something or wear it on the head; where no plate could tell,
CARRIED_ALONE."""
CARRIED_ALONE = 0.1
FAR_SHARE = 0.1
"""Of the plates, were taken from so far away or so obliquely that they lack detail."""
ALIGNED_SHARE = 0.6
"""Of the plates, go through the aligner's refinements beyond one plane and one light; the rest are
as first found, in the frame's light."""


class Sample(NamedTuple):
    """frame, plate, foreground, unaligned: float32 RGB (H, W, 3); the others float32 (H, W)."""

    frame: Image
    plate: Image
    coverage: NDArray[np.float32]
    alpha: NDArray[np.float32]
    foreground: Image
    unaligned: Image
    """The clean plate before any warp, for where that covers nothing; 0 where it is not known."""


FILMED = (1.2, 2.2, 3.3, 3.3)
"""How much larger than the base's pictures those are that a camera films: 1080p is 3.3 times. What
a camera does to its pixels is so much finer in the base's."""
PLATES = {"near": 0.43, "pair": 0.12, "aligned": 0.20, "missing": 0.15, "wrong": 0.10}
"""How a sample's plate comes about, and how often."""
USELESS_PLATES = {"near": 0.26, "pair": 0.12, "aligned": 0.12, "missing": 0.22, "wrong": 0.28}
"""The same while a network learns what people look like: half of the plates are of no use."""


def sample(
    seed: int,
    height: int,
    width: int,
    material: Material,
    plates: dict[str, float] = PLATES,
    ratio: float = 1.0,
) -> Sample:
    """The scene of this seed. ratio: of the picture's size to that of the base's."""
    rng = np.random.default_rng(seed)
    kind = rng.choice(list(plates), p=np.array(list(plates.values())) / sum(plates.values()))
    look = rng.choice(list(LOOKS), p=list(LOOKS.values()))
    plain = look == "plain"
    reduced = max(1.0, rng.choice(FILMED) / ratio)
    place = make_place(rng, height, width, material, kind, look, reduced)
    people = make_people(rng, height, width, material, place, look)
    live = cast_shadow(rng, place.live, people)
    frame, colour, alpha = composite(live, people, camera.Lens(rng, reduced))
    plate_lens = camera.Lens(rng, reduced)
    strength = rng.choice([0.0, 0.3, 1.0], p=[0.3, 0.4, 0.3])
    shot_light = camera.Light(rng, height, width, 1.0 if rng.random() < 0.5 else 0.0)
    if not plain and rng.random() < 0.15:
        shot_light.night(rng)
    if not plain and rng.random() < 0.25:
        shot_light.lamps(rng)
    if not plain and rng.random() < 0.2:
        shot_light.black_level(rng)
    plate_light = camera.Light(rng, height, width, strength)
    if rng.random() < (0.15 if plain else 0.4):
        plate_light.lamps(rng)
    if rng.random() < SIGNS[look]:
        plate_light.signs(rng)
    if rng.random() < FLOODED[look]:
        plate_light.floodlight(rng)
    frame = camera.expose(rng, shot_light(frame), reduced)
    plate = plate_light(shot_light(plate_lens(place.plate)))
    if rng.random() < FAR_SHARE:
        plate = camera.blur(plate, rng.uniform(0.0015, 0.006) * width)
    plate = camera.expose(rng, plate, reduced)
    unaligned = np.zeros_like(plate)
    if place.unaligned is not None:
        shown = place.unaligned.any(-1, keepdims=True)
        seen = plate_light(shot_light(plate_lens(place.unaligned)))
        unaligned = camera.expose(rng, seen, reduced) * shown
    covered = (place.coverage > 0.99).astype(np.float32)
    if kind != "missing":
        refined = bool(rng.random() < ALIGNED_SHARE)
        plate, covered = as_aligned(rng, frame, plate, covered, alpha, refined)
    plate, reached = fill_holes(plate, covered.astype(np.uint8), REACH * max(height, width))
    guess = GUESS_PERCENT / 100
    coverage = guess * reached + (1 - guess) * covered
    plate = plate * reached[..., None]
    return Sample(frame, plate, coverage.astype(np.float32), alpha, shot_light(colour), unaligned)


def as_aligned(
    rng: np.random.Generator,
    frame: Image,
    plate: Image,
    covered: NDArray[np.float32],
    alpha: NDArray[np.float32],
    refined: bool,
) -> tuple[Image, NDArray[np.float32]]:
    """Plate and coverage after what Howard's aligner does beyond the homography: light and, if
    refined, a field of displacements and local light; most often with the person known from the
    frame before."""
    height, width = alpha.shape
    size = view_size((width, height))
    person: NDArray[np.uint8] | None = None
    if rng.random() < 0.8:
        side = 2 * max(1, round(PERSON_MARGIN * max(size))) + 1
        near = cv2.dilate(alpha, np.ones((side, side), np.uint8)) > PERSON_ALPHA
        mask = cv2.resize(near.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
        person = np.asarray(mask, np.uint8)
    small = [cv2.resize(x, size, interpolation=cv2.INTER_AREA) for x in (frame, plate, covered)]
    here = (small[2] > 0.99).astype(np.uint8)
    seen = here == 1 if person is None else (here == 1) & (person == 0)
    light = gain_and_bias(small[0][seen][::5] * 255, small[1][seen][::5] * 255)
    match = lambda x: np.clip(x * light[:, 0] + light[:, 1] / 255, 0, 1).astype(np.float32)  # noqa: E731
    plate = match(plate)
    if not refined:
        return plate, covered
    small[1] = match(small[1])
    levels, near_view = ((x * 255 + 0.5).astype(np.uint8) for x in small[:2])
    view = view_of(levels)
    field = residual_field(view, near_view, here, person)
    if field is not None:
        near_view, here = displaced(near_view, field), displaced(here, field)
        scale = np.array([width / size[0], height / size[1]], np.float32)
        flow = np.asarray(cv2.resize(field, (width, height)), np.float32) * scale
        plate = displaced(plate, flow)
        covered = (displaced(covered, flow) > 0.99).astype(np.float32)
    gain = light_field(view, near_view, here, person)
    if gain is not None:
        plate = np.clip(plate * cv2.resize(gain, (width, height)), 0, 1)
    return plate, covered


def make_people(
    rng: np.random.Generator,
    height: int,
    width: int,
    material: Material,
    place: Place,
    look: str,
) -> list[Foreground]:
    """None to three foregrounds, each (H, W, 4) premultiplied, the nearest last."""
    plain = look == "plain"
    count = rng.choice([0, 1, 2, 3], p=[0.12, 0.67, 0.16, 0.05])
    layers = []
    for _ in range(count):
        # Without a plate to trust only people can be told from the place: draw no objects there.
        objects = 0.35 if place.reliable and not plain else 0
        if material.people is None or rng.random() < objects:
            layer = drawn(rng, height, width)
        else:
            layer = put(rng, height, width, material.people.pick(rng), plain)
            if rng.random() < (0.4 if place.plausible and not plain else 0.1):
                layer = hold(rng, layer)
        if not plain:
            layer = disguised(rng, layer, place, material, look)
        if rng.random() < ADORNED:
            layer = adorned(rng, layer, place.live)
        if rng.random() < (CARRIED if place.plausible else CARRIED_ALONE):
            cloth = lambda: fabric(rng, height, width, material, look)  # noqa: E731
            layer = carried(rng, layer, place.live, cloth)
        if rng.random() < 0.15:
            layer = camera.motion_blur(layer, rng.uniform(2, 0.05 * width), rng.uniform(0, np.pi))
        elif rng.random() < 0.15:
            layer = camera.blur(layer, rng.uniform(0.4, 1.5))
        layers.append(layer)
    return layers


def disguised(
    rng: np.random.Generator, layer: Foreground, place: Place, material: Material, look: str
) -> Foreground:
    """Perhaps in other clothes, perhaps in the colour of what is behind."""
    height, width = layer.shape[:2]
    if rng.random() < DRESSED[look]:
        layer = robed(rng, layer, fabric(rng, height, width, material, look))
    if rng.random() < DRESSED[look]:
        layer = patterned(rng, layer, fabric(rng, height, width, material, look))
    if rng.random() < (HIDDEN[look] if place.plausible else HIDDEN_ALONE):
        layer = camouflage(rng, layer, place.live)
    return layer


def fabric(
    rng: np.random.Generator, height: int, width: int, material: Material, look: str
) -> Image:
    """To dress people in: costumes on a stage; else a picture of a place once in three times, and
    cloth of any kind."""
    if look == "stage":
        return textures.costume(rng, height, width)
    if rng.random() < 0.33:
        return photograph(rng, height, width, material)
    return textures.cloth(rng, height, width)


def cast_shadow(rng: np.random.Generator, live: Image, people: list[Foreground]) -> Image:
    """A person's shadow darkens the place, in the shot alone; it is background."""
    if not people or rng.random() > 0.35:
        return live
    height, width = live.shape[:2]
    shadow = people[-1][..., 3]
    shear, squash = rng.normal(0, 0.6), rng.uniform(0.3, 1.1)
    across = rng.normal(0, 0.15) * width
    move = np.array([[1, shear, across], [0, squash, height * (1 - squash)]], np.float32)
    move[0, 2] -= shear * height * 0.7
    moved = np.asarray(cv2.warpAffine(shadow, move, (width, height)), np.float32)
    soft = camera.blur(moved, rng.uniform(0.004, 0.06) * width)
    return (live * (1 - rng.uniform(0.1, 0.6) * soft[..., None])).astype(np.float32)


def composite(
    live: Image, layers: list[Foreground], lens: Callable[[Image], Image] = lambda seen: seen
) -> tuple[Image, Image, NDArray[np.float32]]:
    """Frame, straight foreground colour (the frame's own where there is none) and alpha, all as
    the lens shows them."""
    colour = np.zeros_like(live)
    alpha = np.zeros(live.shape[:2], np.float32)
    for layer in layers:
        keep = 1 - layer[..., 3]
        colour = colour * keep[..., None] + layer[..., :3]
        alpha = np.minimum(alpha * keep + layer[..., 3], 1)  # a rounding beyond it, else
    frame = lens(live * (1 - alpha[..., None]) + colour)
    colour, alpha = lens(colour), np.minimum(lens(alpha), 1)
    straight = np.where(alpha[..., None] > 0.01, colour / np.maximum(alpha, 0.01)[..., None], frame)
    return frame.astype(np.float32), np.clip(straight, 0, 1).astype(np.float32), alpha
