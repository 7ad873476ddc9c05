"""Who runs the network on a GPU: TensorRT, torch or ONNX Runtime, and which one a run takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any, Protocol

from howard import cuda
from howard.config import Runner as RunnerName
from howard.errors import DeviceError
from howard.matte.plan import (
    Wanted,
    build_command,
    find_plan,
    find_program,
    latest,
    program_name,
    this_machine,
)

Array = Any
"""A CuPy array."""
KEPT = 4
"""Shapes and addresses of inputs that a runner stays prepared for: a run has two, full batches and
its last one; preparing costs a second at most, keeping costs the network's memory."""


class Runner(Protocol):
    """A network, loaded."""

    def __call__(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """alpha (N, 1, H, W), foreground (N, 3, H, W) and, of networks that tell it, doubt.

        All arrays are halves in device memory, contiguous. The work is enqueued on CuPy's current
        stream and not waited for; the outputs are written over by the next call with inputs of
        these shapes.
        """
        ...

    def forget(self) -> None:
        """Free what was made ready for inputs that are no more; waits for the device."""
        ...


class Prepared:
    """What a runner made ready for inputs of some shapes at some addresses; the latest few."""

    def __init__(self, make: Callable[[Mapping[str, Array]], Any]) -> None:
        self.make = make
        self.held: dict[Any, Any] = {}

    def __call__(self, inputs: Mapping[str, Array]) -> Any:
        key = tuple((name, a.shape, a.data.ptr) for name, a in inputs.items())
        if key not in self.held:
            if len(self.held) == KEPT:
                cuda.cupy().cuda.get_current_stream().synchronize()  # it may be at work
                del self.held[next(iter(self.held))]
            self.held[key] = self.make(inputs)
        return self.held[key]

    def clear(self) -> None:
        """Nothing is made ready any more."""
        cuda.cupy().cuda.get_current_stream().synchronize()
        self.held.clear()


def open_runner(choice: RunnerName, wanted: Wanted) -> tuple[Runner, list[str]]:
    """The runner, and what the user should know of the choice.

    auto takes TensorRT where there is a plan for this network on this machine, else torch where
    an exported program is, else ONNX Runtime. Raises DeviceError where the choice cannot run.
    """
    if choice != "auto":
        return OPENERS[choice](wanted), []
    reasons = []
    for opener in OPENERS.values():
        try:
            runner = opener(wanted)
        except DeviceError as error:
            reasons.append(str(error))
        else:
            return runner, advice(wanted, runner, reasons)
    raise DeviceError(f"nothing can run {wanted.network} on this GPU: " + "; ".join(reasons))


def advice(wanted: Wanted, runner: Runner, reasons: list[str]) -> list[str]:
    """What keeps the network from TensorRT, if something does, and what to do."""
    if not reasons:
        return []
    name, command = type(runner).__name__.removesuffix("Runner"), build_command(wanted)
    remedy = "" if command in reasons[0] else f", then `{command}`"
    return [
        f"{wanted.network} runs with {name}. A TensorRT plan is tuned on this very GPU and usually "
        f"the fastest, but {reasons[0]}{remedy}"
    ]


def open_tensorrt(wanted: Wanted) -> Runner:
    from howard.matte.tensorrt_runner import TensorRTRunner

    return TensorRTRunner(find_plan(wanted, this_machine()))


def open_torch(wanted: Wanted) -> Runner:
    from howard.matte.torch_runner import TorchRunner, load_torch

    load_torch("cuda")
    return TorchRunner(find_program(wanted))


def open_onnxruntime(wanted: Wanted) -> Runner:
    from howard.matte.onnxruntime_runner import OnnxRuntimeRunner

    return OnnxRuntimeRunner(wanted.weights)


def check_runners(network: str) -> None:
    """DeviceError where nothing that could run the network on a GPU is installed and built, as far
    as can be told without loading it."""
    if find_spec("tensorrt") and latest(f"{network}_*.plan"):
        return
    if find_spec("torch") and latest(program_name(network)):
        return
    import onnxruntime

    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        raise DeviceError(
            f"nothing here runs {network} on it: build_engine.py makes a TensorRT plan (--plan) or "
            "a program for torch (--exported)"
        )


OPENERS: dict[str, Callable[[Wanted], Runner]] = {
    "tensorrt": open_tensorrt,
    "torch": open_torch,
    "onnxruntime": open_onnxruntime,
}
"""In the order in which auto tries them."""
