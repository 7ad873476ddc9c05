"""The GPU's reader gives what the CPU's gives: from uploads, from DALI, and where DALI fails.

Without a GPU: CuPy is the stand-in of `host_gpu`, and DALI, where it is installed, runs its own
decoder of VP9 on the CPU, which takes no YCbCr and has its own matrix.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import av
import fakecupy
import media
import numpy as np
import pytest

from howard import cuda
from howard.decode import gpu, nvdec, open_video, upload
from howard.decode.cpu import open_source
from howard.decode.gpu import DeviceReader, open_device_video
from howard.decode.nvdec import DaliVideo, Refused
from howard.decode.planes import PlanesConverter
from howard.errors import DeviceError, InputError, InputMissing
from howard.frames import Frame

NVDEC_IS_THERE = nvdec.is_there
"""`host_gpu` puts another in its place."""

PARITY = 2
"""Levels of 255: the issue's bound. Both decode the same YCbCr; swscale works in fixed point."""
PLANES_LEVELS = 1
"""The same for what FFmpeg decodes and the GPU converts; seen: 1, of many pixels of noise."""
DALI_LEVELS = 4
"""DALI's decoder on the CPU converts by swscale's fastest, up to 3 levels off on flat colours."""
COUNT = 50
ONE = 65536
CLOCKWISE = (0, ONE, 0, -ONE, 0, 0, 0, 0, 1 << 30)
VP9 = {"codec": "libvpx-vp9", "g": 10, "deadline": "realtime", "cpu-used": 8}
H264 = {"g": 10, "bf": 2}
HEVC = {"codec": "libx265", "x265-params": "log-level=none"}
TEN_BITS = {**HEVC, "pix_fmt": "yuv420p10le"}


@pytest.fixture
def real_gpu() -> Any:
    """CuPy; without a GPU the test skips, or fails with HOWARD_REQUIRE_GPU=1."""
    try:
        return cuda.cupy()
    except DeviceError as error:
        if os.environ.get("HOWARD_REQUIRE_GPU") == "1":
            raise
        pytest.skip(str(error))


@pytest.fixture(autouse=True)
def _device(request: pytest.FixtureRequest) -> None:
    """Howard's CuPy is the stand-in, and no test leaves a thread."""
    if "real_gpu" not in request.fixturenames:
        request.getfixturevalue("host_gpu")
        request.getfixturevalue("leaves_no_thread")


def moving(count: int = COUNT, width: int = 160, height: int = 96) -> Iterator[np.ndarray]:
    """Numbered frames; a neighbour is clearly another picture."""
    return media.numbered_frames(count, width, height)


def on_host(frames: list[Frame]) -> list[Frame]:
    """Frames off the device; they must be CuPy's, of bytes and contiguous."""
    for frame in frames:
        assert isinstance(frame.pixels, fakecupy.ndarray)
        assert frame.pixels.dtype == np.uint8
        assert frame.pixels.flags.c_contiguous
    return [
        Frame(f.index, f.pts_seconds, fakecupy.asnumpy(f.pixels), f.decode_milliseconds)
        for f in frames
    ]


def assert_same(found: Iterator[Frame], expected: Iterator[Frame], levels: int = 0) -> None:
    """Same indices and times, and pixels within `levels`."""
    device, host = on_host(list(found)), list(expected)
    assert [f.index for f in device] == [f.index for f in host]
    assert [f.pts_seconds for f in device] == [f.pts_seconds for f in host]
    for ours, theirs in zip(device, host, strict=True):
        assert ours.pixels.shape == theirs.pixels.shape
        assert np.abs(ours.pixels.astype(int) - theirs.pixels).max() <= levels, ours.index


def assert_reads_alike(device: Any, path: Path, levels: int = 0) -> None:
    """Every kind of pass, against the CPU's reader."""
    with closing(open_video(path)) as host, closing(device):
        assert device.info == host.info
        assert_same(iter(device), iter(host), levels)
        assert device.warnings == host.warnings
        for start in (0, 1, 17, COUNT - 1, COUNT, COUNT + 5):
            assert_same(device.read_from(start), host.read_from(start), levels)
        for count in (1, 5, 7, 200):
            assert_same(device.sample(count), host.sample(count), levels)
        assert_same(iter(device), iter(host), levels)
        assert device.warnings == host.warnings


# Uploads


@pytest.mark.parametrize(
    ("name", "options", "levels"),
    [
        ("a.mp4", H264, PLANES_LEVELS),
        ("a.mkv", {**TEN_BITS, "g": 10}, PLANES_LEVELS),
        ("a.mov", {"codec": "prores_ks", "pix_fmt": "yuv422p10le"}, 0),
        ("turned.mp4", {**H264, "display_matrix": CLOCKWISE}, PLANES_LEVELS),
    ],
)
def test_what_ffmpeg_decodes_is_uploaded(tmp_path, name, options, levels):
    path = media.write_video(tmp_path / name, moving(), **options)
    assert_reads_alike(open_device_video(path), path, levels)


AS_PLANES: dict[str, tuple[float, str, dict[str, Any]]] = {
    "H.264": (1.5, "a.mp4", {"crf": 4}),
    "chroma between pixels": (1.5, "a.mp4", {"crf": 4, "x264-params": "chromaloc=1"}),
    "chroma on pixels": (1.5, "a.mp4", {"crf": 4, "x264-params": "chromaloc=2"}),
    "chroma below": (1.5, "a.mp4", {"crf": 4, "x264-params": "chromaloc=4"}),
    "BT.601": (1.5, "a.mp4", {"crf": 4, "matrix": "bt601"}),
    "full range": (1.5, "a.mp4", {"crf": 4, "matrix": "bt709", "full_range": True}),
    "Motion JPEG": (1.5, "a.mov", {"codec": "mjpeg", "pix_fmt": "yuvj420p", "qmax": 2}),
    "MPEG-2": (1.5, "a.mpg", {"codec": "mpeg2video", "qmax": 2}),
    "VP9": (1.5, "a.webm", VP9),
    "10 bits": (3, "a.mp4", {**TEN_BITS, "crf": 4, "matrix": "bt2020"}),
    "10 bits, full range": (
        3,
        "a.mp4",
        {**TEN_BITS, "crf": 4, "matrix": "bt709", "full_range": True},
    ),
    "4:2:2": (3, "a.mp4", {"crf": 4, "pix_fmt": "yuv422p"}),
    "interlaced": (3, "a.mp4", {"crf": 4, "x264-params": "interlaced=1"}),
}
"""Bytes per pixel that go up, and a video."""


@pytest.mark.parametrize("case", AS_PLANES)
def test_noise_goes_up_as_planes_and_is_the_cpus_rgb(tmp_path, case, pinned):
    share, name, options = AS_PLANES[case]
    path = media.write_video(tmp_path / name, noisy(3), **options)
    with closing(open_device_video(path)) as device, closing(open_video(path)) as host:
        for _ in range(2):
            assert_same(iter(device), iter(host), PLANES_LEVELS)
    assert pinned == [160 * 96 * share] * upload.SLOTS


@pytest.mark.parametrize("size", [(161, 97), (64, 33), (9, 8), (7, 96), (3, 2), (1, 1)])
@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv420p10le"])
def test_odd_and_tiny_sizes_are_the_cpus(tmp_path, size, pix_fmt):
    options = {"codec": "ffv1", "pix_fmt": pix_fmt}
    path = media.write_video(tmp_path / "a.mkv", noisy(3, *size), **options)
    with closing(open_device_video(path)) as device, closing(open_video(path)) as host:
        assert_same(iter(device), iter(host), PLANES_LEVELS)


@pytest.mark.parametrize("sizes", [[(160, 96), (320, 192)], [(320, 192), (160, 96)]])
def test_another_size_in_mid_stream_is_scaled_as_on_the_cpu(tmp_path, sizes):
    path = tmp_path / "both.ts"
    with open(path, "wb") as both:
        for size in sizes:
            both.write(media.write_video(tmp_path / "a.ts", noisy(9, *size), crf=4).read_bytes())
    with closing(open_device_video(path)) as device, closing(open_video(path)) as host:
        assert_same(iter(device), iter(host), PLANES_LEVELS)
        assert device.warnings == host.warnings
        assert any("changes its size" in line for line in device.warnings)


def test_images_are_uploaded(tmp_path):
    for number in range(3):
        media.write_image(tmp_path / f"{number}.png", media.numbered(number))
    with closing(open_device_video(tmp_path)) as device, closing(open_video(tmp_path)) as host:
        assert_same(iter(device), iter(host))
        assert_same(device.read_from(2), host.read_from(2))
    with closing(open_device_video(tmp_path / "1.png")) as device:
        assert device.info.still
        assert [media.read_number(frame.pixels.get()) for frame in device] == [1]


def test_damage_is_told_in_the_same_words(tmp_path):
    path = media.write_video(tmp_path / "a.mkv", moving(), **H264)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with closing(open_device_video(path)) as device, closing(open_video(path)) as host:
        assert_same(iter(device), iter(host))
        assert device.warnings == host.warnings != []


def test_what_cannot_be_read_is_refused_as_on_the_cpu(tmp_path):
    with pytest.raises(InputMissing):
        open_device_video(tmp_path / "none.mp4")
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(InputError):
        open_device_video(tmp_path / "text.mp4")


def test_without_a_gpu_it_says_so(tmp_path, monkeypatch):
    def none():
        raise DeviceError("no NVIDIA GPU can be used: give --device cpu")

    monkeypatch.setattr(cuda, "cupy", none)
    with pytest.raises(DeviceError):
        open_device_video(tmp_path)


def test_a_pass_ends_the_one_before_and_close_ends_all(tmp_path):
    path = media.write_video(tmp_path / "a.mp4", moving(), **H264)
    reader = open_device_video(path)
    first = iter(reader)
    next(first)
    second = reader.read_from(20)
    assert next(second).index == 20
    assert list(first) == []
    reader.close()
    reader.close()
    assert list(second) == []
    assert list(reader) == []
    assert list(reader.sample(3)) == []


def test_indices_and_counts_that_make_no_sense_are_refused(tmp_path):
    path = media.write_video(tmp_path / "a.mp4", moving(3))
    with closing(open_device_video(path)) as reader:
        with pytest.raises(ValueError, match="index is -1"):
            reader.read_from(-1)
        with pytest.raises(ValueError, match="count is 0"):
            reader.sample(0)


def test_closing_from_another_thread_frees_a_consumer_that_waits(tmp_path, monkeypatch):
    path = media.write_video(tmp_path / "a.mp4", moving(9))
    release, convert = threading.Event(), PlanesConverter.__call__
    with closing(open_device_video(path)) as reader:
        frames = iter(reader)
        monkeypatch.setattr(PlanesConverter, "__call__", lambda *a: release.wait(5) and convert(*a))
        taken: list[Frame] = []
        consumer = threading.Thread(target=lambda: taken.extend(frames))
        consumer.start()
        time.sleep(0.1)
        threading.Timer(0.1, release.set).start()
        reader.close()
        consumer.join(5)
        assert not consumer.is_alive()
        assert len(taken) < 9


class Copies:
    """Copies of a GPU that is behind: they take what their slot holds when they are made."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []
        self.most = 0

    def set(self, device: Any, staged: np.ndarray, stream: Any = None) -> None:
        assert stream is not None, "a copy that the host waits for"
        copy = lambda: device.view(np.ndarray).__setitem__(..., staged)  # noqa: E731
        self.waiting.append(copy)
        self.most = max(self.most, len(self.waiting))

    def finish(self) -> None:
        while self.waiting:
            self.waiting.pop(0)()


def test_a_slot_is_not_overwritten_while_its_copy_is_under_way(monkeypatch):
    copies = Copies()

    class Event(fakecupy.Event):
        before = 0

        def record(self, stream: Any = None) -> None:
            self.before = len(copies.waiting)

        def synchronize(self) -> None:
            if self.before:
                copies.finish()

    monkeypatch.setattr(fakecupy.cuda, "Event", Event)
    monkeypatch.setattr(fakecupy.Array, "set", lambda *a, **k: copies.set(*a, **k))
    uploader = upload.Uploader()
    uploaded = []
    pixels = np.zeros((4, 6, 3), np.uint8)
    for number in range(10):
        pixels[:] = number  # the host's memory is reused at once
        uploaded.append(uploader(pixels))
    uploader.close()
    assert [int(device.min()) for device in uploaded] == list(range(10))
    assert [int(device.max()) for device in uploaded] == list(range(10))
    assert copies.most == upload.SLOTS


@pytest.fixture
def pinned(monkeypatch) -> list[int]:
    """Sizes of the pinned memory that was asked for."""
    sizes: list[int] = []
    allocate = fakecupy.cuda.alloc_pinned_memory
    monkeypatch.setattr(
        fakecupy.cuda, "alloc_pinned_memory", lambda size: sizes.append(size) or allocate(size)
    )
    return sizes


def test_pinned_memory_is_allocated_once(tmp_path, pinned):
    path = media.write_video(tmp_path / "a.mp4", moving(), **H264)
    with closing(open_device_video(path)) as reader:
        for _ in range(2):
            assert len(list(reader)) == COUNT
    assert pinned == [160 * 96 * 1.5] * upload.SLOTS


def test_a_larger_picture_gets_larger_slots(pinned):
    uploader = upload.Uploader()
    pictures = [
        np.full((4, side), number, np.uint16) for number, side in enumerate((3, 3, 3, 5, 2))
    ]
    uploaded = [uploader(picture) for picture in pictures]
    for device, picture in zip(uploaded, pictures, strict=True):
        np.testing.assert_array_equal(fakecupy.asnumpy(device), picture)
    assert pinned == [24, 24, 24, 40]
    uploader.close()


# The choice


@pytest.fixture
def nvdec_is_there(monkeypatch) -> list[str]:
    """Pretend that DALI and the driver's decoder are there; what DALI is opened with is listed."""
    chosen: list[str] = []

    class Chosen(DaliVideo):
        def __init__(self, video, *args):
            super().__init__(video, *args)
            chosen.append(video.path.name)

        def frames(self, indices):
            raise Refused("there is no GPU")
            yield

    monkeypatch.setattr(nvdec, "is_there", lambda: True)
    monkeypatch.setattr(gpu, "DaliVideo", Chosen)
    return chosen


def noisy(count: int, width: int = 160, height: int = 96) -> Iterator[np.ndarray]:
    noise = np.random.default_rng(0)
    return (noise.integers(0, 256, (height, width, 3)).astype(np.uint8) for _ in range(count))


CHOICES: dict[str, tuple[bool, str, dict[str, Any]]] = {
    "H.264": (True, "a.mp4", H264),
    "H.264 in Matroska": (True, "a.mkv", H264),
    "H.264, turned": (True, "a.mp4", {"display_matrix": CLOCKWISE}),
    "HEVC": (True, "a.mp4", HEVC),
    "VP9": (True, "a.webm", VP9),
    "MPEG-4": (True, "a.mp4", {"codec": "mpeg4"}),
    "variable rate": (True, "a.mp4", {"pts": [n * n * 20 for n in range(12)]}),
    "HEVC, 10 bits": (False, "a.mp4", TEN_BITS),
    "H.264 4:2:2": (False, "a.mp4", {"pix_fmt": "yuv422p"}),
    "H.264 4:4:4": (False, "a.mp4", {"pix_fmt": "yuv444p"}),
    "ProRes": (False, "a.mov", {"codec": "prores_ks", "pix_fmt": "yuv422p10le"}),
    "VP8": (False, "a.webm", {"codec": "libvpx"}),
    "Motion JPEG": (False, "a.mov", {"codec": "mjpeg", "pix_fmt": "yuvj420p"}),
    "FFV1": (False, "a.mkv", {"codec": "ffv1"}),
    "transport stream": (False, "a.ts", H264),
    "AVI, without times": (False, "a.avi", H264),
    "frames before an edit list": (False, "a.mp4", {"pts": [(n - 5) * 20 for n in range(12)]}),
    "interlaced": (False, "a.mp4", {"flags": "+ildct+ilme", "x264-params": "tff=1"}),
}


@pytest.mark.parametrize("case", CHOICES)
def test_nvdec_gets_what_it_decodes_as_stored(tmp_path, case, nvdec_is_there):
    expected, name, options = CHOICES[case]
    path = media.write_video(tmp_path / name, moving(12), **options)
    open_device_video(path).close()
    assert nvdec_is_there == [name] * expected


@pytest.mark.parametrize(("capability", "expected"), [("90", False), ("89", True)])
def test_av1_goes_where_the_gpu_has_it(tmp_path, monkeypatch, capability, expected, nvdec_is_there):
    device = fakecupy.cuda.Device()
    device.compute_capability = capability
    monkeypatch.setattr(fakecupy.cuda, "Device", lambda *a: device)
    path = media.write_video(tmp_path / "a.mp4", moving(4), codec="libsvtav1", preset=12)
    open_device_video(path).close()
    assert nvdec_is_there == ["a.mp4"] * expected


@pytest.mark.parametrize("size", [(161, 96), (160, 97)])
def test_odd_sizes_are_left_to_ffmpeg(tmp_path, size, nvdec_is_there):
    frames = [media.flat_yuv((90, 60, 30), "bt601", False, *size)] * 3
    path = media.write_video(tmp_path / "a.webm", frames, codec="libvpx-vp9")
    open_device_video(path).close()
    assert nvdec_is_there == []


@pytest.mark.parametrize(
    ("name", "muxer", "share"),
    [
        ("a.mkv", {}, 0.5),
        ("a.mp4", {"movflags": "faststart"}, 0.5),
        ("a.mp4", {"movflags": "faststart"}, 0.999),
    ],
)
def test_what_is_cut_off_is_left_to_ffmpeg(tmp_path, name, muxer, share, nvdec_is_there):
    path = media.write_video(tmp_path / name, noisy(40), muxer=muxer, **H264)
    path.write_bytes(path.read_bytes()[: round(path.stat().st_size * share)])
    open_device_video(path).close()
    assert nvdec_is_there == []


def test_two_pictures_in_one_file_are_left_to_ffmpeg(tmp_path, nvdec_is_there):
    path = tmp_path / "two.mkv"
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("libx264", rate=30) for _ in range(2)]
        for stream in streams:
            stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        for stream in streams:
            for picture in moving(3):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                container.mux(stream.encode(frame.reformat(format="yuv420p")))
            container.mux(stream.encode(None))
    open_device_video(path).close()
    assert nvdec_is_there == []


def test_without_dali_or_the_driver_ffmpeg_decodes(tmp_path, monkeypatch):
    monkeypatch.setattr(nvdec.ctypes, "CDLL", lambda name: open("/nowhere"))  # noqa: SIM115
    monkeypatch.setattr(nvdec, "is_there", NVDEC_IS_THERE)
    nvdec.is_there.cache_clear()
    assert not nvdec.is_there()
    nvdec.is_there.cache_clear()
    path = media.write_video(tmp_path / "a.mp4", moving(3))
    with closing(open_device_video(path)) as reader:
        assert len(list(reader)) == 3
        assert reader.warnings == []


# When NVDEC fails


class FakeDali:
    """Decodes through FFmpeg, wrongly from some frame on."""

    def __init__(self, video, coding, table, *, fail_at: int = COUNT, shift: int = 0) -> None:
        self.table, self.fail_at, self.shift = table, fail_at, shift
        self.path, self.closed, self.passes = video.path, False, []

    def frames(self, indices):
        self.passes.append(list(indices)[:1])
        with closing(open_video(self.path)) as host:
            every = list(host)
        for index in indices:
            if index >= self.fail_at:
                raise Refused("CUDA error 999")
            shown = every[min(index + self.shift, COUNT - 1)]
            yield Frame(index, every[index].pts_seconds, fakecupy.asarray(shown.pixels))

    def close(self):
        self.closed = True


@pytest.fixture
def fake_dali(monkeypatch) -> Callable[..., list[FakeDali]]:
    def install(**options: int) -> list[FakeDali]:
        made: list[FakeDali] = []

        def make(*args):
            made.append(FakeDali(*args, **options))
            return made[-1]

        monkeypatch.setattr(nvdec, "is_there", lambda: True)
        monkeypatch.setattr(gpu, "DaliVideo", make)
        return made

    return install


def test_all_passes_go_through_nvdec_where_it_works(tmp_path, fake_dali):
    path = media.write_video(tmp_path / "a.mp4", moving(), **H264)
    made = fake_dali()
    assert_reads_alike(open_device_video(path), path)
    assert len(made[0].passes) == 12
    assert made[0].closed


@pytest.mark.parametrize("fail_at", [0, 1, 23, COUNT - 1])
def test_a_failure_goes_on_with_ffmpeg_from_that_frame(tmp_path, fake_dali, fail_at):
    path = media.write_video(tmp_path / "a.mp4", moving(), **H264)
    made = fake_dali(fail_at=fail_at)
    with closing(open_device_video(path)) as device, closing(open_video(path)) as host:
        assert_same(iter(device), iter(host))
        assert device.warnings == [
            f"a.mp4 is decoded on the CPU from frame {fail_at} on: NVDEC failed (CUDA error 999)"
        ]
        assert made[0].closed
        assert_same(device.read_from(30), host.read_from(30))
        assert_same(device.sample(5), host.sample(5))
        assert len(device.warnings) == len(made[0].passes) == 1


def test_a_failure_within_a_sample_repeats_and_loses_nothing(tmp_path, fake_dali):
    path = media.write_video(tmp_path / "a.mp4", moving(), **H264)
    fake_dali(fail_at=23)
    with closing(open_device_video(path)) as device, closing(open_video(path)) as host:
        assert_same(device.sample(7), host.sample(7))
        assert len(device.warnings) == 1


def test_a_wrong_picture_is_noticed_before_it_is_given(tmp_path, fake_dali):
    path = media.write_video(tmp_path / "a.mp4", moving(), **H264)
    fake_dali(shift=1)
    with closing(open_device_video(path)) as device, closing(open_video(path)) as host:
        assert_same(iter(device), iter(host))
        assert "frame 0 is not FFmpeg's" in device.warnings[0]


def test_a_seek_that_leads_elsewhere_is_noticed(tmp_path, fake_dali, monkeypatch):
    path = media.write_video(tmp_path / "a.mp4", moving(), **H264)
    made = fake_dali()
    with closing(open_device_video(path)) as device, closing(open_video(path)) as host:
        assert_same(iter(device), iter(host))
        made[0].shift = 1
        assert_same(device.read_from(20), host.read_from(20))
        assert "frame 20 is not FFmpeg's" in device.warnings[0]


def test_an_open_gop_is_only_read_from_the_start(tmp_path, fake_dali):
    path = media.write_video(tmp_path / "a.mp4", moving(), **media.OPEN_GOP)
    made = fake_dali()
    with closing(open_device_video(path)) as device, closing(open_video(path)) as host:
        assert not made[0].table.is_closed
        for start in (20, 0, 20):
            assert_same(device.read_from(start), host.read_from(start))
        assert_same(device.sample(5), host.sample(5))
        assert device.warnings == []
    assert made[0].passes == [[0]]


def test_the_device_is_asked_for_pixels_only_to_prove_them(tmp_path, fake_dali):
    path = media.write_video(tmp_path / "a.mp4", moving(), **H264)
    fake_dali()
    with closing(open_device_video(path)) as device:
        for start in (0, 20, 0, 30):
            assert list(device.read_from(start))
    assert fakecupy.downloads == [160 * 96 * 3] * 2


# Colour and pose


def as_dali_gives(picture: av.VideoFrame) -> np.ndarray:
    """(H, W, 3): YCbCr as by the GPU variant of DALI 2.4, chroma bilinear between the samples."""
    planes = [
        np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]
        for plane in picture.planes
    ]
    chroma = np.stack(planes[1:], -1).astype(np.float32)
    for axis in (0, 1):
        size = chroma.shape[axis]
        here = np.arange(2 * size) // 2
        beside = np.clip(here + np.where(np.arange(2 * size) % 2, 1, -1), 0, size - 1)
        chroma = 0.75 * chroma.take(here, axis) + 0.25 * chroma.take(beside, axis)
    return np.dstack([planes[0], np.floor(chroma + 0.5).astype(np.uint8)])


def assert_first_picture_is_the_cpus(path: Path) -> None:
    source = open_source(path)
    with closing(source.rest), av.open(str(path)) as container:
        table = gpu._table(source.video)
        with closing(DaliVideo(source.video, source.video.convert.coding, table)) as dali:
            stored = as_dali_gives(next(container.decode(video=0)))
            found = dali._upright(fakecupy.asarray(stored))
    assert found.shape == source.first.pixels.shape
    assert np.abs(fakecupy.asnumpy(found).astype(int) - source.first.pixels).max() <= PARITY


STORED: dict[str, tuple[str, dict[str, Any]]] = {
    "H.264": ("a.mp4", {"crf": 4}),
    "HEVC": ("a.mp4", {**HEVC, "crf": 4}),
    "MPEG-4": ("a.mp4", {"codec": "mpeg4", "qmax": 2}),
    "VP9": ("a.webm", VP9),
    "AV1": ("a.mp4", {"codec": "libsvtav1", "preset": 12}),
    "BT.601": ("a.mp4", {"matrix": "bt601"}),
    "BT.2020": ("a.mp4", {"matrix": "bt2020"}),
    "full range": ("a.mp4", {"matrix": "bt709", "full_range": True}),
}


@pytest.mark.parametrize("case", STORED)
def test_what_dali_gives_becomes_the_cpus_rgb(tmp_path, case):
    """Noise, whose chroma differs in every sample: half a pixel off would be 70 levels."""
    name, options = STORED[case]
    path = media.write_video(tmp_path / name, noisy(12), **{"matrix": "bt709", **options})
    assert_first_picture_is_the_cpus(path)


ONE_OF = (ONE, -ONE)
POSES = [(a, 0, 0, d) for a in ONE_OF for d in ONE_OF] + [
    (0, b, c, 0) for b in ONE_OF for c in ONE_OF
]


@pytest.mark.parametrize("pose", POSES)
def test_every_pose_is_the_cpus(tmp_path, pose):
    a, b, c, d = pose
    turn = (a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path = media.write_video(tmp_path / "a.mp4", noisy(2), crf=4, display_matrix=turn)
    assert_first_picture_is_the_cpus(path)


# DALI itself, on the CPU


@pytest.fixture
def with_dali(monkeypatch) -> Callable[[Path], DeviceReader]:
    """Opens a VP9 video through DALI's decoder on the CPU, in windows of 16 frames."""
    pytest.importorskip("nvidia.dali")

    def opened(path: Path) -> DeviceReader:
        source = open_source(path)
        table = gpu._table(source.video)
        assert nvdec.is_whole(source.video, table)
        dali = DaliVideo(source.video, source.video.convert.coding, table, device="cpu")
        return DeviceReader(source, dali)

    return opened


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.webm", {}),
        ("with a space.mp4", {}),
        ("turned.mp4", {"display_matrix": CLOCKWISE}),
        ("variable.webm", {"pts": [20 * n + n * n for n in range(COUNT)]}),
        ("late.mkv", {"pts": [20 * n + 900 for n in range(COUNT)]}),
    ],
)
def test_dali_gives_the_same_frames(tmp_path, name, options, with_dali):
    path = media.write_video(tmp_path / name, moving(), **VP9, **options)
    assert_reads_alike(with_dali(path), path, DALI_LEVELS)


def test_windows_are_bounded(tmp_path, with_dali, monkeypatch):
    monkeypatch.setattr(nvdec, "WINDOW_BYTES", 3 * 160 * 96 * 3)
    path = media.write_video(tmp_path / "a.webm", moving(), **VP9)
    shapes, take = [], DaliVideo._next

    def noted(*args):
        pictures = take(*args)
        shapes.append(pictures.shape)
        return pictures

    monkeypatch.setattr(DaliVideo, "_next", noted)
    with closing(with_dali(path)) as reader:
        assert len(list(itertools.islice(reader, 7))) == 7
    assert shapes == [(3, 96, 160, 3)] * 3


def test_dalis_refusal_goes_on_with_ffmpeg(tmp_path, with_dali):
    """Its decoder on the CPU has no H.264."""
    path = media.write_video(tmp_path / "a.mp4", moving(), **H264)
    with closing(with_dali(path)) as device, closing(open_video(path)) as host:
        assert_same(iter(device), iter(host))
        assert len(device.warnings) == 1
        assert "from frame 0 on: NVDEC failed" in device.warnings[0]
        assert "\n" not in device.warnings[0]


@pytest.mark.parametrize("wrong", ["a time", "one frame more", "many frames more"])
def test_dali_must_agree_with_the_packets(tmp_path, with_dali, wrong):
    path = media.write_video(tmp_path / "a.webm", moving(), **VP9)
    with closing(with_dali(path)) as device, closing(open_video(path)) as host:
        table = device._hardware.table
        if wrong == "a time":
            table.pts[30] += 5
        else:
            added = 1 if wrong == "one frame more" else 20
            table.pts.extend(table.pts[-1] + 33 * number for number in range(1, added + 1))
            table.frames += added
        found = on_host(list(device))
        assert [media.read_number(f.pixels) for f in found] == list(range(COUNT))
        assert [f.pts_seconds for f in found] == [f.pts_seconds for f in host]
        assert len(device.warnings) == 1


# A real GPU


@pytest.mark.parametrize("options", [H264, {**HEVC, "g": 10}, TEN_BITS, {"pix_fmt": "yuv444p"}])
def test_a_gpu_reads_what_the_cpu_reads(tmp_path, options, real_gpu):
    """By NVDEC where DALI and the driver have it, large enough for it; a warning is a failure."""
    path = media.write_video(tmp_path / "a.mp4", noisy(40, 640, 384), crf=12, **options)
    with closing(open_device_video(path)) as device, closing(open_video(path)) as host:
        for begin in (iter, lambda reader: reader.read_from(17), lambda reader: reader.sample(5)):
            for ours, theirs in zip(begin(device), begin(host), strict=True):
                assert (ours.index, ours.pts_seconds) == (theirs.index, theirs.pts_seconds)
                pixels = real_gpu.asnumpy(ours.pixels).astype(int)
                assert np.abs(pixels - theirs.pixels).max() <= PARITY
        assert device.warnings == []
