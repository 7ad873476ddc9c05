"""How fast PNG encoders write a matte, how large, and whether they hold the GIL meanwhile.

    python -m benchmarks.png [--rounds 20] [--json FILE]

Howard's own against each other one that is installed: pip install fpng fpng_py zlib-ng deflate
imagecodecs pillow. Each file is decoded by FFmpeg and compared bit by bit before a time is taken.
"""

from __future__ import annotations

import io
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import tyro
from numpy.typing import NDArray

from benchmarks.measure import Spread, WrongResult, environment, headline, interleave, write_json
from howard.write.png import encode_rgba, file_around, filter_rows

WIDTH, HEIGHT = 1920, 1080
NOISE_LEVELS = 2.5
"""Standard deviation: a camera's, after the video codec has smoothed it."""
COVERAGE = 0.25
"""Share of the frame that the person fills."""
TILES = 8
"""The GIL is watched over so many frames as one: long beside a stall of the scheduler."""

Rgba = NDArray[np.uint8]
Encoder = Callable[[Rgba], bytes]


@dataclass(frozen=True)
class PngConfig:
    """Compare PNG encoders on one core."""

    rounds: int = 20
    """Times each encoder runs, in turns."""
    json: Path | None = None
    """Write all numbers to this file."""


@dataclass(frozen=True)
class EncoderSpeed:
    """One encoder on one picture."""

    encoder: str
    picture: str
    milliseconds: Spread
    bytes: int
    gil_share: float
    """Share of the call in which no other Python thread ran: near 0 or near 1."""


def howard() -> Encoder:
    return encode_rgba


def zlib() -> Encoder:
    from zlib import compress

    return around(lambda rows: compress(rows.data, 1))


def zlib_ng() -> Encoder:
    from zlib_ng import zlib_ng

    return around(lambda rows: zlib_ng.compress(rows, 1))


def libdeflate() -> Encoder:
    from deflate import zlib_compress

    return around(lambda rows: bytes(zlib_compress(rows, 1)))


def around(deflate: Callable[[Rgba], bytes]) -> Encoder:
    """Howard's own encoder with another library inside."""
    return lambda rgba: file_around(
        rgba.shape[0], rgba.shape[1], 8 * rgba.itemsize, deflate(filter_rows(rgba))
    )


def fpng() -> Encoder:
    from fpng import from_ndarray

    return lambda rgba: bytes(from_ndarray(rgba))


def fpng_py() -> Encoder:
    from fpng_py import fpng_encode_image_to_memory as encode

    return lambda rgba: bytes(encode(rgba.tobytes(), rgba.shape[1], rgba.shape[0], 4))


def imagecodecs() -> Encoder:
    from imagecodecs import png_encode

    return lambda rgba: bytes(png_encode(rgba, level=1))


def pillow() -> Encoder:
    from PIL import Image

    def encode(rgba: Rgba) -> bytes:
        file = io.BytesIO()
        Image.fromarray(rgba).save(file, "PNG", compress_level=1)
        return file.getvalue()

    return encode


def opencv() -> Encoder:
    """With no options: to name any, even the default level, makes it try every filter."""

    def encode(rgba: Rgba) -> bytes:
        _, png = cv2.imencode(".png", cv2.cvtColor(rgba, cv2.COLOR_RGBA2BGRA))
        return png.tobytes()

    return encode


ENCODERS = (howard, zlib_ng, libdeflate, zlib, fpng, fpng_py, imagecodecs, pillow, opencv)


def installed() -> dict[str, Encoder]:
    """Encoders by name; a note about each that is missing."""
    found: dict[str, Encoder] = {}
    for encoder in ENCODERS:
        try:
            found[encoder.__name__] = encoder()
        except ImportError as error:
            print(f"{encoder.__name__} is left out: {error}", file=sys.stderr)
    return found


def pictures() -> dict[str, Rgba]:
    """A typical matte, and the worst that a matte can be: opaque and noisy throughout."""
    from skimage.data import astronaut

    rng = np.random.default_rng(0)
    photo = cv2.resize(astronaut(), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    noisy = np.clip(photo + rng.normal(0, NOISE_LEVELS, photo.shape), 0, 255)
    opaque = np.dstack([np.rint(noisy), np.full((HEIGHT, WIDTH), 255)]).astype(np.uint8)
    alpha = person()
    matte = np.dstack([opaque[..., :3] * (alpha > 0)[..., None], alpha])
    return {"matte": matte, "opaque": opaque}


def person() -> NDArray[np.uint8]:
    """(H, W) alpha: an ellipse that fills its share of the frame, with an edge of some pixels."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    half_height = 0.45 * HEIGHT
    half_width = COVERAGE * HEIGHT * WIDTH / (np.pi * half_height)
    radius = np.hypot((x - WIDTH / 2) / half_width, (y - HEIGHT / 2) / half_height)
    return np.rint(255 * np.clip((1 - radius) * half_width / 6, 0, 1)).astype(np.uint8)


def shows(rgba: Rgba, png: bytes) -> bool:
    """Decoded by FFmpeg, whose PNG decoder shares no code with any of the encoders, exactly."""
    with av.open(io.BytesIO(png), "r", format="png_pipe") as container:
        frame = next(container.decode(video=0))
        return frame.format.name == "rgba" and np.array_equal(frame.to_ndarray(), rgba)


def gil_share(encode: Callable[[], object]) -> float:
    """The longest pause of a thread that wants to run every millisecond, over the call's time.

    The least of three calls: only noise adds to it.
    """
    return min(longest_pause(encode) for _ in range(3))


def longest_pause(encode: Callable[[], object]) -> float:
    ticks: list[float] = []
    done = threading.Event()

    def tick() -> None:
        while not done.wait(0.001):
            ticks.append(time.perf_counter())

    thread = threading.Thread(target=tick)
    thread.start()
    started = time.perf_counter()
    encode()
    ended = time.perf_counter()
    done.set()
    thread.join()
    during = [started, *(t for t in ticks if started < t < ended), ended]
    return float(np.diff(during).max()) / (ended - started)


def measure(rounds: int) -> list[EncoderSpeed]:
    """Every encoder on every picture. Raises WrongResult before a time is taken."""
    cv2.setNumThreads(1)
    encoders = installed()
    speeds: list[EncoderSpeed] = []
    for picture, rgba in pictures().items():
        calls = {name: partial(encode, rgba) for name, encode in encoders.items()}
        spreads = interleave(calls, partial(shows, rgba), rounds)
        tall = np.tile(rgba, (TILES, 1, 1))
        for name, encode in encoders.items():
            share = gil_share(partial(encode, tall))
            speeds.append(EncoderSpeed(name, picture, spreads[name], len(encode(rgba)), share))
    return speeds


def table(speeds: Sequence[EncoderSpeed], where: dict[str, Any]) -> str:
    """For people."""
    lines = [
        headline(where),
        f"{WIDTH}x{HEIGHT} RGBA; median and quartiles",
        f"{'picture':8}{'encoder':16}{'ms':>8}{'':16}{'MB':>7}  GIL held",
    ]
    for s in speeds:
        ms = s.milliseconds
        lines.append(
            f"{s.picture:8}{s.encoder:16}{ms.median:8.1f}  {f'{ms.low:.1f} to {ms.high:.1f}':14}"
            f"{s.bytes / 2**20:7.2f}  {s.gil_share:8.0%}"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    """The command line; the exit status."""
    config = tyro.cli(PngConfig, args=arguments, prog="python -m benchmarks.png")
    where = environment()
    try:
        speeds = measure(config.rounds)
    except WrongResult as error:
        print(error, file=sys.stderr)
        return 2
    print(table(speeds, where))
    if config.json:
        settings = {"width": WIDTH, "height": HEIGHT, "coverage": COVERAGE}
        settings |= {"noise_levels": NOISE_LEVELS, "rounds": config.rounds}
        write_json(config.json, "png", where, settings, {"encoders": speeds})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
