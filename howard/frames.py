"""The nouns that the stages hand to one another.

Conventions, everywhere in Howard: RGB order; (H, W, C) between stages, planar only inside
`howard.matte`; pixel centres at integer coordinates, so that resizing by s maps x to
(x + 0.5) * s - 0.5; alpha is straight (un-premultiplied).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, SupportsFloat, TypeAlias

import numpy as np
from numpy.typing import NDArray

Rgba: TypeAlias = NDArray[np.uint8 | np.uint16]
"""(H, W, 4) straight RGBA, levels of 255 or of 65535."""

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


def counted(frames: int) -> str:
    """So many, in words."""
    return f"{frames} frame" if frames == 1 else f"{frames} frames"


def describe(value: Any) -> str:
    """Arrays by dtype and shape, anything else by its repr: for the nouns' own repr."""
    return f"{value.dtype}{list(value.shape)}" if hasattr(value, "shape") else repr(value)


class Noun:
    """Base of the dataclasses below: their repr shows shapes instead of pixels."""

    def __repr__(self) -> str:
        fields = ", ".join(f"{k}={describe(v)}" for k, v in vars(self).items())
        return f"{type(self).__name__}({fields})"


@dataclass(frozen=True, repr=False)
class VideoInfo(Noun):
    """What a reader knows of its video before it decodes it."""

    path: Path
    width: int
    """Pixels, after rotation."""
    height: int
    """Pixels, after rotation."""
    frames: int | None
    """Number of frames, as the container says or as counted; None where it does not say."""
    frames_per_second: float | None
    """Average rate; None for images."""
    still: bool = False
    """One image: it stands for a video of that one frame, at any time."""
    files: tuple[Path, ...] = ()
    """The file, or the images, that hold it."""


@dataclass(frozen=True, repr=False, eq=False)
class Frame(Noun):
    """One image of a video."""

    index: int
    """0 for the first frame of the video."""
    pts_seconds: float
    """Presentation time, the first frame's at its own value; index / 30 for images."""
    pixels: NDArray[np.uint8]
    """(H, W, 3) RGB, full range."""
    decode_milliseconds: float = 0.0


@dataclass(frozen=True, repr=False)
class Alignment(Noun):
    """How a plate was found: one row of the report."""

    plate_index: int
    """Index of the clean-plate frame."""
    keypoints: int
    """Keypoints of the frame, or textured points where its flow was looked at."""
    matches: int
    """Of those, found in the clean-plate frame."""
    inliers: int
    """Of those, close to the homography."""
    residual: float
    """Mean absolute difference of plate and frame outside the person, in levels of 255."""
    coverage: float
    """Share of the frame that the plate covers, in [0, 1]; 0 where a guess was no use."""
    fallback: str | None
    """None, or why the plate is a guess: "last_homography" or "identity"."""
    homography_frame_from_plate: tuple[float, ...]
    """Nine numbers, row by row: maps plate pixels to frame pixels, both at full resolution."""


@dataclass(frozen=True, repr=False, eq=False)
class Plate(Noun):
    """One clean-plate image, warped onto a frame and matched to its light."""

    pixels: NDArray[np.uint8]
    """(H, W, 3) RGB; 0 where coverage is 0."""
    coverage: NDArray[np.uint8]
    """(H, W), 1 where the plate has data, 0 elsewhere."""
    alignment: Alignment
    shown: Any = None
    """The frame's view, and what else the aligner wants to see again with the matte:
    `Aligner.observe` takes the plate."""
    unaligned: Any = None
    """(H', W', 3) RGB, any size: the clean-plate frame as it was filmed. Where coverage is 0 the
    network sees there what the place looks like."""


@dataclass(frozen=True, repr=False, eq=False)
class Matte(Noun):
    """Alpha together with foreground."""

    alpha: NDArray[np.float32]
    """(H, W) opacity in [0, 1]."""
    foreground: NDArray[np.float32]
    """(H, W, 3) straight RGB in [0, 1]; may be a view of planar memory."""
    confidence: float = 1.0
    """How sure the network is of this matte, in [0, 1]; 0.5 where it expects alpha to be off by
    0.02 on average."""
    doubt: NDArray[np.float32] | None = None
    """(h, w), smaller: by how much it expects alpha to be off; None where it does not tell."""


class PendingRgba(Protocol):
    """A picture on its way to the writer: packed, or downloaded, when `result` is called."""

    index: int

    @property
    def confidence(self) -> SupportsFloat:
        """Of the matte; a number once `result` was called."""
        ...

    def result(self) -> Rgba:
        """The picture, contiguous; blocks until it is there."""
        ...
