"""From a decoded picture to upright 8-bit RGB: matrix, range, depth, size and rotation.

Codes of matrix and transfer are those of ITU-T H.273, which FFmpeg uses. Primaries and
transfer are left alone: RGB here means the video's own R'G'B', and HDR is not tone-mapped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import av
import cv2
import numpy as np
from av.buffer import Buffer
from av.sidedata.sidedata import Type
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from numpy.typing import NDArray

MATRICES = {
    1: Colorspace.ITU709,
    4: Colorspace.FCC,
    5: Colorspace.ITU601,
    6: Colorspace.ITU601,
    7: Colorspace.SMPTE240M,
    9: Colorspace.BT2020,
    10: Colorspace.BT2020,
}

UNREAD_MATRICES = {
    8: "YCgCo",
    11: "YDzDx",
    12: "chromaticity-derived",
    13: "chromaticity-derived, constant luminance",
    14: "ICtCp",
    15: "IPT-C2",
    16: "YCgCo-Re",
    17: "YCgCo-Ro",
}
"""Swscale knows none of them."""

LUMA_WEIGHTS = {  # K_R and K_B of ITU-T H.273, table 4
    Colorspace.ITU709: (0.2126, 0.0722),
    Colorspace.FCC: (0.30, 0.11),
    Colorspace.ITU601: (0.299, 0.114),
    Colorspace.SMPTE240M: (0.212, 0.087),
    Colorspace.BT2020: (0.2627, 0.0593),
}

SWAPS_AXES, MIRRORS_X, MIRRORS_Y = 1, 2, 4
FLIPS = {MIRRORS_X: 1, MIRRORS_Y: 0, MIRRORS_X | MIRRORS_Y: -1}  # as OpenCV names them

HDR_TRANSFERS = {16: "PQ", 18: "HLG"}

# FFmpeg's default converter takes chroma from the nearest sample and is up to 3 levels off
# on flat colours; with these flags 1, for 12 ms instead of 4 per 1080p picture on 2 cores.
ACCURATE = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT


@dataclass(frozen=True)
class Coding:
    """How a picture is stored."""

    width: int
    """Pixels, as stored, before it is turned."""
    height: int
    pixel_format: str
    """FFmpeg's name."""
    is_interlaced: bool
    matrix: Colorspace
    is_full_range: bool
    pose: int
    """How to turn it upright: the bits SWAPS_AXES, MIRRORS_X and MIRRORS_Y, done in this order;
    kernels/color.cu has the same."""

    @staticmethod
    def of(picture: av.VideoFrame) -> Coding:
        return Coding(
            picture.width,
            picture.height,
            picture.format.name,
            picture.interlaced_frame,
            matrix_of(picture),
            range_of(picture) == ColorRange.JPEG,
            pose_of(display_matrix(picture)),
        )


class Converter(Protocol):
    """Makes of a video's decoded pictures what its frames hold."""

    coding: Coding
    """Of the first picture; all are brought to its size and pose."""

    def __call__(self, picture: av.VideoFrame) -> Any: ...


class RgbConverter:
    """Converts the pictures of one video, all to the size and pose of its first.

    What it cannot keep or mend (HDR, a matrix that is not read, fields, a change of size) it says
    once in `warnings`.
    """

    def __init__(self, first: av.VideoFrame, name: str, warnings: list[str]) -> None:
        self.coding = Coding.of(first)
        self._reformatter = VideoReformatter()
        self._name, self._warnings, self._resized = name, warnings, False
        if first.color_trc in HDR_TRANSFERS:
            transfer = HDR_TRANSFERS[first.color_trc]
            warnings.append(f"{name} is HDR ({transfer}): its colours are not tone-mapped")
        if first.colorspace in UNREAD_MATRICES and has_chroma(first):
            warnings.append(
                f"{name} has the colour matrix {UNREAD_MATRICES[first.colorspace]}, which is not "
                "read, and its colours come out wrong: convert it to BT.709 first, for example "
                "with ffmpeg -i FILE -vf colorspace=all=bt709:iprimaries=bt709:itrc=bt709"
            )
        if self.coding.is_interlaced:
            warnings.append(
                f"{name} is interlaced, and each of its frames is used as it is, two moments in "
                "one: deinterlace it first, for example with ffmpeg -i FILE -vf bwdif"
            )

    def __call__(self, picture: av.VideoFrame) -> NDArray[np.uint8]:
        """(H, W, 3) upright RGB, full range, contiguous, in memory of its own."""
        return np.ascontiguousarray(turned(self.as_it_lies(picture), self.coding.pose))

    def as_it_lies(self, picture: av.VideoFrame) -> NDArray[np.uint8]:
        """(H, W, 3) RGB, full range, not yet upright."""
        width, height = self.coding.width, self.coding.height
        if (picture.width, picture.height) != (width, height) and not self._resized:
            self._resized = True
            self._warnings.append(
                f"{self._name} changes its size from {width}x{height} to "
                f"{picture.width}x{picture.height}: frames are scaled to the first"
            )
        matrix = matrix_of(picture)
        rgb = self._reformatter.reformat(
            picture,
            width,
            height,
            "rgb24",
            src_colorspace=matrix,
            dst_colorspace=matrix,
            src_color_range=range_of(picture),
            dst_color_range=ColorRange.JPEG,
            interpolation=ACCURATE,
        )
        return np.asarray(rgb.to_ndarray(), np.uint8)


def has_chroma(picture: av.VideoFrame) -> bool:
    """Whether a matrix matters: neither for RGB nor for grey."""
    return len(picture.format.components) > 2 and not picture.format.is_rgb


def matrix_of(picture: av.VideoFrame) -> Colorspace:
    """The stated matrix; of an untagged picture, and where the stated one is not read, BT.709 if
    it is HD, else BT.601."""
    is_hd = picture.height >= 720 or picture.width >= 1280
    return MATRICES.get(picture.colorspace, Colorspace.ITU709 if is_hd else Colorspace.ITU601)


def range_of(picture: av.VideoFrame) -> ColorRange:
    """The stated range; limited if none is, but for the formats that are full by name."""
    is_full = picture.color_range == ColorRange.JPEG or picture.format.name.startswith("yuvj")
    return ColorRange.JPEG if is_full else ColorRange.MPEG


def rgb_from_ycbcr(matrix: Colorspace, is_full_range: bool) -> NDArray[np.float32]:
    """(3, 4): from (Y, Cb, Cr, 1) to RGB, all in levels of 255 (ITU-T H.273, section 8.3)."""
    kr, kb = LUMA_WEIGHTS[matrix]
    kg = 1 - kr - kb
    weights = np.array(
        [
            [1, 0, 2 * (1 - kr)],
            [1, -2 * (1 - kb) * kb / kg, -2 * (1 - kr) * kr / kg],
            [1, 2 * (1 - kb), 0],
        ]
    )
    black = 0 if is_full_range else 16
    if not is_full_range:
        weights *= [255 / 219, 255 / 224, 255 / 224]
    return np.column_stack([weights, -weights @ [black, 128, 128]]).astype(np.float32)


def _unnamed(cls: type[Type], value: object) -> Type:
    """A kind of side data that PyAV 18 does not know, such as EXIF: beside it, none that it knows
    could be read."""
    kind = object.__new__(cls)
    kind._name_, kind._value_ = f"UNNAMED_{value}", value  # type: ignore[assignment]
    return kind


Type._missing_ = classmethod(_unnamed)  # type: ignore[method-assign, assignment]


def display_matrix(picture: av.VideoFrame) -> tuple[float, ...]:
    """The picture's display matrix, nine numbers row by row; () if it has none."""
    side_data = picture.side_data.get("DISPLAYMATRIX")
    if not isinstance(side_data, Buffer):
        return ()
    return tuple(np.frombuffer(bytes(side_data), np.int32).tolist())


def pose_of(matrix: tuple[float, ...]) -> int:
    """The nearest of the eight upright poses to what `matrix` shows, as in `Coding`.

    The matrix (a b u; c d v; x y w) of ISO/IEC 14496-12 maps x to a x + c y and y to
    b x + d y, with y downwards. So where b and c outweigh a and d, x and y are swapped, and
    a minus sign mirrors.
    """
    if not any(matrix):
        return 0
    a, b, _, c, d, *_ = matrix
    swaps = abs(b) + abs(c) > abs(a) + abs(d)
    if swaps:
        a, d = c, b
    return swaps * SWAPS_AXES | (a < 0) * MIRRORS_X | (d < 0) * MIRRORS_Y


def turned(pixels: NDArray[np.uint8], pose: int) -> NDArray[np.uint8]:
    """`pixels` (H, W, 3) upright."""
    if pose & SWAPS_AXES:
        pixels = np.asarray(cv2.transpose(pixels), np.uint8)
    mirrors = pose & (MIRRORS_X | MIRRORS_Y)
    if mirrors:  # OpenCV's flip, because it is ten times as fast as NumPy's slices
        pixels = np.asarray(cv2.flip(pixels, FLIPS[mirrors]), np.uint8)
    return pixels
