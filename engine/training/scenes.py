"""One training sample: a frame, the plate as Howard's aligner would hand it over, the truth.

The place is filmed twice. Between the two takes near objects move by parallax, the whole
plate is off by a residual homography and a smooth flow (rolling shutter, lens), the light
differs, parts are not covered; in a share of the samples the plate is missing or of another
place, so that the network also learns what people look like.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.training import camera, textures
from engine.training.people import (
    Foreground,
    People,
    camouflage,
    drawn,
    hold,
    outline,
    patterned,
    put,
    robed,
)
from engine.training.textures import Image
from engine.training.views import ViewPair
from howard.align.comparison import PERSON_ALPHA, PERSON_MARGIN
from howard.align.field import displaced, residual_field
from howard.align.light import gain_and_bias, light_field
from howard.align.view import view_of, view_size
from howard.matte.holes import GUESS_PERCENT, REACH, fill_holes

MARGIN = 0.12
"""Share of the size that the place extends beyond the frame, for warps to draw from."""
PLAIN_SHARE = 0.4
"""Of the scenes, show what most people film: a photographed place in its own light and people as
they were rendered. The others are disguised in every way there is."""
FAR_SHARE = 0.1
"""Of the plates, were taken from so far away or so obliquely that they lack detail."""
ALIGNED_SHARE = 0.6
"""Of the plates, go through the aligner's own refinements; the rest are as first found."""


class Sample(NamedTuple):
    """frame, plate, foreground: float32 RGB (H, W, 3); coverage, alpha: float32 (H, W)."""

    frame: Image
    plate: Image
    coverage: NDArray[np.float32]
    alpha: NDArray[np.float32]
    foreground: Image


@dataclass
class Material:
    """What scenes are built from. Every list may be empty: procedural material fills in."""

    people: People | None = None
    places: list[Path] = field(default_factory=list)
    pairs: list[ViewPair] = field(default_factory=list)


@dataclass
class Place:
    """The background of the frame (`live`), its plate and coverage; how far the plate is off."""

    live: Image
    plate: Image
    coverage: NDArray[np.float32]
    reliable: bool
    """The plate is off by no more than a little."""
    plausible: bool = True
    """The plate shows this place at all."""


PLATES = {"near": 0.38, "pair": 0.20, "aligned": 0.22, "missing": 0.10, "wrong": 0.10}
"""How a sample's plate comes about, and how often."""
USELESS_PLATES = {"near": 0.20, "pair": 0.18, "aligned": 0.12, "missing": 0.22, "wrong": 0.28}
"""The same while a network learns what people look like: half of the plates are of no use."""

DEPTHS = {"objects": 0.40, "relief": 0.35, "both": 0.25}
"""What is nearer and farther in a place, and how often."""


def sample(
    seed: int, height: int, width: int, material: Material, plates: dict[str, float] = PLATES
) -> Sample:
    """The scene of this seed."""
    rng = np.random.default_rng(seed)
    kind = rng.choice(list(plates), p=np.array(list(plates.values())) / sum(plates.values()))
    plain = rng.random() < PLAIN_SHARE
    place = make_place(rng, height, width, material, kind, plain)
    people = make_people(rng, height, width, material, place, plain)
    live = cast_shadow(rng, place.live, people)
    frame, colour, alpha = composite(live, people)
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
    if not plain and rng.random() < 0.08:
        plate_light.signs(rng)
    frame = camera.expose(rng, shot_light(frame))
    plate = plate_light(shot_light(place.plate))
    if rng.random() < FAR_SHARE:
        plate = camera.blur(plate, rng.uniform(0.0015, 0.006) * width)
    plate = camera.expose(rng, plate)
    covered = (place.coverage > 0.99).astype(np.float32)
    if kind != "missing" and rng.random() < ALIGNED_SHARE:
        plate, covered = as_aligned(rng, frame, plate, covered, alpha)
    plate, reached = fill_holes(plate, covered.astype(np.uint8), REACH * max(height, width))
    guess = GUESS_PERCENT / 100
    coverage = guess * reached + (1 - guess) * covered
    plate = plate * reached[..., None]
    return Sample(frame, plate, coverage.astype(np.float32), alpha, shot_light(colour))


def as_aligned(
    rng: np.random.Generator,
    frame: Image,
    plate: Image,
    covered: NDArray[np.float32],
    alpha: NDArray[np.float32],
) -> tuple[Image, NDArray[np.float32]]:
    """Plate and coverage after what Howard's aligner does beyond the homography: light, field of
    displacements, local light; most often with the person known from the frame before."""
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
    plate, small[1] = match(plate), match(small[1])
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


def make_place(
    rng: np.random.Generator,
    height: int,
    width: int,
    material: Material,
    kind: str,
    plain: bool,
) -> Place:
    """Both takes of the background."""
    if kind == "pair" and material.pairs:
        return real_pair(rng, height, width, material.pairs[rng.integers(len(material.pairs))])
    my, mx = int(height * MARGIN), int(width * MARGIN)
    live = photograph(rng, height + 2 * my, width + 2 * mx, material, plain)
    if not plain and rng.random() < 0.15:
        live = textures.festive(rng, live)
    plate = live
    mild = kind == "aligned" or rng.random() < 0.35
    if not mild:
        reach = rng.choice([0.01, 0.025, 0.05, 0.09], p=[0.3, 0.3, 0.25, 0.15]) * width
        baseline = rng.normal(0, reach, 2) * (1, 0.4)
        deep = rng.choice(list(DEPTHS), p=list(DEPTHS.values()))
        if deep != "objects":
            plate = relief(rng, live, baseline)
        if deep != "relief":
            live, plate = parallax(rng, live, plate, baseline, material, plain)
    plate, coverage = misalign(rng, plate, 0.6 if mild else 1.0)
    inside = np.s_[my : my + height, mx : mx + width]
    live, plate, coverage = live[inside], plate[inside], coverage[inside]
    if kind == "missing":
        plate, coverage = np.zeros_like(live), np.zeros_like(coverage)
    elif kind == "wrong":
        plate = photograph(rng, height, width, material, plain)
    elif kind in ("near", "aligned") and rng.random() < 0.5:
        coverage = coverage * uncovered(rng, height, width)
    plausible = kind not in ("missing", "wrong")
    return Place(live, plate, coverage, mild and plausible, plausible)


def photograph(
    rng: np.random.Generator, height: int, width: int, material: Material, plain: bool = False
) -> Image:
    """A place: where there are photographs one of them, three times in four or, plainly, always;
    a texture else."""
    if material.places and (plain or rng.random() < 0.75):
        picture = textures.read_photograph(material.places[rng.integers(len(material.places))])
        return textures.crop(rng, picture, height, width, 0.35)
    return textures.texture(rng, height, width)


def real_pair(rng: np.random.Generator, height: int, width: int, pair: ViewPair) -> Place:
    """The same random window of both pictures of a pair."""
    rows, columns = pair.coverage.shape
    scale = min(rows / height, columns / width) * rng.uniform(0.45, 1.0)
    h, w = int(height * scale), int(width * scale)
    y, x = rng.integers(rows - h + 1), rng.integers(columns - w + 1)
    window = np.s_[y : y + h, x : x + w]
    flip = -1 if rng.random() < 0.5 else 1
    how = cv2.INTER_AREA if scale > 1 else cv2.INTER_LINEAR
    live, plate, coverage = (
        cv2.resize(a[window], (width, height), interpolation=how).astype(np.float32)[:, ::flip]
        for a in (pair.frame, pair.plate, pair.coverage * np.uint8(255))
    )
    full = np.float32(255)
    return Place(live / full, plate / full, coverage / full, reliable=False)


def relief(rng: np.random.Generator, live: Image, baseline: NDArray[np.float64]) -> Image:
    """The place from another viewpoint, as if it had depth: that leaps where its colours do."""
    height, width = live.shape[:2]
    size = (max(8, width // 4), max(8, height // 4))
    levels = (cv2.resize(live, size, interpolation=cv2.INTER_AREA) * 255 + 0.5).astype(np.uint8)
    colours = cv2.medianBlur(levels, 7).astype(np.float32) / np.float32(255)
    depth = colours @ rng.normal(0, 1.2, 3).astype(np.float32)
    depth += camera.smooth_field(rng, size[1], size[0], int(rng.integers(2, 6))) * np.float32(0.4)
    steps = rng.choice([1.5, 3, 6, 100])
    depth = np.round((depth - np.median(depth)) * steps) / np.float32(steps)
    ys, xs = np.mgrid[0:height, 0:width].astype(np.float32)
    near = np.asarray(cv2.resize(depth, (width, height)), np.float32)
    map_x, map_y = xs + near * np.float32(baseline[0]), ys + near * np.float32(baseline[1])
    moved = cv2.remap(live, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    return np.asarray(moved, np.float32)


def parallax(
    rng: np.random.Generator,
    live: Image,
    plate: Image,
    baseline: NDArray[np.float64],
    material: Material,
    plain: bool,
) -> tuple[Image, Image]:
    """Near objects, drawn at other places in the two takes; the far ones less displaced."""
    height, width = live.shape[:2]
    for depth in sorted(rng.uniform(0.2, 1.3, rng.integers(1, 6))):
        cover = np.zeros((height, width), np.float32)
        if rng.random() < 0.6:
            curve = outline(rng, height, width)
        else:  # a post, a trunk, a bar
            angle, half = rng.normal(0, 0.15), rng.uniform(0.008, 0.06) * width
            if rng.random() < 0.25:
                angle += np.pi / 2
            along = np.array([np.sin(angle), np.cos(angle)]) * height
            across = np.array([np.cos(angle), -np.sin(angle)]) * half
            middle = rng.uniform(0, 1, 2) * (width, height)
            tip = middle + along * rng.uniform(0.1, 1.2)
            foot = middle - along * rng.uniform(0.3, 1.2)
            curve = np.stack([tip + across, tip - across, foot - across, foot + across])
        cv2.fillPoly(cover, [(curve * 16).astype(np.int32)], 1.0, cv2.LINE_AA, 4)
        cover = camera.blur(cover, 0.6)[..., None]
        colour = photograph(rng, height, width, material, plain)
        if rng.random() < 0.3:
            colour = colour * 0.5 + rng.uniform(0, 0.5, 3).astype(np.float32)
        shift = np.array([[1, 0, baseline[0] * depth], [0, 1, baseline[1] * depth]], np.float32)
        moved = cv2.warpAffine(cover, shift, (width, height))[..., None]
        colour_moved = cv2.warpAffine(colour, shift, (width, height), borderMode=cv2.BORDER_REFLECT)
        live = live * (1 - cover) + colour * cover
        plate = plate * (1 - moved) + colour_moved * moved
    return live.astype(np.float32), plate.astype(np.float32)


def misalign(
    rng: np.random.Generator, plate: Image, strength: float
) -> tuple[Image, NDArray[np.float32]]:
    """The residual of the alignment: a homography, and often a smooth flow. And the coverage."""
    height, width = plate.shape[:2]
    ys, xs = np.mgrid[0:height, 0:width].astype(np.float32)
    if rng.random() < 0.5 * strength:
        amplitude = rng.uniform(0.002, 0.015) * width * strength
        cells = int(rng.integers(3, 7))
        xs = xs + camera.smooth_field(rng, height, width, cells) * np.float32(amplitude)
        ys = ys + camera.smooth_field(rng, height, width, cells) * np.float32(amplitude)
    reach = rng.choice([0, 0.0015, 0.004, 0.012, 0.025], p=[0.15, 0.35, 0.32, 0.13, 0.05]) * width
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    jitter = rng.normal(0, reach * strength, (4, 2)).astype(np.float32)
    homography = cv2.getPerspectiveTransform(corners, corners + jitter)
    grid = np.stack([xs, ys, np.ones_like(xs)], -1) @ homography.T.astype(np.float32)
    map_x, map_y = grid[..., 0] / grid[..., 2], grid[..., 1] / grid[..., 2]
    warped = cv2.remap(plate, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    inside = (map_x >= 0) & (map_x <= width - 1) & (map_y >= 0) & (map_y <= height - 1)
    return np.asarray(warped, np.float32), inside.astype(np.float32)


def uncovered(rng: np.random.Generator, height: int, width: int) -> NDArray[np.float32]:
    """Coverage (H, W) of a plate whose camera pointed elsewhere: one or two half-planes miss."""
    coverage = np.ones((height, width), np.float32)
    ys, xs = np.mgrid[0:height, 0:width].astype(np.float32)
    for _ in range(rng.integers(1, 3)):
        angle = rng.choice([0, 0.5, 1, 1.5]) * np.pi + rng.normal(0, 0.1)
        along = (xs / width - 0.5) * np.cos(angle) + (ys / height - 0.5) * np.sin(angle)
        coverage[along > rng.uniform(-0.1, 0.5)] = 0
    return coverage


def make_people(
    rng: np.random.Generator,
    height: int,
    width: int,
    material: Material,
    place: Place,
    plain: bool,
) -> list[Foreground]:
    """None to three foregrounds, each (H, W, 4) premultiplied, the nearest last; `plain` ones are
    people as they are."""
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
            layer = disguised(rng, layer, place, material)
        if rng.random() < 0.15:
            layer = camera.motion_blur(layer, rng.uniform(2, 0.05 * width), rng.uniform(0, np.pi))
        elif rng.random() < 0.15:
            layer = camera.blur(layer, rng.uniform(0.4, 1.5))
        layers.append(layer)
    return layers


def disguised(
    rng: np.random.Generator, layer: Foreground, place: Place, material: Material
) -> Foreground:
    """Perhaps in other clothes, perhaps in the colour of what is behind."""
    height, width = layer.shape[:2]
    if rng.random() < 0.2:
        layer = robed(rng, layer, fabric(rng, height, width, material))
    if rng.random() < 0.2:
        layer = patterned(rng, layer, fabric(rng, height, width, material))
    if rng.random() < (0.3 if place.plausible else 0.1):
        layer = camouflage(rng, layer, place.live)
    return layer


def fabric(rng: np.random.Generator, height: int, width: int, material: Material) -> Image:
    """To dress people in: a picture of a place once in three times, cloth else."""
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


def composite(live: Image, layers: list[Foreground]) -> tuple[Image, Image, NDArray[np.float32]]:
    """Frame, straight foreground colour (the frame's own where there is none), alpha."""
    colour = np.zeros_like(live)
    alpha = np.zeros(live.shape[:2], np.float32)
    for layer in layers:
        keep = 1 - layer[..., 3]
        colour = colour * keep[..., None] + layer[..., :3]
        alpha = np.minimum(alpha * keep + layer[..., 3], 1)  # a rounding beyond it, else
    frame = live * (1 - alpha[..., None]) + colour
    straight = np.where(alpha[..., None] > 0.01, colour / np.maximum(alpha, 0.01)[..., None], live)
    return frame.astype(np.float32), np.clip(straight, 0, 1).astype(np.float32), alpha
