"""People, places and textures on the device, as bytes, to draw batches of scenes from."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor

from engine.training import textures
from engine.training.people import cropped, cut_sides, scaled, silhouette
from engine.training.views import ViewPair

Picture = NDArray[np.uint8]
SEQUENCE = re.compile(r"(.+_f)\d+$")
"""File names of a motion sequence: the frames of one share what comes before their number."""
LEVELS = 6
"""Of the pyramid of each picture, each half the size of the last."""
PROCEDURAL = 768
PROCEDURAL_SIDE = 448
"""Number and size of the drawn textures, and of the silhouettes (twice as wide as high). They are
drawn once; crops, mirrors and colours make them new each time."""
STAGES = 3
"""Versions of each place that are full of lamps."""


@dataclass
class Pictures:
    """What a `scenes.Material` names, decoded. people: premultiplied RGBA, the frames of a motion
    sequence cropped alike and `runs` their indices in order (a still is a run of one); places:
    RGB; wild: the photographs of the package."""

    people: list[Picture] = field(default_factory=list)
    runs: list[list[int]] = field(default_factory=list)
    places: list[Picture] = field(default_factory=list)
    pairs: list[ViewPair] = field(default_factory=list)
    wild: list[Picture] = field(default_factory=textures.package_photographs)


def in_parallel(what: str, work: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
    """work(item) of each, in threads (OpenCV works outside Python's lock), with a progress bar."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(track(pool.map(work, items), what, len(items), transient=True))


def read_pictures(
    people: list[Path], places: list[Path], pairs: list[ViewPair], side: int = 768
) -> Pictures:
    """Cut-outs at most `side` pixels long, and photographs, from files."""
    grouped = runs_of(people)
    found = in_parallel("people", lambda run: read_run([people[i] for i in run], side), grouped)
    order = np.argsort([i for run in grouped for i in run])
    flat = [picture for run in found for picture in run]
    photographs = in_parallel("places", textures.read_photograph, places)
    return Pictures([flat[i] for i in order], grouped, photographs, pairs)


def runs_of(files: list[Path]) -> list[list[int]]:
    """Indices of the files of each motion sequence, and of each other file alone."""
    runs: dict[str, list[int]] = {}
    for i, file in enumerate(files):
        match = SEQUENCE.match(file.stem)
        runs.setdefault(match[1] if match else file.name, []).append(i)
    return list(runs.values())


def read_run(files: list[Path], side: int) -> list[Picture]:
    """The frames of a sequence, cropped to what any of them shows."""
    frames = [scaled(file, side) for file in files]
    return cropped(frames, files[0])


class Atlas:
    """Pictures of any sizes, (h, w, C) uint8 each, one after the other in one tensor (P, C), with
    their pyramids. Any pixels of any of them can be had in one gather."""

    def __init__(self, pictures: Sequence[Picture], device: torch.device | str) -> None:
        self.sizes = np.array([p.shape[:2] for p in pictures], np.float32).reshape(-1, 2)
        """(M, 2) heights and widths."""
        parts, table, offset = [], [], 0
        for picture in pictures:
            level = torch.from_numpy(np.ascontiguousarray(picture)).to(device)
            rows = []
            for k in range(LEVELS):
                h, w, channels = level.shape
                parts.append(level.reshape(h * w, channels))
                rows.append([offset, h, w])
                offset += h * w
                if k < LEVELS - 1:
                    small = F.interpolate(
                        level.permute(2, 0, 1)[None].float(),
                        size=((h + 1) // 2, (w + 1) // 2),
                        mode="area",
                    )
                    level = small[0].permute(1, 2, 0).round().to(torch.uint8)
            table.append(rows)
        self.pixels = torch.cat(parts)
        self.table = torch.tensor(table, device=device).reshape(-1, 3)
        """(M * LEVELS, 3): first pixel, height, width."""

    def __len__(self) -> int:
        return len(self.sizes)

    def __call__(
        self, which: Tensor, x: Tensor, y: Tensor, step: Tensor, outside: bool = False
    ) -> Tensor:
        """Bilinear samples (N, C, H, W) in [0, 1] of pictures `which` (N,) at x, y (N, 1, H, W) in
        their pixels, from the level of the pyramid where neighbours, `step` (N,) pixels apart, are
        about one apart. Outside, 0 if `outside`, else the picture's border goes on."""
        level = torch.log2(step).round().clamp(0, LEVELS - 1).long()
        full, (first, h, w) = self.table[which * LEVELS], self.table[which * LEVELS + level].T
        column = lambda v: v.reshape(-1, 1, 1, 1)  # noqa: E731
        x = (x + 0.5) * column(w / full[:, 2]) - 0.5
        y = (y + 0.5) * column(h / full[:, 1]) - 0.5
        first, h, w = column(first), column(h), column(w)
        weight = None
        if outside:
            weight = torch.minimum(x + 1, w - x).clamp(0, 1) * torch.minimum(y + 1, h - y).clamp(
                0, 1
            )
        x, y = x.clamp(min=0).minimum(w - 1), y.clamp(min=0).minimum(h - 1)
        left, top = x.floor(), y.floor()
        fx, fy = (x - left)[:, 0, ..., None], (y - top)[:, 0, ..., None]
        corner = (first + top.long() * w + left.long())[:, 0]
        right, below = (left.long() + 1 < w).long()[:, 0], ((top.long() + 1 < h).long() * w)[:, 0]
        near, far = (
            torch.lerp(self.pixels[row].float(), self.pixels[row + right].float(), fx)
            for row in (corner, corner + below)
        )
        sampled = torch.lerp(near, far, fy).permute(0, 3, 1, 2).contiguous() / 255
        return sampled if weight is None else sampled * weight


class DeviceMaterial:
    """All pictures as atlases. A kind that is missing has an empty one, and scenes do without."""

    def __init__(
        self,
        pictures: Pictures,
        device: torch.device | str,
        procedural: int = PROCEDURAL,
        side: int = PROCEDURAL_SIDE,
    ) -> None:
        self.people = Atlas(pictures.people, device) if pictures.people else None
        self.runs = pictures.runs
        self.moving = [r for r, run in enumerate(self.runs) if len(run) > 1]
        self.cut_below = np.array([p[-1, :, 3].max() > 127 for p in pictures.people])
        self.cut = np.array([cut_sides(p[..., 3] > 127) for p in pictures.people]).reshape(-1, 3)
        """Of each person, whether the picture ends in the body on the left, on the right, above."""
        drawn = in_parallel("textures", lambda k: drawn_texture(k, side), range(procedural))
        cloths = in_parallel("cloths", lambda k: cloth(k, side), range(procedural // 2))
        lit = list(enumerate(STAGES * pictures.places))
        stages = in_parallel("lamps", lambda x: stage(*x), lit)
        kinds = pictures.places, pictures.wild, drawn, cloths, stages
        self.photographs = Atlas([picture for kind in kinds for picture in kind], device)
        """Places, photographs of the package, drawn textures, cloths, stages; each in `ranges`."""
        ends = np.cumsum([0, *(len(kind) for kind in kinds)])
        self.ranges = list(pairwise(ends.tolist()))
        bodies = in_parallel("silhouettes", lambda k: body(k, side), range(procedural))
        self.bodies = Atlas(bodies, device)
        self.body_centres = np.array([centre(b) for b in bodies], np.float32)
        opaque = lambda rgb, a: np.dstack([rgb, a])  # noqa: E731
        views = [
            opaque(picture, part)
            for pair in pictures.pairs
            for picture, part in (
                (pair.frame, np.full_like(pair.coverage, 255)),
                (pair.plate, pair.coverage * np.uint8(255)),
            )
        ]
        self.views = Atlas(views, device) if views else None
        """RGB and coverage; pair k is 2 k (frame) and 2 k + 1 (plate)."""


def stage(number: int, place: Picture) -> Picture:
    """The place (H, W, 3) full of lamps."""
    picture = place.astype(np.float32) / np.float32(255)
    return levels(textures.festive(np.random.default_rng((3, number)), picture))


def drawn_texture(seed: int, side: int) -> Picture:
    """Shapes or noise, as often as `textures.texture` draws them."""
    rng = np.random.default_rng((1, seed))
    draw = textures.shapes if rng.random() < 0.25 / 0.45 else textures.noise
    return levels(draw(rng, side, side))


def cloth(seed: int, side: int) -> Picture:
    """Of a costume."""
    return levels(textures.costume(np.random.default_rng((4, seed)), side, side))


def levels(picture: NDArray[np.float32]) -> Picture:
    """Of 255."""
    return np.asarray(np.clip(picture, 0, 1) * 255 + 0.5, np.uint8)


def body(seed: int, side: int) -> Picture:
    """A drawn person in the middle of a wide picture, (side, 2 side, 1)."""
    alpha = silhouette(np.random.default_rng((2, seed)), side, 2 * side)
    return levels(alpha)[..., None]


def centre(alpha: Picture) -> float:
    """Mean column, in pixels."""
    weight = alpha[..., 0].sum(0, dtype=np.float64)
    return float(weight @ np.arange(len(weight)) / max(weight.sum(), 1))
