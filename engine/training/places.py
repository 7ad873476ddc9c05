"""The backgrounds of the scenes, filmed twice: what the shot shows, and the plate of it.

Between the two takes near objects move by parallax, the whole plate is off by a residual
homography and a smooth flow (rolling shutter, lens), parts are not covered; or the plate is
missing or of another place. Where it does not cover, the clean plate may be seen unaligned.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.training import camera, textures
from engine.training.material import Material
from engine.training.people import outline, put
from engine.training.textures import Image
from engine.training.views import ViewPair

MARGIN = 0.12
"""Share of the size that the place extends beyond the frame, for warps to draw from."""
UNALIGNED = 0.75
"""Of the plates that do not cover all, are seen unaligned too."""
MISTAKEN = 0.25
"""Of the unaligned views where there is no plate, show another place."""
FIGURES = 0.15
"""Of the places whose plate can tell, have somebody in them who belongs to the place: a statue, a
poster, a dummy."""
STONE = 0.6
"""Of them, are of stone, or of any one colour."""
VIEWED = 0.1
"""Of the places without a plate, are real ones that were photographed twice."""
TURNED = 0.15
"""Of the unaligned views, are turned by any angle."""
EXACT = 0.4
"""Of the plates, lie as exactly as the aligner's do where the place is plane or far: the corners'
standard deviation is ..."""
EXACTLY = 0.5
"""... so many pixels at most of the frame as it was filmed."""
SHARP = 2.0
"""From how much smaller than filmed on a warp leaves no softness."""
DEPTHS = {"objects": 0.40, "relief": 0.35, "both": 0.25}
"""What is nearer and farther in a place, and how often."""


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
    unaligned: Image | None = None
    """The clean plate, or another one, from anywhere; 0 where it shows nothing."""


def make_place(
    rng: np.random.Generator,
    height: int,
    width: int,
    material: Material,
    kind: str,
    look: str,
    reduced: float = 1.0,
) -> Place:
    """Both takes of the background. reduced: how much smaller the frame is than it was filmed."""
    plain = look == "plain"
    seen = rng.random() < UNALIGNED
    mistaken = kind == "missing" and rng.random() < MISTAKEN
    can_tell = kind in ("near", "aligned") or (kind == "missing" and seen and not mistaken)
    figure = can_tell and material.people is not None and rng.random() < FIGURES
    place = two_takes(rng, height, width, material, kind, look, figure, reduced)
    if seen and (kind == "missing" or not place.coverage.all()):
        # What no clean-plate frame shows in place, this one hardly shows elsewhere.
        view = place.plate if kind == "missing" else place.plate * place.coverage[..., None]
        if mistaken:
            view = photograph(rng, height, width, material, plain)
        place.unaligned = from_elsewhere(rng, view)
    if kind == "missing":
        place.plate, place.coverage = np.zeros_like(place.live), np.zeros_like(place.coverage)
        place.reliable = place.plausible = False
    return place


def two_takes(
    rng: np.random.Generator,
    height: int,
    width: int,
    material: Material,
    kind: str,
    look: str,
    figure: bool,
    reduced: float,
) -> Place:
    """Both, the plate still there if it is to be missing; with a figure in them or without."""
    plain = look == "plain"
    viewed = kind == "pair" or (kind == "missing" and rng.random() < VIEWED)
    if viewed and material.pairs:
        return real_pair(rng, height, width, material.pairs[rng.integers(len(material.pairs))])
    my, mx = int(height * MARGIN), int(width * MARGIN)
    live = photograph(rng, height + 2 * my, width + 2 * mx, material, plain)
    if look == "stage":
        live = textures.festive(rng, live)
    if figure:
        live = with_figure(rng, live, material)
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
    if rng.random() < EXACT:
        off = rng.normal(0, rng.uniform(0, EXACTLY / reduced), (4, 2))
        ys, xs = camera.pixel_grid(*plate.shape[:2])
        plate, coverage = warped(plate, xs, ys, off, sharp=reduced > SHARP)
    else:
        plate, coverage = misalign(rng, plate, 0.6 if mild else 1.0, sharp=reduced > SHARP)
    inside = np.s_[my : my + height, mx : mx + width]
    live, plate, coverage = live[inside], plate[inside], coverage[inside]
    if kind == "wrong":
        plate = photograph(rng, height, width, material, plain)
    elif kind in ("near", "aligned") and not figure and rng.random() < 0.5:
        coverage = coverage * uncovered(rng, height, width)
    plausible = kind != "wrong"
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


def with_figure(rng: np.random.Generator, place: Image, material: Material) -> Image:
    """Somebody who is a part of the place."""
    assert material.people is not None
    height, width = place.shape[:2]
    layer = put(rng, height, width, material.people.pick(rng), plain=True)
    colour, alpha = layer[..., :3], layer[..., 3:]
    if rng.random() < STONE:
        tint = rng.uniform(0.6, 1.2) * rng.normal(1, 0.1, 3)
        colour = np.clip(colour.mean(-1, keepdims=True) * tint.astype(np.float32), 0, alpha)
    return np.asarray(place * (1 - alpha) + colour, np.float32)


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


def from_elsewhere(rng: np.random.Generator, view: Image) -> Image:
    """The same from a viewpoint that is not known: nearer or farther, turned, oblique."""
    height, width = view.shape[:2]
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], float)
    middle = np.array([width, height]) / 2
    angle = rng.uniform(-np.pi, np.pi) if rng.random() < TURNED else rng.normal(0, 0.12)
    c, s = np.cos(angle), np.sin(angle)
    turned = (corners - middle) @ np.array([[c, s], [-s, c]]) * np.exp(rng.uniform(-0.6, 0.6))
    moved = middle * (1 + rng.normal(0, 0.4, 2)) + turned + rng.normal(0, 0.1, (4, 2)) * middle
    ends = corners.astype(np.float32), moved.astype(np.float32)
    seen = cv2.warpPerspective(
        view, cv2.getPerspectiveTransform(*ends), (width, height), borderMode=cv2.BORDER_REFLECT
    )
    return np.asarray(seen, np.float32)


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
    ys, xs = camera.pixel_grid(height, width)
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
    rng: np.random.Generator, plate: Image, strength: float, sharp: bool = False
) -> tuple[Image, NDArray[np.float32]]:
    """The residual of the alignment: a homography, and often a smooth flow. And the coverage."""
    height, width = plate.shape[:2]
    ys, xs = camera.pixel_grid(height, width)
    if rng.random() < 0.5 * strength:
        amplitude = rng.uniform(0.002, 0.015) * width * strength
        cells = int(rng.integers(3, 7))
        xs = xs + camera.smooth_field(rng, height, width, cells) * np.float32(amplitude)
        ys = ys + camera.smooth_field(rng, height, width, cells) * np.float32(amplitude)
    reach = rng.choice([0, 0.0015, 0.004, 0.012, 0.025], p=[0.15, 0.35, 0.32, 0.13, 0.05]) * width
    return warped(plate, xs, ys, rng.normal(0, reach * strength, (4, 2)), sharp)


def warped(
    plate: Image,
    xs: NDArray[np.float32],
    ys: NDArray[np.float32],
    off: NDArray[np.float64],
    sharp: bool = False,
) -> tuple[Image, NDArray[np.float32]]:
    """The plate at x, y after the homography that moves its corners by `off` (4, 2), and what of it
    is there. sharp: as what was warped before it was made smaller."""
    height, width = plate.shape[:2]
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    homography = cv2.getPerspectiveTransform(corners, corners + off.astype(np.float32))
    grid = np.stack([xs, ys, np.ones_like(xs)], -1) @ homography.T.astype(np.float32)
    map_x, map_y = grid[..., 0] / grid[..., 2], grid[..., 1] / grid[..., 2]
    how = cv2.INTER_CUBIC if sharp else cv2.INTER_LINEAR
    moved = np.clip(cv2.remap(plate, map_x, map_y, how, borderMode=cv2.BORDER_REFLECT), 0, 1)
    inside = (map_x >= 0) & (map_x <= width - 1) & (map_y >= 0) & (map_y <= height - 1)
    return np.asarray(moved, np.float32), inside.astype(np.float32)


def uncovered(rng: np.random.Generator, height: int, width: int) -> NDArray[np.float32]:
    """Coverage (H, W) of a plate whose camera pointed elsewhere: one or two half-planes miss."""
    coverage = np.ones((height, width), np.float32)
    ys, xs = camera.pixel_grid(height, width)
    for _ in range(rng.integers(1, 3)):
        angle = rng.choice([0, 0.5, 1, 1.5]) * np.pi + rng.normal(0, 0.1)
        along = (xs / width - 0.5) * np.cos(angle) + (ys / height - 0.5) * np.sin(angle)
        coverage[along > rng.uniform(-0.1, 0.5)] = 0
    return coverage
