"""One video of an alignment scene: what a camera makes of the place and the person, with truth."""

from __future__ import annotations

from collections.abc import Callable, Container, Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from benchmarks.alignment_camera import Camera, Floats, apply
from benchmarks.alignment_person import Person
from benchmarks.alignment_textures import Pixels, clouds, normal
from benchmarks.alignment_world import Layer
from howard.frames import Frame, VideoInfo

FRAMES_PER_SECOND = 30.0
BLUR_STEP_PIXELS = 1.5
"""Distance between the moments that a motion-blurred frame averages."""


@dataclass(frozen=True)
class Light:
    """What one take's exposure makes of the place."""

    gain: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Per channel."""
    gain_per_second: float = 0.0
    """Share by which the gain changes: automatic exposure."""
    field: float = 0.0
    """Amplitude of a smooth change of the gain over the picture."""


@dataclass(frozen=True)
class Optics:
    """How a camera records; times in shares of the time between frames."""

    shutter: float = 0.0
    """How long it is open; 0 is no motion blur."""
    readout: float = 0.0
    """From the first row to the last: rolling shutter."""
    softness_pixels: float = 0.7
    """Standard deviation of the blur by lens, colour filter and codec."""
    noise_levels: float = 2.0
    """Standard deviation, in levels of 255."""
    jpeg_quality: int = 93
    """Stands for the compression of video."""


@dataclass(frozen=True, eq=False)
class Picture:
    """One frame of a take with its truth."""

    pixels: Pixels
    """(H, W, 3), as filmed: with the person, noise and compression."""
    background: Pixels
    """(H, W, 3): the same without the three."""
    alpha: NDArray[np.float32]
    """(H, W) of the person, exactly as composited."""


class Take:
    """One video, rendered frame by frame on demand."""

    def __init__(
        self,
        name: str,
        frames: int,
        camera: Camera,
        layers: Sequence[Layer],
        light: Light,
        optics: Optics,
        person: Person | None = None,
    ) -> None:
        """The camera's seed is the light's and the noise's too."""
        self.camera, self.layers, self.person = camera, layers, person
        self.light, self.optics = light, optics
        self.info = VideoInfo(Path(name), camera.width, camera.height, frames, FRAMES_PER_SECOND)
        shade = clouds(np.random.default_rng(camera.seed), camera.height, camera.width, 2)
        self.field = np.float32(1) + np.float32(light.field) * np.tanh(shade)[..., None]
        self.picture = lru_cache(maxsize=2)(self._picture)

    def __len__(self) -> int:
        return self.info.frames or 0

    def seconds(self, index: int, rows: ArrayLike | None = None) -> Floats:
        """The moment of a frame's middle row, (1,), or of the given rows, (N,)."""
        middle = np.array([index / FRAMES_PER_SECOND])
        return middle if rows is None else middle + self._row_delays(rows)

    def _row_delays(self, rows: ArrayLike) -> Floats:
        share = np.asarray(rows, float) / (self.info.height - 1) - 0.5
        return np.asarray(share * self.optics.readout / FRAMES_PER_SECOND)

    def _picture(self, index: int) -> Picture:
        """The mean over the moments of the exposure, with light, noise and compression."""
        rng = np.random.default_rng((self.camera.seed, index))
        moments = self._moments(index)
        middle = index / FRAMES_PER_SECOND
        place = self._softened(mean([self._place(moment) for moment in moments]))
        background = self._lit(place, middle)
        composite, alpha = background, np.zeros(background.shape[:2], np.float32)
        if self.person is not None:
            alphas = [self.person.alpha(moment) for moment in moments]
            alpha = np.mean(alphas, axis=0, dtype=np.float32)
            colour = self._lit(self._softened(self.person.colour(middle)), middle)
            composite = np.asarray(cv2.blendLinear(colour, background, alpha, 1 - alpha), np.uint8)
        return Picture(self._filmed(rng, composite), background, alpha)

    def _moments(self, index: int) -> list[float]:
        """Seconds while the shutter is open, evenly spread about the frame's own."""
        middle, opened = index / FRAMES_PER_SECOND, self.optics.shutter / FRAMES_PER_SECOND
        ends = self.camera.homographies(
            [middle - opened / 2, middle + opened / 2], self.layers[0].plane
        )
        centre = np.array([[self.info.width / 2, self.info.height / 2]])
        moved = apply(ends[1] @ np.linalg.inv(ends[0]), centre) - centre
        count = 1 + int(np.hypot(*moved[0]) / BLUR_STEP_PIXELS)
        return [middle + opened * ((k + 0.5) / count - 0.5) for k in range(count)]

    def _place(self, moment: float) -> Pixels:
        """The place as the camera sees it, in plain light."""
        picture = np.zeros((self.info.height, self.info.width, 3), np.uint8)
        times = np.array([moment])
        if self.optics.readout:
            times = times + self._row_delays(np.arange(self.info.height))
        for layer in self.layers:
            layer.draw(picture, self.camera.homographies(times, layer.plane))
        return picture

    def _softened(self, picture: Pixels) -> Pixels:
        """As sharp as the lens."""
        return np.asarray(cv2.GaussianBlur(picture, (0, 0), self.optics.softness_pixels), np.uint8)

    def _lit(self, picture: Pixels, moment: float) -> Pixels:
        """The picture in this take's light."""
        light = self.light
        gain = np.array(light.gain, np.float32) * np.float32(1 + light.gain_per_second * moment)
        if light.field:
            return np.clip(picture * (self.field * gain) + 0.5, 0, 255).astype(np.uint8)
        levels = np.arange(256, dtype=np.float32)[:, None, None] * gain
        table = np.clip(levels + 0.5, 0, 255).astype(np.uint8)
        return np.asarray(cv2.LUT(picture, table), np.uint8)

    def _filmed(self, rng: np.random.Generator, picture: Pixels) -> Pixels:
        """With noise and compression."""
        noise = normal(rng, picture.shape) * np.float32(self.optics.noise_levels)
        noisy = cv2.add(picture, noise, dtype=cv2.CV_8U)
        # RGB goes in and out as if it were BGR: it only shapes the error.
        coded = cv2.imencode(".jpg", noisy, [cv2.IMWRITE_JPEG_QUALITY, self.optics.jpeg_quality])
        return np.asarray(cv2.imdecode(coded[1], cv2.IMREAD_COLOR), np.uint8)


class Rendered:
    """A VideoReader over pictures that a function makes, or has ready."""

    def __init__(self, info: VideoInfo, picture: Callable[[int], Pixels]) -> None:
        self.info, self.picture = info, picture
        self.warnings: list[str] = []
        self._pass = self._frames([])

    def __iter__(self) -> Iterator[Frame]:
        return self.read_from(0)

    @property
    def first(self) -> Frame:
        return Frame(0, 0.0, self.picture(0))

    def read_from(self, index: int, without: Container[int] = ()) -> Iterator[Frame]:
        return self._begin([i for i in range(index, self.info.frames or 0) if i not in without])

    def sample(self, count: int) -> Iterator[Frame]:
        frames = self.info.frames or 0
        indices = np.linspace(0, frames - 1, min(count, frames)).round().astype(int)
        return self._begin(indices.tolist())

    def close(self) -> None:
        self._pass.close()

    def _begin(self, indices: Sequence[int]) -> Iterator[Frame]:
        """A new pass ends the one before."""
        self._pass.close()
        self._pass = self._frames(indices)
        return self._pass

    def _frames(self, indices: Sequence[int]) -> Generator[Frame]:
        for index in indices:
            yield Frame(index, index / FRAMES_PER_SECOND, self.picture(index))


def mean(pictures: Sequence[Pixels]) -> Pixels:
    """Of pictures of one size, rounded."""
    if len(pictures) == 1:
        return pictures[0]
    total = np.zeros(pictures[0].shape, np.float32)
    for picture in pictures:
        cv2.accumulate(picture, total)
    return np.asarray(total / len(pictures) + 0.5, np.uint8)
