"""Packing, the PNG format and the writer's pool, as a user of the stage sees them."""

from __future__ import annotations

import errno
import io
import os
import signal
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from howard.errors import OutputError
from howard.frames import Matte
from howard.write import frame_path, open_writer
from howard.write.files import prepare_folder
from howard.write.pack import PackedMatte, pack_rgba
from howard.write.png import encode_rgba

PATIENCE_SECONDS = 10.0
"""Long past anything here: who waits so long is in a deadlock."""

HALF_A_LEVEL = 129
"""In levels of 65535: 128.5, and a tie may go either way."""

Rgba = NDArray[np.uint8 | np.uint16]


# ------------------------------------------------------------------------------------- helpers


def decode_opencv(png: bytes) -> Rgba:
    """By libpng."""
    bgra = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
    return cv2.cvtColor(bgra, cv2.COLOR_BGRA2RGBA)


def decode_ffmpeg(png: bytes) -> Rgba:
    """By FFmpeg, whose PNG decoder is its own."""
    with av.open(io.BytesIO(png), format="png_pipe") as container:
        (frame,) = container.decode(video=0)
        if frame.format.name == "rgba64be":
            rows = np.frombuffer(frame.planes[0], np.uint8).reshape(frame.height, -1)
            pixels = rows[:, : 8 * frame.width].copy().view(">u2")
            return pixels.reshape(frame.height, frame.width, 4).astype(np.uint16)
        assert frame.format.name == "rgba"
        return frame.to_ndarray()


DECODERS = [decode_opencv, decode_ffmpeg]


def noise(height: int, width: int, seed: int = 0, dtype: type = np.uint8) -> Rgba:
    most = np.iinfo(dtype).max
    return np.random.default_rng(seed).integers(0, most, (height, width, 4), dtype, endpoint=True)


def chunks(png: bytes) -> Iterator[tuple[bytes, bytes, int]]:
    """Type, data and CRC of each chunk, read by the book."""
    at = 8
    while at < len(png):
        (length,) = struct.unpack_from(">I", png, at)
        (crc,) = struct.unpack_from(">I", png, at + 8 + length)
        yield png[at + 4 : at + 8], png[at + 8 : at + 8 + length], crc
        at += 12 + length
    assert at == len(png)


@dataclass
class Picture:
    """A pending picture that waits for a gate, may fail, and remembers who asked for it."""

    index: int
    pixels: Rgba = field(default_factory=lambda: noise(6, 5))
    gate: threading.Event | None = None
    error: BaseException | None = None
    begun: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread | None = None

    def result(self) -> Rgba:
        self.thread = threading.current_thread()
        self.begun.set()
        if self.gate is not None:
            assert self.gate.wait(PATIENCE_SECONDS)
        if self.error is not None:
            raise self.error
        return self.pixels


def ignore(index: int, milliseconds: float) -> None:
    pass


def names(folder: Path) -> set[str]:
    """All that lies there, hidden files too."""
    return {path.name for path in folder.iterdir()}


def workers_alive() -> int:
    return sum(thread.name.startswith("howard-write") for thread in threading.enumerate())


def without_deadlock(call: Callable[[], None]) -> BaseException | None:
    """What the call raises; the test fails, rather than hangs, if it never returns."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(PATIENCE_SECONDS)
    assert not thread.is_alive(), "deadlock"
    return raised[0] if raised else None


def open_after(gate: threading.Event, pictures: list[Picture]) -> None:
    """Open the gate once these have begun and the producer has had time to run into the queue."""

    def wait() -> None:
        for picture in pictures:
            picture.begun.wait(PATIENCE_SECONDS)
        time.sleep(0.1)
        gate.set()

    threading.Thread(target=wait, daemon=True).start()


def fill_the_disk_for(folder: Path, index: int) -> None:
    """Writing this frame fails with a true ENOSPC: its unfinished file is the full device."""
    (folder / f".{index:06d}.png.partial").symlink_to("/dev/full")


needs_full_device = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")


# --------------------------------------------------------------------------------- the format


@pytest.mark.parametrize("decode", DECODERS)
@pytest.mark.parametrize(
    "shape", [(1, 1), (1, 2), (2, 1), (17, 31), (3, 5000), (5000, 3), (240, 321)]
)
@pytest.mark.parametrize("content", ["noise", "transparent", "white", "ramp"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_round_trip_is_exact(decode, shape, content, dtype):
    height, width = shape
    picture = {
        "noise": noise(height, width, dtype=dtype),
        "transparent": np.zeros((height, width, 4), dtype),
        "white": np.full((height, width, 4), np.iinfo(dtype).max, dtype),
        "ramp": np.arange(height * width * 4, dtype=np.uint32).astype(dtype),
    }[content].reshape(height, width, 4)
    decoded = decode(encode_rgba(picture))
    assert decoded.dtype == dtype
    np.testing.assert_array_equal(decoded, picture)


def test_round_trip_of_many_small_pictures():
    rng = np.random.default_rng(7)
    for seed in range(300):
        height, width = rng.integers(1, 40, 2)
        # Few distinct values make long matches, many make literals: deflate takes both paths.
        picture = noise(height, width, seed) % rng.integers(1, 257)
        picture = picture.astype(np.uint8)
        np.testing.assert_array_equal(decode_opencv(encode_rgba(picture)), picture)


@pytest.mark.parametrize("bit_depth", [8, 16])
def test_chunks_are_those_of_the_standard(bit_depth):
    png = encode_rgba(noise(5, 9, dtype=np.dtype(f"uint{bit_depth}")))
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    read = list(chunks(png))
    assert [kind for kind, _, _ in read] == [b"IHDR", b"sRGB", b"tEXt", b"IDAT", b"IEND"]
    for kind, data, crc in read:
        assert crc == zlib.crc32(kind + data)
    bodies = {kind: data for kind, data, _ in read}
    # Width, height, bits, colour type 6 (RGBA), deflate, adaptive filters, not interlaced.
    assert struct.unpack(">IIBBBBB", bodies[b"IHDR"]) == (9, 5, bit_depth, 6, 0, 0, 0)
    assert bodies[b"sRGB"] == b"\0"  # perceptual
    assert bodies[b"tEXt"] == b"Software\0Howard"
    assert bodies[b"IEND"] == b""
    assert len(zlib.decompress(bodies[b"IDAT"])) == 5 * (1 + bit_depth // 2 * 9)


@pytest.mark.parametrize(
    "view",
    [
        lambda a: a[::2, ::3],
        lambda a: a[::-1],
        lambda a: a.transpose(1, 0, 2),
        lambda a: a[..., ::-1],
        lambda a: a[3:9, 4:11],
    ],
    ids=["strided", "upside down", "transposed", "channels reversed", "cropped"],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_any_layout_in_memory(view, dtype):
    picture = view(noise(20, 30, dtype=dtype))
    assert not picture.flags.c_contiguous
    np.testing.assert_array_equal(decode_ffmpeg(encode_rgba(picture)), picture)


def test_encoding_leaves_the_picture_alone():
    picture = noise(8, 8)
    picture.setflags(write=False)
    before = picture.copy()
    encode_rgba(picture)
    np.testing.assert_array_equal(picture, before)


@pytest.mark.parametrize("decode", DECODERS)
def test_alpha_in_the_file_is_straight(decode):
    picture = np.zeros((1, 256, 4), np.uint8)
    picture[..., :3] = (250, 120, 3)
    picture[0, :, 3] = np.arange(256)
    np.testing.assert_array_equal(decode(encode_rgba(picture))[..., :3], picture[..., :3])


def test_transparent_pixels_cost_next_to_nothing():
    picture = np.zeros((1080, 1920, 4), np.uint8)
    assert len(encode_rgba(picture)) < 100_000
    picture[300:800, 700:1200] = noise(500, 500)
    assert len(encode_rgba(picture)) < 1_200_000  # a million of them are noise


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((4, 4, 3), np.uint8),
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.float32),
        np.zeros((4, 4, 4), np.int16),
        np.zeros((0, 4, 4), np.uint8),
        np.zeros((4, 0, 4), np.uint8),
    ],
    ids=["three channels", "no channels", "floats", "signed", "no rows", "no columns"],
)
def test_what_is_no_picture_is_refused(wrong):
    with pytest.raises(ValueError, match=r"\(H, W, 4\) uint8"):
        encode_rgba(wrong)


# ------------------------------------------------------------------------------------ packing


def floats(*values: float) -> NDArray[np.float32]:
    return np.array([values], np.float32)


def grey(alpha: NDArray[np.float32], level: float = 1.0) -> NDArray[np.float32]:
    return np.full((*alpha.shape, 3), level, np.float32)


def test_16_bits_agree_with_8_within_half_a_level():
    rng = np.random.default_rng(3)
    alpha = rng.uniform(-0.1, 1.1, (211, 307)).astype(np.float32)
    alpha[:9] = np.linspace(0, 0.01, 9 * 307).reshape(9, 307)
    alpha[9:18] = np.linspace(0.99, 1, 9 * 307).reshape(9, 307)
    foreground = rng.uniform(-0.1, 1.1, (211, 307, 3)).astype(np.float32)
    coarse, fine = pack_rgba(alpha, foreground), pack_rgba(alpha, foreground, 16)
    assert fine.dtype == np.uint16
    for end, fine_end in ((0, 0), (255, 65535)):  # alpha snaps at the same places
        np.testing.assert_array_equal(coarse[..., 3] == end, fine[..., 3] == fine_end)
    assert not fine[fine[..., 3] == 0].any()
    assert np.abs(fine.astype(int) - 257 * coarse.astype(int)).max() <= HALF_A_LEVEL
    between = (alpha > 0.006) & (alpha < 0.994)
    expected = np.rint(alpha * np.float32(65535))[between]
    np.testing.assert_array_equal(fine[between, 3], expected)


def test_8_bit_colour_in_16_bits_is_that_colour():
    levels = np.arange(256, dtype=np.float32)[None] / 255
    rgba = pack_rgba(np.ones_like(levels), np.dstack([levels] * 3), 16)
    np.testing.assert_array_equal(rgba[0, :, :3], 257 * np.arange(256)[:, None].repeat(3, 1))


def test_every_level_survives_packing():
    levels = np.arange(256, dtype=np.float32)[None] / 255
    foreground = np.stack([levels, levels[:, ::-1], levels], axis=-1)
    rgba = pack_rgba(np.ones_like(levels), foreground)
    np.testing.assert_array_equal(rgba[0, :, 0], np.arange(256))
    np.testing.assert_array_equal(rgba[0, :, 1], np.arange(256)[::-1])
    alpha = pack_rgba(levels, grey(levels))[0, :, 3]
    np.testing.assert_array_equal(alpha[2:254], np.arange(2, 254))


def test_packing_rounds_to_the_nearest():
    rng = np.random.default_rng(1)
    alpha = rng.random((123, 457), dtype=np.float32)
    foreground = rng.random((123, 457, 3), dtype=np.float32)
    rgba = pack_rgba(alpha, foreground)
    shows = rgba[..., 3] > 0
    expected = np.rint(foreground * np.float32(255)).astype(np.uint8)
    np.testing.assert_array_equal(rgba[shows, :3], expected[shows])
    between = (alpha > 0.006) & (alpha < 0.994)
    expected_alpha = np.rint(alpha * np.float32(255)).astype(np.uint8)
    np.testing.assert_array_equal(rgba[between, 3], expected_alpha[between])


def test_alpha_snaps_to_its_ends():
    alpha = floats(0.0, 0.003, 0.0058, 0.0060, 0.5, 0.9940, 0.9942, 0.997, 1.0)
    rgba = pack_rgba(alpha, grey(alpha))
    assert rgba[0, :, 3].tolist() == [0, 0, 0, 2, 128, 253, 255, 255, 255]


def test_colour_under_transparent_pixels_is_black():
    alpha = floats(0.0, 0.004, 0.3)
    rgba = pack_rgba(alpha, grey(alpha, 0.8))
    assert rgba[0].tolist() == [[0, 0, 0, 0], [0, 0, 0, 0], [204, 204, 204, 76]]


def test_packed_colour_is_straight():
    alpha = floats(0.1, 0.5, 1.0)
    rgba = pack_rgba(alpha, grey(alpha))
    assert (rgba[..., :3] == 255).all()


@pytest.mark.parametrize("shape", [(1, 1), (7, 13), (64, 129)])
def test_planar_memory_gives_the_same_picture(shape):
    rng = np.random.default_rng(2)
    alpha = rng.random(shape, dtype=np.float32)
    planar = rng.random((3, *shape), dtype=np.float32).transpose(1, 2, 0)
    rgba = pack_rgba(alpha, planar)
    assert rgba.shape == (*shape, 4)
    assert rgba.flags.c_contiguous
    np.testing.assert_array_equal(rgba, pack_rgba(alpha, np.ascontiguousarray(planar)))


@pytest.mark.parametrize("width", [1, 3, 8, 37])
@pytest.mark.parametrize("bit_depth", [8, 16])
@pytest.mark.parametrize(
    ("value", "level"),
    [(np.nan, 0), (-np.nan, 0), (-0.25, 0), (-np.inf, 0), (1.75, 1), (1e30, 1), (np.inf, 1)],
)
def test_what_is_no_opacity_and_no_colour(width, bit_depth, value, level):
    """Each at every place: the ends of rows go through other code than their middles."""
    most = 2**bit_depth - 1
    good = np.full((1, width), 0.5, np.float32)
    for place in range(width):
        bad = good.copy()
        bad[0, place] = value
        assert pack_rgba(bad, grey(bad), bit_depth)[0, place, 3] == level * most
        foreground = grey(good)
        foreground[0, place, 1] = value
        rgba = pack_rgba(good, foreground, bit_depth)
        assert rgba[0, place].tolist() == [most, level * most, most, (most + 1) // 2]


def test_packing_leaves_the_matte_alone():
    alpha, foreground = floats(0.001, np.nan, 0.5), grey(floats(0, 0, 0), 2.0)
    before = alpha.copy(), foreground.copy()
    pack_rgba(alpha, foreground)
    np.testing.assert_array_equal((alpha, foreground)[0], before[0])
    np.testing.assert_array_equal(foreground, before[1])


@pytest.mark.parametrize("bit_depth", [8, 16])
def test_a_packed_matte_is_a_pending_picture(tmp_path, bit_depth):
    alpha = floats(0.0, 0.5, 1.0)
    pending = PackedMatte(3, Matte(alpha, grey(alpha)), bit_depth)
    np.testing.assert_array_equal(pending.result(), pack_rgba(alpha, grey(alpha), bit_depth))
    assert len(repr(pending)) < 200, "pixels have no place in a repr"
    with open_writer(tmp_path, 1, ignore) as writer:
        writer.submit(pending)
    written = decode_ffmpeg(frame_path(tmp_path, 3).read_bytes())
    np.testing.assert_array_equal(written, pending.result())


# ------------------------------------------------------------------------------------ the pool


@pytest.mark.parametrize("workers", [1, 3])
def test_all_pictures_are_written_in_any_order(tmp_path, workers):
    order = [5, 0, 1_000_000, 3, 9, 1, 2]
    with open_writer(tmp_path / "out", workers, ignore) as writer:
        for index in order:
            writer.submit(Picture(index, noise(9, 11, seed=index)))
    assert names(tmp_path / "out") == {f"{index:06d}.png" for index in order}
    for index in order:
        png = frame_path(tmp_path / "out", index).read_bytes()
        np.testing.assert_array_equal(decode_opencv(png), noise(9, 11, seed=index))
    assert workers_alive() == 0


def test_a_slow_picture_does_not_hold_up_the_others(tmp_path):
    slow = Picture(0, gate=threading.Event())
    done: list[int] = []
    others: list[int] = []
    with open_writer(tmp_path, 2, lambda index, _: done.append(index)) as writer:
        writer.submit(slow)
        for index in range(1, 6):
            writer.submit(Picture(index))
            others.append(index)
        assert others == [1, 2, 3, 4, 5], "one worker was enough for them"
        slow.gate.set()
    assert sorted(done) == list(range(6))


def test_written_is_called_once_for_each_file_and_after_it_stands(tmp_path):
    reports: list[tuple[int, bool, float]] = []
    at_once: list[int] = []

    def written(index: int, milliseconds: float) -> None:
        at_once.append(index)
        assert len(at_once) == 1, "called from two threads at once"
        whole = decode_opencv(frame_path(tmp_path, index).read_bytes()).shape == (6, 5, 4)
        reports.append((index, whole, milliseconds))
        time.sleep(0.001)
        at_once.clear()

    with open_writer(tmp_path, 3, written) as writer:
        for index in range(20):
            writer.submit(Picture(index))
    assert sorted(index for index, _, _ in reports) == list(range(20))
    assert all(whole for _, whole, _ in reports)
    assert all(0 < milliseconds < 1000 * PATIENCE_SECONDS for _, _, milliseconds in reports)


def test_milliseconds_include_packing(tmp_path):
    class Slow(Picture):
        def result(self) -> Rgba:
            time.sleep(0.03)
            return super().result()

    taken: list[float] = []
    with open_writer(tmp_path, 1, lambda _, milliseconds: taken.append(milliseconds)) as writer:
        writer.submit(Slow(0))
    assert 30 <= taken[0] < 1000 * PATIENCE_SECONDS


def test_packing_happens_in_a_worker(tmp_path):
    picture = Picture(0)
    with open_writer(tmp_path, 1, ignore) as writer:
        writer.submit(picture)
    assert picture.thread is not None
    assert picture.thread is not threading.current_thread()


def test_submit_blocks_while_the_slots_are_full(tmp_path):
    gate = threading.Event()
    submitted: list[int] = []

    def produce() -> None:
        for index in range(8):
            writer.submit(Picture(index, gate=gate))
            submitted.append(index)

    with open_writer(tmp_path, 1, ignore) as writer:
        producer = threading.Thread(target=produce, daemon=True)
        producer.start()
        producer.join(0.2)
        assert producer.is_alive(), "nothing is written, yet all eight went in"
        assert submitted == [0, 1, 2], "one in progress, two waiting"
        gate.set()
        producer.join(PATIENCE_SECONDS)
        assert submitted == list(range(8))
    assert len(names(tmp_path)) == 8


def test_an_existing_file_is_replaced_whole(tmp_path):
    """Who has it open goes on reading the old one: it is never there by halves."""
    frame_path(tmp_path, 0).write_bytes(b"of an earlier run")
    with frame_path(tmp_path, 0).open("rb") as reader:
        with open_writer(tmp_path, 1, ignore) as writer:
            writer.submit(Picture(0))
        assert reader.read() == b"of an earlier run"
    np.testing.assert_array_equal(
        decode_opencv(frame_path(tmp_path, 0).read_bytes()), Picture(0).pixels
    )


# -------------------------------------------------------------------------- when things go wrong


def test_an_error_is_raised_by_a_later_submit(tmp_path):
    broken = RuntimeError("the network broke")
    submitted: list[int] = []

    def produce() -> None:
        with open_writer(tmp_path, 1, ignore) as writer:
            writer.submit(Picture(0, error=broken))
            for index in range(1, 1000):
                writer.submit(Picture(index))
                submitted.append(index)

    assert without_deadlock(produce) is broken
    assert len(submitted) < 999, "the loop is told at once, not after its last frame"
    assert names(tmp_path) == set()
    assert workers_alive() == 0


def test_an_error_in_the_last_picture_is_raised_on_leaving(tmp_path):
    broken = RuntimeError("the network broke")
    writer = open_writer(tmp_path, 2, ignore)
    writer.__enter__()
    for index in range(3):
        writer.submit(Picture(index))
    writer.submit(Picture(3, error=broken))
    assert without_deadlock(lambda: writer.__exit__(None, None, None)) is broken
    assert names(tmp_path) <= {f"{index:06d}.png" for index in range(3)}


def test_an_error_is_not_forgotten_once_raised(tmp_path):
    """A caller that swallows what submit raises still hears of it on leaving."""

    def produce() -> None:
        with open_writer(tmp_path, 1, ignore) as writer:
            writer.submit(Picture(0, error=RuntimeError("the network broke")))
            for index in range(1, 5):
                try:
                    writer.submit(Picture(index))
                except RuntimeError:
                    continue

    assert str(without_deadlock(produce)) == "the network broke"


@pytest.mark.parametrize("error", [RuntimeError("broken"), SystemExit(3), KeyboardInterrupt()])
def test_a_failing_worker_wakes_a_blocked_producer(tmp_path, error):
    """The worker fails only once all slots are taken and the producer is waiting for one."""
    gate = threading.Event()
    pictures = [Picture(index, gate=gate, error=error) for index in range(12)]

    def produce() -> None:
        with open_writer(tmp_path, 2, ignore) as writer:
            for picture in pictures:
                writer.submit(picture)

    open_after(gate, pictures[:2])
    assert without_deadlock(produce) is error
    assert sum(picture.begun.is_set() for picture in pictures) == 2, "no new picture begins"
    assert names(tmp_path) == set()


def test_the_first_error_is_the_one_that_counts(tmp_path):
    first, second = Picture(0, error=ValueError("first")), Picture(1, error=ValueError("second"))
    first.gate, second.gate = threading.Event(), threading.Event()

    def produce() -> None:
        with open_writer(tmp_path, 2, ignore) as writer:
            writer.submit(first)
            writer.submit(second)
            assert first.begun.wait(PATIENCE_SECONDS)
            assert second.begun.wait(PATIENCE_SECONDS)
            first.gate.set()
            time.sleep(0.05)
            second.gate.set()

    assert str(without_deadlock(produce)) == "first"


def test_an_error_in_written_reaches_the_caller(tmp_path):
    def written(index: int, milliseconds: float) -> None:
        raise OSError(errno.EIO, "the journal broke")

    def produce() -> None:
        with open_writer(tmp_path, 1, written) as writer:
            writer.submit(Picture(0))

    error = without_deadlock(produce)
    assert isinstance(error, OSError)
    assert not isinstance(error, OutputError), "the file was written; this is something else"
    assert names(tmp_path) == set(), "a picture that is noted nowhere would be a stranger's"


@needs_full_device
def test_a_full_disk(tmp_path):
    frame_path(tmp_path, 7).write_bytes(b"of an earlier run")

    def produce() -> None:
        with open_writer(tmp_path, 1, ignore) as writer:
            fill_the_disk_for(tmp_path, 12)
            for index in (10, 11, 12):
                writer.submit(Picture(index))

    error = without_deadlock(produce)
    assert isinstance(error, OutputError)
    assert error.errno == errno.ENOSPC
    assert str(error) == (
        f"cannot write {tmp_path}/000012.png: No space left on device: free some space"
    )
    assert names(tmp_path) == {"000007.png", "000010.png", "000011.png"}, "nothing unfinished"
    assert frame_path(tmp_path, 7).read_bytes() == b"of an earlier run"


@needs_full_device
def test_a_file_that_stood_before_stands_after_a_full_disk(tmp_path):
    frame_path(tmp_path, 0).write_bytes(b"of an earlier run")

    def produce() -> None:
        with open_writer(tmp_path, 1, ignore) as writer:
            fill_the_disk_for(tmp_path, 0)
            writer.submit(Picture(0))

    assert isinstance(without_deadlock(produce), OutputError)
    assert names(tmp_path) == {"000000.png"}
    assert frame_path(tmp_path, 0).read_bytes() == b"of an earlier run"


def test_a_folder_under_the_final_name(tmp_path):
    frame_path(tmp_path, 0).mkdir()

    def produce() -> None:
        with open_writer(tmp_path, 1, ignore) as writer:
            writer.submit(Picture(0))

    error = without_deadlock(produce)
    assert isinstance(error, OutputError)
    assert "000000.png: Is a directory: " in str(error)
    assert names(tmp_path) == {"000000.png"}, "the unfinished file was removed"


def test_the_folder_vanishes(tmp_path):
    output = tmp_path / "out"

    def produce() -> None:
        with open_writer(output, 2, ignore) as writer:
            output.rmdir()
            for index in range(50):
                writer.submit(Picture(index))

    error = without_deadlock(produce)
    assert isinstance(error, OutputError)
    assert error.errno == errno.ENOENT


def test_an_exception_in_the_loop_drops_what_has_not_begun(tmp_path):
    gate = threading.Event()
    pictures = [Picture(index, gate=gate) for index in range(4)]
    open_after(gate, pictures[:2])

    def loop() -> None:
        with open_writer(tmp_path, 2, ignore) as writer:
            for picture in pictures:
                writer.submit(picture)
            assert pictures[0].begun.wait(PATIENCE_SECONDS)
            assert pictures[1].begun.wait(PATIENCE_SECONDS)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        loop()
    assert names(tmp_path) == {"000000.png", "000001.png"}, "those in progress are finished"
    assert not pictures[2].begun.is_set()
    assert not pictures[3].begun.is_set()
    assert workers_alive() == 0


def test_the_loops_own_exception_comes_before_a_workers(tmp_path):
    class Loop(Exception):
        pass

    failing = Picture(0, error=RuntimeError("the network broke"))

    def loop() -> None:
        with open_writer(tmp_path, 1, ignore) as writer:
            writer.submit(failing)
            assert failing.begun.wait(PATIENCE_SECONDS)
            raise Loop

    with pytest.raises(Loop):
        loop()


@pytest.mark.parametrize("where", ["submit", "exit"])
def test_ctrl_c_while_waiting(tmp_path, where):
    """A true signal, while the main thread is blocked on the workers."""
    gate = threading.Event()
    pictures = [Picture(index, gate=gate) for index in range(5)]

    def interrupt() -> None:
        pictures[0].begun.wait(PATIENCE_SECONDS)
        time.sleep(0.1)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        time.sleep(0.1)
        gate.set()

    def loop() -> None:
        with open_writer(tmp_path, 1, ignore) as writer:
            hand.start()
            for picture in pictures[: 5 if where == "submit" else 2]:
                writer.submit(picture)

    hand = threading.Thread(target=interrupt)
    with pytest.raises(KeyboardInterrupt):
        loop()
    hand.join()
    assert names(tmp_path) == {"000000.png"}
    assert not pictures[1].begun.is_set()
    assert workers_alive() == 0


# ---------------------------------------------------------------------------------- the folder


def test_the_folder_is_made_with_its_parents(tmp_path):
    with open_writer(tmp_path / "a" / "b" / "c", 1, ignore):
        assert names(tmp_path / "a" / "b" / "c") == set()


def test_a_folder_may_be_prepared_by_several_at_once(tmp_path):
    """That of --debug, by the processes of several GPUs: none takes what another writes."""
    theirs = tmp_path / ".000002.jpg.partial"
    theirs.write_bytes(b"half")
    prepare_folder(tmp_path)
    assert names(tmp_path) == {theirs.name}


@pytest.mark.parametrize("below", ["", "below", "far/below"])
def test_a_file_is_in_the_way(tmp_path, below):
    (tmp_path / "file").write_bytes(b"precious")
    with pytest.raises(OutputError) as caught:
        open_writer(tmp_path / "file" / below, 1, ignore)
    message = str(caught.value)
    assert str(tmp_path / "file") in message
    assert "choose another" in message
    assert "\n" not in message
    assert (tmp_path / "file").read_bytes() == b"precious"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="Permission denied: allow yourself"):
        open_writer(tmp_path, 1, ignore)


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        (errno.EACCES, "allow yourself to write there"),
        (errno.EROFS, "on a disk that can be written"),
        (errno.ENOSPC, "free some space"),
        (errno.EIO, "mend that"),
    ],
)
def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch, code, remedy):
    """The folder is there and only writing in it fails: that too shows before any work."""

    def refuse(path: Path, data: bytes) -> int:
        raise OSError(code, os.strerror(code), str(path))

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(OutputError) as caught:
        open_writer(tmp_path, 1, ignore)
    assert caught.value.errno == code
    assert str(caught.value).startswith(f"cannot write {tmp_path}: {os.strerror(code)}: ")
    assert remedy in str(caught.value)


def test_nothing_is_left_of_looking_into_a_folder_on_a_full_disk(tmp_path, monkeypatch):
    def write(path: Path, data: bytes) -> int:
        path.touch()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(Path, "write_bytes", write)
    with pytest.raises(OutputError):
        open_writer(tmp_path, 1, ignore)
    assert names(tmp_path) == set()


def test_importing_the_contract_is_light():
    heavy = ("cv2", "av", "isal", "torch", "cupy", "onnxruntime", "howard.write.cpu")
    code = f"import sys, howard.write; print([m for m in {heavy} if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
