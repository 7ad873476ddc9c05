"""Pack: a matte in floats -> a picture in levels, clean at both ends of alpha."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from howard.frames import Matte, Noun, Rgba

Levels: TypeAlias = NDArray[np.uint8 | np.uint16]

# Why alpha snaps: a sigmoid nears 0 and 1 and never reaches them. Left as it is, one level of
# residue is a veil over the whole frame and a person that the background shines through.
TRANSPARENT = 1.5 / 255
"""Alpha below this, about 0.006, becomes 0: it rounds to level 1 of 255 or less."""
OPAQUE = 253.5 / 255
"""Alpha above this, about 0.994, becomes 1: it rounds to level 254 of 255 or more."""


def pack_rgba(
    alpha: NDArray[np.float32], foreground: NDArray[np.float32], bit_depth: int = 8
) -> Rgba:
    """(H, W, 4) straight RGBA, uint8 or uint16 as `bit_depth` is 8 or 16.

    alpha: (H, W) in [0, 1]. foreground: (H, W, 3) straight RGB in [0, 1]; a view of planar
    memory is the fastest. Both are rounded to the nearest level (a tie to the even one); what
    lies outside [0, 1] is clipped; NaN counts as 0. Alpha snaps to its ends, and where it is 0
    the colour is 0 too: nobody sees it, it is the same on every device, and it costs no bytes.
    """
    opacity = snapped(to_levels(alpha, bit_depth), bit_depth)
    shows = (opacity > 0).view(np.uint8)
    x, y, width, height = cv2.boundingRect(shows)
    box = np.s_[y : y + height, x : x + width]
    rgba = np.zeros((*opacity.shape, 4), opacity.dtype)
    if width:
        colours = [to_levels(foreground[box][..., k], bit_depth) * shows[box] for k in range(3)]
        rgba[box] = cv2.merge([*colours, opacity[box]])
    return rgba


def snapped(levels: Levels, bit_depth: int) -> Levels:
    """(H, W) of alpha, clean at both ends."""
    most = 2**bit_depth - 1
    _, shown = cv2.threshold(levels, int(TRANSPARENT * most), most, cv2.THRESH_TOZERO)
    _, opaque = cv2.threshold(levels, int(OPAQUE * most), most, cv2.THRESH_BINARY)
    return np.asarray(cv2.max(shown, opaque), levels.dtype)


def to_levels(plane: NDArray[np.float32], bit_depth: int = 8) -> Levels:
    """(H, W) of [0, 1] -> levels of 255 or of 65535."""
    clipped = np.clip(plane, 0.0, 1.0)
    cv2.patchNaNs(clipped, 0.0)
    # Multiplied in float32, as on the GPU, and rounded to the nearest.
    if bit_depth == 8:
        return np.asarray(cv2.convertScaleAbs(clipped, alpha=255.0), np.uint8)
    return np.rint(np.multiply(clipped, 65535, out=clipped), out=clipped).astype(np.uint16)


@dataclass(repr=False, eq=False)
class PackedMatte(Noun):
    """A matte on its way to the writer; packed when a worker asks, not in the frame loop."""

    index: int
    """Index of the frame in the shot."""
    matte: Matte
    bit_depth: int = 8

    @property
    def confidence(self) -> float:
        return self.matte.confidence

    def result(self) -> Rgba:
        """The picture, contiguous."""
        return pack_rgba(self.matte.alpha, self.matte.foreground, self.bit_depth)
