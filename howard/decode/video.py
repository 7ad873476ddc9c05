"""Video files through PyAV, that is, whatever FFmpeg reads.

Pixels stay as they are stored: neither sample aspect ratio nor interlacing is undone. Only a
video that changes its size on the way is resampled, to the size of its first frame.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from pathlib import Path

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.stream import VideoStream

from howard.decode.ahead import Source
from howard.decode.colour import RgbConverter
from howard.decode.damage import Damage, average_rate, stated
from howard.errors import InputError
from howard.frames import Frame, VideoInfo

RATE_IF_UNKNOWN = 30  # for the times of a stream that has neither times nor a rate


def open_video_file(path: Path) -> Source:
    """Open a video file and decode its first frame; raises InputError if there is none."""
    video = _VideoFile(path)
    frames = video.frames()
    first = next(frames, None)
    if first is None:
        raise InputError(f"{path} holds no frame that can be read; export or copy it again")
    height, width = first.pixels.shape[:2]
    rate = float(video.rate) if video.rate else None
    info = VideoInfo(path, width, height, video.stated.frames, rate, files=(path,))
    return Source(info, video.warnings, first, frames)


class _VideoFile:
    """One open file on its way through the decoder; `warnings` is complete after the last frame."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.container = _open(path)
        self.stream = _picture_stream(path, self.container)
        self.stream.thread_type = "AUTO"
        self.rate = average_rate(self.stream)
        self.stated = stated(self.container, self.stream)
        self.damage = Damage()
        self.warnings: list[str] = []

    def frames(self) -> Generator[Frame]:
        """All frames in order, upright RGB; ends with the file closed."""
        damage, end_seconds = self.damage, 0.0
        convert: RgbConverter | None = None
        try:
            clock = time.perf_counter()
            for picture in self._pictures():
                convert = convert or RgbConverter(picture, self.path.name, self.warnings)
                pixels = convert(picture)
                seconds, end_seconds = self._times(picture, end_seconds)
                milliseconds = (time.perf_counter() - clock) * 1000
                yield Frame(damage.frames_read, seconds, pixels, milliseconds)
                damage.frames_read += 1
                clock = time.perf_counter()
            self.warnings += damage.sentences(self.path.name, self.stated, end_seconds)
        except av.FFmpegError as error:
            raise InputError(
                f"{self.path} cannot be decoded after frame {damage.frames_read} "
                f"({error.strerror}); convert it to MP4, MOV or MKV"
            ) from error
        finally:
            self.container.close()

    def _times(self, picture: av.VideoFrame, previous_end: float) -> tuple[float, float]:
        """Begin and end in seconds; a picture without a time begins where the last one ended."""
        time_base = float(self.stream.time_base or 0)
        begin = previous_end if picture.pts is None else picture.pts * time_base
        return begin, begin + max(picture.duration * time_base, 1 / (self.rate or RATE_IF_UNKNOWN))

    def _pictures(self) -> Iterator[av.VideoFrame]:
        """What the decoder makes of the packets; a packet that it cannot decode is skipped."""
        for packet in self._packets():
            try:
                pictures = self.stream.decode(packet)
            except av.FFmpegError:
                self.damage.skip_packet()
                continue
            finally:
                self.damage.packets_read += 1
            for picture in pictures:
                if picture.is_corrupt:
                    self.damage.guess_frame()
                yield picture

    def _packets(self) -> Iterator[Packet | None]:
        """The stream's packets that are whole, then None, which makes the decoder finish."""
        try:
            for packet in self.container.demux(self.stream):
                # A packet cut in two must not reach the decoder: its error, met while the
                # decoder finishes, would take the last good frames along.
                if packet.is_corrupt:
                    self.damage.skip_packet()
                elif packet.size:  # an empty one would make the decoder finish now
                    self.damage.hidden_packets += packet.is_discard
                    yield packet
        except av.FFmpegError:
            self.damage.skip_packet()
        except IndexError:
            pass  # PyAV stumbles at the end of the file over a stream that began in its middle
        yield None


def _open(path: Path) -> InputContainer:
    try:
        # "file:" so that a colon in the name is no protocol; tags in any encoding are no error.
        return av.open(f"file:{path}", metadata_errors="replace")
    except (av.InvalidDataError, av.EOFError) as error:
        raise InputError(f"{path} cannot be read: {_why(path)}") from error
    except av.FFmpegError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}; check the file") from error


def _why(path: Path) -> str:
    """The likely cause that FFmpeg could not open `path`, and the remedy."""
    with path.open("rb") as file:
        head = file.read(12)
    if not head:
        return "it is empty; export or copy it again"
    if head[4:8] == b"ftyp":  # MP4 and MOV
        return "it is cut off, its index (moov) is missing; export or copy it again"
    return "it holds no video that FFmpeg knows; convert it to MP4, MOV or MKV"


def _picture_stream(path: Path, container: InputContainer) -> VideoStream:
    """The first video stream; neither cover art nor text drawn as a terminal counts."""
    for stream in container.streams.video:
        is_cover = Disposition.attached_pic in stream.disposition
        if is_cover or container.format.name == "tty":
            continue
        if stream.codec_context is None:
            raise InputError(f"{path} has a codec that FFmpeg cannot decode; convert it to H.264")
        return stream
    if not container.streams:  # a header alone, or an index cut in two
        raise InputError(f"{path} cannot be read: {_why(path)}")
    raise InputError(f"{path} holds no video; give the file that has the picture")
