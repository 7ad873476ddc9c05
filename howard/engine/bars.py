"""A run whose takes have bars: its stages see the pictures without them, its results are of whole
frames."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import SupportsFloat

import numpy as np

from howard.decode import VideoReader
from howard.decode.bars import Box, Cropped, pictures_in
from howard.frames import Alignment, Noun, PendingRgba, Rgba


@dataclass(frozen=True)
class Bars:
    """Where the pictures lie in the frames of a shot and of its clean plate."""

    shot: Box
    clean_plate: Box
    width: int
    """Of the shot's whole frames."""
    height: int

    def warning(self) -> str:
        return (
            f"both takes have black bars, which were left out: the picture is {self.shot} of the "
            f"shot and {self.clean_plate} of the clean plate; outside it alpha is 0"
        )

    def of_whole(self, alignment: Alignment) -> Alignment:
        """The same between whole frames."""
        return moved(alignment, self.shot, self.clean_plate, 1)

    def of_pictures(self, alignment: Alignment) -> Alignment:
        """The same between the pictures in them."""
        return moved(alignment, self.shot, self.clean_plate, -1)

    def around(self, picture: PendingRgba) -> PendingRgba:
        """A whole frame of what becomes of the picture in it."""
        return Surrounded(picture.index, picture, self)


def without_bars(
    shot: VideoReader, clean_plate: VideoReader
) -> tuple[VideoReader, VideoReader, Bars | None]:
    """The takes as they are seen, and their bars; the takes themselves where there are none."""
    boxes = pictures_in(shot, clean_plate)
    if boxes is None:
        return shot, clean_plate, None
    ours, theirs = boxes
    bars = Bars(ours, theirs, shot.info.width, shot.info.height)
    return Cropped(shot, ours), Cropped(clean_plate, theirs), bars


def moved(alignment: Alignment, frame: Box, plate: Box, way: int) -> Alignment:
    """With its homography from and to coordinates whose origins are moved by the boxes' corners."""
    there, back = (
        np.array([[1, 0, sign * box.left], [0, 1, sign * box.top], [0, 0, 1]], float)
        for box, sign in ((frame, way), (plate, -way))
    )
    homography = there @ np.array(alignment.homography_frame_from_plate).reshape(3, 3) @ back
    homography = homography / homography[2, 2]
    return replace(alignment, homography_frame_from_plate=tuple(homography.ravel().tolist()))


@dataclass(repr=False, eq=False)
class Surrounded(Noun):
    """A picture on its way to the writer, and nothing around it."""

    index: int
    picture: PendingRgba
    bars: Bars

    @property
    def confidence(self) -> SupportsFloat:
        return self.picture.confidence

    def result(self) -> Rgba:
        """The frame, contiguous; blocks until its picture is there."""
        inside = self.picture.result()
        whole = np.zeros((self.bars.height, self.bars.width, 4), inside.dtype)
        whole[self.bars.shot.inside] = inside
        return whole
