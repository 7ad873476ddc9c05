"""Textures and shapes for batches of scenes: functions of the place, so that they can be had moved
or scaled without resampling."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.training.gpu_draw import Draw, Values
from engine.training.gpu_material import DeviceMaterial
from engine.training.textures import LEAST_SCALE

POINTS = 64
"""Of an outline, as `people.outline` has."""
Looks = NDArray[np.str_]
"""The looks of scenes (N,), each one of `scenes.LOOKS`."""


def by_look(shares: dict[str, float], looks: Looks) -> NDArray[np.float64]:
    """The share of each scene, (N,), by its look."""
    return np.select([looks == look for look in shares], list(shares.values()))


class Kinds(NamedTuple):
    """What pictures are of: the first five of `DeviceMaterial.photographs`, by their numbers."""

    shares: tuple[float, ...]
    """How often which, as far as there are any."""
    always: dict[str, int]
    """Which in scenes of a look."""


OF_PLACES = Kinds((0.75, 0.25 * 0.55, 0.25 * 0.45, 0, 0), {"plain": 0, "stage": 4})
"""What `scenes.photograph` draws."""
OF_OBJECTS = Kinds((0, 0.55, 0.45, 0, 0), {})
"""What `textures.texture` draws."""
OF_CLOTHES = Kinds((0.33, 0.67 * 0.45 * 0.55, 0.67 * 0.45 * 0.45, 0.67 * 0.55, 0), {"stage": 3})
"""What `scenes.fabric` draws."""


class Texture:
    """A picture for each scene: a photograph of a place; one of the package with its colours
    changed; a drawn texture; cloth; a place full of lamps."""

    def __init__(
        self,
        draw: Draw,
        material: DeviceMaterial,
        height: int,
        width: int,
        kinds: Kinds,
        looks: Looks | None = None,
    ) -> None:
        self.draw, self.atlas, self.width = draw, material.photographs, width
        self.height = height
        sizes = np.array([end - begin for begin, end in material.ranges])
        weights = np.where(sizes > 0, kinds.shares, 0)
        kind = draw.choice(range(len(weights)), list(weights))
        for look, of in kinds.always.items():
            if looks is not None and sizes[of]:
                kind = np.where(looks == look, of, kind)
        begin = np.array([begin for begin, _ in material.ranges])[kind]
        self.which = begin + np.minimum(draw.uniform(0, 1) * sizes[kind], sizes[kind] - 1).astype(
            int
        )
        rows, columns = self.atlas.sizes[self.which].T
        smallest = np.array([0.35, 0.3, 0.5, 0.5, 0.35])[kind]
        fits = np.minimum(rows / height, columns / width)
        filmed = np.isin(kind, (0, 1, 4))
        self.scale = np.maximum(
            fits * draw.uniform(smallest, 1), np.where(filmed, LEAST_SCALE, 0)
        ).astype(np.float32)
        self.sides = columns, rows
        self.left = draw.uniform(0, 1) * np.maximum(columns - width * self.scale, 0)
        self.top = draw.uniform(0, 1) * np.maximum(rows - height * self.scale, 0)
        self.mirrored = draw.chance(0.5)
        self.turned = draw.chance(np.array([0, 0.3, 0.5, 0.5, 0])[kind])
        self.matrix, self.gamma = self.colours(kind)

    def colours(self, kind: Values) -> tuple[Tensor, Tensor]:
        """What changes the colours of all but places: an affine matrix (N, 3, 4), and gamma."""
        draw, n = self.draw, len(self.draw)
        free = kind == 1
        order = np.argsort(draw.uniform(0, 1, 3), 1)
        order[~(draw.chance(0.5) & np.isin(kind, (1, 2, 3)))] = range(3)
        contrast = np.where(free, draw.uniform(0.5, 1.4), 1)
        contrast = np.where(free & draw.chance(0.3), -contrast, contrast)
        offset = 0.5 - 0.5 * contrast + np.where(free, draw.uniform(-0.25, 0.25), 0)
        matrix = np.zeros((n, 3, 4), np.float32)
        matrix[..., :3] = np.eye(3)[order] * contrast[:, None, None]
        matrix[..., 3] = offset[:, None]
        gamma = np.where(free, draw.uniform(0.6, 1.6), 1)
        return draw.tensor(matrix)[..., 0], draw.tensor(gamma)

    def __call__(self, x: Tensor, y: Tensor, step: Tensor | float = 1.0) -> Tensor:
        """(N, 3, H, W) at x, y (N, 1, H, W), in pixels of the size it was made for; `step` between
        neighbours."""
        tensor = self.draw.tensor
        x = torch.where(tensor(self.mirrored), self.width - 1 - x, x)
        y = torch.where(tensor(self.turned), self.height - 1 - y, y)
        scale = tensor(self.scale)
        columns, rows = (tensor(side) for side in self.sides)
        x = mirrored(tensor(self.left) + (x + 0.5) * scale - 0.5, columns)
        y = mirrored(tensor(self.top) + (y + 0.5) * scale - 0.5, rows)
        picture = self.atlas(self.draw.index(self.which), x, y, scale.flatten() * step)
        n, _, h, w = picture.shape
        mixed = torch.baddbmm(self.matrix[..., 3:], self.matrix[..., :3], picture.flatten(2))
        return mixed.clamp(0, 1).reshape(n, 3, h, w) ** self.gamma


def mirrored(x: Tensor, length: Tensor) -> Tensor:
    """Where x lies in a row of `length` pixels with its mirror images beside it."""
    at = (x + 0.5).remainder(2 * length)
    return at.minimum(2 * length - at) - 0.5


class Outline:
    """A wobbly closed curve for each scene, as `people.outline`: a radius at each angle."""

    def __init__(self, draw: Draw, height: float, width: float) -> None:
        angle = np.linspace(0, 2 * np.pi, POINTS, endpoint=False)
        f = np.arange(1, 9)[:, None]
        waves = np.cos(f * angle + draw.uniform(0, 2 * np.pi, 8, 1))
        radius = np.clip(1 + ((0.25 / f) * draw.normal(8, 1) * waves).sum(1), 0.2, 2)
        radius *= draw.uniform(0.08, 0.35, 1) * min(height, width)
        slope = (np.roll(radius, -1, 1) - np.roll(radius, 1, 1)) * POINTS / (4 * np.pi)
        table = np.stack([radius, 1 / np.sqrt(1 + (slope / radius) ** 2)], 1)
        self.table = draw.tensor(table)[..., 0]
        self.stretch = draw.tensor(draw.uniform(0.7, 1.4))
        at = draw.uniform(0.15, 0.85, 2) * (width, height)
        self.x, self.y = draw.tensor(at[:, 0]), draw.tensor(at[:, 1])

    def __call__(self, x: Tensor, y: Tensor, sigma: Tensor) -> Tensor:
        """Cover (N, 1, H, W) of the inside, blurred by sigma."""
        dx, dy = (x - self.x) / self.stretch, (y - self.y) * self.stretch
        turn = torch.atan2(dy, dx) * (POINTS / (2 * np.pi)) + POINTS
        n, _, h, w = turn.shape
        first = turn.floor()
        share = turn - first
        near, far = (
            self.table.gather(2, ((first + k).long() % POINTS).reshape(n, 1, -1).expand(-1, 2, -1))
            for k in (0, 1)
        )
        radius, tilt = (
            torch.lerp(near, far, share.reshape(n, 1, -1)).reshape(n, 2, h, w).split(1, 1)
        )
        return soft_edge((radius - torch.hypot(dx, dy)) * tilt / sigma)


class Bar:
    """A post, a trunk, a bar for each scene, as `scenes.parallax` draws them."""

    def __init__(self, draw: Draw, height: int, width: int) -> None:
        angle, half = 0.15 * draw.normal(), draw.uniform(0.008, 0.06) * width
        angle = np.where(draw.chance(0.25), angle + np.pi / 2, angle)
        middle = draw.uniform(0, 1, 2) * (width, height)
        tip, foot = draw.uniform(0.1, 1.2) * height, draw.uniform(0.3, 1.2) * height
        values = np.sin(angle), np.cos(angle), half, tip, foot, middle[:, 0], middle[:, 1]
        self.parameters = [draw.tensor(v) for v in values]

    def __call__(self, x: Tensor, y: Tensor, sigma: Tensor) -> Tensor:
        """Cover (N, 1, H, W), blurred by sigma."""
        s, c, half, tip, foot, cx, cy = self.parameters
        dx, dy = x - cx, y - cy
        along, across = dx * s + dy * c, dx * c - dy * s
        inside = torch.minimum(half - across.abs(), torch.minimum(tip - along, along + foot))
        return soft_edge(inside / sigma)


def soft_edge(depth: Tensor) -> Tensor:
    """What a Gaussian blur makes of a straight edge, `depth` sigmas inside it."""
    return torch.special.ndtr(depth)


class Drawn:
    """A silhouette or blobs filled with a texture for each scene, as `people.drawn`."""

    def __init__(self, draw: Draw, material: DeviceMaterial, height: int, width: int) -> None:
        self.draw, self.bodies = draw, material.bodies
        self.texture = Texture(draw, material, height, width, OF_OBJECTS)
        self.is_body = draw.tensor(draw.chance(0.6))
        self.which = draw.integers(0, len(self.bodies))
        self.scale = draw.tensor(self.bodies.sizes[self.which, 0] / height)
        self.middle = draw.tensor(draw.uniform(0.2, 0.8) * width)
        self.centre = draw.tensor(material.body_centres[self.which])
        self.blobs = [Outline(draw, height, width) for _ in range(3)]
        self.count = draw.tensor(draw.integers(1, 4))
        self.sigma = draw.tensor(draw.choice([0.4, 0.7, 1.0, 1.5, 2.5]))

    def __call__(self, x: Tensor, y: Tensor, step: Tensor | float = 1.0) -> Tensor:
        """Premultiplied RGBA (N, 4, H, W) at x, y (N, 1, H, W), in pixels of the size it was made
        for; `step` (N,) between neighbours."""
        spread = self.sigma * (step if isinstance(step, float) else step.reshape(-1, 1, 1, 1))
        covers = [(k < self.count) * blob(x, y, spread) for k, blob in enumerate(self.blobs)]
        blobs = torch.stack(covers).amax(0)
        u, v = (x - self.middle) * self.scale + self.centre, (y + 0.5) * self.scale - 0.5
        distance = self.scale.flatten() * step
        body = self.bodies(self.draw.index(self.which), u, v, distance, outside=True)
        alpha = torch.where(self.is_body, body, blobs)
        return torch.cat([self.texture(x, y, step) * alpha, alpha], 1)
