"""The network by TensorRT 11, from a plan that `build_engine.py --plan` built on this machine.

Nobody of this project has run this on a GPU yet: it is tested against a stand-in whose interface
is compared with that of TensorRT's own bindings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from howard import cuda
from howard.errors import DeviceError, DeviceMemoryError
from howard.matte.plan import load_tensorrt
from howard.matte.runner import Array, Prepared


@dataclass(frozen=True)
class Execution:
    """A context for one set of inputs. One each: a context that has been captured must not be
    given other shapes or addresses."""

    context: Any
    outputs: dict[str, Array]
    memory: Array
    """What the layers work in; CuPy's, so that running out of it is CuPy's error."""
    graph: Any
    """The CUDA graph of the whole network; None where it could not be captured."""

    def launch(self) -> None:
        stream = cuda.cupy().cuda.get_current_stream()
        if self.graph is None:
            enqueue(self.context, stream)
        else:
            self.graph.launch(stream)


class TensorRTRunner:
    """Runs a plan whose inputs and outputs are halves."""

    def __init__(self, plan: Path) -> None:
        """Raises DeviceError without TensorRT or a GPU, or for a plan that cannot be loaded."""
        self.trt = load_tensorrt()
        self.plan = plan
        self.logger = self.trt.Logger(self.trt.Logger.WARNING)
        self.runtime = self.trt.Runtime(self.logger)
        self.engine = self.runtime.deserialize_cuda_engine(plan.read_bytes())
        if self.engine is None:
            raise DeviceError(
                f"{plan} is no plan for this machine, or does not fit its memory: build it again"
            )
        names = [self.engine.get_tensor_name(i) for i in range(self.engine.num_io_tensors)]
        self.outputs = [
            n for n in names if self.engine.get_tensor_mode(n) == self.trt.TensorIOMode.OUTPUT
        ]
        if any(self.engine.get_tensor_dtype(n) != self.trt.DataType.HALF for n in names):
            raise DeviceError(f"{plan} takes other numbers than halves: build it again")
        self.prepared = Prepared(self.prepare)

    def __call__(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        execution: Execution = self.prepared(inputs)
        execution.launch()
        return execution.outputs

    def forget(self) -> None:
        self.prepared.clear()

    def prepare(self, inputs: Mapping[str, Array]) -> Execution:
        """Raises DeviceError for inputs that the plan was not built for, DeviceMemoryError where
        TensorRT can make no context, for which it gives no other reason."""
        cp = cuda.cupy()
        strategy = self.trt.ExecutionContextAllocationStrategy.USER_MANAGED
        context = self.engine.create_execution_context(strategy)
        if context is None:
            raise DeviceMemoryError(f"TensorRT can make no context of {self.plan.name}")
        for name, array in inputs.items():
            if not context.set_input_shape(name, tuple(array.shape)):
                shape = "x".join(map(str, array.shape))
                raise DeviceError(f"{self.plan} takes no {name} of {shape}: build a larger one")
            context.set_tensor_address(name, array.data.ptr)
        memory = cp.empty(max(1, context.update_device_memory_size_for_shapes()), cp.uint8)
        context.set_device_memory(memory.data.ptr, memory.nbytes)
        shapes = {name: tuple(context.get_tensor_shape(name)) for name in self.outputs}
        outputs = {name: cp.empty(shape, cp.float16) for name, shape in shapes.items()}
        for name, array in outputs.items():
            context.set_tensor_address(name, array.data.ptr)
        return Execution(context, outputs, memory, captured(context))


def enqueue(context: Any, stream: Any) -> None:
    if not context.execute_async_v3(stream.ptr):
        raise DeviceError("TensorRT could not run the network; what it says is above")


def captured(context: Any) -> Any:
    """The CUDA graph of a context's work on CuPy's current stream; None where that cannot be
    captured, as on the default stream."""
    stream = cuda.cupy().cuda.get_current_stream()
    enqueue(context, stream)  # the first one after new shapes does more than is to be captured
    try:
        stream.begin_capture()
        try:
            enqueue(context, stream)
        finally:
            graph = stream.end_capture()
    except (RuntimeError, DeviceError):  # CuPy's errors of the CUDA runtime are RuntimeErrors
        return None
    return graph
