"""CuPy's face over NumPy, for running the device code on a machine without a GPU.

    def test_something(host_gpu): ...      # conftest.py: howard.cuda.cupy() is this stand-in

Arrays are NumPy arrays that say `get`, as CuPy's do; kernels of `kernels/` run on the CPU by
`hostcuda`. Streams and events do nothing: all work is done when a call returns. Only what Howard
calls is here; anything else is an AttributeError, as it should be.

Stricter than NumPy where CuPy is: a device array does not turn into a NumPy array by itself, and
`asnumpy` and `get` are counted in `downloads`.
"""

from __future__ import annotations

import functools
import time
import types
from typing import Any

import numpy as np
from hostcuda import HostModule

from howard import cuda as howard_cuda


class Array(np.ndarray):
    """A "device" array."""

    @property
    def data(self) -> Any:  # type: ignore[override]
        return types.SimpleNamespace(ptr=self.ctypes.data)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self.ctypes.data, False),
            "strides": self.strides,
            "version": 3,
        }

    @property
    def device(self) -> Any:  # type: ignore[override]
        return types.SimpleNamespace(id=0)

    def get(self, stream: Any = None, out: Any = None, blocking: bool = True) -> np.ndarray:
        return asnumpy(self, stream, out=out, blocking=blocking)

    def set(self, array: np.ndarray, stream: Any = None) -> None:
        assert type(array) is np.ndarray
        assert array.dtype == self.dtype
        self.view(np.ndarray)[...] = array


downloads: list[int] = []
"""Bytes of every copy to the host."""

ndarray = Array
uint8, uint16, uint32, int8, int32, int64 = (
    np.uint8,
    np.uint16,
    np.uint32,
    np.int8,
    np.int32,
    np.int64,
)
float16, float32, float64, bool_ = np.float16, np.float32, np.float64, np.bool_


def asarray(a: Any, dtype: Any = None) -> Array:
    """A copy on the device, unless it lies there: whatever tells where is not copied."""
    if not isinstance(a, Array) and hasattr(a, "__cuda_array_interface__"):
        a = lying_there(a)
    if isinstance(a, Array) and (dtype is None or a.dtype == dtype):
        return a
    return np.array(a, dtype).view(Array)


def lying_there(a: Any) -> Array:
    """The "device" memory that an object tells of, which is kept while this is in use."""
    told = types.SimpleNamespace(__array_interface__=a.__cuda_array_interface__, owner=a)
    return np.asarray(told).view(Array)


def asnumpy(
    a: Any, stream: Any = None, order: str = "C", out: Any = None, *, blocking: bool = True
) -> np.ndarray:
    """A copy on the host."""
    assert isinstance(a, Array), type(a)
    downloads.append(a.nbytes)
    if out is None:
        return np.array(a.view(np.ndarray))
    np.copyto(out, a.view(np.ndarray))
    return out


def on_device(function: Any) -> Any:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        for a in args:
            host = type(a) is np.ndarray and a.ndim
            assert not host, f"{function.__name__} of a host array: CuPy refuses"
        return np.asarray(function(*args, **kwargs)).view(Array)

    return call


def created(function: Any) -> Any:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Array:
        return function(*args, **kwargs).view(Array)

    return call


array = asarray
empty, zeros, ones, full, arange = (
    created(f) for f in (np.empty, np.zeros, np.ones, np.full, np.arange)
)
empty_like, zeros_like, ones_like = (
    created(f) for f in (np.empty_like, np.zeros_like, np.ones_like)
)
ascontiguousarray, concatenate, stack, where, clip, minimum, maximum, abs = (
    on_device(f)
    for f in (
        np.ascontiguousarray,
        np.concatenate,
        np.stack,
        np.where,
        np.clip,
        np.minimum,
        np.maximum,
        np.abs,
    )
)
rint, sqrt, unpackbits, lexsort, nanmedian, pad = (
    on_device(f) for f in (np.rint, np.sqrt, np.unpackbits, np.lexsort, np.nanmedian, np.pad)
)


def copyto(dst: Array, src: Array) -> None:
    assert isinstance(dst, Array)
    assert isinstance(src, Array)
    np.copyto(dst, src)


def from_dlpack(array: Any) -> Array:
    """Shares the memory."""
    return np.from_dlpack(array).view(Array)


class RawModule:
    """Kernels by name; found again by their source text, which must be that of a topic."""

    def __init__(self, code: str, options: tuple[str, ...] = ()) -> None:
        self.module = host_module(code)

    def get_function(self, name: str) -> Any:
        kernel = self.module.get_function(name)

        def call(grid: Any, block: Any, args: Any, **keywords: Any) -> None:
            for a in args:
                assert not (type(a) is np.ndarray and a.ndim), f"{name}: a host array"
            held = [a.view(np.ndarray) if isinstance(a, Array) else a for a in args]
            enqueue(lambda: kernel(grid, block, held))

        return call


FAST = ("-O2",)
"""Without the race detector, which test_kernels.py runs: these tests want speed."""


@functools.cache
def host_module(code: str) -> HostModule:
    for source in sorted(howard_cuda.folder().glob("*.cu")):
        if howard_cuda.source(source.stem) == code:
            return HostModule(source, FAST)
    raise AssertionError("not the source of a topic of kernels/")


recording: list[Any] | None = None
"""What a stream that is being captured was asked to do."""


def enqueue(work: Any) -> None:
    """Do it, or, while a stream is captured, keep it."""
    if recording is None:
        work()
    else:
        recording.append(work)


class Graph:
    """What was enqueued during a capture."""

    def __init__(self, work: list[Any]) -> None:
        self.work = work

    def launch(self, stream: Any = None) -> None:
        for step in self.work:
            step()


class Event:
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.done = True

    def record(self, stream: Any = None) -> None:
        self.seconds = time.perf_counter()

    def synchronize(self) -> None: ...


def get_elapsed_time(begin: Event, end: Event) -> float:
    """Milliseconds between two events that were recorded."""
    return (end.seconds - begin.seconds) * 1e3


class Stream:
    """Does nothing: there is no other time than now."""

    ptr = 0

    def __init__(self, null: bool = False, non_blocking: bool = False) -> None: ...

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *exception: object) -> None: ...

    def use(self) -> Stream:
        return self

    def synchronize(self) -> None: ...

    def record(self, event: Event | None = None) -> Event:
        return event or Event()

    def wait_event(self, event: Event) -> None: ...

    def begin_capture(self, mode: int | None = None) -> None:
        global recording
        if self.ptr == 0:
            raise RuntimeError("cannot capture on the default (legacy) stream")
        recording = []

    def end_capture(self) -> Graph:
        global recording
        work, recording = recording, None
        assert work is not None
        return Graph(work)


class OutOfMemoryError(MemoryError):
    """cupy.cuda.memory.OutOfMemoryError."""


def alloc_pinned_memory(size: int) -> Any:
    return np.empty(size, np.uint8)


cuda = types.SimpleNamespace(
    Stream=Stream,
    Event=Event,
    get_current_stream=Stream,
    get_elapsed_time=get_elapsed_time,
    alloc_pinned_memory=alloc_pinned_memory,
    memory=types.SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
    runtime=types.SimpleNamespace(
        getDeviceCount=lambda: 1,
        memGetInfo=lambda: (8 * 2**30, 16 * 2**30),
        getDeviceProperties=lambda device: {"name": b"NVIDIA Stand-In (80GB)"},
    ),
    Device=lambda *args: types.SimpleNamespace(id=0, use=lambda: None, compute_capability="90"),
)


def get_default_memory_pool() -> Any:
    return types.SimpleNamespace(
        free_all_blocks=lambda: None, used_bytes=lambda: 0, total_bytes=lambda: 0
    )


__version__ = "14.2.0"
