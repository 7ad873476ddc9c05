"""The network by torch, from a program that `build_engine.py --exported` made (torch.export).

On a GPU in fp16 and channels_last, replayed as a CUDA graph; on the CPU in fp32, which is how the
tests run it: nobody has run the other way yet. Arrays are shared with CuPy by DLPack, without
copies.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from howard import cuda
from howard.errors import DeviceError, DeviceMemoryError, WeightsError
from howard.matte.runner import Array, Prepared

WARM_UPS = 3
"""Runs before a capture: cuDNN tries its algorithms in the first ones."""


class TorchRunner:
    """Runs an exported program that maps a dictionary of inputs to one of outputs."""

    def __init__(self, program: Path, device: Literal["cuda", "cpu"] = "cuda") -> None:
        """Raises DeviceError without torch (with CUDA), WeightsError for a file that it cannot
        load."""
        self.torch = torch = load_torch(device)
        self.device = device
        self.dtype = torch.float16 if device == "cuda" else torch.float32
        try:
            module = torch.export.load(program).module()
        except Exception as error:  # torch raises many kinds, by what is wrong with the file
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise WeightsError(
                f"{program} is no program that torch {torch.__version__} can load ({reason}): make "
                "it again with build_engine.py --exported"
            ) from error
        if device == "cuda":
            torch.backends.cudnn.benchmark = True
            compute_in_half(module)
        self.module = module.to(device, self.dtype, memory_format=torch.channels_last)
        self.prepared = Prepared(self.prepare)

    def __call__(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Raises DeviceMemoryError where torch runs out of memory."""
        try:
            return self.outputs(inputs)
        except self.torch.OutOfMemoryError as error:
            reason = str(error).splitlines()[0]
        self.torch.cuda.empty_cache()
        raise DeviceMemoryError(reason)

    def outputs(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        with self.torch.inference_mode():
            if self.device == "cpu":
                return self.shared(self.run(self.tensors(inputs)))
            with self.torch.cuda.stream(self.stream()):
                if cuda.cupy().cuda.get_current_stream().ptr == 0:  # the default one: no capture
                    return self.shared(self.run(self.tensors(inputs)))
                graph, outputs = self.prepared(inputs)
                graph.replay()
        return outputs

    def forget(self) -> None:
        self.prepared.clear()
        if self.device == "cuda":
            self.torch.cuda.empty_cache()

    def prepare(self, inputs: Mapping[str, Array]) -> tuple[Any, dict[str, Array]]:
        """The CUDA graph for these inputs, and what it writes to. Waits for the device, once."""
        theirs, tensors = self.torch.cuda, self.tensors(inputs)
        for _ in range(WARM_UPS):
            self.run(tensors)
        graph = theirs.CUDAGraph()
        # Other threads may allocate meanwhile: only what this one does must be fit for capture.
        with theirs.graph(graph, stream=self.stream(), capture_error_mode="thread_local"):
            outputs = self.run(tensors)
        return graph, self.shared(outputs)

    def tensors(self, inputs: Mapping[str, Array]) -> dict[str, Any]:
        return {name: self.torch.from_dlpack(array) for name, array in inputs.items()}

    def run(self, tensors: Mapping[str, Any]) -> dict[str, Any]:
        last = self.torch.channels_last
        held = {name: t.to(self.dtype, memory_format=last) for name, t in tensors.items()}
        return {name: out.half().contiguous() for name, out in self.module(held).items()}

    def shared(self, outputs: Mapping[str, Any]) -> dict[str, Array]:
        return {name: cuda.cupy().from_dlpack(out) for name, out in outputs.items()}

    def stream(self) -> Any:
        """CuPy's current stream, as torch's. Of a pointer of 0, the default stream's, torch makes
        one of its pool's, another each time, and keeps memory for each."""
        pointer, theirs = cuda.cupy().cuda.get_current_stream().ptr, self.torch.cuda
        return theirs.ExternalStream(pointer) if pointer else theirs.default_stream()


def load_torch(device: str) -> Any:
    """Raises DeviceError without torch, or without one that knows this GPU."""
    try:
        import torch
    except ImportError as error:
        raise DeviceError("torch is not installed: pip install torch") from error
    if device == "cuda" and not torch.cuda.is_available():
        raise DeviceError(
            f"torch {torch.__version__} cannot use this GPU: install a build of it with CUDA"
        )
    return torch


def compute_in_half(module: Any) -> None:
    """A program in fp32 names that type where it converts or asserts; make those fp16."""
    import torch

    def halved(value: Any) -> Any:
        return torch.float16 if value is torch.float32 else value

    for node in list(module.graph.nodes):
        if node.target is torch.ops.aten._assert_tensor_metadata.default:
            module.graph.erase_node(node)
        elif node.op == "call_function":
            node.args = tuple(map(halved, node.args))
            node.kwargs = {key: halved(value) for key, value in node.kwargs.items()}
    module.recompile()
