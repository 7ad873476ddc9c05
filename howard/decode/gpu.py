"""The GPU's reader: frames as CuPy arrays, decoded by NVDEC where it can, else by FFmpeg.

What NVDEC cannot decode (ProRes, 10 bits, AV1 on most GPUs), images, and anything doubtful is
decoded on the CPU, ahead of time and in a thread, and uploaded. That is also what happens from the
frame on where NVDEC fails. Indices and times are those of the CPU's reader either way, and so are
pixels, to a level or two.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from howard import cuda
from howard.decode import nvdec
from howard.decode.ahead import AheadReader, ReadAhead, Source
from howard.decode.colour import RgbConverter
from howard.decode.cpu import open_source
from howard.decode.nvdec import DaliVideo, Refused
from howard.decode.packets import PacketTable
from howard.decode.planes import Planes, PlanesConverter, RgbOfPlanes
from howard.decode.upload import Uploader
from howard.decode.video import VideoFile
from howard.frames import Frame

READ_AHEAD = 4
"""Frames decoded ahead on the CPU, as many as its own reader has."""

SAME_PICTURE = 1.0
"""Levels of 255, mean: NVDEC and FFmpeg decode the same YCbCr, and round RGB differently by half a
level. A neighbouring frame of a moving camera, or another matrix, is further away."""


def open_device_video(path: Path) -> DeviceReader:
    """Open what `path` names, as `open_video` does, for frames whose pixels are CuPy arrays.

    They are ready on the stream that is current where they are taken. Raises InputMissing or
    InputError, and DeviceError where there is no GPU.
    """
    cuda.cupy()
    source = open_source(path)
    return DeviceReader(source, _hardware(source))


def _hardware(source: Source) -> DaliVideo | None:
    """NVDEC for `source`; None if FFmpeg is to decode it."""
    video = source.video
    if video is None or video.convert is None or not nvdec.suits(video, video.convert.coding):
        return None
    table = _table(video)
    return DaliVideo(video, video.convert.coding, table) if nvdec.is_whole(video, table) else None


def _table(video: VideoFile) -> PacketTable:
    listing = video.listed()
    while True:
        try:
            next(listing)
        except StopIteration as end:
            return end.value


def _as_stored(source: Source) -> Source:
    """`source`, begun again, with Planes for pixels where the kernels take them."""
    video = source.video
    if video is None or not isinstance(video.convert, RgbConverter):
        return source
    source.rest.close()
    video.convert = PlanesConverter(video.convert)
    frames = source.read_from(0, ())
    first = next(frames)
    assert first is not None
    return replace(source, first=first, rest=frames)


class DeviceReader:
    """The VideoReader on the GPU."""

    def __init__(self, source: Source, hardware: DaliVideo | None) -> None:
        """hardware: decodes `source` until it fails; None for FFmpeg from the start."""
        self.info, self.warnings, self.first = source.info, source.warnings, source.first
        self._source, self._hardware = source, hardware
        self._host: AheadReader | None = None
        if hardware:
            source.rest.close()
        else:
            self._host = AheadReader(_as_stored(source), READ_AHEAD)
        self._upload, self._rgb_of = Uploader(), RgbOfPlanes()
        self._proven: set[str] = set()
        """The ways to begin, "start" and "seek", whose first picture was seen to be right."""
        self._pass: Generator[Frame] | None = None
        self._closed = False

    def __iter__(self) -> Iterator[Frame]:
        return self.read_from(0)

    def read_from(self, index: int, without: Container[int] = ()) -> Iterator[Frame]:
        """The frames from `index` on; raises ValueError if it is negative. NVDEC decodes those that
        are left out too."""
        if index < 0:
            raise ValueError(f"index is {index}; the first frame is 0")
        wanted = range(index, self._hardware.table.frames) if self._hardware else None
        resume = lambda at: self._ffmpeg().read_from(at, without)  # noqa: E731
        return self._begin(self._frames(wanted, index, resume, without))

    def sample(self, count: int) -> Iterator[Frame]:
        """About `count` frames of the whole video; raises ValueError if it is less than 1."""
        if count < 1:
            raise ValueError(f"count is {count}; it must be 1 frame or more")
        wanted = nvdec.sampled(self._hardware.table, count) if self._hardware else None
        return self._begin(self._frames(wanted, 0, lambda _: self._ffmpeg().sample(count)))

    def close(self) -> None:
        """End the pass that is under way and release all; there will be no other."""
        self._closed = True
        self._end()
        for held in (self._host, self._hardware, self._upload):
            if held:
                held.close()

    def _begin(self, frames: Generator[Frame]) -> Iterator[Frame]:
        self._end()
        if self._closed:
            frames.close()
        self._pass = frames
        return frames

    def _end(self) -> None:
        if self._pass:
            with suppress(ValueError):  # another thread is waiting in it; see `_decoded`
                self._pass.close()

    def _frames(
        self,
        wanted: Sequence[int] | None,
        start: int,
        resume: Callable[[int], ReadAhead],
        without: Container[int] = (),
    ) -> Generator[Frame]:
        """The pass from index `start` on: `wanted`, without some, by NVDEC; what is left of it by
        `resume`, which begins at an index or before."""
        at = start
        if self._hardware and wanted is not None and self._can_begin(wanted):
            try:
                for frame in self._decoded(self._hardware, wanted):
                    at = frame.index + 1
                    if frame.index not in without:
                        yield frame
                return
            except Refused as error:
                self._give_up(at, error)
        frames = resume(at)
        try:
            for frame in frames:
                if frame.index >= at:
                    yield replace(frame, pixels=self._uploaded(frame.pixels))
        finally:
            frames.close()

    def _uploaded(self, pixels: Any) -> Any:
        """(H, W, 3) upright RGB on the device, of the same or of planes."""
        if isinstance(pixels, Planes):
            return self._rgb_of(pixels, self._upload(pixels.samples))
        return self._upload(pixels)

    def _can_begin(self, wanted: Sequence[int]) -> bool:
        """Whether NVDEC can: at a keyframe only where no frame before it comes after it."""
        is_from_start = isinstance(wanted, range) and wanted.start == 0
        return is_from_start or (self._hardware is not None and self._hardware.table.is_closed)

    def _decoded(self, hardware: DaliVideo, wanted: Sequence[int]) -> Iterator[Frame]:
        """The frames of `wanted` by NVDEC; raises Refused where it fails or is wrong."""
        is_run = isinstance(wanted, range)
        for position, frame in enumerate(hardware.frames(wanted)):
            way = "seek" if frame.index else "start"
            if way not in self._proven and (position == 0 or not is_run):
                self._prove(frame)
                self._proven.add(way)
            if self._closed:
                return
            yield frame

    def _prove(self, frame: Frame) -> None:
        """Raises Refused if this is not the picture that FFmpeg gives."""
        expected: Frame | None = self._source.first
        if frame.index:
            frames = self._source.read_from(frame.index, ())
            expected = next((found for found in frames if found is not None), None)
            frames.close()
        if expected is None:
            raise Refused(f"FFmpeg finds no frame {frame.index}")
        levels = cuda.cupy().asnumpy(frame.pixels).astype(np.int16)
        off = np.abs(levels - expected.pixels).mean()
        if off > SAME_PICTURE:
            raise Refused(f"frame {frame.index} is not FFmpeg's, by {off:.1f} levels of 255")

    def _give_up(self, index: int, error: Refused) -> None:
        """FFmpeg decodes from frame `index` on, and in all passes to come."""
        if self._hardware:
            self._hardware.close()
        self._hardware = None
        self.warnings.append(
            f"{self.info.path.name} is decoded on the CPU from frame {index} on: NVDEC failed "
            f"({error})"
        )

    def _ffmpeg(self) -> AheadReader:
        if self._host is None:
            self._host = AheadReader(_as_stored(self._source), READ_AHEAD)
        return self._host
