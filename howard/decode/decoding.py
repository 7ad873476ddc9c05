"""One opening of a video file: its packets through the decoder, from the start or a keyframe."""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Iterator
from pathlib import Path

import av
from av.packet import Packet

from howard.decode.container import open_container, picture_stream
from howard.decode.damage import Damage, average_rate, stated
from howard.decode.packets import Keyframe, has_times_of_decoding


class Lost(Exception):
    """The decoder did not begin with the keyframe that it was sent to."""


class Decoding:
    """A video file and its decoder, for one pass at a time."""

    def __init__(self, path: Path) -> None:
        """Raises InputError if the file cannot be opened."""
        self.path = path
        self.damage = Damage()
        self._open()
        self.rate = average_rate(self.stream)
        self.time_base = float(self.stream.time_base or 0)
        self.stated = stated(self.container, self.stream)

    def _open(self) -> None:
        self.container = open_container(self.path)
        self.stream = picture_stream(self.path, self.container)
        self.stream.thread_type = "AUTO"
        self._is_mistimed = has_times_of_decoding(self.container, self.stream)
        self._waiting: list[int] = []
        """Times of the packets decoded so far that no picture has yet; ascending."""

    def close(self) -> None:
        self.container.close()

    def pictures(self) -> Iterator[av.VideoFrame]:
        """All pictures in order of presentation; what cannot be decoded is passed over."""
        return self._decoded(self._packets())

    def pictures_from(self, keyframe: Keyframe) -> Iterator[av.VideoFrame]:
        """The pictures from `keyframe` on; raises Lost, before the first, if that is not it."""
        pictures = self._decoded(self._packets_from(keyframe))
        for picture in pictures:
            # What an open GOP shows before its keyframe leans on the GOP before.
            if picture.pts is None or picture.pts >= keyframe.pts:
                break
        else:
            raise Lost
        if picture.pts != keyframe.pts or picture.is_corrupt:
            raise Lost
        self.damage.first_after, self.damage.guessed_frames = None, 0
        yield picture
        yield from pictures

    def picture_at(self, keyframe: Keyframe) -> av.VideoFrame:
        """The picture of `keyframe`, no other packet decoded; raises Lost if that gives none."""
        packet = next(self._packets_from(keyframe))
        pictures = list(self._decoded([packet, None]))
        if len(pictures) != 1 or pictures[0].pts != keyframe.pts or pictures[0].is_corrupt:
            raise Lost
        return pictures[0]

    def _decoded(self, packets: Iterable[Packet | None]) -> Iterator[av.VideoFrame]:
        """What the decoder makes of the packets; a packet that it cannot decode is skipped."""
        for packet in packets:
            try:
                pictures = self.stream.decode(packet)
            except MemoryError:  # no damage, which gives this in containers, not in decoders
                raise
            except av.FFmpegError:
                self.damage.skip_packet()
                continue
            finally:
                self.damage.packets_read += 1
            if self._is_mistimed:
                self._mend_times(packet, pictures)
            for picture in pictures:
                if picture.is_corrupt:
                    self.damage.guess_frame()
                yield picture

    def _mend_times(self, packet: Packet | None, pictures: Iterable[av.VideoFrame]) -> None:
        """Give `pictures`, which `packet` has brought out, the earliest times that wait."""
        if packet is not None and packet.pts is not None:
            insort(self._waiting, packet.pts)
        for picture in pictures:
            picture.pts = self._waiting.pop(0) if self._waiting else None

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

    def _packets_from(self, keyframe: Keyframe) -> Iterator[Packet | None]:
        """The packets from `keyframe` on, then None; raises Lost if it is not there."""
        for packets in (self._after_seek(keyframe), self._after_reopening()):
            for packet in packets:
                if packet is None or _is_past(packet, keyframe):
                    break
                if packet.pts == keyframe.pts:
                    before, hidden = keyframe.packets_before, keyframe.hidden_before
                    self.damage = Damage(packets_read=before, hidden_packets=hidden)
                    yield packet
                    yield from packets
                    return
        raise Lost

    def _after_seek(self, keyframe: Keyframe) -> Iterator[Packet | None]:
        """The packets from about `keyframe` on, none if the file cannot be sought in."""
        offset = keyframe.pts if keyframe.dts is None else keyframe.dts
        try:
            self.container.seek(offset, stream=self.stream)
        except av.FFmpegError:
            return
        yield from self._packets()

    def _after_reopening(self) -> Iterator[Packet | None]:
        """All packets: reading to a keyframe, without decoding, is the sure way to find it."""
        self.close()
        self._open()
        yield from self._packets()


def _is_past(packet: Packet, keyframe: Keyframe) -> bool:
    """Whether `packet` comes after `keyframe` in the file, as far as the times tell."""
    return packet.dts is not None and keyframe.dts is not None and packet.dts > keyframe.dts
