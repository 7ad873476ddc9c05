"""The network of Sengupta et al. 2020: the crop around the person that another network found.

What the authors' script does, with the coarse matte of Howard's network for their person
segmentation: a square around the person, resized to what the network takes; the segmentation
eroded, dilated and blurred; the results resized and pasted back; where alpha is all but 1, the
frame's own colour. Three differences: the square is centred and moved into the frame before it is
cut off; the frame's colour is taken at full size; legs are not drawn out to the crop's lower edge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from howard.frames import Frame, Matte, Plate
from howard.matte import MattingNetwork
from howard.matte.cpu import OUTPUTS, open_session, planes, shrink, stored_number
from howard.matte.holes import fill_holes

INPUTS = {"frame", "plate", "segmentation"}
PERSON = 0.2
"""Coarse alpha above this is person: the script's threshold."""
SMALLEST = 5e-4
"""Share of the frame below which what was found is nobody."""
COMPANION = 0.1
"""Parts of the coarse matte that are smaller than this share of the largest do not count."""
MARGIN = 0.1
"""Around the person, of the longer side."""
OPAQUE = 0.975
"""Above this alpha the colour is the frame's: 0.95 in the authors' range of [-1, 1]."""

Alpha = NDArray[np.float32]
Box = tuple[slice, slice]
"""Rows and columns."""


class ContextSwitchingNetwork:
    """Runs `coarse` for the segmentation, then the exported network on a crop of each frame."""

    def __init__(self, weights: Path, coarse: MattingNetwork, threads: int) -> None:
        self.session = open_session(weights, threads, INPUTS, INPUTS)
        self.side = stored_number(self.session, weights, "side")
        self.coarse = coarse

    @property
    def warnings(self) -> Sequence[str]:
        return self.coarse.warnings

    def __call__(self, frames: Sequence[Frame], plates: Sequence[Plate]) -> list[Matte]:
        found = self.coarse(frames, plates)
        return [self.refine(*one) for one in zip(frames, plates, found, strict=True)]

    def refine(self, frame: Frame, plate: Plate, found: Matte) -> Matte:
        """The matte of one frame; empty if nobody was found."""
        alpha = np.zeros_like(found.alpha)
        box = person_box(found.alpha)
        if box is None:
            return replace(found, alpha=alpha)
        size = (self.side, self.side)
        background, _ = fill_holes(plate.pixels, plate.coverage)
        feeds = {
            "frame": planes([shrink(frame.pixels[box], size)]),
            "plate": planes([shrink(background[box], size)]),
            "segmentation": soft_segmentation(resize(found.alpha[box], size))[None, None],
        }
        cut, colour = self.session.run(OUTPUTS, feeds)
        inside = alpha[box].shape[::-1]
        alpha[box] = resize(cut[0, 0], inside)
        foreground = np.asarray(frame.pixels / np.float32(255), np.float32)
        mixed = alpha[box] <= OPAQUE
        foreground[box][mixed] = resize(colour[0].transpose(1, 2, 0), inside)[mixed]
        return replace(found, alpha=alpha, foreground=foreground)


def person_box(alpha: Alpha, margin: float = MARGIN) -> Box | None:
    """A square around the person with a margin (of the longer side, all around), as far as the
    frame goes; None for nobody."""
    person = (alpha > PERSON).astype(np.uint8)
    _, _, parts, _ = cv2.connectedComponentsWithStats(person)
    parts = parts[1:]  # the first is the background
    areas = parts[:, cv2.CC_STAT_AREA]
    if areas.max(initial=0) < SMALLEST * alpha.size:
        return None
    left, top, width, height = parts[areas >= COMPANION * areas.max(), :4].T
    first, last = (top.min(), left.min()), ((top + height).max(), (left + width).max())
    side = round(max(b - a for a, b in zip(first, last, strict=True)) * (1 + 2 * margin))
    rows, columns = (span(*x, side) for x in zip(first, last, alpha.shape, strict=True))
    return rows, columns


def span(first: int, last: int, limit: int, length: int) -> slice:
    """`length` pixels around the middle of first to last, moved and cut to lie in 0 to limit."""
    length = min(length, limit)
    start = min(max((first + last - length) // 2, 0), limit - length)
    return slice(int(start), int(start) + length)


def soft_segmentation(alpha: Alpha) -> Alpha:
    """(S, S) coarse matte -> the network's segmentation, in [0, 1]: eroded in 10 steps, dilated
    in 5, blurred with a sigma of 5 pixels (section 3.1 of the paper; kernels as in the script)."""
    cross, disc = (cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (k, k)) for k in (3, 5))
    eroded = cv2.erode((alpha > PERSON).astype(np.float32), cross, iterations=10)
    dilated = cv2.dilate(eroded, disc, iterations=5)
    return np.asarray(cv2.GaussianBlur(dilated, (31, 31), 5), np.float32)


def resize(picture: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """To (width, height): area average where it shrinks, else bilinear."""
    shrinks = picture.shape[1] > size[0] and picture.shape[0] > size[1]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(picture, size, interpolation=how), np.float32)
