"""The sample's truth: exact alpha, foreground and homographies of every frame.

`make_sample.py` composites the videos with the functions of this file, so what they return is not
an estimate. Conventions as in `howard.frames`: RGB, (H, W, C), pixel centres at integer
coordinates, straight alpha. Only the person and the numbers in `truth.json` are needed here, not
the photograph of the place.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

FOLDER = Path(__file__).resolve().parent
SHOT = FOLDER / "shot.mp4"
CLEAN_PLATE = FOLDER / "clean_plate.mp4"
PERSON = FOLDER / "person.png"
NUMBERS = FOLDER / "truth.json"

# cv2.remap samples on a grid of 1/32 pixel: on an enlarged person that is half as coarse.
PERSON_OVERSAMPLING = 2

# Points and radii of the person's own motion, in pixels of person.png.
FEET = (240.0, 512.0)
HEAD, HEAD_RADIUS = (228.0, 85.0), 80.0
HELMET, HELMET_RADIUS = (420.0, 440.0), 75.0


@dataclass(frozen=True)
class Pose:
    """Where the person is in one frame of the shot, and how she is bent."""

    x: float
    """Column of FEET in the frame, pixels."""
    y: float
    """Row of FEET in the frame, pixels; below the lower border."""
    scale: float
    """Frame pixels per pixel of person.png."""
    roll_radians: float
    """Clockwise on the screen, about FEET."""
    bend: float
    """How far the top of person.png leans to the right, growing as the height squared, pixels of
    person.png; as are the three below."""
    head_x: float
    """The head's own move to the right."""
    head_y: float
    """The head's own move down."""
    helmet_y: float
    """The helmet's move down."""


@dataclass(frozen=True, eq=False)
class Truth:
    """What the two videos show, to the last bit; load it with `load_truth`."""

    width: int
    height: int
    frames_per_second: int
    homographies_shot_from_place: NDArray[np.float64]
    """(frames of the shot, 3, 3): maps pixels of the place to pixels of the frame."""
    homographies_clean_plate_from_place: NDArray[np.float64]
    """(frames of the clean plate, 3, 3): likewise."""
    poses: tuple[Pose, ...]
    """One for each frame of the shot."""
    exposure_shot: NDArray[np.float64]
    """(3,) gain of R, G, B, on encoded values, applied to place and person."""
    exposure_clean_plate: NDArray[np.float64]
    """(3,) likewise, applied to the place."""
    light_on_person: NDArray[np.float64]
    """(3,) gain of R, G, B that sets the person, lit in a studio, into the light of the place."""
    person: NDArray[np.float32]
    """(h, w, 4) straight RGBA in [0, 1], person.png enlarged by PERSON_OVERSAMPLING."""

    def alpha(self, shot_index: int) -> NDArray[np.float32]:
        """(H, W) opacity of the person in [0, 1] in one frame of the shot."""
        return self._warp_person(shot_index, self.person[..., 3], cv2.BORDER_CONSTANT)

    def foreground(self, shot_index: int) -> NDArray[np.float32]:
        """(H, W, 3) straight RGB of the person in [0, 1], exposed as the shot is."""
        gain = self.light_on_person * self.exposure_shot
        colour = self._warp_person(shot_index, self.person[..., :3], cv2.BORDER_REPLICATE)
        return np.clip(colour * gain.astype(np.float32), 0, 1)

    def homography_frame_from_plate(self, shot_index: int, plate_index: int) -> NDArray[np.float64]:
        """3×3, maps pixels of a clean-plate frame to pixels of a frame of the shot."""
        frame_from_place = self.homographies_shot_from_place[shot_index]
        plate_from_place = self.homographies_clean_plate_from_place[plate_index]
        homography = frame_from_place @ np.linalg.inv(plate_from_place)
        return homography / homography[2, 2]

    def coverage(self, shot_index: int, plate_index: int) -> float:
        """Share of the frame, in [0, 1], on which the warped clean-plate frame has data."""
        right, lower = self.width - 0.5, self.height - 0.5
        frame = np.array([[-0.5, -0.5], [right, -0.5], [right, lower], [-0.5, lower]])
        plate = project(self.homography_frame_from_plate(shot_index, plate_index), frame)
        shared, _ = cv2.intersectConvexConvex(frame.astype(np.float32), plate.astype(np.float32))
        return shared / (self.width * self.height)

    def best_plate_index(self, shot_index: int) -> int:
        """The clean-plate frame that covers most of one frame of the shot."""
        plates = range(len(self.homographies_clean_plate_from_place))
        return max(plates, key=lambda plate_index: self.coverage(shot_index, plate_index))

    def _warp_person(
        self, shot_index: int, picture: NDArray[np.float32], border: int
    ) -> NDArray[np.float32]:
        """A picture as large as `person`, (h, w) or (h, w, 3), as one frame sees it; [0, 1]."""
        xy = person_from_frame(self.poses[shot_index], self.width, self.height)
        x, y = np.moveaxis((xy + 0.5) * PERSON_OVERSAMPLING - 0.5, -1, 0).astype(np.float32)
        return np.clip(cv2.remap(picture, x, y, cv2.INTER_CUBIC, borderMode=border), 0, 1)


def load_truth() -> Truth:
    """Read `truth.json` and `person.png`, which lie beside this file."""
    numbers = json.loads(NUMBERS.read_text())
    arrays = ("exposure_shot", "exposure_clean_plate", "light_on_person")
    matrices = ("homographies_shot_from_place", "homographies_clean_plate_from_place")
    return Truth(
        width=numbers["width"],
        height=numbers["height"],
        frames_per_second=numbers["frames_per_second"],
        poses=tuple(Pose(*row) for row in numbers["poses"]),
        person=load_person(),
        **{name: np.array(numbers[name]) for name in arrays},
        **{name: np.reshape(numbers[name], (-1, 3, 3)) for name in matrices},
    )


def load_person() -> NDArray[np.float32]:
    """(h, w, 4) straight RGBA in [0, 1], person.png enlarged by PERSON_OVERSAMPLING.

    Colour and alpha are enlarged apart; person.png keeps the person's colour, bled outwards, where
    its alpha is 0, so that nothing else can creep in at the edge.
    """
    bgra = cv2.imread(str(PERSON), cv2.IMREAD_UNCHANGED)
    if bgra is None:
        raise FileNotFoundError(f"cannot read {PERSON}")
    rgba = cv2.cvtColor(bgra, cv2.COLOR_BGRA2RGBA).astype(np.float32) / 255
    scale = PERSON_OVERSAMPLING
    return np.clip(cv2.resize(rgba, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC), 0, 1)


def person_from_frame(pose: Pose, width: int, height: int) -> NDArray[np.float64]:
    """(H, W, 2) xy in person.png of every pixel of a frame: the person's warp, backwards."""
    x, y = np.meshgrid(np.arange(width) - pose.x, np.arange(height) - pose.y)
    cosine, sine = np.cos(pose.roll_radians), np.sin(pose.roll_radians)
    xy = np.stack([cosine * x + sine * y, cosine * y - sine * x], axis=-1) / pose.scale + FEET
    height_share = 1 - xy[..., 1] / FEET[1]
    xy[..., 0] -= pose.bend * height_share * np.abs(height_share)
    xy -= around(xy, HEAD, HEAD_RADIUS) * (pose.head_x, pose.head_y)
    xy -= around(xy, HELMET, HELMET_RADIUS) * (0.0, pose.helmet_y)
    return xy


def around(
    xy: NDArray[np.float64], centre: tuple[float, float], radius: float
) -> NDArray[np.float64]:
    """(..., 1) smooth weight of points (..., 2): 1 at the centre, falling off as a Gaussian."""
    squared = np.sum((xy - centre) ** 2, axis=-1, keepdims=True)
    return np.exp(-squared / (2 * radius**2))


def project(homography: NDArray[np.floating], xy: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points (..., 2) through a 3×3 homography."""
    mapped = xy @ homography[:, :2].T + homography[:, 2]
    return mapped[..., :2] / mapped[..., 2:]
