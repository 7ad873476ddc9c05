"""Two-pass scenes with exact truth: a shot with a person, and a clean plate of the same place.

Each kind of scene is one entry of KINDS. A scene is rendered at any size, frame by frame when it is
asked for, from its name and seed alone. Conventions as in `howard.frames`.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from benchmarks.alignment_camera import Camera, Floats, Move, Way, apply
from benchmarks.alignment_person import Person
from benchmarks.alignment_takes import FRAMES_PER_SECOND, Light, Optics, Rendered, Take
from benchmarks.alignment_textures import Pixels
from benchmarks.alignment_world import furnish

LONGEST_WAY_SECONDS = 4.0
"""A longer shot takes as long a way, more slowly: the camera would turn away from the wall."""
TURN_WEIGHT = 0.1
"""How much the wall's motion between two views counts beside parallax."""
EQUAL_VIEW_SHARE = 0.001
"""Of the width (2 pixels at 1080p): plate frames whose distances differ less are equally near."""

HELD = Move()
TURNED = Move(moves_in_space=False)
TRIPOD = Move(0, 0, shake=0, moves_in_space=False)
OFF_MILDLY = replace(HELD, offset_metres=(0.03, -0.02, 0.03))
OFF_STRONGLY = replace(HELD, offset_metres=(0.06, -0.05, 0.08))
"""Where the second take is made beside the first: at 1080p, near things are displaced against the
wall by up to 20 and 40 pixels."""
SAME_PACE = ((0.0, 0.0), (0.5, 0.54), (1.0, 1.0))
"""Time in the clean plate -> time on the way, in lengths of the shot: hands hurry and lag."""
DAY = Light()
NIGHT = Light((0.13, 0.12, 0.10))

PLAIN_OPTICS = Optics()


@dataclass(frozen=True)
class Kind:
    """How a scene differs from the plainest: a hand-held move along a wall."""

    furnished: bool = False
    """With a floor and things before the wall."""
    plain: bool = False
    """A wall with hardly any texture."""
    person_share: float = 0.15
    """Of the frame."""
    move: Move = HELD
    plate_move: Move | None = None
    """Where it differs from `move`."""
    plate_length: float = 1.0
    """Frames of the clean plate per frame of the shot."""
    plate_way: tuple[tuple[float, float], ...] = SAME_PACE
    light: Light = DAY
    plate_light: Light = DAY
    optics: Optics = PLAIN_OPTICS


PARALLAX = Kind(furnished=True, plate_move=OFF_MILDLY)
KINDS = {
    "still": Kind(True, move=TRIPOD, plate_move=replace(TRIPOD, offset_degrees=(0.3, -0.5, 0.2))),
    "planar": Kind(),
    "rotating": Kind(True, move=TURNED),
    "parallax-mild": PARALLAX,
    "parallax-strong": Kind(True, plate_move=OFF_STRONGLY),
    "rolling-shutter": Kind(optics=Optics(readout=0.7)),
    "motion-blur": Kind(optics=Optics(shutter=0.7), move=replace(HELD, shake=1.5)),
    "exposure": Kind(
        light=Light((1.2, 1.05, 0.9), gain_per_second=0.1, field=0.12),
        plate_light=Light((0.85, 0.9, 0.95), field=0.08),
    ),
    "night": Kind(light=NIGHT, plate_light=NIGHT, optics=Optics(noise_levels=5.0)),
    "low-texture": Kind(plain=True),
    "person-20": Kind(person_share=0.2),
    "person-40": Kind(person_share=0.4),
    "person-60": Kind(person_share=0.6),
    "plate-double": replace(PARALLAX, plate_length=2.0, plate_way=((0, 0), (1, 0.53), (2, 1))),
    "plate-half": replace(PARALLAX, plate_length=0.5, plate_way=((0, 0), (0.5, 1))),
    "plate-reversed": replace(PARALLAX, plate_way=((0, 1), (1, 0))),
    "plate-pause": replace(
        PARALLAX, plate_length=1.6, plate_way=((0, 0), (0.4, 0.4), (1.0, 0.4), (1.6, 1))
    ),
    "zoom": Kind(move=replace(HELD, zoom=0.25), plate_move=replace(HELD, zoom=0.15)),
    "moved-start": replace(PARALLAX, plate_length=1.5, plate_way=((0, -0.6), (1.5, 0.9))),
}


class Scene:
    """A shot, a clean plate, and what is true of them."""

    def __init__(
        self, name: str, width: int = 1920, height: int = 1080, frames: int = 30, seed: int = 0
    ) -> None:
        """name: a key of KINDS (KeyError for another); frames: of the shot."""
        kind = KINDS[name]
        self.name, self.width, self.height = name, width, height
        # A seed from the name: a scene is the same in any selection.
        root = zlib.crc32(f"{name} {seed}".encode())
        world_rng, person_rng = np.random.default_rng(root).spawn(2)
        counts = frames, max(1, round(frames * kind.plate_length))
        cameras = self._cameras(kind, frames, root)
        # A little longer than the takes, for what a shutter sees before and after.
        times = [np.arange(-1, count + 1) / FRAMES_PER_SECOND for count in counts]
        views = list(zip(cameras, times, strict=True))
        self.layers = furnish(world_rng, views, kind.furnished, kind.plain)
        person = Person(person_rng, width, height, kind.person_share)
        world = self.layers
        self.shot = Take("shot", counts[0], cameras[0], world, kind.light, kind.optics, person)
        self.clean_plate = Take(
            "clean plate", counts[1], cameras[1], world, kind.plate_light, kind.optics
        )
        self.view_distances = lru_cache(maxsize=None)(self._view_distances)
        self._plates: list[Pixels] | None = None

    def _cameras(self, kind: Kind, frames: int, root: int) -> list[Camera]:
        """The shot's and the clean plate's, each with a hand of its own."""
        duration = frames / FRAMES_PER_SECOND
        length = min(duration, LONGEST_WAY_SECONDS)
        ways = (
            Way((0.0, 0.0), (duration, length)),
            Way(*((take * duration, way * length) for take, way in kind.plate_way)),
        )
        moves = kind.move, kind.plate_move or kind.move
        return [
            Camera(self.width, self.height, move, root + number, way)
            for number, (move, way) in enumerate(zip(moves, ways, strict=True))
        ]

    def plate_pictures(self) -> list[Pixels]:
        """The clean plate, rendered once."""
        if self._plates is None:
            take = self.clean_plate
            self._plates = [take.picture(i).pixels for i in range(len(take))]
        return self._plates

    def open_clean_plate(self) -> Rendered:
        """A new reader; all readers of a scene hand out the same pictures."""
        return Rendered(self.clean_plate.info, self.plate_pictures().__getitem__)

    def homography_frame_from_plate(
        self, frame_index: int, plate_index: int, layer: int = 0
    ) -> Floats:
        """3x3 of a layer, by default the far plane.

        With a rolling shutter it holds for the middle rows alone: see `plate_points`.
        """
        plane = self.layers[layer].plane
        shot, plate = self.shot, self.clean_plate
        frame_from_plane = shot.camera.homographies(shot.seconds(frame_index), plane)[0]
        plate_from_plane = plate.camera.homographies(plate.seconds(plate_index), plane)[0]
        homography = frame_from_plane @ np.linalg.inv(plate_from_plane)
        return np.asarray(homography / homography[2, 2])

    def plate_points(self, frame_index: int, plate_index: int, points: ArrayLike) -> Floats:
        """(N, 2) xy of the frame -> (N, 2) xy in the plate frame, on the far plane, exact."""
        xy, plane = np.asarray(points, float), self.layers[0].plane
        seconds = self.shot.seconds(frame_index, xy[:, 1])
        there = apply(np.linalg.inv(self.shot.camera.homographies(seconds, plane)), xy)
        found = np.full_like(xy, (self.height - 1) / 2)
        # Which row of the plate sees a point depends on where it lies: every round is some ten
        # times as close.
        for _ in range(8):
            seconds = self.clean_plate.seconds(plate_index, found[:, 1])
            found = apply(self.clean_plate.camera.homographies(seconds, plane), there)
        return found

    def nearest_plate_index(self, frame_index: int) -> int:
        """The clean-plate frame with the nearest view: least parallax, then least turn."""
        return int(self.view_distances(frame_index).argmin())

    def plate_index_error(self, frame_index: int, plate_index: int) -> int:
        """Frames to the closest of those whose view is as good as the nearest."""
        distances = self.view_distances(frame_index)
        good = np.flatnonzero(distances <= distances.min() + EQUAL_VIEW_SHARE * self.width)
        return int(np.abs(good - plate_index).min())

    def _view_distances(self, frame_index: int) -> Floats:
        """(plate frames,) pixels: mean parallax of the layers, and a little of the wall's motion.

        What a turn of the camera does to the picture a homography takes back, all but the border.
        """
        across, down = np.meshgrid(np.linspace(0, self.width, 5), np.linspace(0, self.height, 5))
        grid = np.stack([across, down, np.ones_like(across)]).reshape(3, -1)
        seconds = np.arange(len(self.clean_plate)) / FRAMES_PER_SECOND
        moved = []
        for layer in self.layers:
            frame = self.shot.camera.homographies(self.shot.seconds(frame_index), layer.plane)
            plates = self.clean_plate.camera.homographies(seconds, layer.plane)
            x, y, w = np.moveaxis(frame @ np.linalg.inv(plates) @ grid, 1, 0)
            moved.append(np.stack([x / w, y / w]))
        wall = np.hypot(*(moved[0] - grid[:2, None])).mean(-1)
        parallax = np.mean([np.hypot(*(layer - moved[0])).mean(-1) for layer in moved], axis=0)
        return np.asarray(parallax + TURN_WEIGHT * wall)
