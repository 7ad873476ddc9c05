"""The place of the alignment scenes: textured planes at several depths, and how they are drawn.

A wall far away, a floor, and upright things before it. Each is a plane with a texture that holds
more texels than the picture has pixels. A plane comes into the picture by a homography, so the
truth is exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.alignment_camera import Camera, Floats, apply
from benchmarks.alignment_textures import Pixels, outline, painted_wall, surface

WALL_METRES = 8.0
"""How far the wall is: the far plane."""
EYE_METRES = 1.4
"""How high the camera is above the floor."""
FLOOR_METRES = (3.0, WALL_METRES)
"""Where the floor begins and ends; what is nearer lies below the picture."""
THINGS = 8
THINGS_METRES = (3.0, 6.5)
"""How far the upright things are."""
THINGS_DEGREES = (-32.0, 40.0)
"""Where they stand, seen from the camera's start: the pan goes to the right."""
TEXELS_PER_PIXEL = 1.4
"""So that linear interpolation of the texture hardly blurs what the picture can show."""
TILE_METRES = 1.1
"""Size of the wall's patches."""
EDGE_TEXELS = 1.0
"""Standard deviation of a thing's soft edge."""


@dataclass(frozen=True, eq=False)
class Layer:
    """One plane and what is painted on it."""

    plane: Floats
    """3x3: directions of u and v and the origin, in metres of the world, as columns."""
    texel_from_plane: Floats
    """3x3, maps (u, v, 1) in metres to texels, centres at integers."""
    colour: Pixels
    """(h, w, 3) RGB."""
    cover: Pixels | None = None
    """(h, w), 255 where the layer hides what is behind it; None: everywhere."""

    def draw(self, picture: Pixels, homographies: Floats) -> None:
        """Paint over `picture` (H, W, 3).

        homographies: picture from plane, (1, 3, 3), or (H, 3, 3) for a rolling shutter.
        """
        across, down = self.box(picture.shape[1], picture.shape[0], homographies)
        if across.start >= across.stop or down.start >= down.stop:
            return
        inverse = self.texel_from_plane @ np.linalg.inv(homographies)
        at = sampling_points(inverse, across, down)
        colour = cv2.remap(self.colour, *at, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        if self.cover is not None:
            cover = cv2.remap(self.cover, *at, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
            weight = cover.astype(np.float32) / np.float32(255)
            colour = cv2.blendLinear(colour, picture[down, across], weight, 1 - weight)
        picture[down, across] = colour

    def box(self, width: int, height: int, homographies: Floats) -> tuple[slice, slice]:
        """Columns and rows of the picture that the layer may touch."""
        if self.cover is None:
            return slice(0, width), slice(0, height)
        rows, columns = self.cover.shape
        corners = np.array([[0.0, 0.0], [columns, 0.0], [columns, rows], [0.0, rows]]) - 0.5
        plane_points = apply(np.linalg.inv(self.texel_from_plane), corners)
        seen = np.concatenate([apply(h, plane_points) for h in homographies[:: height // 8 or 1]])
        # A few pixels more: the rows between those tried here move a little.
        low = np.floor(seen.min(0)).astype(int) - 8
        high = np.ceil(seen.max(0)).astype(int) + 8
        (left, top), (right, bottom) = (v.clip(0, (width, height)).tolist() for v in (low, high))
        return slice(left, right), slice(top, bottom)


def sampling_points(
    inverse: Floats, across: slice, down: slice
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Texel coordinates (h, w) of the pixels of a box; each row by its own homography."""
    rows = (inverse if len(inverse) == 1 else inverse[down]).astype(np.float32)
    x = np.arange(across.start, across.stop, dtype=np.float32)
    y = np.arange(down.start, down.stop, dtype=np.float32)
    u, v, w = (
        rows[:, i, 0, None] * x + (rows[:, i, 1] * y + rows[:, i, 2])[:, None] for i in range(3)
    )
    return (u / w).astype(np.float32), (v / w).astype(np.float32)


def furnish(
    rng: np.random.Generator, views: Sequence[tuple[Camera, Floats]], furnished: bool, plain: bool
) -> list[Layer]:
    """The layers, the farthest (always the wall) first.

    views: cameras with the times at which they look: the wall reaches as far as they see.
    furnished: with floor and things. plain: a wall with hardly any texture.
    """
    # A generator for each, because how often a texture draws depends on its size.
    wall_rng, floor_rng, *thing_rngs = rng.spawn(2 + THINGS)
    across = np.eye(3)
    across[2, 2] = WALL_METRES
    low, high = seen_part(views, across)
    focal = focal_pixels(views)
    density = TEXELS_PER_PIXEL * focal / WALL_METRES
    height, width = np.ceil((high - low)[::-1] * density).astype(int)
    paint = painted_wall if plain else surface
    wall = paint(wall_rng, height, width, TILE_METRES * density)
    layers = [Layer(across, texels(low, (density, density)), wall)]
    if not furnished:
        return layers
    layers.append(floor(floor_rng, low[0], high[0], focal))
    depths = np.sort(rng.uniform(*THINGS_METRES, THINGS))[::-1]
    directions = rng.permutation(np.linspace(*THINGS_DEGREES, THINGS))
    things = zip(thing_rngs, depths, directions, strict=True)
    return layers + [thing(own, z, degrees, focal) for own, z, degrees in things]


def floor(rng: np.random.Generator, left: float, right: float, focal: float) -> Layer:
    """A level plane below the camera, up to the wall."""
    plane = np.array([[1.0, 0, 0], [0, 0, EYE_METRES], [0, 1, 0]])
    near, far = FLOOR_METRES
    # Depth is foreshortened: as many texels as the picture shows at a middle distance.
    middle = 0.6 * far
    density = TEXELS_PER_PIXEL * focal * np.array([1 / middle, EYE_METRES / middle**2])
    width, height = np.ceil(np.array([right - left, far - near]) * density).astype(int)
    colour = surface(rng, height, width, TILE_METRES * density[0])
    cover = np.full((height, width), 255, np.uint8)
    return Layer(plane, texels((left, near), density), colour, cover)


def thing(rng: np.random.Generator, z: float, degrees: float, focal: float) -> Layer:
    """A post, a box or a plant that stands on the floor at depth z, or hangs above it."""
    kind = rng.integers(3)
    size = np.array([(0.12, 3.4), (0.7, 0.9), (0.8, 1.3)][kind]) * rng.uniform(0.8, 1.25, 2)
    foot = EYE_METRES - (kind > 0) * (rng.random() < 0.3) * rng.uniform(1.0, 1.6)
    angle = rng.uniform(-0.4, 0.4)
    plane = np.eye(3)
    plane[:, 0] = np.cos(angle), 0, np.sin(angle)
    plane[:, 2] = z * np.tan(np.radians(degrees)), foot, z
    density = TEXELS_PER_PIXEL * focal / z
    width, height = np.ceil(size * density).astype(int)
    low = (-size[0] / 2, -size[1])
    colour = surface(rng, height, width, max(0.35 * density, 8.0))
    cover = np.zeros((height, width), np.uint8)
    edge = int(4 * EDGE_TEXELS)
    if kind < 2:
        cover[edge:-edge, edge:-edge] = 255
    else:
        cv2.fillPoly(cover, [outline(rng, height, width)], 255.0, cv2.LINE_AA, 4)
        cover[[*range(edge), *range(-edge, 0)]] = 0
    soft = np.asarray(cv2.GaussianBlur(cover, (0, 0), EDGE_TEXELS), np.uint8)
    return Layer(plane, texels(low, (density, density)), colour, soft)


def texels(low: Sequence[float] | Floats, density: Sequence[float] | Floats) -> Floats:
    """3x3 texel_from_plane for a texture that begins at `low` (2,) metres."""
    (x, y), (u, v) = density, low
    return np.array([[x, 0, -u * x - 0.5], [0, y, -v * y - 0.5], [0, 0, 1]])


def seen_part(views: Sequence[tuple[Camera, Floats]], plane: Floats) -> tuple[Floats, Floats]:
    """Lowest and highest (2,) u and v in metres that any view shows of the plane."""
    points = []
    for camera, seconds in views:
        edge = np.array([-4.0, -4.0]), np.array([camera.width + 3.0, camera.height + 3.0])
        corners = np.array([[x[0], y[1]] for x in edge for y in edge])
        inverses = np.linalg.inv(camera.homographies(seconds, plane))
        points += [apply(inverse, corners) for inverse in inverses]
    seen = np.concatenate(points)
    return seen.min(0), seen.max(0)


def focal_pixels(views: Sequence[tuple[Camera, Floats]]) -> float:
    """The largest focal length of all views."""
    return max(float(camera.pose(seconds)[2].max()) for camera, seconds in views)
