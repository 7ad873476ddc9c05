"""What every reader of howard.decode promises, whatever the path names."""

from __future__ import annotations

import glob
import os
import shlex
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import cv2
import media
import numpy as np
import pytest
import tifffile

from howard.decode import open_video
from howard.errors import ConfigError, InputError, InputMissing

COLOUR_TOLERANCE = 3
"""Levels of 255: rounding to 8-bit YUV costs up to 2, conversion back to RGB 1."""

PATCHES = [(200, 40, 60), (30, 180, 90), (60, 80, 220), (250, 240, 20), (128, 128, 128)]


pytestmark = pytest.mark.usefixtures("leaves_no_thread")


def numbers(path: Path) -> list[int]:
    """The barcodes of all frames."""
    with closing(open_video(path)) as reader:
        return [media.read_number(frame.pixels) for frame in reader]


def read(path: Path) -> tuple[list, list[str]]:
    """All frames, and the warnings after the last."""
    with closing(open_video(path)) as reader:
        return list(reader), reader.warnings


def cut(path: Path, share: float) -> Path:
    """Keep the first `share` of the file's bytes."""
    data = path.read_bytes()
    path.write_bytes(data[: round(len(data) * share)])
    return path


def noisy_frames(count: int) -> Iterator[np.ndarray]:
    """Numbered frames with noise, so that their packets are all of a fair size."""
    noise = np.random.default_rng(0)
    for number in range(count):
        grain = noise.integers(0, 60, (96, 160, 3), dtype=np.uint8)
        yield media.numbered(number) // 255 * 195 + grain


def quadrants(width: int = 160, height: int = 96) -> np.ndarray:
    """Red and green above, blue and white below."""
    pixels = np.zeros((height, width, 3), np.uint8)
    top, left = height // 2, width // 2
    pixels[:top, :left], pixels[:top, left:] = (255, 0, 0), (0, 255, 0)
    pixels[top:, :left], pixels[top:, left:] = (0, 0, 255), (255, 255, 255)
    return pixels


def corners(pixels: np.ndarray) -> str:
    """The colours of the four quadrants, row by row, as letters."""
    height, width = pixels.shape[:2]
    names = {(1, 0, 0): "R", (0, 1, 0): "G", (0, 0, 1): "B", (1, 1, 1): "W"}
    points = [(y, x) for y in (height // 4, height * 3 // 4) for x in (width // 4, width * 3 // 4)]
    return "".join(names[tuple((pixels[point] > 127).astype(int).tolist())] for point in points)


# Order, identity and times


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [
        ("shot.mp4", "libx264", "yuv420p"),
        ("shot.mkv", "ffv1", "yuv444p"),
        ("shot.webm", "libvpx-vp9", "yuv420p"),
        ("shot.avi", "mjpeg", "yuvj420p"),
        ("shot.mov", "prores_ks", "yuv422p10le"),
        ("shot.ts", "mpeg2video", "yuv420p"),
    ],
)
def test_every_frame_comes_once_and_in_order(tmp_path, name, codec, pix_fmt):
    path = media.write_video(tmp_path / name, media.numbered_frames(25), 25, codec, pix_fmt)
    frames, warnings = read(path)
    assert [media.read_number(frame.pixels) for frame in frames] == list(range(25))
    assert [frame.index for frame in frames] == list(range(25))
    assert warnings == []


def test_b_frames_come_in_the_order_of_presentation(tmp_path):
    path = media.write_video(tmp_path / "b.mp4", media.numbered_frames(40), bf=3, g=20)
    assert numbers(path) == list(range(40))


def test_info_is_known_before_the_frames_are_read(tmp_path):
    path = media.write_video(tmp_path / "shot.mp4", media.numbered_frames(12, 160, 96), rate=24)
    with closing(open_video(path)) as reader:
        info = reader.info
    assert (info.path, info.width, info.height) == (path, 160, 96)
    assert (info.frames, info.frames_per_second, info.still) == (12, 24.0, False)


@pytest.mark.parametrize("name", ["vfr.mkv", "raw.h264"])
def test_frames_are_counted_where_the_container_does_not(tmp_path, name):
    """Dense at first, then a second apart: rate and duration say ten times as many."""
    pts = [*range(0, 400, 20), *range(1000, 11000, 1000)] if name == "vfr.mkv" else None
    path = media.write_video(tmp_path / name, media.numbered_frames(30), pts=pts, bf=0)
    with closing(open_video(path)) as reader:
        assert reader.info.frames == len(list(reader)) == 30


def test_pixels_are_contiguous_rgb_bytes_of_their_own(tmp_path):
    path = media.write_video(tmp_path / "shot.mp4", media.numbered_frames(6, 162, 98))
    frames, _ = read(path)
    for frame in frames:
        assert frame.pixels.shape == (98, 162, 3)
        assert frame.pixels.dtype == np.uint8
        assert frame.pixels.flags.c_contiguous
        assert frame.decode_milliseconds > 0
    frames[0].pixels[:] = 7
    assert media.read_number(frames[1].pixels) == 1


def test_variable_frame_rate_keeps_its_times(tmp_path):
    pts = [0, 20, 45, 200, 210, 500]
    path = media.write_video(tmp_path / "vfr.mp4", media.numbered_frames(6), pts=pts)
    frames, warnings = read(path)
    assert [frame.pts_seconds for frame in frames] == pytest.approx([t / 600 for t in pts])
    assert warnings == []


def test_missing_times_follow_from_the_rate(tmp_path):
    path = media.write_video(tmp_path / "raw.h264", media.numbered_frames(8), rate=25, bf=0)
    frames, _ = read(path)
    steps = np.diff([frame.pts_seconds for frame in frames])
    assert steps == pytest.approx([1 / 25] * 7)


def test_times_ascend_where_avi_states_those_of_decoding(tmp_path):
    """Once with B-frames, of which some wait for long, once with frames that were dropped."""
    frames = list(noisy_frames(30))
    path = media.write_video(tmp_path / "b.avi", frames, 25, bf=3)
    with av.open(str(path)) as container:
        stated = [picture.pts for picture in container.decode(video=0)]
    assert stated != sorted(stated), "FFmpeg tells the times itself, no need to mend them"
    found = [frame.pts_seconds for frame in read(path)[0]]
    assert np.diff(found) == pytest.approx([1 / 25] * 29)
    pts = [20 * number for number in (0, 1, 2, 5, 6, 9)]
    path = media.write_video(tmp_path / "gaps.avi", frames[:6], codec="mpeg4", pts=pts)
    found = [frame.pts_seconds for frame in read(path)[0]]
    assert found == pytest.approx([t / 600 for t in pts])


def test_times_ascend_where_two_recordings_are_joined(tmp_path):
    one = media.write_video(tmp_path / "1.ts", media.numbered_frames(10), 25, bf=0)
    path = tmp_path / "both.ts"
    path.write_bytes(2 * one.read_bytes())
    found = [frame.pts_seconds for frame in read(path)[0]]
    assert len(found) > 15
    assert (np.diff(found) > 0).all()


def test_frames_hidden_by_an_edit_list_are_neither_shown_nor_missed(tmp_path):
    pts = [(number - 10) * 20 for number in range(30)]
    path = media.write_video(tmp_path / "trimmed.mp4", media.numbered_frames(30), pts=pts, g=5)
    with closing(open_video(path)) as reader:
        assert [media.read_number(frame.pixels) for frame in reader] == list(range(10, 30))
        assert reader.info.frames == 20
        assert reader.warnings == []


# Geometry


@pytest.mark.parametrize("size", [(321, 241), (161, 97), (34, 33)])
def test_odd_sizes(tmp_path, size):
    width, height = size
    path = media.write_video(
        tmp_path / "odd.mkv", media.numbered_frames(5, width, height), pix_fmt="yuv444p", crf=10
    )
    frames, _ = read(path)
    assert frames[0].pixels.shape == (height, width, 3)
    assert [media.read_number(frame.pixels) for frame in frames] == list(range(5))


def test_odd_sizes_with_shared_chroma(tmp_path):
    frame = media.flat_yuv((200, 40, 60), "bt601", False, 65, 49)
    path = media.write_video(tmp_path / "odd.mkv", [frame], codec="ffv1")
    frames, _ = read(path)
    assert frames[0].pixels.shape == (49, 65, 3)
    assert np.abs(frames[0].pixels.astype(int) - (200, 40, 60)).max() <= COLOUR_TOLERANCE


ONE = 65536
DISPLAY_MATRICES = {  # a, b, c, d of the matrix, and how RG/BW looks through it
    "as stored": ((ONE, 0, 0, ONE), "RGBW"),
    "clockwise, a phone held upright": ((0, ONE, -ONE, 0), "BRWG"),
    "upside down": ((-ONE, 0, 0, -ONE), "WBGR"),
    "counter-clockwise": ((0, -ONE, ONE, 0), "GWRB"),
    "mirrored": ((-ONE, 0, 0, ONE), "GRWB"),
    "mirrored upside down": ((ONE, 0, 0, -ONE), "BWRG"),
    "transposed": ((0, ONE, ONE, 0), "RBGW"),
}


@pytest.mark.parametrize("case", DISPLAY_MATRICES)
def test_the_display_matrix_turns_the_frame(tmp_path, case):
    (a, b, c, d), expected = DISPLAY_MATRICES[case]
    path = media.write_video(
        tmp_path / "phone.mp4", [quadrants()] * 2, display_matrix=(a, b, 0, c, d, 0, 0, 0, 1 << 30)
    )
    with closing(open_video(path)) as reader:
        frame = next(iter(reader))
    assert corners(frame.pixels) == expected
    assert (reader.info.height, reader.info.width, 3) == frame.pixels.shape
    assert frame.pixels.shape[:2] == ((160, 96) if a == 0 else (96, 160))
    assert frame.pixels.flags.c_contiguous


def test_quarter_turn_agrees_with_ffmpegs_own_name_for_it(tmp_path):
    matrix = (0, ONE, 0, -ONE, 0, 0, 0, 0, 1 << 30)
    path = media.write_video(tmp_path / "phone.mp4", [quadrants()], display_matrix=matrix)
    with av.open(str(path)) as container:
        picture = next(container.decode(video=0))
    turns = round(picture.rotation / 90)  # counter-clockwise, as np.rot90 counts
    stored = picture.to_ndarray(format="rgb24")
    assert corners(read(path)[0][0].pixels) == corners(np.rot90(stored, turns))


def test_a_change_of_size_is_scaled_to_the_first_and_told_once(tmp_path):
    small = media.write_video(tmp_path / "1.ts", media.numbered_frames(10, 160, 96))
    large = media.write_video(
        tmp_path / "2.ts", (media.numbered(n, 320, 192) for n in range(10, 20))
    )
    path = tmp_path / "both.ts"
    path.write_bytes(small.read_bytes() + large.read_bytes())
    frames, warnings = read(path)
    assert {frame.pixels.shape for frame in frames} == {(96, 160, 3)}
    assert [media.read_number(frame.pixels) for frame in frames][-5:] == [15, 16, 17, 18, 19]
    assert [line for line in warnings if "160x96 to 320x192" in line] == warnings[:1]


# Colour


@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("matrix", ["bt601", "bt709", "bt2020"])
@pytest.mark.parametrize("bits", [8, 10])
def test_the_stated_matrix_and_range_are_used(tmp_path, matrix, full_range, bits):
    patches = [media.flat_yuv(rgb, matrix, full_range, 64, 48, bits) for rgb in PATCHES]
    pix_fmt = patches[0].format.name
    path = media.write_video(
        tmp_path / "tagged.mkv",
        patches,
        codec="ffv1",
        pix_fmt=pix_fmt,
        matrix=matrix,
        full_range=full_range,
    )
    frames, _ = read(path)
    for frame, rgb in zip(frames, PATCHES, strict=True):
        assert np.abs(frame.pixels.astype(int) - rgb).max() <= COLOUR_TOLERANCE


@pytest.mark.parametrize(
    ("width", "height", "matrix"),
    [(640, 480, "bt601"), (1280, 544, "bt709"), (720, 1280, "bt709"), (720, 576, "bt601")],
)
def test_untagged_video_is_709_when_hd_and_601_when_not(tmp_path, width, height, matrix):
    patches = [media.flat_yuv(rgb, matrix, False, width, height) for rgb in PATCHES[:2]]
    path = media.write_video(tmp_path / "untagged.mkv", patches, codec="ffv1")
    frames, _ = read(path)
    for frame, rgb in zip(frames, PATCHES, strict=False):
        assert np.abs(frame.pixels.astype(int) - rgb).max() <= COLOUR_TOLERANCE


def test_jpeg_formats_are_full_range(tmp_path):
    patches = [media.flat_yuv(rgb, "bt601", True, 64, 48) for rgb in PATCHES]
    for patch in patches:
        patch.color_range = 2
    path = media.write_video(
        tmp_path / "full.avi", patches, codec="mjpeg", pix_fmt="yuvj420p", qmin=1, q=1
    )
    frames, _ = read(path)
    for frame, rgb in zip(frames, PATCHES, strict=True):
        assert np.abs(frame.pixels.astype(int) - rgb).max() <= COLOUR_TOLERANCE + 1


@pytest.mark.parametrize("pix_fmt", ["gray", "gray16le", "bgr0", "gbrp10le"])
def test_video_without_a_matrix_keeps_its_levels(tmp_path, pix_fmt):
    ramp = np.repeat(np.tile(np.arange(256, dtype=np.uint8), (48, 1))[..., None], 3, axis=2)
    path = media.write_video(tmp_path / "ramp.mkv", [ramp], codec="ffv1", pix_fmt=pix_fmt)
    frames, _ = read(path)
    assert np.abs(frames[0].pixels.astype(int) - ramp).max() <= 1


@pytest.mark.parametrize(
    ("aspect", "turn", "told"),
    [
        ("64/45", None, "64:45"),
        ("64/45", (0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30), "45:64"),
        ("1/1", None, None),
        ("1280/1279", None, None),
    ],
)
def test_pixels_that_are_not_square_are_told_and_kept(tmp_path, aspect, turn, told):
    path = media.write_video(
        tmp_path / "dv.mp4",
        media.numbered_frames(3),
        display_matrix=turn,
        **{"x264-params": f"sar={aspect}"},
    )
    frames, warnings = read(path)
    assert sorted(frames[0].pixels.shape) == [3, 96, 160]
    assert [f"pixels of {told} " in warning for warning in warnings] == [True] * bool(told)


def test_interlacing_is_told(tmp_path):
    options = {"flags": "+ildct+ilme", "x264-params": "tff=1"}
    path = media.write_video(tmp_path / "tv.mp4", media.numbered_frames(3), **options)
    frames, (warning,) = read(path)
    assert [media.read_number(frame.pixels) for frame in frames] == [0, 1, 2]
    assert warning.startswith("tv.mp4 is interlaced")
    assert "bwdif" in warning


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "gray", "bgr0"])
def test_a_matrix_that_is_not_read_is_told(tmp_path, pix_fmt):
    path = media.write_video(
        tmp_path / "screen.mkv",
        media.numbered_frames(3),
        codec="ffv1",
        pix_fmt=pix_fmt,
        matrix="ycgco",
    )
    with av.open(str(path)) as container:
        assert next(container.decode(video=0)).colorspace == 8
    _, warnings = read(path)
    assert len(warnings) == (pix_fmt == "yuv420p"), "neither grey nor RGB has a matrix"
    for warning in warnings:
        assert warning.startswith("screen.mkv has the colour matrix YCgCo, which is not read")
        assert "colorspace=all=bt709" in warning


def test_hdr_is_told(tmp_path):
    path = tmp_path / "hdr.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx265", rate=30, options={"x265-params": "log-level=0"})
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p10le"
        stream.codec_context.color_trc = 18
        for pixels in media.numbered_frames(3):
            picture = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            container.mux(stream.encode(picture.reformat(format="yuv420p10le")))
        container.mux(stream.encode(None))
    frames, warnings = read(path)
    assert [media.read_number(frame.pixels) for frame in frames] == [0, 1, 2]
    assert warnings == ["hdr.mkv is HDR (HLG): its colours are not tone-mapped"]


# Images


def write_numbered_images(folder: Path, names: list[str]) -> None:
    for number, name in enumerate(names):
        media.write_image(folder / name, media.numbered(number))


LEFT_BESIDE_IMAGES = [
    *(".frame3.png", "._frame1.png", "._frame1.heic", ".DS_Store", "Thumbs.db", "desktop.ini"),
    *("frame1.xmp", "frame1.png.xmp", "frame1.aae", "frame1.png~", "frame1.psd", "notes.txt"),
]
"""Hidden files, and what systems and editors write beside pictures."""


def test_a_folder_is_read_in_natural_order(tmp_path):
    names = ["frame1.png", "frame2.png", "frame10.png", "frame11.PNG"]
    write_numbered_images(tmp_path, names)
    for left in LEFT_BESIDE_IMAGES:
        (tmp_path / left).write_text("no image")
    (tmp_path / "frame5.png").mkdir()
    (tmp_path / "raw.cr3").mkdir()
    assert numbers(tmp_path) == [0, 1, 2, 3]
    with closing(open_video(tmp_path)) as reader:
        assert (reader.info.frames, reader.info.frames_per_second) == (4, None)
        assert reader.info.still is False
        assert [frame.pts_seconds for frame in reader] == [0, 1 / 30, 2 / 30, 3 / 30]


def test_a_numbered_pattern_takes_its_own_files_only(tmp_path):
    names = ["plate_0008.png", "plate_0009.png", "plate_0010.png", "plate_12345.png"]
    write_numbered_images(tmp_path, names)
    write_numbered_images(tmp_path, ["plate_1.png", "plate_0001.jpg", "xplate_0001.png"])
    assert numbers(tmp_path / "plate_%04d.png") == [0, 1, 2, 3]


def test_a_glob_pattern(tmp_path):
    write_numbered_images(tmp_path / "plates", ["a1.jpg", "a2.jpg", "a10.jpg"])
    write_numbered_images(tmp_path / "plates", ["a1.png"])
    assert numbers(tmp_path / "plates" / "*.jpg") == [0, 1, 2]


@pytest.mark.parametrize("pattern", ["s*.png", "s%d.png"])
def test_a_folder_named_like_a_pattern_is_that_folder(tmp_path, pattern):
    folder = tmp_path / "take [1] 100%d *"
    write_numbered_images(folder, ["s1.png", "s2.png"])
    assert numbers(folder / pattern) == [0, 1]


@pytest.mark.parametrize(
    ("names", "there"),
    [
        (["f1.jpg", "f2.heic", "f3.HEIC"], "2 .heic and 1 .jpg"),
        (["f1.png", "f1.jpg"], "1 .jpg and 1 .png"),
        (["f1.png", "f2.png", "a.JPG", "f1.cr3"], "2 .png and 1 .jpg and 1 .cr3"),
    ],
)
@pytest.mark.parametrize("given", ["", "*"])
def test_pictures_of_several_kinds_are_refused_and_a_pattern_mends_it(
    tmp_path, names, there, given
):
    folder = tmp_path / "take [1]"
    folder.mkdir()
    for name in names:
        write = (folder / name).write_bytes
        write(cv2.imencode(".png", media.numbered(int(name[1]) if name[0] == "f" else 0))[1])
    path = (Path(glob.escape(str(folder))) if given else folder) / given
    with pytest.raises(InputError) as error:
        open_video(path)
    assert f"{path} holds pictures of several kinds, {there}: " in str(error.value)
    pattern = shlex.split(str(error.value).split("as in ")[1].split(", or convert")[0])[0]
    assert numbers(Path(pattern))[0] == 1


def test_one_kind_may_have_two_endings(tmp_path):
    write_numbered_images(tmp_path, ["a1.jpg", "a2.jpeg", "a3.JPG"])
    assert numbers(tmp_path) == [0, 1, 2]


@pytest.mark.parametrize("name", ["", "s_%04d.png", "s_*.png"])
def test_numbers_that_are_missing_are_told_and_close_up(tmp_path, name):
    for number in (1, 5, 17):
        media.write_image(tmp_path / "v2" / f"s_{number:04d}.png", media.numbered(number))
    frames, warnings = read(tmp_path / "v2" / name)
    assert [frame.index for frame in frames] == [0, 1, 2]
    assert [media.read_number(frame.pixels) for frame in frames] == [1, 5, 17]
    (warning,) = warnings
    assert "lacks 14 of the numbers 1 to 17, the first of them 2" in warning


@pytest.mark.parametrize(
    "names",
    [
        ["s_0007.png", "s_0008.png", "s_0009.png"],
        ["a1.png", "b5.png"],
        ["s_1_1.png", "s_5_3.png"],
        ["one.png", "two.png"],
        ["s_0007.png"],
    ],
)
def test_no_number_is_missed_where_none_is_missing_or_none_counts(tmp_path, names):
    for name in names:
        media.write_image(tmp_path / name, media.numbered(0))
    assert read(tmp_path)[1] == []


SEQUENCES = {  # names, the pattern that the refusal gives, and which of them it matches
    "two cameras": (
        ["left.1001.png", "left.1002.png", "right.1002.png", "right.1003.png"],
        "right.%d.png",
        [2, 3],
    ),
    "masks": (
        ["sh2.0001.png", "sh2.0001.mask.png", "sh2.0002.png", "sh2.0002.mask.png"],
        "sh2.%d.png",
        [0, 2],
    ),
    "edited photographs": (
        ["IMG_1.JPG", "IMG_E1.JPG", "IMG_2.JPG", "IMG_E2.JPG", "IMG_3.JPG"],
        "IMG_E%d.JPG",
        [1, 3],
    ),
    "endings": (["f1.jpg", "f1.JPG", "f2.jpg", "f2.JPG"], "f%d.jpg", [0, 2]),
    "no padding": (["a9.png", "a10.png", "b09.png", "b10.png"], "b%d.png", [2, 3]),
}


@pytest.mark.parametrize("given", ["", "*"])
@pytest.mark.parametrize("case", SEQUENCES)
def test_several_sequences_are_refused_and_a_pattern_mends_it(tmp_path, case, given):
    names, pattern, chosen = SEQUENCES[case]
    folder = tmp_path / "take 1"
    write_numbered_images(folder, names)
    with pytest.raises(InputError) as error:
        open_video(folder / given)
    told = str(error.value)
    assert told.startswith(f"{folder / given} holds several sequences of the same numbers, as ")
    assert sum(f" {name}" in told.replace(":", " ") for name in names) == 2
    assert "\n" not in told
    remedy = shlex.split(told.split("as in ")[1].split(", or number")[0])[0]
    assert remedy == str(folder / pattern)
    assert numbers(Path(remedy)) == chosen


@pytest.mark.parametrize(
    "names",
    [
        ["IMG_1234.jpg", "IMG_1235.jpg", "IMG_1235-edited.jpg", "PANO_1300.jpg", "PANO_1301.jpg"],
        ["a1b2.png", "c3d2.png", "e2f5.png", "f2e5.png"],
        ["a1b2.png", "a3b2.png", "c1d3.png", "c3d2.png", "c7d5.png"],
        ["left1.png", "left2.png", "right3.png", "right4.png"],
        ["IMG_20240101_100001.jpg", "IMG_20240102_100001.jpg", "PXL_1.jpg"],
        ["door.jpg", "wall.jpg", "wall (1).jpg", "wall (2).jpg"],
        ["f1.png", "f01.png", "f2.png"],
    ],
)
def test_names_that_are_no_two_sequences_are_taken_as_they_come(tmp_path, names):
    write_numbered_images(tmp_path, names)
    assert sorted(numbers(tmp_path)) == list(range(len(names)))


def test_a_pattern_may_span_folders_of_one_numbering(tmp_path):
    for folder in ("a", "b"):
        write_numbered_images(tmp_path / folder, [f"{folder}1.png", f"{folder}2.png"])
    assert numbers(tmp_path / "*" / "*.png") == [0, 1, 0, 1]


def test_a_file_named_like_a_pattern_is_that_file(tmp_path):
    media.write_image(tmp_path / "plate_%04d.png", media.numbered(5))
    media.write_video(tmp_path / "shot[1].mp4", media.numbered_frames(3))
    assert numbers(tmp_path / "plate_%04d.png") == [5]
    assert numbers(tmp_path / "shot[1].mp4") == [0, 1, 2]


@pytest.mark.parametrize("extension", ["png", "jpg", "jpeg", "webp", "tif", "tiff", "bmp", "PNG"])
def test_one_image_is_a_still(tmp_path, extension):
    path = media.write_image(tmp_path / f"plate.{extension}", quadrants())
    with closing(open_video(path)) as reader:
        frames = list(reader)
    assert reader.info.still is True
    assert (reader.info.width, reader.info.height, reader.info.frames) == (160, 96, 1)
    assert [corners(frame.pixels) for frame in frames] == ["RGBW"]


def test_alpha_is_dropped_not_composited(tmp_path):
    rgba = np.full((20, 30, 4), (200, 100, 50, 0), np.uint8)
    frames, _ = read(media.write_image(tmp_path / "a.png", rgba))
    assert (frames[0].pixels == (200, 100, 50)).all()


def test_sixteen_bits_are_scaled_and_grey_becomes_rgb(tmp_path):
    deep = np.full((20, 30, 3), (65535, 257 * 100, 257 * 7 + 120), np.uint16)
    frames, _ = read(media.write_image(tmp_path / "deep.png", deep))
    assert (frames[0].pixels == (255, 100, 7)).all()
    frames, _ = read(media.write_image(tmp_path / "grey.png", np.full((20, 30), 37, np.uint8)))
    assert (frames[0].pixels == 37).all()
    assert frames[0].pixels.shape == (20, 30, 3)


LEVELS = np.random.default_rng(0).integers(0, 256, (20, 30, 4), np.uint8)
DEEP = LEVELS[..., :3] * np.uint16(257)
TIFFS = {  # pixels and how they are stored, and the words of the refusal; None: read as they are
    "8 bits apart": (LEVELS[..., :3], {"planarconfig": "separate"}, None),
    "16 bits": (DEEP, {"byteorder": ">", "bigtiff": True}, None),
    "16 bits in tiles": (DEEP, {"tile": (16, 16)}, None),
    "16 bits apart": (DEEP, {"planarconfig": "separate"}, "16 bits in planes apart"),
    "16 bits apart, otherwise": (
        DEEP,
        {"planarconfig": "separate", "byteorder": ">", "bigtiff": True},
        "16 bits in planes apart",
    ),
    "white is 0": (LEVELS[..., 0], {"photometric": "miniswhite"}, None),
    "white is 0, 16 bits": (DEEP[..., 0], {"photometric": "miniswhite"}, "of which 0 is white"),
    "alpha": (LEVELS, {"extrasamples": ["unassalpha"]}, "transparent pixels"),
    "opaque": (LEVELS | np.uint8([0, 0, 0, 255]), {"extrasamples": ["unassalpha"]}, None),
    "another sample": (LEVELS, {"extrasamples": ["unspecified"]}, None),
    "alpha, 16 bits": (LEVELS * np.uint16(257), {"extrasamples": ["unassalpha"]}, None),
}


@pytest.mark.parametrize("case", TIFFS)
def test_a_tiff_is_read_as_it_is_meant_or_refused(tmp_path, case):
    pixels, options, words = TIFFS[case]
    path = tmp_path / "a.tif"
    stored = pixels.transpose(2, 0, 1) if "planarconfig" in options else pixels
    tifffile.imwrite(path, np.ascontiguousarray(stored), **{"photometric": "rgb", **options})
    if words:
        with pytest.raises(InputError, match=f"a.tif holds .*{words}.*as PNG"):
            open_video(path)
        return
    frames, _ = read(path)
    meant = pixels if pixels.ndim == 3 else (255 - pixels)[..., None].repeat(3, 2)
    meant = meant // 257 if meant.dtype == np.uint16 else meant
    assert np.array_equal(frames[0].pixels, meant[..., :3])


def test_what_is_cut_off_within_its_tags_is_damaged(tmp_path):
    whole = cv2.imencode(".tif", DEEP)[1].tobytes()
    for length in (3, 8, len(whole) - 30):
        (tmp_path / "a.tif").write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"a\.tif is damaged"):
            open_video(tmp_path / "a.tif")


EXIF_LOOKS = {
    1: "RGBW",
    2: "GRWB",
    3: "WBGR",
    4: "BWRG",
    5: "RBGW",
    6: "BRWG",
    7: "WGBR",
    8: "GWRB",
}


def turned_jpeg(orientation: int) -> bytes:
    """Quadrants as a camera writes them that was held otherwise."""
    data = cv2.imencode(".jpg", quadrants()[..., ::-1])[1].tobytes()
    entry = struct.pack("<HHIHH", 0x112, 3, 1, orientation, 0)
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 1) + entry + bytes(4)
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:]


@pytest.mark.parametrize("name", ["photo.jpg", "photo.jfif", "photo.jpe"])
@pytest.mark.parametrize("orientation", EXIF_LOOKS)
def test_exif_orientation_is_honoured(tmp_path, orientation, name):
    (tmp_path / name).write_bytes(turned_jpeg(orientation))
    with closing(open_video(tmp_path / name)) as reader:
        assert reader.info.still
        assert corners(reader.first.pixels) == EXIF_LOOKS[orientation]


@pytest.mark.parametrize("name", ["photo", "camera.avi"])
@pytest.mark.parametrize("orientation", EXIF_LOOKS)
def test_exif_is_honoured_where_ffmpeg_reads_it(tmp_path, orientation, name):
    """A photograph that is not named so, and the videos of digital cameras."""
    path, data = tmp_path / name, turned_jpeg(orientation)
    if path.suffix:
        with av.open(str(path), "w") as container:
            stream = container.add_stream("mjpeg", 25, width=160, height=96, pix_fmt="yuvj420p")
            for number in range(3):
                packet = av.Packet(data)
                packet.stream, packet.pts, packet.dts = stream, number, number
                packet.time_base, packet.is_keyframe = Fraction(1, 25), True
                container.mux(packet)
    else:
        path.write_bytes(data)
    frames, warnings = read(path)
    assert len(frames) == (3 if path.suffix else 1)
    assert {corners(frame.pixels) for frame in frames} == {EXIF_LOOKS[orientation]}
    assert warnings == []


def test_images_of_two_sizes_are_an_error_that_names_both(tmp_path):
    media.write_image(tmp_path / "1.png", media.numbered(0, 160, 96))
    media.write_image(tmp_path / "2.png", media.numbered(1, 80, 48))
    with closing(open_video(tmp_path)) as reader, pytest.raises(InputError) as error:
        list(reader)
    for part in ("2.png", "80x48", "1.png", "160x96"):
        assert part in str(error.value)


# Bad input


def no_frames(path: Path) -> Path:
    with av.open(str(path), "w", format="matroska") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.start_encoding()
    return path


def unreadable_frames(path: Path) -> Path:
    media.write_video(path, noisy_frames(9), codec="mjpeg", pix_fmt="yuvj420p")
    data = bytearray(path.read_bytes())
    start, end = data.index(b"mdat") + 4, data.index(b"moov") - 4
    data[start:end] = bytes(end - start)
    path.write_bytes(data)
    return path


def unknown_codec(path: Path) -> Path:
    media.write_video(path, media.numbered_frames(3))
    path.write_bytes(path.read_bytes().replace(b"avc1", b"zzzz"))
    return path


def write_exr(path):
    """One picture of linear light."""
    codec = av.CodecContext.create("exr", "w")
    codec.width, codec.height, codec.pix_fmt = 16, 16, "gbrpf32le"
    codec.time_base = Fraction(1, 25)
    picture = av.VideoFrame(16, 16, "gbrpf32le")
    picture.pts = 0
    path.write_bytes(b"".join(map(bytes, [*codec.encode(picture), *codec.encode(None)])))


BAD_INPUT = {
    "missing": (lambda path: path, "does not exist"),
    "empty": (lambda path: path.write_bytes(b""), "is empty"),
    "text": (lambda path: path.write_text("no video\n" * 99), "holds no video that FFmpeg knows"),
    "sound only": (media.write_sound, "holds no video"),
    "header only": (no_frames, "holds no video that FFmpeg knows"),
    "unreadable frames": (unreadable_frames, "holds no frame that can be read"),
    "unknown codec": (unknown_codec, "has a codec that FFmpeg cannot decode"),
    "index missing": (
        lambda path: cut(media.write_video(path, noisy_frames(9)), 0.6),
        "its index (moov) is missing",
    ),
    "index cut": (
        lambda path: cut(media.write_video(path, media.numbered_frames(9)), 0.9),
        "its index (moov) is missing",
    ),
    "index cut before the stream's kind": (
        lambda path: cut(media.write_video(path, media.numbered_frames(9)), 0.6),
        "its index (moov) is missing",
    ),
    "index cut before the stream's codec": (
        lambda path: cut(media.write_video(path, media.numbered_frames(9)), 0.7),
        "its index (moov) is missing",
    ),
    "folder without images": (lambda path: path.mkdir(), "holds no image"),
    "pipe": (os.mkfifo, "is a pipe or a device"),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_refused_at_open_in_one_line(tmp_path, case):
    make, message = BAD_INPUT[case]
    path = tmp_path / "bad.mp4"
    make(path)
    with pytest.raises(InputError) as error:
        open_video(path)
    assert message in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    assert isinstance(error.value, FileNotFoundError) is (case == "missing")


@pytest.mark.parametrize("pattern", ["plate_%04d.png", "*.jpg", "nowhere/plate_%d.png"])
def test_a_pattern_without_a_match_is_missing(tmp_path, pattern):
    (tmp_path / "plate.txt").write_text("no image")
    with pytest.raises(InputMissing, match="matches no image"):
        open_video(tmp_path / pattern)


@pytest.mark.parametrize("given", ["f.1001.exr", ".", "f.%04d.exr", "*.exr"])
def test_pictures_that_are_not_read_as_they_are_meant_are_refused(tmp_path, given):
    for number in (1001, 1002):
        write_exr(tmp_path / f"f.{number}.exr")
    with pytest.raises(InputError, match=r"f\.1001\.exr: \.exr is not read; convert it to PNG"):
        open_video(tmp_path / given)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is empty"),
        (b"no image", "is damaged, or no image that is read"),
        (b"\x89PNG\r\n\x1a\n", "is damaged, or no image that is read"),
    ],
)
def test_a_broken_image_is_named(tmp_path, content, told, capfd):
    (tmp_path / "plate.png").write_bytes(content)
    with pytest.raises(InputError, match=rf"plate\.png {told}; export or copy it again"):
        open_video(tmp_path / "plate.png")
    assert capfd.readouterr().err == ""


def damaged_within(jpeg: bytes) -> bytes:
    """As a disk leaves it that has lost a sector."""
    middle = len(jpeg) // 2
    return jpeg[:middle] + bytes(512) + jpeg[middle + 512 :]


def noisy_jpegs(count: int, *parameters: int) -> list[bytes]:
    options = [cv2.IMWRITE_JPEG_QUALITY, 50, *parameters]
    encoded = (cv2.imencode(".jpg", frame, options)[1] for frame in noisy_frames(count))
    return [jpeg.tobytes() for jpeg in encoded]


@pytest.mark.parametrize("progressive", [0, 1])
def test_jpegs_that_are_damaged_within_are_told_once(tmp_path, progressive):
    for number, jpeg in enumerate(noisy_jpegs(5, cv2.IMWRITE_JPEG_PROGRESSIVE, progressive)):
        damaged = number in (1, 3)
        (tmp_path / f"{number}.jpg").write_bytes(damaged_within(jpeg) if damaged else jpeg)
    with closing(open_video(tmp_path)) as reader:
        assert len(list(reader)) == len(list(reader.sample(9))) == len(list(reader)) == 5
        (told,) = reader.warnings
        assert told.startswith(f"{tmp_path} holds 2 pictures that are damaged")
        assert "the first of them 1.jpg" in told


def test_a_still_that_is_damaged_within_is_told(tmp_path):
    (tmp_path / "plate.jpg").write_bytes(damaged_within(noisy_jpegs(1)[0]))
    frames, (told,) = read(tmp_path / "plate.jpg")
    assert len(frames) == 1
    assert told.startswith(f"{tmp_path / 'plate.jpg'} is damaged")


@pytest.mark.parametrize("after", [b"", bytes(4096), b"note" * 99, noisy_jpegs(1)[0]])
@pytest.mark.parametrize(
    "parameters",
    [
        (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_440),
        (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_411),
        (cv2.IMWRITE_JPEG_OPTIMIZE, 1, cv2.IMWRITE_JPEG_RST_INTERVAL, 3),
        (cv2.IMWRITE_JPEG_PROGRESSIVE, 1, cv2.IMWRITE_JPEG_QUALITY, 100),
    ],
)
def test_whole_jpegs_are_not_called_damaged(tmp_path, parameters, after):
    """Nor what has something behind its picture, as have those of many phones."""
    (tmp_path / "plate.jpg").write_bytes(noisy_jpegs(1, *parameters)[0] + after)
    assert read(tmp_path / "plate.jpg")[1] == []


def test_an_empty_image_of_a_sequence_is_named_before_the_others_are_read(tmp_path):
    write_numbered_images(tmp_path, ["f1.png", "f2.png", "f3.png"])
    (tmp_path / "f3.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"f3\.png is empty"):
        open_video(tmp_path)


def test_an_image_without_the_right_to_read_it_is_refused(tmp_path, monkeypatch):
    def denied(*_):
        raise PermissionError(13, "Permission denied")

    path = media.write_image(tmp_path / "plate.png", quadrants())
    monkeypatch.setattr(np, "fromfile", denied)
    with pytest.raises(InputError, match=r"plate\.png cannot be read: Permission denied; check"):
        open_video(path)


def test_a_folder_without_the_right_to_read_it_is_refused(tmp_path, monkeypatch):
    def denied(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", denied)
    with pytest.raises(InputError, match="cannot be read: Permission denied"):
        open_video(tmp_path)


def test_cover_art_is_no_video(tmp_path):
    path = tmp_path / "song.mp3"
    cover = media.write_image(tmp_path / "cover.jpg", quadrants()).read_bytes()
    with av.open(str(path), "w") as container:
        sound = container.add_stream("libmp3lame", rate=48000)
        picture = container.add_mux_stream("mjpeg", width=160, height=96)
        picture.disposition = av.stream.Disposition.attached_pic
        packet = av.Packet(cover)
        packet.stream = picture
        container.start_encoding()
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1152), np.float32), "fltp", "mono")
        silence.sample_rate = 48000
        container.mux(sound.encode(silence))
        container.mux(packet)
        container.mux(sound.encode(None))
    with av.open(str(path)) as container:
        assert len(container.streams.video) == 1, "the test's file has lost its cover"
    with pytest.raises(InputError, match="holds no video"):
        open_video(path)


def test_text_is_not_taken_for_a_terminal_recording(tmp_path):
    (tmp_path / "notes.txt").write_text("FFmpeg draws this as a video\n" * 50)
    with pytest.raises(InputError, match="holds no video"):
        open_video(tmp_path / "notes.txt")


# Damage


@pytest.mark.parametrize(
    ("name", "muxer", "stated"),
    [
        ("shot.mp4", {"movflags": "faststart"}, "of 90"),
        ("shot.mp4", {"movflags": "frag_keyframe+empty_moov"}, "of "),
        ("shot.mkv", {}, "of 90"),
        ("shot.avi", {}, "of 90"),
    ],
)
def test_a_truncated_video_is_read_as_far_as_it_goes(tmp_path, name, muxer, stated, capfd):
    path = media.write_video(tmp_path / name, noisy_frames(90), muxer=muxer, g=15)
    frames, warnings = read(cut(path, 0.6))
    assert 40 <= len(frames) <= 60
    found = [media.read_number(frame.pixels) for frame in frames]
    assert found == list(range(len(frames)))
    assert len(warnings) == 1
    count = len(frames)
    assert warnings[0].startswith(f"{name} is damaged after frame {count}: {count} {stated}")
    assert capfd.readouterr().err == ""


def test_a_truncated_transport_stream_is_read_as_far_as_it_goes(tmp_path):
    path = media.write_video(tmp_path / "shot.ts", noisy_frames(90), g=15)
    frames, warnings = read(cut(path, 0.6))
    assert 40 <= len(frames) <= 60
    assert all("shot.ts is damaged" in line for line in warnings)


@pytest.mark.parametrize("name", ["shot.mp4", "shot.ts", "shot.avi"])
def test_damage_in_the_middle_is_passed_over_with_a_warning(tmp_path, name, capfd):
    path = media.write_video(tmp_path / name, noisy_frames(90), g=10, bf=0)
    data = bytearray(path.read_bytes())
    middle, length = len(data) // 2, len(data) // 20
    data[middle : middle + length] = np.random.default_rng(1).bytes(length)
    path.write_bytes(data)
    frames, warnings = read(path)
    found = [media.read_number(frame.pixels) for frame in frames]
    assert 75 <= len(frames) <= 90
    assert found[:30] == list(range(30))
    assert found[-20:] == list(range(70, 90))
    assert len(warnings) == 1
    assert f"{name} is damaged after frame" in warnings[0]
    assert capfd.readouterr().err == ""


def test_a_whole_video_with_longer_sound_is_not_called_damaged(tmp_path):
    path = tmp_path / "sound.mkv"
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=30)
        video.width, video.height, video.pix_fmt = 160, 96, "yuv420p"
        sound = container.add_stream("aac", rate=48000)
        for pixels in media.numbered_frames(15):
            container.mux(video.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(video.encode(None))
        for _ in range(200):
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
            silence.sample_rate = 48000
            container.mux(sound.encode(silence))
        container.mux(sound.encode(None))
    frames, warnings = read(path)
    assert len(frames) == 15
    assert warnings == []


# The thread


def decoded_counter(monkeypatch) -> list[int]:
    """Grows by one entry for each picture that is converted to RGB."""
    from howard.decode.colour import RgbConverter

    decoded: list[int] = []
    convert = RgbConverter.__call__

    def counted(self, picture):
        decoded.append(1)
        return convert(self, picture)

    monkeypatch.setattr(RgbConverter, "__call__", counted)
    return decoded


def settled(decoded: list[int]) -> int:
    """The count once it has not changed for a while."""
    count = -1
    while count != len(decoded):
        count = len(decoded)
        time.sleep(0.1)
    return count


@pytest.mark.parametrize("read_ahead", [1, 2, 5])
def test_a_slow_consumer_holds_the_decoder_back(tmp_path, monkeypatch, read_ahead):
    path = media.write_video(tmp_path / "shot.mp4", media.numbered_frames(40))
    decoded = decoded_counter(monkeypatch)
    with closing(open_video(path, read_ahead)) as reader:
        assert settled(decoded) <= read_ahead
        frames = iter(reader)
        for taken, _ in zip((1, 2, 3, 4), frames, strict=False):
            assert settled(decoded) - taken <= read_ahead
        assert len(list(frames)) == 40 - 4


def test_the_decoder_does_read_ahead(tmp_path, monkeypatch):
    path = media.write_video(tmp_path / "shot.mp4", media.numbered_frames(40))
    decoded = decoded_counter(monkeypatch)
    with closing(open_video(path, 8)):
        assert settled(decoded) == 8


def test_breaking_out_and_closing_ends_the_thread_at_once(tmp_path):
    path = media.write_video(tmp_path / "shot.mp4", media.numbered_frames(60))
    reader = open_video(path, 2)
    for frame in reader:
        if frame.index == 3:
            break
    started = time.monotonic()
    reader.close()
    reader.close()
    assert time.monotonic() - started < 1
    assert list(reader) == []


def test_a_forgotten_reader_ends_its_thread(tmp_path):
    path = media.write_video(tmp_path / "shot.mp4", media.numbered_frames(60))
    for _ in open_video(path, 2):
        break  # and the fixture sees that no thread is left


def test_an_error_of_the_thread_reaches_the_consumer_once(tmp_path, monkeypatch):
    from howard.decode.colour import RgbConverter

    path = media.write_video(tmp_path / "shot.mp4", media.numbered_frames(10))
    with closing(open_video(path, 1)) as reader:
        monkeypatch.setattr(RgbConverter, "__call__", lambda self, picture: 1 / 0)
        frames = iter(reader)
        with pytest.raises(ZeroDivisionError):
            list(frames)
        assert list(frames) == []


def test_an_error_of_ffmpeg_never_leaves_as_itself(tmp_path, monkeypatch):
    from howard.decode.colour import RgbConverter

    def fail(self, picture):
        raise av.error.PatchWelcomeError(1, "not yet implemented")

    path = media.write_video(tmp_path / "shot.mp4", media.numbered_frames(10))
    with closing(open_video(path, 1)) as reader:
        monkeypatch.setattr(RgbConverter, "__call__", fail)
        with pytest.raises(InputError, match=r"shot\.mp4 cannot be decoded after frame"):
            list(reader)


def starve(*_):
    raise av.error.MemoryError(12, "Cannot allocate memory")


def test_too_little_memory_is_not_blamed_on_the_video(tmp_path, monkeypatch):
    from howard.decode.colour import RgbConverter
    from howard.decode.decoding import Decoding

    path = media.write_video(tmp_path / "shot.mp4", media.numbered_frames(10))
    with closing(Decoding(path)) as decoding:
        decoding.stream = SimpleNamespace(decode=starve)
        with pytest.raises(MemoryError):
            list(decoding._decoded([None]))
    with closing(open_video(path, 1)) as reader:
        monkeypatch.setattr(RgbConverter, "__call__", starve)
        with pytest.raises(MemoryError):
            list(reader)


def test_too_little_memory_is_not_blamed_on_an_image(tmp_path, monkeypatch):
    def starve(*_):
        raise cv2.error("(-4:Insufficient memory) Failed to allocate 9 bytes")

    path = media.write_image(tmp_path / "a.png", media.numbered(0))
    monkeypatch.setattr(cv2, "imdecode", starve)
    with pytest.raises(cv2.error):
        open_video(path)


def test_closing_from_another_thread_frees_a_consumer_that_waits(tmp_path, monkeypatch):
    from howard.decode.colour import RgbConverter

    path = media.write_video(tmp_path / "shot.mp4", media.numbered_frames(10))
    go = threading.Event()
    convert = RgbConverter.__call__

    def held(self, picture):
        go.wait(5)
        return convert(self, picture)

    reader = open_video(path, 1)
    monkeypatch.setattr(RgbConverter, "__call__", held)
    consumer = threading.Thread(target=lambda: list(reader))
    consumer.start()
    threading.Timer(0.1, go.set).start()
    reader.close()
    consumer.join(2)
    assert not consumer.is_alive()


def test_read_ahead_must_be_positive(tmp_path):
    path = media.write_video(tmp_path / "shot.mp4", media.numbered_frames(2))
    with pytest.raises(ConfigError, match="read_ahead is 0"):
        open_video(path, 0)


def test_the_file_is_released(tmp_path):
    path = media.write_video(tmp_path / "shot.mp4", media.numbered_frames(60))
    links = Path("/proc/self/fd")
    if not links.is_dir():
        pytest.skip("no /proc to look into")
    with closing(open_video(path, 2)) as reader:
        next(iter(reader))
    targets = [link.readlink() for link in links.iterdir() if link.is_symlink()]
    assert path not in targets


# The process


def test_import_is_light_and_an_interrupted_program_ends_cleanly(tmp_path):
    path = media.write_video(tmp_path / "shot.mp4", media.numbered_frames(60))
    program = (
        "import sys, pathlib, howard.decode\n"
        "assert not {'av', 'cv2'} & set(sys.modules)\n"
        "reader = howard.decode.open_video(pathlib.Path(sys.argv[1]), 2)\n"
        "next(iter(reader))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)],
        capture_output=True,
        text=True,
        timeout=30,
        cwd=Path(__file__).parent.parent,
    )
    assert (done.returncode, done.stderr) == (0, "")
