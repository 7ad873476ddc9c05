"""Howard's network for programs that have a pipeline of their own.

    matting = howard.Matting(device="gpu")
    alpha, foreground = matting(frame, plate)

Arrays come as the caller has them and go back in kind: NumPy arrays, torch tensors, CuPy arrays;
for anything else with `__cuda_array_interface__` (a PyCUDA GPUArray is one) or DLPack, CuPy arrays
come back. What lies on the device that computes is not copied to the host and back.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from howard.config import MOST_THREADS, Device, Network, Runner, check_choices
from howard.cuda import cupy
from howard.errors import ConfigError, DeviceError, InputError
from howard.frames import IDENTITY, Alignment, Frame, Plate
from howard.matte import MattingNetwork, default_weights
from howard.matte.runner import check_runners

Array = Any
"""Of any of the kinds above."""
GIVEN = Alignment(0, 0, 0, 0, 0.0, 1.0, None, IDENTITY)
"""The plate comes aligned; how is the caller's affair."""
CUDA = 2
"""The device's number in DLPack."""


class Matting:
    """Alpha and foreground from frames and the plates that are aligned to them."""

    def __init__(
        self,
        device: Device = "auto",
        network: Network = "howard",
        weights: Path | str | None = None,
        runner: Runner = "auto",
        threads: int = 0,
    ) -> None:
        """runner: of the GPU's network. threads: of the CPU's, 0 for one per core.

        Raises ConfigError for a word or a number that an option cannot be, DeviceError where a
        GPU was asked for and cannot be used, WeightsError for weights that are not there or of
        another network.
        """
        check_choices(device=device, network=network, runner=runner)
        if not 0 <= threads <= MOST_THREADS:
            raise ConfigError(f"threads is {threads}: give 0 to {MOST_THREADS}")
        if network == "context-switching":
            raise ConfigError(
                "context-switching runs only with `run`: give Matting another network"
            )
        weights = Path(weights) if weights else default_weights(network)
        side: type[Gpu] | type[Host] = Gpu if device == "gpu" or on_gpu(device, network) else Host
        if side is Host and runner != "auto":
            raise ConfigError(f"runner {runner} is for a GPU, and this is the CPU: leave it out")
        self._side = side(network, weights, runner, threads or len(os.sched_getaffinity(0)))

    def __call__(
        self, frame: Array, plate: Array, coverage: Array | None = None
    ) -> tuple[Array, Array]:
        """frame, plate: (H, W, 3) or (N, H, W, 3) uint8 RGB. coverage: (H, W) or (N, H, W) uint8
        or bool, not 0 where the plate has data; everywhere if it is not given. (Where it
        has none, the network is told of no other plate here.)

        Returns alpha, of coverage's shape, and foreground, of the frame's: float32 in [0, 1],
        straight. On a GPU the work is enqueued on the caller's stream (torch's current one for
        torch's tensors there, else CuPy's) and not waited for. Raises InputError for other shapes
        or types, DeviceError for arrays that lie on another device.
        """
        side, back = self._side, returned_as(frame)
        with side.stream(frame):
            frames, plates = side.take(frame), side.take(plate)
            covers = side.ones(frames.shape[:-1]) if coverage is None else side.take(coverage)
            check(frames, plates, covers)
            if coverage is not None:
                covers = (covers != 0).astype(np.uint8)  # a mask may say 255
                plates = plates * covers[..., None]
            if is_single := frames.ndim == 3:
                frames, plates, covers = frames[None], plates[None], covers[None]
            alpha, foreground = side.matte(frames, plates, covers)
            if is_single:
                alpha, foreground = alpha[0], foreground[0]
            return back(alpha), back(foreground)


class Host:
    """NumPy and ONNX Runtime."""

    def __init__(self, network: Network, weights: Path, runner: Runner, threads: int) -> None:
        from howard.matte.cpu import OnnxMattingNetwork

        self.network: MattingNetwork = OnnxMattingNetwork(weights, threads)

    def stream(self, frame: Array) -> AbstractContextManager[Any]:
        return nullcontext()

    def take(self, array: Array) -> Array:
        if lies_on_gpu(array):
            raise DeviceError("the arrays lie on a GPU: make Matting with device='gpu'")
        if hasattr(array, "__dlpack__") and not hasattr(array, "__array__"):
            array = np.from_dlpack(array)
        return np.ascontiguousarray(array)

    def ones(self, shape: tuple[int, ...]) -> Array:
        return np.ones(shape, np.uint8)

    def matte(self, frames: Array, plates: Array, covers: Array) -> tuple[Array, Array]:
        found = self.network(*nouns(frames, plates, covers))
        return np.stack([m.alpha for m in found]), np.stack([m.foreground for m in found])


class Gpu:
    """CuPy and a runner, which is opened when the frames' size is known."""

    def __init__(self, network: Network, weights: Path, runner: Runner, threads: int) -> None:
        cupy()
        self.name, self.weights, self.runner = network, weights, runner
        self.networks: dict[tuple[int, ...], MattingNetwork] = {}
        self.done: Any = None
        """Event after the latest call: the next one uses the same memory, on whatever stream."""

    def stream(self, frame: Array) -> AbstractContextManager[Any]:
        if not (is_torch(frame) and frame.is_cuda):
            return nullcontext()
        cp, index = cupy(), frame.device.index
        if index != cp.cuda.Device().id:
            raise DeviceError(
                f"the arrays lie on GPU {index}, and GPU {cp.cuda.Device().id} is the current one: "
                f"call inside `with cupy.cuda.Device({index}):`"
            )
        current = sys.modules["torch"].cuda.current_stream(frame.device)
        return cp.cuda.ExternalStream(current.cuda_stream, index)

    def take(self, array: Array) -> Array:
        cp = cupy()
        if lies_on_gpu(array) and not hasattr(array, "__cuda_array_interface__"):
            array = cp.from_dlpack(array)
        return cp.ascontiguousarray(cp.asarray(array))

    def ones(self, shape: tuple[int, ...]) -> Array:
        return cupy().ones(shape, np.uint8)

    def matte(self, frames: Array, plates: Array, covers: Array) -> tuple[Array, Array]:
        cp = cupy()
        stream = cp.cuda.get_current_stream()
        if self.done is not None:
            stream.wait_event(self.done)
        found = self.network_for(frames.shape)(*nouns(frames, plates, covers))
        height, width = frames.shape[1:3]
        alphas = cp.stack([m.alpha[0, :height, :width] for m in found])
        colours = [m.foreground[:, :height, :width].transpose(1, 2, 0) for m in found]
        results = alphas.astype(cp.float32), cp.stack(colours).astype(cp.float32)
        self.done = stream.record()
        return results

    def network_for(self, shape: tuple[int, ...]) -> MattingNetwork:
        """The network, with a runner for frames of this shape (N, H, W, 3)."""
        if shape not in self.networks:
            from howard.matte.gpu import Wanted, open_device_network

            count, height, width, _ = shape
            wanted = Wanted(self.name, self.weights, count, width, height)
            self.networks[shape] = open_device_network(self.runner, wanted)
        return self.networks[shape]


def on_gpu(device: Device, network: str) -> bool:
    """Whether auto means a GPU here."""
    if device != "auto":
        return False
    try:
        cupy()
        check_runners(network)
    except DeviceError:
        return False
    return True


def is_torch(array: Array) -> bool:
    """Whether it is a tensor of torch's, which is not loaded to find out."""
    return "torch" in sys.modules and isinstance(array, sys.modules["torch"].Tensor)


def lies_on_gpu(array: Array) -> bool:
    if is_torch(array):
        return bool(array.is_cuda)
    if hasattr(array, "__cuda_array_interface__"):
        return True
    device = getattr(array, "__dlpack_device__", None)
    return device is not None and int(device()[0]) == CUDA


def returned_as(frame: Array) -> Callable[[Array], Array]:
    """What makes of an array of the device one of the frame's kind, without a copy if it can."""
    if isinstance(frame, np.ndarray) and not lies_on_gpu(frame):
        return lambda array: array if type(array) is np.ndarray else cupy().asnumpy(array)
    if is_torch(frame):
        torch = sys.modules["torch"]
        return lambda array: torch.from_dlpack(array).to(frame.device)
    return lambda array: array


def check(frames: Array, plates: Array, covers: Array) -> None:
    """Raises InputError."""
    if 0 in frames.shape:
        raise InputError(f"frame is {list(frames.shape)}: give one picture or more, not empty")
    if frames.ndim not in (3, 4) or frames.shape[-1] != 3 or frames.dtype != np.uint8:
        raise InputError(
            f"frame is {frames.dtype}{list(frames.shape)}: give uint8 (H, W, 3) or (N, H, W, 3)"
        )
    for name, array, shape, types in (
        ("plate", plates, frames.shape, (np.uint8,)),
        ("coverage", covers, frames.shape[:-1], (np.uint8, np.bool_)),
    ):
        if array.shape != shape or array.dtype not in types:
            raise InputError(
                f"{name} is {array.dtype}{list(array.shape)}: give uint8 {list(shape)}, "
                "as the frame"
            )


def nouns(frames: Array, plates: Array, covers: Array) -> tuple[list[Frame], list[Plate]]:
    """(N, H, W, 3) and (N, H, W) as the network takes them."""
    return (
        [Frame(i, 0.0, pixels) for i, pixels in enumerate(frames)],
        [Plate(p, c, GIVEN) for p, c in zip(plates, covers, strict=True)],
    )
