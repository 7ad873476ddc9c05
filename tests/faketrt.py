"""TensorRT's face over ONNX Runtime: "plans" are ONNX models, "device" memory is the host's.

Only what Howard calls is here, each under the name and with the parameters that the real bindings
have; `trt_contract.py` compares the two. Whatever real TensorRT refuses by its return value is
refused here too.
"""

from __future__ import annotations

import ctypes
import enum
import pickle
from typing import Any

import fakecupy
import numpy as np

__version__ = "11.4.0.106"


class DataType(enum.Enum):
    FLOAT = 0
    HALF = 1


class TensorIOMode(enum.Enum):
    INPUT = 1
    OUTPUT = 2


class ExecutionContextAllocationStrategy(enum.Enum):
    USER_MANAGED = 2


class Logger:
    WARNING = 2

    def __init__(self, min_severity: Any = WARNING) -> None: ...


class INetworkDefinition:
    model = b""


class ParserError:
    def __init__(self, text: str) -> None:
        self.text = text

    def desc(self) -> str:
        return self.text


class OnnxParser:
    def __init__(self, network: INetworkDefinition, logger: Logger) -> None:
        self._network, self._errors = network, []

    def parse(self, model: bytes, path: str | None = None) -> bool:
        import onnx

        try:
            onnx.checker.check_model(onnx.load_from_string(model), full_check=True)
        except Exception as error:
            self._errors.append(ParserError(str(error)))
            return False
        self._network.model = bytes(model)
        return True

    @property
    def num_errors(self) -> int:
        return len(self._errors)

    def get_error(self, index: int) -> ParserError:
        return self._errors[index]


class IOptimizationProfile:
    def __init__(self) -> None:
        self._shapes: dict[str, Any] = {}

    def set_shape(self, input: str, min: Any, opt: Any, max: Any) -> None:
        assert all(a <= b <= c for a, b, c in zip(min, opt, max, strict=True)), input
        self._shapes[input] = min, opt, max


class ITimingCache:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def serialize(self) -> Any:
        return memoryview(self._data + b"timed ")


class IBuilderConfig:
    def __init__(self) -> None:
        self._profiles: list[IOptimizationProfile] = []

    def add_optimization_profile(self, profile: IOptimizationProfile) -> int:
        self._profiles.append(profile)
        return len(self._profiles) - 1

    def create_timing_cache(self, serialized_timing_cache: bytes) -> ITimingCache:
        return ITimingCache(bytes(serialized_timing_cache))

    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool:
        self._cache = cache
        return True

    def get_timing_cache(self) -> ITimingCache:
        return self._cache


class Builder:
    def __init__(self, logger: Logger) -> None: ...

    def create_network(self, flags: int = 0) -> INetworkDefinition:
        return INetworkDefinition()

    def create_builder_config(self) -> IBuilderConfig:
        return IBuilderConfig()

    def create_optimization_profile(self) -> IOptimizationProfile:
        return IOptimizationProfile()

    def build_serialized_network(self, network: INetworkDefinition, config: IBuilderConfig) -> Any:
        (profile,) = config._profiles
        return memoryview(pickle.dumps((network.model, profile._shapes)))


class Runtime:
    def __init__(self, logger: Logger) -> None: ...

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> ICudaEngine | None:
        try:
            return ICudaEngine(*pickle.loads(serialized_engine))
        except (pickle.UnpicklingError, EOFError):
            return None


class ICudaEngine:
    def __init__(self, model: bytes, shapes: dict[str, Any]) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(model, options, ["CPUExecutionProvider"])
        self._shapes = shapes
        self._inputs = {v.name: v for v in self._session.get_inputs()}
        self._tensors = self._inputs | {v.name: v for v in self._session.get_outputs()}

    @property
    def num_io_tensors(self) -> int:
        return len(self._tensors)

    def get_tensor_name(self, index: int) -> str:
        return list(self._tensors)[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name in self._inputs else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> DataType:
        half = self._tensors[name].type == "tensor(float16)"
        return DataType.HALF if half else DataType.FLOAT

    def create_execution_context(
        self, strategy: ExecutionContextAllocationStrategy
    ) -> IExecutionContext:
        return IExecutionContext(self)


class IExecutionContext:
    WORKSPACE = 4096

    def __init__(self, engine: ICudaEngine) -> None:
        self._engine = engine
        self._given: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}
        self._memory = 0

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        low, _, high = self._engine._shapes[name]
        fits = all(a <= v <= b for a, v, b in zip(low, shape, high, strict=True))
        if fits:
            self._given[name] = shape
        return fits

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self._addresses[name] = memory
        return True

    def update_device_memory_size_for_shapes(self) -> int:
        assert self._given.keys() == self._engine._inputs.keys()
        return self.WORKSPACE

    def set_device_memory(self, memory: int, size: int) -> None:
        assert size >= self.WORKSPACE
        self._memory = memory

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        n, _, height, width = self._given["frame"]
        _, _, rows, columns = self._given.get("small_frame", (0, 0, 0, 0))
        known = {
            "alpha": (n, 1, height, width),
            "foreground": (n, 3, height, width),
            "doubt": (n, 1, rows // 2, columns // 2),
        }
        return self._given.get(name, known.get(name))

    def execute_async_v3(self, stream_handle: int) -> bool:
        if self._addresses.keys() != self._engine._tensors.keys() or not self._memory:
            return False
        fakecupy.enqueue(self._run)
        return True

    def _run(self) -> None:
        feeds = {name: self._array(name) for name in self._engine._inputs}
        names = [name for name in self._engine._tensors if name not in feeds]
        for name, value in zip(names, self._engine._session.run(names, feeds), strict=True):
            self._array(name)[...] = value

    def _array(self, name: str) -> np.ndarray:
        shape = self.get_tensor_shape(name)
        count = int(np.prod(shape))
        memory = (ctypes.c_uint16 * count).from_address(self._addresses[name])
        return np.frombuffer(memory, np.float16).reshape(shape)
