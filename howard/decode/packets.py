"""Where the frames of a video file are: a table of its packets, read without decoding them.

A frame's index is the rank of its presentation time (pts) among those of all packets, provided
that every packet gives one frame. `is_exact` says whether the packets look that way; the reader
compares the table with every frame that it decodes besides.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from howard.decode.container import open_container, picture_stream

AFRESH = {"h264", "hevc", "av1", "vp9", "mpeg1video", "mpeg2video", "mpeg4", "h263", "ffv1", "vvc"}
"""Codecs that start afresh at a keyframe and give one frame a packet, besides those that have
nothing but keyframes. VP8 packs no frame into some packets, GIF draws on what was there."""


@dataclass(frozen=True)
class Keyframe:
    """A packet that decoding can begin with. Times are in units of the stream's time base."""

    index: int
    """Of its frame."""
    pts: int
    dts: int | None
    packets_before: int
    """Number of whole packets before it in the file."""
    hidden_before: int
    """Of those, kept from the viewer by an edit list."""


@dataclass
class PacketTable:
    """The presentation times of all frames, and the keyframes, of one video."""

    frames: int
    """Number of packets that are shown."""
    pts: Sequence[int]
    """In the stream's time base, ascending: those of frame 0, 1, ..."""
    keyframes: list[Keyframe]
    is_exact: bool
    """False: the times do not tell the indices, and `frames` is about their number."""
    is_plain: bool
    """Exact, and every packet is whole and shown: any decoder finds the same frames."""
    is_closed: bool
    """No packet after a keyframe is shown before it: decoding can begin at any of them."""

    def keyframe_before(self, index: int) -> Keyframe | None:
        """The last keyframe at or before frame `index`; None before the first."""
        after = bisect_right(self.keyframes, index, key=lambda keyframe: keyframe.index)
        return self.keyframes[after - 1] if after else None

    def near(self, indices: Sequence[int]) -> list[Keyframe] | None:
        """The keyframes nearest to `indices`, which ascend; None if there is not one for each.

        The first must be exact, the others nearer than half the way to the next index.
        """
        places = [keyframe.index for keyframe in self.keyframes]
        nearest = [_nearest(places, index) for index in indices] if places else []
        reach = (indices[-1] - indices[0]) / max(1, len(indices) - 1) / 2
        distances = [abs(places[n] - index) for n, index in zip(nearest, indices, strict=False)]
        if not distances or distances[0] > 0 or max(distances) > reach:
            return None
        return [self.keyframes[n] for n in dict.fromkeys(nearest)]


def _nearest(places: list[int], index: int) -> int:
    """Position in `places`, which ascend, of the one nearest to `index`."""
    after = bisect_left(places, index)
    around = range(max(0, after - 1), min(after + 1, len(places)))
    return min(around, key=lambda position: abs(places[position] - index))


def list_packets(path: Path, seen: Sequence[int]) -> Generator[None, None, PacketTable]:
    """Read all packets of `path`; yields None now and then, so that it can be abandoned.

    `seen` are the times of the frames that were decoded, one or more from the start: packets
    before the first cannot be decoded, and the others must agree.
    """
    with open_container(path) as container:
        stream = picture_stream(path, container)
        listing = _Listing()
        try:
            for number, packet in enumerate(container.demux(stream)):
                if number % 256 == 0:
                    yield
                listing.add(packet)
        except av.FFmpegError:
            listing.is_broken = True  # the frames end here for the decoder as well
        except IndexError:
            pass  # as in Decoding: no damage
        is_exact = listing.is_exact and _tells_times(container, stream)
    pts = sorted(time for time in listing.pts if time >= seen[0])
    keyframes = [
        replace(keyframe, index=bisect_left(pts, keyframe.pts))
        for keyframe in listing.keyframes
        if keyframe.pts >= seen[0]
    ]
    is_exact = is_exact and len(set(pts)) == len(pts) and pts[: len(seen)] == list(seen)
    frames = len(pts) if is_exact else listing.packets - listing.hidden
    is_plain = is_exact and len(pts) == listing.packets and not listing.is_broken
    times = array("q", pts)
    return PacketTable(max(1, frames), times, keyframes, is_exact, is_plain, listing.is_closed)


def count_packets(path: Path) -> int:
    """How many frames a video file holds, or a few more: it is read through, not decoded."""
    return drained(list_packets(path, [-(2**63)])).frames


def drained(listing: Generator[None, None, PacketTable]) -> PacketTable:
    """What it returns, without a pause."""
    while True:
        try:
            next(listing)
        except StopIteration as end:
            return cast(PacketTable, end.value)


def has_times_of_decoding(container: InputContainer, stream: VideoStream) -> bool:
    """Whether packets may have the times of other frames: AVI has times of decoding alone, and
    FFmpeg passes them off as those of presentation."""
    return container.format.name == "avi" and not stream.codec_context.codec.intra_only


def _tells_times(container: InputContainer, stream: VideoStream) -> bool:
    """Whether codec and container promise one frame a packet, and its time of presentation."""
    codec = stream.codec_context.codec
    starts_afresh = codec.canonical_name in AFRESH and not has_times_of_decoding(container, stream)
    return codec.intra_only or starts_afresh


class _Listing:
    """The packets so far."""

    def __init__(self) -> None:
        self.pts: list[int] = []
        self.keyframes: list[Keyframe] = []
        self.is_exact = self.is_closed = True
        self.is_broken = False
        self.packets = self.hidden = 0
        self._latest_pts = self._latest_dts = self._keyframe_pts = -(2**63)

    def add(self, packet: Packet) -> None:
        if packet.is_corrupt:  # no harm at the end of a file that is cut off
            self.is_broken = True
        elif packet.size:
            self._check(packet)
            if packet.is_discard:
                self.hidden += 1
            elif packet.pts is not None:
                self._add_frame(packet, packet.pts)
            self.packets += 1

    def _check(self, packet: Packet) -> None:
        """Packets must have a time, and run on: they go back where two recordings are joined."""
        dts = self._latest_dts + 1 if packet.dts is None else packet.dts
        if self.is_broken or packet.pts is None or dts <= self._latest_dts:
            self.is_exact = False
        self._latest_dts = dts

    def _add_frame(self, packet: Packet, pts: int) -> None:
        # A keyframe that is shown before one that precedes it is none to begin with.
        if packet.is_keyframe and pts > self._latest_pts:
            keyframe = Keyframe(len(self.pts), pts, packet.dts, self.packets, self.hidden)
            self.keyframes.append(keyframe)
        if packet.is_keyframe:
            self._keyframe_pts = pts
        self.is_closed &= pts >= self._keyframe_pts
        self._latest_pts = max(self._latest_pts, pts)
        self.pts.append(pts)
