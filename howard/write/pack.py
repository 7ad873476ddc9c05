"""Pack: a matte in floats -> a picture in bytes, clean at both ends of alpha."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from howard.frames import Matte, Noun

TRANSPARENT = 1
"""Alpha up to this level becomes 0: below 1.5 / 255, about 0.006."""
OPAQUE = 254
"""Alpha from this level on becomes 255: above 253.5 / 255, about 0.994."""

# Why alpha snaps: a sigmoid nears 0 and 1 and never reaches them. Left as it is, one level of
# residue is a veil over the whole frame and a person that the background shines through.
SNAP = np.arange(256, dtype=np.uint8)
SNAP[: TRANSPARENT + 1] = 0
SNAP[OPAQUE:] = 255


def pack_rgba(alpha: NDArray[np.float32], foreground: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(H, W, 4) uint8, straight RGBA.

    alpha: (H, W) in [0, 1]. foreground: (H, W, 3) straight RGB in [0, 1]; a view of planar
    memory is the fastest. Both are rounded to the nearest level (a tie to the even one); what
    lies outside [0, 1] is clipped; NaN counts as 0. Alpha snaps to its ends, and where it is 0
    the colour is 0 too: nobody sees it, it is the same on every device, and it costs no bytes.
    """
    opacity = np.asarray(cv2.LUT(to_levels(alpha), SNAP), np.uint8)
    shows = (opacity > 0).view(np.uint8)
    colours = [to_levels(foreground[..., channel]) * shows for channel in range(3)]
    return np.asarray(cv2.merge([*colours, opacity]), np.uint8)


def to_levels(plane: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(H, W) of [0, 1] -> levels of 255."""
    clipped = np.clip(plane, 0.0, 1.0)
    cv2.patchNaNs(clipped, 0.0)
    # One pass multiplies in float32, as the GPU does, rounds to the nearest and converts.
    return np.asarray(cv2.convertScaleAbs(clipped, alpha=255.0), np.uint8)


@dataclass(repr=False, eq=False)
class PackedMatte(Noun):
    """A matte on its way to the writer; packed when a worker asks, not in the frame loop."""

    index: int
    """Index of the frame in the shot."""
    matte: Matte

    @property
    def confidence(self) -> float:
        return self.matte.confidence

    def result(self) -> NDArray[np.uint8]:
        """(H, W, 4) straight RGBA, contiguous."""
        return pack_rgba(self.matte.alpha, self.matte.foreground)
