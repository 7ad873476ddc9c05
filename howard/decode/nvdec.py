"""Video files through the GPU's own decoder, NVDEC, by NVIDIA DALI.

DALI knows frames by their number alone, cannot say what was damaged, takes every matrix for
BT.601 and turns nothing. So the times come from the table of packets, with which DALI must agree;
pictures are taken as YCbCr and made upright RGB by a kernel; and `suits` and `is_whole` leave to
FFmpeg what DALI would get wrong. All that is said here of DALI is of version 2.4.
"""

from __future__ import annotations

import ctypes
import functools
import time
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from howard import cuda
from howard.decode.ahead import evenly
from howard.decode.colour import SWAPS_AXES, Coding, rgb_from_ycbcr
from howard.decode.damage import Damage
from howard.decode.packets import PacketTable
from howard.decode.video import RATE_IF_UNKNOWN, VideoFile
from howard.frames import Frame

CODECS = {
    "h264": {"yuv420p", "yuvj420p"},
    "hevc": {"yuv420p", "yuvj420p"},
    "vp9": {"yuv420p"},
    "mpeg4": {"yuv420p"},
    "av1": {"yuv420p", "yuvj420p"},
}
"""By FFmpeg's names, what NVDEC decodes and DALI gives as it is stored. NVDEC decodes 10-bit HEVC,
VP9 and AV1 too, but DALI rounds those to 8 bits before the matrix. VP8's packets do not tell its
frames, so it never gets here."""

WITHOUT_AV1 = {"75", "80", "90"}
"""Compute capabilities of GPUs from Turing on whose NVDEC lacks AV1: T4, A100, H100."""

LEFT_CHROMA = {"h264", "hevc", "mpeg4"}
"""Codecs whose chroma lies on the first of two pixels, unless the stream says otherwise, which
PyAV does not tell and cameras do not do. Swscale takes that of VP9 and AV1 to lie between them."""

CONTAINERS = {"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"}
"""Those whose header has the one size and coding of all frames, and that can be sought in."""

WINDOW_BYTES = 64 * 2**20
WINDOW_FRAMES = 16
"""Bounds of one window of frames: 10 frames at 1080p, 2 at 4K. DALI holds about four windows,
and more frames in one would not make it faster."""

SECONDS = 1e-6
"""How far DALI's time of a frame may be from the packet's: a rounding of doubles."""

READER = "frames"


class Refused(Exception):
    """DALI cannot decode the video, or not as its packets say; says why."""


def suits(video: VideoFile, coding: Coding) -> bool:
    """Whether NVDEC is to decode `video`, as far as its header and its first frame tell."""
    if coding.pixel_format not in CODECS.get(video.codec, ()):
        return False
    if video.codec == "av1" and cuda.cupy().cuda.Device().compute_capability in WITHOUT_AV1:
        return False
    # DALI weaves no fields, and takes half of an odd size for that of chroma.
    if coding.is_interlaced or coding.width % 2 or coding.height % 2:
        return False
    return video.container in CONTAINERS and video.streams == 1 and is_there()


def is_whole(video: VideoFile, table: PacketTable) -> bool:
    """Whether DALI will find the frames of `table`, and FFmpeg would find no damage."""
    if not table.is_plain or table.pts[0] < 0:  # DALI leaves out what is before time 0
        return False
    end = table.pts[-1] * video.time_base + 1 / (video.rate or RATE_IF_UNKNOWN)
    return not Damage(table.frames).sentences(video.path.name, video.stated, end)


@functools.cache
def is_there() -> bool:
    """Whether DALI can be imported and the driver has the decoder's library."""
    try:
        ctypes.CDLL("libnvcuvid.so.1")
        import nvidia.dali.fn  # noqa: F401
    except (ImportError, OSError):
        return False
    return True


def sampled(table: PacketTable, count: int) -> list[int]:
    """The indices that FFmpeg's reader gives for a sample of `count` frames."""
    wanted = evenly(count, table.frames)
    keyframes = table.near(wanted)
    return [keyframe.index for keyframe in keyframes] if keyframes else wanted


class DaliVideo:
    """One video file, decoded by DALI in windows of frames."""

    def __init__(
        self, video: VideoFile, coding: Coding, table: PacketTable, device: str = "gpu"
    ) -> None:
        """device: "cpu" is DALI's own decoder of VP9, which gives RGB by BT.601: for tests."""
        self.coding, self.table, self.device = coding, table, device
        self._time_base = video.time_base
        # DALI keeps what it knows of a file by name, and its lists end a name at a space.
        self._folder = TemporaryDirectory(prefix="howard-")
        self._link = Path(self._folder.name) / f"video{video.path.suffix}"
        self._link.symlink_to(video.path.resolve())
        is_ycbcr = device == "gpu"
        self._is_left = is_ycbcr and video.codec in LEFT_CHROMA
        matrix = rgb_from_ycbcr(coding.matrix, coding.is_full_range) if is_ycbcr else np.eye(3, 4)
        self._matrix = cuda.cupy().asarray(matrix.astype(np.float32))

    def frames(self, indices: Sequence[int]) -> Generator[Frame]:
        """The frames of `indices`, a range or any that ascend, upright RGB on the device.

        Raises Refused where DALI fails; the frames before are good.
        """
        if not indices:
            return
        runs, window = [range(index, index + 1) for index in indices], 1
        if isinstance(indices, range):
            runs, window = [indices], self._window()
        clock = time.perf_counter()
        for index, picture in self._pictures(runs, window):
            seconds = self.table.pts[index] * self._time_base
            pixels = self._upright(picture)
            yield Frame(index, seconds, pixels, (time.perf_counter() - clock) * 1000)
            clock = time.perf_counter()

    def close(self) -> None:
        self._folder.cleanup()

    def _window(self) -> int:
        size = self.coding.width * self.coding.height * 3
        return max(1, min(WINDOW_FRAMES, WINDOW_BYTES // size))

    def _pictures(self, runs: Sequence[range], window: int) -> Iterator[tuple[int, Any]]:
        """Indices and pictures (H, W, 3) of `runs`, `window` of them decoded at a time."""
        cp = cuda.cupy()
        held: list[tuple[Any, Any]] = []
        try:
            pipeline = self._opened(runs, window)
            for begin, count in _windows(runs, window):
                pictures = self._next(pipeline, begin, count, window)
                for offset in range(count):
                    yield begin + offset, pictures[offset]
                # DALI reuses memory that is let go of, and does not know what reads it still.
                held.append((pictures, cp.cuda.get_current_stream().record()))
                if len(held) > 1:
                    held.pop(0)[1].synchronize()
        finally:
            cp.cuda.get_current_stream().synchronize()

    def _opened(self, runs: Sequence[range], window: int) -> Any:
        """A pipeline that gives one window of frames per run; raises Refused."""
        listed = Path(self._folder.name) / "list.txt"
        listed.write_text("".join(f"{self._link} 0 {run.start} {run.stop}\n" for run in runs))
        try:
            pipeline = self._pipeline(listed, window)
            pipeline.build()
            found = pipeline.reader_meta(READER)["epoch_size"]
        except Exception as error:
            raise Refused(_reason(error)) from error
        if found != (expected := len(list(_windows(runs, window)))):
            raise Refused(f"it finds {found} windows of frames instead of {expected}")
        return pipeline

    def _pipeline(self, listed: Path, window: int) -> Any:
        from nvidia.dali import Pipeline, fn, types

        is_gpu = self.device == "gpu"
        device_id = cuda.cupy().cuda.Device().id if is_gpu else None
        pipeline = Pipeline(1, num_threads=1, device_id=device_id, prefetch_queue_depth=2)
        with pipeline:
            outputs = fn.experimental.readers.video(
                name=READER,
                device=self.device,
                file_list=str(listed),
                file_list_format="frames",
                file_list_include_end=False,
                sequence_length=window,
                pad_mode="edge",  # else the frames that fill no window are left out
                image_type=types.YCbCr if is_gpu else types.RGB,
                enable_frame_num="sequence",
                enable_timestamps=True,
            )
            pipeline.set_outputs(*outputs)
        return pipeline

    def _next(self, pipeline: Any, begin: int, count: int, window: int) -> Any:
        """(window, H, W, 3) on the device, of which `count` are frames `begin` and after.

        Raises Refused if they are not these.
        """
        try:
            # Without a stream `run` returns when the window is decoded, which it is in advance.
            videos, _, numbers, times = pipeline.run()
            pictures = cuda.cupy().asarray(videos[0])
            found = [np.asarray(values.as_cpu()[0])[:count] for values in (numbers, times)]
        except Exception as error:
            raise Refused(_reason(error)) from error
        if pictures.shape != (window, self.coding.height, self.coding.width, 3):
            raise Refused(f"its pictures are {pictures.shape[1:]}")
        pts = np.array(self.table.pts[begin : begin + count]) * self._time_base
        first = self.table.pts[0] * self._time_base
        # Some versions count time from the first frame.
        late = min(np.abs(found[1] - pts).max(), np.abs(found[1] - pts + first).max())
        if not np.array_equal(found[0], range(begin, begin + count)) or late > SECONDS:
            raise Refused(f"its frames from {begin} on have other numbers or times")
        return pictures

    def _upright(self, picture: Any) -> Any:
        """(H, W, 3) RGB in memory of its own."""
        width, height, pose = self.coding.width, self.coding.height, self.coding.pose
        shape = (width, height, 3) if pose & SWAPS_AXES else (height, width, 3)
        rgb = cuda.cupy().empty(shape, "uint8")
        args = (picture, width, height, int(self._is_left), self._matrix, pose, rgb)
        cuda.kernel("color", "ycbcr_to_rgb")(cuda.tiles(width, height), cuda.TILE, args)
        return rgb


def _windows(runs: Sequence[range], window: int) -> Iterator[tuple[int, int]]:
    """First index and number of frames of each window."""
    for run in runs:
        for begin in range(run.start, run.stop, window):
            yield begin, min(window, run.stop - begin)


def _reason(error: Exception) -> str:
    """DALI's reason in one line: it stands between the traceback of the pipeline and its own."""
    lines = [line.strip() for line in str(error).splitlines()]
    telling = [line for line in lines if line.startswith(("Assert", "CUDA"))]
    return (telling or [line for line in lines if line] or [type(error).__name__])[0]
