"""Video files through PyAV, that is, whatever FFmpeg reads.

Pixels stay as they are stored: neither sample aspect ratio nor interlacing is undone. Only a
video that changes its size on the way is resampled, to the size of its first frame.

Each pass opens the file anew. The first begins at the start; a later one begins at a keyframe
where the table of packets tells exactly which frame that is, and else at the start as well.
"""

from __future__ import annotations

import math
import sys
import time
from array import array
from collections.abc import Container, Generator, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av

from howard.decode.ahead import Pass, Source, evenly
from howard.decode.colour import SWAPS_AXES, Converter, RgbConverter
from howard.decode.container import refusal
from howard.decode.damage import Stated
from howard.decode.decoding import Decoding, Lost
from howard.decode.packets import Keyframe, PacketTable, drained, list_packets
from howard.errors import InputError
from howard.frames import Frame, VideoInfo

RATE_IF_UNKNOWN = 30  # for the times of a stream that has neither times nor a rate
SQUARE = 0.01  # how far from 1:1 pixels may be that nobody sees: sizes are rounded by encoders
NO_TIME = -(2**63)  # as FFmpeg has it
NEVER = -math.inf  # seconds


def open_video_file(path: Path) -> Source:
    """Open a video file and decode its first frame; raises InputError if there is none."""
    video = VideoFile(path)
    frames = video.read_from(0)
    first = next(frames, None)
    if first is None:
        raise refusal(path, "holds no frame that can be read; export or copy it again")
    height, width = first.pixels.shape[:2]
    rate = float(video.rate) if video.rate else None
    info = VideoInfo(path, width, height, video.length(), rate, files=(path,))
    return Source(info, video.warnings, first, frames, video.read_from, video.sample, video)


class VideoFile:
    """What the passes over one file have in common. Only one of them may be under way."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.warnings: list[str] = []
        self.stated = Stated(None, False, None)
        self.rate: Fraction | None = None
        self.pixel_aspect = Fraction(1)
        """Width to height, as stored."""
        self.time_base = 0.0
        """Seconds."""
        self.container, self.codec, self.streams = "", "", 0
        """FFmpeg's names, and the number of video streams."""
        self._told: list[str] = []
        """What was said about damage, by the pass that saw most of it."""
        self.convert: Converter | None = None
        """There once a frame was decoded."""
        self._table: PacketTable | None = None
        self._seen = array("q")
        """Times of the frames from the first on, as far as decoded before there was a table."""

    def read_from(self, start: int, without: Container[int] = ()) -> Pass:
        """The frames from index `start` on, upright RGB; ends with the file closed. Those that are
        left out are decoded too: what is lost on the way counts for those behind."""
        wanted = range(start, sys.maxsize)
        table = (yield from self.listed()) if start else None
        if table is not None and table.is_exact:
            if start >= table.frames:
                return
            keyframe = table.keyframe_before(start)
            if keyframe is not None:
                try:
                    yield from self._frames(wanted, keyframe, without)
                    return
                except Lost:
                    table.is_exact = False
        yield from self._frames(wanted, without=without)

    def sample(self, count: int) -> Pass:
        """About `count` frames, evenly spread; the nearest keyframes where they are dense."""
        table = yield from self.listed()
        wanted = evenly(count, table.frames)
        keyframes = table.near(wanted) if table.is_exact else None
        if keyframes is not None:
            try:
                for frame in self._frames_at(keyframes):
                    yield frame
                    wanted = [index for index in wanted if index > frame.index]
                return
            except Lost:
                table.is_exact = False
        yield from self._frames(wanted)

    def listed(self) -> Generator[None, None, PacketTable]:
        """The table of packets, read when it is first needed."""
        if self._table is None:
            self._table = yield from list_packets(self.path, self._seen)
        return self._table

    def length(self) -> int | None:
        """Number of frames, about; None if it is not known. A file whose container counts none is
        read through, not decoded: the product of duration and rate is wrong by any factor where
        the rate varies."""
        if self.stated.counted:
            return self.stated.frames
        return drained(self.listed()).frames

    def _frames(
        self,
        wanted: Sequence[int],
        keyframe: Keyframe | None = None,
        without: Container[int] = (),
    ) -> Pass:
        """The frames whose index is `wanted`, ascending, and not among those `without` which it is
        to do; decoded from `keyframe` or the start.

        Raises Lost, before the first frame, if decoding cannot begin with `keyframe` or does not
        give the times of the table.
        """
        decoding, seconds, end_seconds = self._open(), NEVER, 0.0
        begin = keyframe.index if keyframe else 0
        pictures = decoding.pictures_from(keyframe) if keyframe else decoding.pictures()
        try:
            clock = time.perf_counter()
            for index, picture in enumerate(pictures, begin):
                agrees = self._compare(index, picture)
                if keyframe and index <= wanted[0] and not agrees:
                    raise Lost
                seconds, end_seconds = self._times(decoding, picture, seconds, end_seconds)
                if index in wanted and index not in without:
                    yield self._frame(index, seconds, picture, clock)
                    clock = time.perf_counter()
                elif index > wanted[-1]:
                    return
                else:
                    yield None
                decoding.damage.frames_read = index + 1
            self._tell(decoding.damage.sentences(self.path.name, self.stated, end_seconds))
        except MemoryError:  # one of FFmpeg's as well
            raise
        except av.FFmpegError as error:
            raise InputError(
                f"{self.path} cannot be decoded after frame {decoding.damage.frames_read} "
                f"({error.strerror}); convert it to MP4, MOV or MKV"
            ) from error
        finally:
            if not self._told:
                self._tell(decoding.damage.so_far(self.path.name))
            decoding.close()

    def _tell(self, sentences: list[str]) -> None:
        """Of damage, instead of what a pass that saw less of it said."""
        if sentences:
            self.warnings[:] = [w for w in self.warnings if w not in self._told] + sentences
            self._told = sentences

    def _frames_at(self, keyframes: Sequence[Keyframe]) -> Iterator[Frame]:
        """The frames of `keyframes` alone; raises Lost at the first that cannot be had so."""
        decoding = self._open()
        try:
            for keyframe in keyframes:
                clock = time.perf_counter()
                picture = decoding.picture_at(keyframe)
                seconds, _ = self._times(decoding, picture, NEVER, 0.0)
                yield self._frame(keyframe.index, seconds, picture, clock)
        finally:
            decoding.close()

    def _open(self) -> Decoding:
        decoding = Decoding(self.path)
        self.stated, self.rate = decoding.stated, decoding.rate
        self.pixel_aspect = decoding.stream.sample_aspect_ratio or Fraction(1)
        self.time_base = decoding.time_base
        self.container = decoding.container.format.name
        self.codec = decoding.stream.codec_context.codec.canonical_name
        self.streams = len(decoding.container.streams.video)
        return decoding

    def _frame(self, index: int, seconds: float, picture: av.VideoFrame, clock: float) -> Frame:
        """`picture` in the size and pose of the video's first; `clock` is when work on it began."""
        if self.convert is None:
            self.convert = RgbConverter(picture, self.path.name, self.warnings)
            self._tell_pixel_aspect(self.convert.coding.pose)
        pixels = self.convert(picture)
        return Frame(index, seconds, pixels, (time.perf_counter() - clock) * 1000)

    def _tell_pixel_aspect(self, pose: int) -> None:
        """Warn of pixels that are not square, as they lie once a picture is turned upright."""
        aspect = 1 / self.pixel_aspect if pose & SWAPS_AXES else self.pixel_aspect
        if abs(aspect - 1) > SQUARE:
            self.warnings.append(
                f"{self.path.name} has pixels of {aspect.numerator}:{aspect.denominator} (width to "
                "height), and the pictures keep them: set this pixel aspect ratio in the "
                "compositing program"
            )

    def _compare(self, index: int, picture: av.VideoFrame) -> bool:
        """Learn the time of frame `index`, or see whether the table is right about it."""
        # What a decoder guesses depends on where it began.
        pts = NO_TIME if picture.pts is None or picture.is_corrupt else picture.pts
        if self._table is None:
            if index == len(self._seen):
                self._seen.append(pts)
            return True
        agrees = index < len(self._table.pts) and self._table.pts[index] == pts
        self._table.is_exact &= agrees
        return agrees

    @staticmethod
    def _times(
        decoding: Decoding, picture: av.VideoFrame, previous: float, previous_end: float
    ) -> tuple[float, float]:
        """Begin and end in seconds, of the last picture and of this; one without a time, or not
        after the last, as where two recordings are joined, begins where the last one ended."""
        begin = NEVER if picture.pts is None else picture.pts * decoding.time_base
        if begin <= previous:
            begin = previous_end
        least = 1 / (decoding.rate or RATE_IF_UNKNOWN)
        return begin, begin + max(picture.duration * decoding.time_base, least)
