"""What the alignment did, as one picture a frame: `--debug DIR`."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from howard.align.features import find_features, match
from howard.align.geometry import project
from howard.errors import OutputError
from howard.frames import Frame, Plate
from howard.write.files import prepare_folder, write_whole

WIDTH = 640
"""Of each of the six pictures."""
HIGHEST = 4 * WIDTH
"""A narrower frame is shown squashed: a JPEG has 65,535 rows at most."""
NEAR_PIXELS = 3.0
"""At 1280 pixels of width: a match this close to the homography is drawn green, else red."""
GREEN, RED = (60, 220, 60), (230, 60, 60)
RESIDUAL_GAIN = 4
NUMBERED = re.compile(r"\d{6,}\.jpg")
START, COMMENT = b"\xff\xd8", b"\xff\xfe\x00\x0eHoward debug"
"""How a JPEG begins, and the segment that tells these from others (ITU-T T.81, B.2.4.5)."""
LINE = 36
"""Pixels of height for the numbers, below the pictures."""

Picture = NDArray[np.uint8]


class DebugPictures:
    """Writes DIR/000000.jpg and on: matches on frame and clean-plate frame; the plate; then
    the frame without what the plate explains (residual), the coverage, and the numbers."""

    def __init__(self, folder: Path) -> None:
        """Raises OutputError if the folder cannot be made or written, or holds pictures of others
        under the names that these need."""
        self.folder = folder
        try:
            prepare_folder(folder)
        except OutputError as error:
            raise OutputError(error.errno, f"--debug: {error}") from error
        for picture in sorted(folder.glob("*.jpg")):
            if NUMBERED.fullmatch(picture.name) and not is_ours(picture):
                raise OutputError(
                    f"--debug {folder} holds {picture.name}, which Howard did not make: give "
                    "another folder"
                )

    def write(self, frame: Frame, source: Frame, plate: Plate) -> None:
        """frame of the shot, the clean-plate frame that the plate was made of, the plate."""
        residual = cv2.absdiff(plate.pixels, frame.pixels)
        residual[plate.coverage == 0] = 0
        top = [*matched(frame, source, plate), plate.pixels]
        covered = cv2.cvtColor(plate.coverage * np.uint8(255), cv2.COLOR_GRAY2RGB)
        strong = cv2.convertScaleAbs(residual, alpha=RESIDUAL_GAIN)
        bottom = [strong, covered, frame.pixels]
        rows, columns = frame.pixels.shape[:2]
        height = min(max(1, round(WIDTH * rows / columns)), HIGHEST)
        both = [np.hstack([fitted(p, height) for p in row]) for row in (top, bottom)]
        pictures = np.vstack(both)[..., ::-1]
        a = plate.alignment
        text = (
            f"frame {frame.index}  plate {a.plate_index}  residual {a.residual:.1f}  coverage "
            f"{a.coverage:.2f}  inliers {a.inliers}/{a.matches}  {a.fallback or ''}"
        )
        sheet = cv2.copyMakeBorder(pictures, 0, LINE, 0, 0, cv2.BORDER_CONSTANT)
        at = (12, sheet.shape[0] - LINE // 3)
        cv2.putText(sheet, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.7, (255, 255, 255))
        coded = cv2.imencode(".jpg", sheet)[1].tobytes()
        write_whole(self.folder / f"{frame.index:06d}.jpg", START + COMMENT + coded[len(START) :])


def is_ours(picture: Path) -> bool:
    """Whether Howard made this debug picture: its comment says so."""
    with open(picture, "rb") as file:
        return file.read(len(START + COMMENT)) == START + COMMENT


def fitted(picture: cv2.typing.MatLike, height: int) -> Picture:
    """WIDTH x height."""
    resized = cv2.resize(picture, (WIDTH, height), interpolation=cv2.INTER_AREA)
    return np.asarray(resized, np.uint8)


def matched(frame: Frame, source: Frame, plate: Plate) -> list[Picture]:
    """Frame and clean-plate frame with matches of keypoints marked, by how well the homography
    explains them. They are found for these pictures alone: most frames are aligned without any, by
    the flow, and the inliers below count that."""
    homography = np.array(plate.alignment.homography_frame_from_plate).reshape(3, 3)
    here, there = find_features(frame.pixels), find_features(source.pixels)
    pairs = match(there, here)
    to, of = here.keypoints[pairs[:, 1]], there.keypoints[pairs[:, 0]]
    off = np.hypot(*(project(homography, of) - to).T)
    scale = frame.pixels.shape[1] / 1280
    pictures = [frame.pixels.copy(), source.pixels.copy()]
    for a, b, distance in zip(to, of, off, strict=True):
        colour = GREEN if distance < NEAR_PIXELS * scale else RED
        for picture, (x, y) in zip(pictures, (a, b), strict=True):
            radius, thickness = max(2, round(4 * scale)), max(1, round(2 * scale))
            cv2.circle(picture, (round(x), round(y)), radius, colour, thickness, cv2.LINE_AA)
    return pictures
