"""The network by ONNX Runtime on the GPU, from the weights that ship: nothing has to be built.

The tests run it on the CPU; nobody has run it on a GPU yet.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from howard import cuda
from howard.errors import DeviceError, DeviceMemoryError, WeightsError
from howard.matte.runner import Array, Prepared

CUDA = "CUDAExecutionProvider"
TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


@dataclass(frozen=True)
class Bound:
    """A model's inputs and outputs, bound to memory."""

    binding: Any
    inputs: dict[str, Array]
    """What the model reads, of its own type."""
    results: dict[str, Array]
    """What it writes, of its own type."""
    outputs: dict[str, Array]
    """The same, as halves."""


class OnnxRuntimeRunner:
    """Runs an ONNX model in the type that it is stored in, on CuPy's stream of the moment when it
    was made; on another one, or on the default one, it waits."""

    def __init__(self, weights: Path, provider: str = CUDA) -> None:
        """Raises DeviceError where ONNX Runtime does not offer the provider or cannot start it,
        WeightsError for a model that it cannot load."""
        import onnxruntime

        self.device = "cuda" if provider == CUDA else "cpu"
        if provider not in onnxruntime.get_available_providers():
            raise DeviceError(
                f"the installed ONNX Runtime has no {provider}: pip uninstall onnxruntime, then "
                "pip install onnxruntime-gpu"
            )
        if provider == CUDA and hasattr(onnxruntime, "preload_dlls"):
            onnxruntime.preload_dlls()  # else it does not look where pip puts CUDA and cuDNN
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        how = [provider_options(provider)]
        try:
            self.session = onnxruntime.InferenceSession(str(weights), options, [provider], how)
        except Exception as error:  # ONNX Runtime raises a kind per cause, none of them public
            reason = str(error).splitlines()[0]
            raise WeightsError(f"{weights} cannot be loaded by ONNX Runtime: {reason}") from error
        if self.session.get_providers()[0] != provider:
            raise DeviceError(
                f"ONNX Runtime could not start its {provider}: its log says which library it "
                "misses; pip install 'onnxruntime-gpu[cuda,cudnn]' brings them"
            )
        self.types = {v.name: TYPES[v.type] for v in self.session.get_inputs()}
        self.result_types = {v.name: TYPES[v.type] for v in self.session.get_outputs()}
        self.stream = cuda.cupy().cuda.get_current_stream().ptr
        self.run_options = onnxruntime.RunOptions()
        self.run_options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        self.prepared = Prepared(self.prepare)

    def __call__(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Raises DeviceMemoryError where ONNX Runtime runs out of memory."""
        bound: Bound = self.prepared(inputs)
        copy_each(inputs, bound.inputs)
        self.run(bound.binding)
        copy_each(bound.results, bound.outputs)
        return bound.outputs

    def forget(self) -> None:
        self.prepared.clear()

    def run(self, binding: Any) -> None:
        here = cuda.cupy().cuda.get_current_stream()
        options: Any = self.run_options
        # It takes 0, the default stream, for none, and computes on one of its own: nothing but
        # waiting, before and after, orders that and CuPy's.
        if self.device == "cuda" and not (here.ptr == self.stream != 0):
            here.synchronize()
            options = None
        try:
            self.session.run_with_iobinding(binding, options)
        except Exception as error:  # all of ONNX Runtime's are of one kind
            if "allocate memory" not in str(error):
                raise
            raise DeviceMemoryError(str(error).splitlines()[0]) from error

    def prepare(self, inputs: Mapping[str, Array]) -> Bound:
        cp, binding = cuda.cupy(), self.session.io_binding()
        held = {name: a.astype(self.types[name], copy=False) for name, a in inputs.items()}
        for name, array in held.items():
            binding.bind_input(name, *self.place(array))
        device_id = next(iter(inputs.values())).device.id
        for name in self.result_types:
            binding.bind_output(name, self.device, device_id)
        self.run(binding)  # to learn the shapes of the outputs
        shapes = [value.shape() for value in binding.get_outputs()]
        results, outputs = {}, {}
        for (name, dtype), shape in zip(self.result_types.items(), shapes, strict=True):
            results[name] = outputs[name] = cp.empty(tuple(shape), dtype)
            if dtype != cp.float16:
                outputs[name] = cp.empty(tuple(shape), cp.float16)
        binding.clear_binding_outputs()
        for name, array in results.items():
            binding.bind_output(name, *self.place(array))
        return Bound(binding, held, results, outputs)

    def place(self, array: Array) -> tuple[str, int, Any, tuple[int, ...], int]:
        """Where an array lies, as IO binding asks."""
        return self.device, array.device.id, array.dtype.type, tuple(array.shape), array.data.ptr


def provider_options(provider: str) -> dict[str, str]:
    if provider != CUDA:
        return {}
    here = cuda.cupy().cuda
    return {
        "device_id": str(here.Device().id),
        "user_compute_stream": str(here.get_current_stream().ptr),
    }


def copy_each(sources: Mapping[str, Array], targets: Mapping[str, Array]) -> None:
    """Into arrays of another type; those of the same one are the sources themselves."""
    for name, target in targets.items():
        if target.dtype != sources[name].dtype:
            target[...] = sources[name]
