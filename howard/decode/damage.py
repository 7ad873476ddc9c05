"""What a container states of its video, and the sentence for the report where it falls short."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from av.container import InputContainer
from av.video.stream import VideoStream

from howard.frames import counted

MATROSKA_DURATION = re.compile(r"(\d+):(\d+):(\d+(?:\.\d+)?)")  # 00:00:03.000000000
CLEARLY_SHORT_SECONDS = 0.25  # durations are rounded, and the last frame may stand longer


@dataclass(frozen=True)
class Stated:
    """How long the container says that its video is, before anything is decoded."""

    frames: int | None
    counted: bool
    """`frames` is the container's count, not a product of duration and rate."""
    seconds: float | None


def average_rate(stream: VideoStream) -> Fraction | None:
    """Frames per second, as stated or guessed by FFmpeg; None if it has no idea."""
    return stream.average_rate or stream.guessed_rate or None


def stated(container: InputContainer, stream: VideoStream) -> Stated:
    """Read the header: the count if there is one, else duration times rate."""
    seconds, rate = _stated_seconds(container, stream), average_rate(stream)
    product = round(seconds * rate) if seconds and rate else None
    # MP4 counts the frames that an edit list hides (a video trimmed on a phone), but shortens
    # the duration by them.
    is_trimmed = product and product < stream.frames and container.format.name.startswith("mov")
    if stream.frames and not is_trimmed:
        return Stated(stream.frames, True, seconds)
    return Stated(product, False, seconds)


def _stated_seconds(container: InputContainer, stream: VideoStream) -> float | None:
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    clock = MATROSKA_DURATION.match(stream.metadata.get("DURATION", ""))
    if clock:
        return int(clock[1]) * 3600 + int(clock[2]) * 60 + float(clock[3])
    if container.duration and len(container.streams) == 1:
        return container.duration / 1_000_000
    return None


@dataclass
class Damage:
    """What was read and what could not be, counted while a video is decoded."""

    frames_read: int = 0
    packets_read: int = 0
    hidden_packets: int = 0
    """No damage: packets that an edit list keeps from the viewer."""
    guessed_frames: int = 0
    """Frames with parts that the decoder made up."""
    lost_packets: int = 0
    """Packets without a frame: those after them have smaller indices than they would have."""
    first_after: int | None = None
    """About how many frames precede the first damage; None while there is none."""

    def skip_packet(self) -> None:
        """A packet cannot be read or decoded."""
        self.lost_packets += 1
        # Frames leave the decoder some packets late, so that the packets tell the place.
        self._mark(self.packets_read - self.hidden_packets)

    def guess_frame(self) -> None:
        """The next frame is partly made up."""
        self.guessed_frames += 1
        self._mark(self.frames_read)

    def _mark(self, frames_before: int) -> None:
        if self.first_after is None:
            self.first_after = frames_before

    def so_far(self, name: str) -> list[str]:
        """One line for the report on a video that was not read to its end."""
        if self.first_after is None:
            return []
        after, lost = min(self.first_after, self.frames_read), self.lost_packets
        are, them = ("is", "it") if lost == 1 else ("are", "them")
        shift = f", {counted(lost)} {are} lost, and a call that begins behind {them} counts {them}"
        return [f"{name} is damaged after frame {after}{shift if lost else ''}"]

    def sentences(self, name: str, stated: Stated, end_seconds: float) -> list[str]:
        """One line for the report on a video that ended at `end_seconds`; none if it is whole."""
        if stated.counted:
            is_short = self.frames_read + self.hidden_packets < (stated.frames or 0)
        else:
            is_short = end_seconds + CLEARLY_SHORT_SECONDS < (stated.seconds or 0)
        if not is_short and self.first_after is None:
            return []
        after = self.frames_read
        if self.first_after is not None:
            after = min(after, self.first_after)
        total = f" of {stated.frames}" if (stated.frames or 0) >= self.frames_read else ""
        guessed = f", {self.guessed_frames} of them partly guessed" if self.guessed_frames else ""
        return [
            f"{name} is damaged after frame {after}: "
            f"{self.frames_read}{total} frames were read{guessed}"
        ]
