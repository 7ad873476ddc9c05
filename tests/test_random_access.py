"""Frames out of order are the frames in order: read_from and sample of every reader."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path

import av
import media
import numpy as np
import pytest

from howard.decode import images, open_video
from howard.decode.decoding import Decoding
from howard.errors import InputError
from howard.frames import Frame
from tests.test_decode import decoded_counter

COUNT = 60
PLACES = (59, 1, 30, 20, 19, 0, 44, 60)
"""Where the tests begin to read: about keyframes and far from them, forward and back."""
NONE = range(0)


pytestmark = pytest.mark.usefixtures("leaves_no_thread")


def moving_frames(count: int = COUNT) -> Iterator[np.ndarray]:
    """Numbered frames over a texture that moves, so that motion is predicted both ways."""
    texture = np.random.default_rng(0).integers(0, 60, (96, 160 + 4 * count, 3), dtype=np.uint8)
    for number in range(count):
        yield media.numbered(number) // 255 * 195 + texture[:, 4 * number : 4 * number + 160]


def all_frames(path: Path) -> tuple[list[Frame], list[str]]:
    with closing(open_video(path)) as reader:
        return list(reader), reader.warnings


def assert_same(found: list[Frame], expected: list[Frame], guessed: range = NONE) -> None:
    """`guessed`: indices of frames that the decoder makes up, and not alike in any two passes."""
    assert [frame.index for frame in found] == [frame.index for frame in expected]
    assert [frame.pts_seconds for frame in found] == [frame.pts_seconds for frame in expected]
    for one, other in zip(found, expected, strict=True):
        assert one.index in guessed or np.array_equal(one.pixels, other.pixels), one.index


def assert_random_access_is_exact(path: Path, guessed: range = NONE) -> list[Frame]:
    """Compare one reader, at many places and with samples, with a pass from the start."""
    expected, warnings = all_frames(path)
    with closing(open_video(path)) as reader:
        for place in PLACES:
            found = list(islice(reader.read_from(place), 4))
            assert_same(found, expected[place : place + 4], guessed)
        for count in (1, 3, 8, len(expected), 1000):
            found = list(reader.sample(count))
            indices = [frame.index for frame in found]
            assert indices == sorted(set(indices))
            assert indices[0] == 0
            assert abs(len(indices) - min(count, len(expected))) <= 1
            assert_same(found, [expected[index] for index in indices], guessed)
        assert_same(list(reader), expected, guessed)
        assert_same(list(reader.read_from(7)), expected[7:], guessed)
        # Whether a frame counts as guessed is not alike in any two passes either.
        assert sorted(reader.warnings) == sorted(warnings) or (
            guessed and len(reader.warnings) <= 1
        )
    return expected


@pytest.fixture
def passes(monkeypatch) -> list[str]:
    """The passes over video files, "start" or "keyframe"."""
    begun: list[str] = []
    for name, kind in (("pictures", "start"), ("pictures_from", "keyframe")):
        method = getattr(Decoding, name)

        def noted(self, *arguments, method=method, kind=kind):
            begun.append(kind)
            return method(self, *arguments)

        monkeypatch.setattr(Decoding, name, noted)
    return begun


H264 = {"codec": "libx264", "g": 20, "bf": 3}
X265 = "log-level=0:keyint=12:min-keyint=12:open-gop=1"

SOUND = {  # name and options, and whether decoding may begin at a keyframe; None: either
    "h264, B-frames": ("a.mp4", H264, True),
    "h264, keyframes only": ("a.mp4", {"g": 1}, True),
    "h264, one keyframe": ("a.mp4", {"g": 600, "bf": 3}, True),
    "h264, open GOP": ("a.mp4", media.OPEN_GOP, True),
    "h264, intra refresh": ("a.ts", {"g": 20, "x264-params": "intra-refresh=1"}, None),
    "h264, fragments": ("a.mp4", {**H264, "muxer": {"movflags": "frag_keyframe"}}, True),
    "h264, matroska": ("a.mkv", H264, True),
    "h264, transport stream": ("a.ts", H264, True),
    "h264, AVI, which states no times": ("a.avi", H264, False),
    "h264, raw, without times": ("a.h264", H264, False),
    "hevc, open GOP": ("a.mp4", {"codec": "libx265", "x265-params": X265}, True),
    "mpeg4": ("a.mp4", {"codec": "mpeg4", "bf": 2, "g": 12}, True),
    "mpeg2, transport stream": ("a.ts", {"codec": "mpeg2video", "bf": 2, "g": 12}, True),
    "vp9, hidden frames": (
        "a.webm",
        {"codec": "libvpx-vp9", "g": 30, "auto-alt-ref": 1, "lag-in-frames": 16},
        True,
    ),
    "vp8": ("a.webm", {"codec": "libvpx", "g": 20}, False),
    "av1": ("a.mp4", {"codec": "libsvtav1", "g": 20, "svtav1-params": "lp=1"}, True),
    "prores": ("a.mov", {"codec": "prores_ks", "pix_fmt": "yuv422p10le"}, True),
    "mjpeg": ("a.avi", {"codec": "mjpeg", "pix_fmt": "yuvj420p"}, True),
    "ffv1": ("a.mkv", {"codec": "ffv1", "g": 10}, True),
    "gif": ("a.gif", {"codec": "gif", "pix_fmt": "rgb8"}, False),
    "variable rate": ("a.mp4", {**H264, "pts": [n * n // 3 + n for n in range(COUNT)]}, True),
    "first time not 0": ("a.mp4", {**H264, "pts": [1000 + 20 * n for n in range(COUNT)]}, True),
}


@pytest.mark.parametrize("case", SOUND)
def test_every_frame_is_found_where_it_is_in_order(tmp_path, case, passes):
    name, options, seeks = SOUND[case]
    if options.get("codec", "libx264") not in av.codecs_available:
        pytest.skip("FFmpeg has no such encoder here")
    path = media.write_video(tmp_path / name, moving_frames(), **options)
    assert len(assert_random_access_is_exact(path)) == COUNT
    if seeks is not None:
        assert ("keyframe" in passes) == seeks


def test_frames_hidden_by_an_edit_list_do_not_count(tmp_path, passes):
    pts = [(number - 17) * 20 for number in range(COUNT + 17)]
    path = media.write_video(tmp_path / "trimmed.mp4", moving_frames(COUNT + 17), pts=pts, **H264)
    expected = assert_random_access_is_exact(path)
    assert [media.read_number(frame.pixels) for frame in expected] == list(range(17, 17 + COUNT))
    assert "keyframe" in passes


def test_every_pass_turns_the_frames(tmp_path):
    turn = (0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30)
    path = media.write_video(tmp_path / "a.mp4", moving_frames(), display_matrix=turn, **H264)
    assert assert_random_access_is_exact(path)[0].pixels.shape == (160, 96, 3)


def test_every_pass_scales_to_the_first_frame_and_says_so_once(tmp_path):
    small = media.write_video(tmp_path / "1.ts", moving_frames(30), g=10)
    large = (media.numbered(number, 320, 192) for number in range(30))
    start = media.write_video(
        tmp_path / "2.ts", large, pts=[20 * n + 1800 for n in range(30)], g=10
    )
    path = tmp_path / "both.ts"
    path.write_bytes(small.read_bytes() + start.read_bytes())
    assert {frame.pixels.shape for frame in assert_random_access_is_exact(path)} == {(96, 160, 3)}


@pytest.mark.parametrize(
    "options", [H264, {"codec": "mpeg2video", "g": 12, "bf": 2}, SOUND["hevc, open GOP"][1]]
)
def test_a_stream_that_begins_in_its_middle(tmp_path, options, passes):
    path = media.write_video(tmp_path / "a.ts", moving_frames(), **options)
    data = path.read_bytes()
    path.write_bytes(data[len(data) // 188 // 4 * 188 :])
    assert len(assert_random_access_is_exact(path)) < COUNT
    assert "keyframe" in passes


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_a_truncated_video_is_found_as_far_as_it_goes(tmp_path, name, passes):
    muxer = {"movflags": "faststart"} if name == "a.mp4" else {}
    path = media.write_video(tmp_path / name, moving_frames(90), muxer=muxer, g=12, bf=2)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 4 // 5])
    assert 70 < len(assert_random_access_is_exact(path, guessed=range(70, 90))) < 90
    assert "keyframe" in passes


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_damage_that_a_pass_has_met_moves_no_index(tmp_path, name):
    path = media.write_video(tmp_path / name, moving_frames(90), g=10, bf=0)
    data = bytearray(path.read_bytes())
    place, length = len(data) // 3, len(data) // 20
    data[place : place + length] = np.random.default_rng(1).bytes(length)
    path.write_bytes(data)
    guessed = range(20, 50)  # the damage, by bytes, is near frame 30: the GOPs around it
    expected, warnings = all_frames(path)
    with closing(open_video(path)) as reader:
        assert_same(list(reader), expected, guessed)
        assert_same(list(reader.read_from(60)), expected[60:], guessed)
        assert_same(list(reader.read_from(10)), expected[10:], guessed)
        sample = list(reader.sample(9))
        assert_same(sample, [expected[frame.index] for frame in sample], guessed)
        assert len(reader.warnings) == len(warnings) == 1


def test_a_pass_that_ends_early_tells_of_the_damage_that_it_met(tmp_path):
    path = media.write_video(tmp_path / "a.mp4", moving_frames(90), g=10, bf=0)
    with av.open(str(path)) as container:
        spots = [packet.pos for packet in container.demux(video=0) if packet.size]
    data = bytearray(path.read_bytes())
    data[spots[33] : spots[34]] = bytes(spots[34] - spots[33])
    path.write_bytes(data)
    told = {}
    for first, count in ((0, 20), (0, 40), (60, 10)):
        with closing(open_video(path, read_ahead=1)) as reader:
            assert len(list(islice(reader.read_from(first), count))) == count
            reader.close()
            told[first, count] = list(reader.warnings)
    assert told[0, 20] == told[60, 10] == []
    (sentence,) = told[0, 40]
    assert re.match("a.mp4 is damaged after frame 3[0-9], 1 frame is lost, and", sentence)
    with closing(open_video(path)) as reader:
        list(islice(reader, 40))
        list(reader.read_from(0))  # sees more of it
        (sentence,) = reader.warnings
        assert "frames were read" in sentence


@pytest.mark.parametrize("place", [33, 34])
def test_damage_beside_the_place_is_noticed_before_a_frame_is_given(tmp_path, place):
    path = media.write_video(tmp_path / "a.mp4", moving_frames(90), g=10, bf=0)
    with av.open(str(path)) as container:
        spot = [packet.pos for packet in container.demux(video=0) if packet.size][33]
    data = bytearray(path.read_bytes())
    data[spot : spot + 40] = bytes(40)
    path.write_bytes(data)
    expected, _ = all_frames(path)
    with closing(open_video(path)) as reader:
        found = list(islice(reader.read_from(place), 3))
    assert_same(found, expected[place : place + 3], guessed=range(33, 50))


def late(seek):
    """As a container that leads past the place that is sought."""

    def after_seek(self, keyframe):
        return seek(self, replace(keyframe, pts=keyframe.pts + 12000, dts=keyframe.dts + 12000))

    return after_seek


SEEKS = {
    "impossible": lambda seek: lambda self, keyframe: iter(()),
    "too early": lambda seek: lambda self, keyframe: self._packets(),
    "too late": late,
}


@pytest.mark.parametrize("name", ["a.mp4", "a.ts"])
@pytest.mark.parametrize("case", SEEKS)
def test_a_seek_that_leads_elsewhere_moves_no_index(tmp_path, monkeypatch, case, name, passes):
    path = media.write_video(tmp_path / name, moving_frames(), **H264)
    monkeypatch.setattr(Decoding, "_after_seek", SEEKS[case](Decoding._after_seek))
    assert_random_access_is_exact(path)
    assert "keyframe" in passes


def test_a_decoder_that_does_not_begin_at_the_keyframe_is_not_believed(
    tmp_path, monkeypatch, passes
):
    packets_from = Decoding._packets_from

    def without_the_keyframe(self, keyframe):
        return islice(packets_from(self, keyframe), 1, None)

    path = media.write_video(tmp_path / "a.mp4", moving_frames(), **H264)
    monkeypatch.setattr(Decoding, "_packets_from", without_the_keyframe)
    assert_random_access_is_exact(path)
    assert passes.count("keyframe") == 1, "it must not be tried again"


# What it costs


def test_reading_begins_at_the_keyframe_before(tmp_path, monkeypatch):
    decoded: list[int] = []
    pictures_from = Decoding.pictures_from

    def counted(self, keyframe):
        for picture in pictures_from(self, keyframe):
            decoded.append(1)
            yield picture

    monkeypatch.setattr(Decoding, "pictures_from", counted)
    path = media.write_video(tmp_path / "a.mp4", moving_frames(), g=20, bf=0, sc_threshold=0)
    with closing(open_video(path, 1)) as reader:
        assert len(list(reader.read_from(45))) == 15
    assert len(decoded) == 20


@pytest.mark.parametrize("kind", ["video", "pictures"])
def test_what_is_left_out_is_not_worked_for(tmp_path, monkeypatch, kind):
    frames = list(moving_frames(12))
    if kind == "video":
        path = media.write_video(tmp_path / "a.mp4", frames, g=4)
    else:
        path = tmp_path / "a"
        for index, pixels in enumerate(frames):
            media.write_image(path / f"{index:02d}.png", pixels)
    expected, _ = all_frames(path)
    without = {0, 3, 4, 11}
    with closing(open_video(path, 1)) as reader:
        worked = decoded_counter(monkeypatch) if kind == "video" else read_counter(monkeypatch)
        for start in (0, 5):
            wanted = [i for i in range(start, 12) if i not in without]
            found = list(reader.read_from(start, without))
            assert_same(found, [expected[i] for i in wanted])
            assert len(worked) == len(wanted)
            worked.clear()
        assert list(reader.read_from(0, range(12))) == []
        assert not worked
        assert np.array_equal(reader.first.pixels, expected[0].pixels)


def read_counter(monkeypatch) -> list[Path]:
    """Images that are read from here on."""
    read: list[Path] = []
    read_image = images.read_image

    def counted(path):
        read.append(path)
        return read_image(path)

    monkeypatch.setattr(images, "read_image", counted)
    return read


@pytest.mark.parametrize("gop", [1, 4, 60])
def test_only_the_frames_of_a_sample_are_converted(tmp_path, monkeypatch, gop):
    path = media.write_video(tmp_path / "a.mp4", moving_frames(), g=gop)
    with closing(open_video(path, 1)) as reader:
        converted = decoded_counter(monkeypatch)
        assert len(list(reader.sample(6))) == 6
    assert len(converted) == 6


def test_a_sample_takes_keyframes_where_they_are_dense(tmp_path):
    options = {"bf": 2, "sc_threshold": 0}
    path = media.write_video(tmp_path / "a.mp4", moving_frames(), g=4, **options)
    with closing(open_video(path)) as reader:
        indices = [frame.index for frame in reader.sample(7)]
    assert all(index % 4 == 0 for index in indices)
    path = media.write_video(tmp_path / "b.mp4", moving_frames(), g=60, **options)
    with closing(open_video(path)) as reader:
        assert [frame.index for frame in reader.sample(7)] == [0, 8, 17, 25, 34, 42, 51]


# One pass at a time


@pytest.mark.parametrize(
    "begin", [iter, lambda reader: reader.read_from(30), lambda r: r.sample(5)]
)
def test_a_new_pass_ends_the_one_before(tmp_path, begin):
    path = media.write_video(tmp_path / "a.mp4", moving_frames(), **H264)
    before = threading.active_count()
    with closing(open_video(path)) as reader:
        first = reader.read_from(10)
        assert next(first).index == 10
        second = begin(reader)
        assert list(first) == []
        assert threading.active_count() <= before + 1
        assert next(second).index in (0, 30)
    assert list(second) == []
    assert list(reader.read_from(3)) == []


def test_a_long_way_to_the_first_frame_can_be_broken_off(tmp_path, monkeypatch):
    pictures = Decoding.pictures

    def slow(self):
        for picture in pictures(self):
            time.sleep(0.02)
            yield picture

    monkeypatch.setattr(Decoding, "pictures", slow)
    monkeypatch.setattr("howard.decode.packets.AFRESH", set())
    path = media.write_video(tmp_path / "a.mp4", media.numbered_frames(900), codec="mpeg4")
    reader = open_video(path, 1)
    reader.read_from(890)
    time.sleep(0.2)
    started = time.monotonic()
    reader.close()
    assert time.monotonic() - started < 5, "it was decoded to the end, which takes 18 s"


def test_indices_and_counts_that_make_no_sense_are_refused(tmp_path):
    path = media.write_video(tmp_path / "a.mp4", moving_frames(3))
    with closing(open_video(path)) as reader:
        with pytest.raises(ValueError, match="index is -1"):
            reader.read_from(-1)
        with pytest.raises(ValueError, match="count is 0"):
            reader.sample(0)


def test_a_file_that_is_gone_is_named(tmp_path):
    path = media.write_video(tmp_path / "a.mp4", moving_frames(9))
    with closing(open_video(path)) as reader:
        path.unlink()
        with pytest.raises(InputError, match=r"a\.mp4 cannot be read"):
            list(reader.read_from(5))


# Images


def test_images_are_found_by_their_place(tmp_path, monkeypatch):
    for number in range(20):
        media.write_image(tmp_path / f"{number}.png", media.numbered(number))
    expected, _ = all_frames(tmp_path)
    with closing(open_video(tmp_path, 1)) as reader:
        for place in (13, 0, 19, 20, 99):
            assert_same(list(reader.read_from(place)), expected[place:])
        assert [frame.index for frame in reader.sample(5)] == [0, 4, 8, 12, 16]
        assert_same(list(reader.sample(50)), expected)


def test_an_image_of_another_size_is_refused_wherever_reading_begins(tmp_path):
    for number in range(5):
        width = 80 if number > 2 else 160
        media.write_image(tmp_path / f"{number}.png", media.numbered(number, width))
    with closing(open_video(tmp_path)) as reader, pytest.raises(InputError, match="80x96, but 0"):
        list(reader.read_from(3))


def test_a_still_has_its_one_frame(tmp_path):
    path = media.write_image(tmp_path / "a.png", media.numbered(5))
    with closing(open_video(path)) as reader:
        for begin in (lambda: reader.sample(8), lambda: reader.read_from(0), lambda: iter(reader)):
            assert [media.read_number(frame.pixels) for frame in begin()] == [5]
        assert list(reader.read_from(1)) == []
