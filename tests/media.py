"""Tiny videos and images for tests, each frame carrying its number as a barcode.

    write_video(tmp_path / "shot.mp4", numbered_frames(10))
    [read_number(frame.pixels) for frame in open_video(path)] == list(range(10))

The bars are black and white and wide, so they outlive compression, scaling and any colour
matrix. `flat_yuv` makes frames of one colour by the standards' own formula, independently
of FFmpeg's converter, so that a decoder's colours can be checked against something.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

BITS = 10

LUMA_WEIGHTS = {  # K_R and K_B of each matrix (ITU-R BT.601-7, BT.709-6, BT.2020-2)
    "bt601": (0.299, 0.114),
    "bt709": (0.2126, 0.0722),
    "bt2020": (0.2627, 0.0593),
}
MATRIX_CODES = {"bt601": 6, "bt709": 1, "bt2020": 9, "ycgco": 8, None: 2}
"""The numbers of ITU-T H.273; None is "unspecified"."""

OPEN_GOP = {
    "bf": 2,
    "x264-params": "open-gop=1:scenecut=0:keyint=12:min-keyint=12:b-adapt=0",
}
"""Options of x264 with which, whatever the pictures, two B-frames are shown before each keyframe
that follow it in the file."""


def numbered(number: int, width: int = 160, height: int = 96) -> NDArray[np.uint8]:
    """(H, W, 3) RGB: `number` as BITS vertical bars, white for 1, the highest bit at the left."""
    bar = np.arange(width) * BITS // width
    row = np.where(number >> (BITS - 1 - bar) & 1, 255, 0).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(row[None, :, None], (height, width, 3)))


def numbered_frames(count: int, width: int = 160, height: int = 96) -> Iterator[NDArray[np.uint8]]:
    """`numbered(0)`, `numbered(1)`, ... `numbered(count - 1)`."""
    return (numbered(number, width, height) for number in range(count))


def read_number(pixels: NDArray[np.uint8]) -> int:
    """The number that `numbered` drew into `pixels` (H, W, 3), of any size."""
    width = pixels.shape[1]
    middles = [(2 * bar + 1) * width // (2 * BITS) for bar in range(BITS)]
    ones = pixels[:, middles].mean(axis=(0, 2)) > 127
    return int("".join("1" if one else "0" for one in ones), 2)


def flat_yuv(
    rgb: Sequence[int], matrix: str, full_range: bool, width: int, height: int, bits: int = 8
) -> av.VideoFrame:
    """A yuv420p (or yuv420p10le) frame of one colour, by the formula of `matrix`.

    `rgb` is three numbers of 0..255; the frame itself carries no tags.
    """
    kr, kb = LUMA_WEIGHTS[matrix]
    red, green, blue = (value / 255 for value in rgb)
    luma = kr * red + (1 - kr - kb) * green + kb * blue
    chroma = ((blue - luma) / (2 * (1 - kb)), (red - luma) / (2 * (1 - kr)))
    top, luma_scale, chroma_scale = 2**bits - 1, 219 << (bits - 8), 224 << (bits - 8)
    black, middle = 16 << (bits - 8), 1 << (bits - 1)
    if full_range:
        luma_scale, chroma_scale, black = top, top, 0
    levels = [luma * luma_scale + black, *(value * chroma_scale + middle for value in chroma)]
    frame = av.VideoFrame(width, height, "yuv420p" if bits == 8 else "yuv420p10le")
    for plane, level in zip(frame.planes, levels, strict=True):
        samples = np.full(
            plane.buffer_size // (1 if bits == 8 else 2),
            min(round(level), top),
            np.uint8 if bits == 8 else np.uint16,
        )
        plane.update(samples.tobytes())
    return frame


def write_video(
    path: Path,
    frames: Iterable[NDArray[np.uint8] | av.VideoFrame],
    rate: int | Fraction = 30,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    *,
    pts: Sequence[int] | None = None,
    time_base: Fraction = Fraction(1, 600),
    matrix: str | None = None,
    full_range: bool | None = None,
    display_matrix: Sequence[int] | None = None,
    muxer: dict[str, str] | None = None,
    **options: Any,
) -> Path:
    """Encode `frames`, (H, W, 3) RGB arrays or PyAV frames, into `path`; returns `path`.

    `pts` in units of `time_base` makes a variable rate; `matrix` and `full_range` are written
    as tags and change no pixel; `muxer` and `options` go to FFmpeg (gop_size, crf, ...).
    """
    with av.open(str(path), "w", options=muxer or {}) as container:
        stream = None
        for index, picture in enumerate(frames):
            frame = picture
            if isinstance(picture, np.ndarray):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            if stream is None:
                if codec == "libx264":  # its macroblock tree writes other pictures on every run
                    options = {"mbtree": 0} | options
                options = {key: str(value) for key, value in options.items()}
                stream = container.add_stream(codec, rate=rate, options=options)
                stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, pix_fmt
                stream.codec_context.colorspace = MATRIX_CODES[matrix]
                if full_range is not None:
                    stream.codec_context.color_range = 2 if full_range else 1
                if display_matrix is not None:
                    stream.set_display_matrix(display_matrix)
                if pts is not None:
                    stream.codec_context.time_base = time_base
            if pts is not None:
                frame.pts, frame.time_base = pts[index], time_base
            container.mux(stream.encode(frame.reformat(format=pix_fmt)))
        if stream is not None:
            container.mux(stream.encode(None))
    return path


def write_image(path: Path, rgb: NDArray[Any], *parameters: int) -> Path:
    """Write an RGB, RGBA or grey image, uint8 or uint16, in the format of its extension."""
    path.parent.mkdir(parents=True, exist_ok=True)
    to_bgr = {3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGRA}
    pixels = cv2.cvtColor(rgb, to_bgr[rgb.shape[2]]) if rgb.ndim == 3 else rgb
    assert cv2.imwrite(str(path), pixels, list(parameters)), path
    return path


def write_person(folder: Path) -> Path:
    """Write a cut-out as the training takes them, an ellipse, and nothing else into the folder."""
    rgba = np.zeros((120, 80, 4), np.uint8)
    cv2.ellipse(rgba, (40, 70), (20, 50), 0, 0, 360, (200, 90, 60, 255), -1, cv2.LINE_AA)
    return write_image(folder / "person.webp", rgba)


def write_sound(path: Path, seconds: float = 0.2) -> Path:
    """Write a file that holds silence and no picture."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=48000)
        silence = np.zeros((1, 1024), np.float32)
        for _ in range(max(1, round(seconds * 48000 / 1024))):
            frame = av.AudioFrame.from_ndarray(silence, format="fltp", layout="mono")
            frame.sample_rate = 48000
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path
