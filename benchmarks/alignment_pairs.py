"""Pairs of real pictures with known homographies, each as a scene of one frame and one plate.

A folder of the Oxford affine set (Mikolajczyk et al., "A Comparison of Affine Region Detectors",
IJCV 2005: img1.ppm to img6.ppm, H1to2p to H1to6p as text), or OpenCV's samples/data (graf1.png,
graf3.png, H1to3p.xml). Picture 1 is the clean plate; H1toNp maps its pixels to those of picture N.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import cast
from xml.etree import ElementTree

import numpy as np
from numpy.typing import ArrayLike

from benchmarks.alignment_camera import Floats, apply
from benchmarks.alignment_scenes import Scene
from benchmarks.alignment_takes import Picture, Rendered
from benchmarks.alignment_textures import Pixels
from howard.decode.images import read_image
from howard.errors import InputError
from howard.frames import VideoInfo

HOMOGRAPHY = re.compile(r"H1to(\d+)p(\.xml)?")
PICTURES = [f"{name}{{}}{kind}" for name in ("img", "graf") for kind in (".ppm", ".pgm", ".png")]


class Photograph:
    """What the benchmark asks of a Take: one frame, without a person."""

    def __init__(self, path: Path) -> None:
        self.pixels: Pixels = read_image(path)
        height, width = self.pixels.shape[:2]
        self.info = VideoInfo(path, width, height, 1, None, True, (path,))

    def __len__(self) -> int:
        return 1

    def picture(self, index: int) -> Picture:
        return Picture(self.pixels, self.pixels, np.zeros(self.pixels.shape[:2], np.float32))


class Pair:
    """What the benchmark asks of a Scene."""

    def __init__(self, clean_plate: Path, shot: Path, homography: Floats) -> None:
        """homography: (3, 3), frame from plate."""
        self.name, self.homography = shot.stem, homography
        self.clean_plate, self.shot = Photograph(clean_plate), Photograph(shot)
        self.width, self.height = self.shot.info.width, self.shot.info.height

    def plate_pictures(self) -> list[Pixels]:
        return [self.clean_plate.pixels]

    def open_clean_plate(self) -> Rendered:
        return Rendered(self.clean_plate.info, self.plate_pictures().__getitem__)

    def homography_frame_from_plate(self, frame_index: int, plate_index: int) -> Floats:
        return self.homography

    def plate_points(self, frame_index: int, plate_index: int, points: ArrayLike) -> Floats:
        return apply(np.linalg.inv(self.homography), points)

    def nearest_plate_index(self, frame_index: int) -> int:
        return 0

    def plate_index_error(self, frame_index: int, plate_index: int) -> int:
        return 0


def pairs(folder: Path) -> Iterator[Scene]:
    """Each pair of the folder, by number. Raises InputError."""
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    truths = {int(said[1]): name for name in names if (said := HOMOGRAPHY.fullmatch(name))}
    found = {
        number: picture
        for number in sorted(truths)
        for picture in PICTURES
        if {picture.format(1), picture.format(number)} <= names
    }
    if not found:
        raise InputError(
            f"{folder} holds no pairs: give a folder with img1.ppm, img2.ppm, H1to2p and so on, or "
            "with graf1.png, graf3.png, H1to3p.xml"
        )
    for number, picture in found.items():
        homography = read_homography(folder / truths[number])
        pair = Pair(folder / picture.format(1), folder / picture.format(number), homography)
        yield cast(Scene, pair)  # it has no world, and nobody asks for that


def read_homography(path: Path) -> Floats:
    """(3, 3) from text, or from OpenCV's XML. Raises InputError."""
    try:
        is_xml = path.suffix == ".xml"
        text = ElementTree.parse(path).findtext(".//data", "") if is_xml else path.read_text()
        return np.array(text.split(), float).reshape(3, 3)
    except (ValueError, ElementTree.ParseError) as error:
        raise InputError(f"{path} holds no homography: give nine numbers, by rows") from error
