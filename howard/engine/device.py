"""What the two devices do differently: who reads, aligns, mattes, packs, and tells the time.

The only place in the frame loop that knows that there are two.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from howard.align import Aligner
from howard.config import RunConfig
from howard.cuda import GPUS, Traffic, cupy, traffic
from howard.decode import VideoReader, open_video
from howard.engine.timing import DeviceStopwatch, Stopwatch
from howard.errors import DeviceError
from howard.frames import Alignment, PendingRgba, Plate, VideoInfo
from howard.matte import MattingNetwork, default_weights, existing
from howard.matte.runner import check_runners

MOST_FRAMES = 4
"""Per call of the network on a GPU: what it learns of the person it learns after a batch."""
BYTES_PER_PIXEL = 400
"""Of device memory per frame of a batch, about: planes, the network's own, buffers."""


class OpenAligner(Protocol):
    def __call__(
        self,
        shot: VideoInfo,
        clean_plate: VideoReader,
        resume: tuple[int, Alignment] | None,
        options: Any,
    ) -> Aligner: ...


@dataclass(frozen=True)
class Weights:
    """A network's files, its own first."""

    files: tuple[Path, ...]

    @classmethod
    def of(cls, config: RunConfig) -> Weights:
        """Raises WeightsError for a network that is not there."""
        own = existing(config.weights or default_weights(config.network))
        if config.network == "context-switching":
            return cls((own, default_weights()))
        return cls((own,))


@dataclass(frozen=True)
class Device:
    """The stages' makers on one device."""

    name: str
    open_video: Callable[[Path], VideoReader]
    open_aligner: OpenAligner
    open_network: Callable[[Weights, VideoInfo, int], MattingNetwork]
    """From the weights, the shot's info, and the frames per call."""
    open_steady: Callable[[], Callable[[int, Plate, Any], Any]]
    """From index, plate and matte to the matte drawn to those before."""
    open_presence: Callable[[], Callable[[Any], Any]]
    """From a matte to where its person may be."""
    open_packer: Callable[[VideoInfo], Callable[[int, Any], PendingRgba]]
    """From index and matte to a picture on its way to the writer."""
    stopwatch: Callable[[], AbstractContextManager[Any]]
    """Gives float(watch), in milliseconds, when a frame is written."""
    batch: Callable[[VideoInfo], int]
    """Frames per call of the network where the user leaves it open."""
    aligns_ahead: bool = False
    """Whether frames are aligned while those before are matted. Not where one stream does both."""
    totals: Callable[[int], dict[str, float]] = lambda frames: {}
    """For the report, of that many frames."""
    close: Callable[[], None] = lambda: None
    """Leaves the device as it was found."""
    warnings: Sequence[str] = ()
    """What the user should know of the choice."""
    stream: Any = None
    """The GPU's; kept, since CuPy forgets a current stream that nobody holds."""


def open_device(config: RunConfig) -> Device:
    """As the user chose; auto takes the GPU where CuPy, a GPU and what runs the network on it are
    there, else the CPU, and warns where that leaves a GPU idle.

    Raises DeviceError where the GPU was asked for and cannot be used.
    """
    if config.device == "cpu":
        return cpu(config)
    if config.device == "gpu":
        return gpu(config)
    try:
        cupy()
        check_network(config)
    except DeviceError as error:
        taken = instead(config, error)
        return idle(taken, error) if any(GPUS.glob("*")) else taken
    try:
        check_runners(config.network)
        return gpu(config)
    except DeviceError as error:
        return idle(instead(config, error), error)


def idle(device: Device, error: DeviceError) -> Device:
    """The same, with the warning that a GPU would have been there."""
    return replace(device, warnings=(f"a GPU is here, but this ran on the CPU: {error}",))


def check_network(config: RunConfig) -> None:
    """DeviceError for the one that no GPU runs here."""
    if config.network == "context-switching":
        raise DeviceError("--network context-switching runs on the CPU alone: give --device cpu")


def instead(config: RunConfig, error: DeviceError) -> Device:
    """The CPU, since a GPU cannot be used; DeviceError if it was wished for by another option."""
    for name, value in config.for_a_gpu.items():
        raise DeviceError(f"--{name} {value}: {error}, or leave --{name} out") from error
    return cpu(config)


def cpu(config: RunConfig) -> Device:
    """NumPy, OpenCV, ONNX Runtime."""
    from howard.align.cpu import OpenCVAligner
    from howard.matte.presence import Presence, recalled
    from howard.matte.second import SecondOpinion
    from howard.matte.steady import Steady, drawn
    from howard.write.pack import PackedMatte

    threads = config.threads or len(os.sched_getaffinity(0))

    def open_network(weights: Weights, shot: VideoInfo, batch: int) -> MattingNetwork:
        from howard.matte.cpu import OnnxMattingNetwork, confidences

        own, *coarse = weights.files
        first = OnnxMattingNetwork((coarse or [own])[0], threads)
        howards = SecondOpinion(first, tell=confidences, keep=lambda matte: matte)
        if not coarse:
            return howards
        from howard.matte.context_switching import ContextSwitchingNetwork

        return ContextSwitchingNetwork(own, howards, threads)

    return Device(
        name="cpu",
        open_video=open_video,
        open_aligner=OpenCVAligner,
        open_network=open_network,
        open_steady=lambda: Steady(drawn),
        open_presence=lambda: Presence(recalled),
        open_packer=lambda shot: partial(PackedMatte, bit_depth=config.bit_depth),
        stopwatch=Stopwatch,
        batch=lambda shot: 1,
        aligns_ahead=True,
    )


def gpu(config: RunConfig) -> Device:
    """CuPy with our kernels, NVDEC where it decodes, TensorRT, torch or ONNX Runtime.

    Everything from decoding to packing is enqueued on one stream, made current here. Raises
    DeviceError without a GPU or what drives it.
    """
    try:
        cp = cupy()
    except DeviceError as error:
        raise DeviceError(f"{error}, or give --device cpu") from error
    check_network(config)
    from howard.align import gpu_opencv
    from howard.align.gpu import CudaAligner
    from howard.decode.gpu import open_device_video
    from howard.matte.gpu_presence import recalled
    from howard.matte.gpu_steady import drawn
    from howard.matte.presence import Presence
    from howard.matte.second import SecondOpinion
    from howard.matte.steady import Steady
    from howard.write.gpu import Downloads

    if config.features == "opencv-cuda":
        gpu_opencv.check()
    found, stream = cp.cuda.get_current_stream(), cp.cuda.Stream(non_blocking=True)
    stream.use()
    before = replace(traffic)

    def open_network(weights: Weights, shot: VideoInfo, batch: int) -> MattingNetwork:
        from howard.matte.gpu import Wanted, confidences, copied, open_device_network

        wanted = Wanted(config.network, weights.files[0], batch, shot.width, shot.height)
        network = open_device_network(config.runner, wanted)
        return SecondOpinion(network, tell=confidences, keep=copied)

    def batch(shot: VideoInfo) -> int:
        free, _ = cp.cuda.runtime.memGetInfo()
        return max(1, min(MOST_FRAMES, free // (BYTES_PER_PIXEL * shot.width * shot.height)))

    def open_packer(shot: VideoInfo) -> Downloads:
        # As many as the writer queues and holds, and one in hand.
        slots = 3 * config.writers + 1
        return Downloads(shot.width, shot.height, slots, config.bit_depth)

    return Device(
        name="gpu",
        open_video=open_device_video,
        open_aligner=CudaAligner,
        open_network=open_network,
        open_steady=lambda: Steady(drawn),
        open_presence=lambda: Presence(recalled),
        open_packer=open_packer,
        stopwatch=DeviceStopwatch,
        batch=batch,
        totals=partial(device_totals, before),
        close=found.use,
        stream=stream,
    )


def device_totals(before: Traffic, frames: int) -> dict[str, float]:
    """For the report: the GPU's memory in use, and what came down of it since, per frame."""
    free, whole = cupy().cuda.runtime.memGetInfo()
    now = traffic.since(before)
    return {
        "device_memory_mb": round((whole - free) / 2**20, 1),
        "downloads_per_frame": round(now.pictures / frames, 3),
        "read_backs_per_frame": round(now.read_backs / frames, 3),
        "bytes_read_back_per_frame": round(now.bytes_read_back / frames, 1),
    }
