"""CuPy's face over NumPy, for running the device code on a machine without a GPU.

    def test_something(host_gpu): ...      # conftest.py: howard.cuda.cupy() is this stand-in

Arrays are NumPy arrays that say `get`, as CuPy's do; kernels of `kernels/` run on the CPU by
`hostcuda`. Streams and events do nothing: all work is done when a call returns. Only what Howard
calls is here; anything else is an AttributeError, as it should be.

Stricter than NumPy where CuPy 14.2 is (test_fakecupy.py says what was seen of it): operands of the
host and of the device do not mix, new memory holds rubbish, and nothing waits for the device while
a stream is captured. `downloads` counts every copy to the host, also those that CuPy makes without
being asked: `float`, `bool`, `item`, masks as indices. What it cannot refuse is np.asarray.
"""

from __future__ import annotations

import functools
import operator
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

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        refuse_host_arrays(inputs)
        out = kwargs.pop("out", None)
        if out is not None:
            getattr(ufunc, method)(*plain(inputs), out=plain(out), **plain(kwargs))
            return out[0]
        return on_device_again(getattr(ufunc, method)(*plain(inputs), **plain(kwargs)))

    def __array_function__(self, function: Any, kinds: Any, args: Any, kwargs: Any) -> Any:
        refuse_host_arrays(args)
        return on_device_again(function(*plain(args), **plain(kwargs)))

    def __getitem__(self, key: Any) -> Any:
        count_masks(key)
        found = self.view(np.ndarray)[plain(key)]
        if not isinstance(found, np.ndarray):  # CuPy's has no dimensions, and is a view
            found = self.view(np.ndarray)[(*plain(key if isinstance(key, tuple) else (key,)), ...)]
        return found.view(Array)

    def __setitem__(self, key: Any, value: Any) -> None:
        if type(value) is np.ndarray and value.ndim:
            raise ValueError("non-scalar numpy.ndarray cannot be used for fill")
        count_masks(key)
        self.view(np.ndarray)[plain(key)] = plain(value)

    def __bool__(self) -> bool:
        return bool(asnumpy(self))

    def __int__(self) -> int:
        return int(asnumpy(self))

    def __float__(self) -> float:
        return float(asnumpy(self))

    def __index__(self) -> int:
        return operator.index(asnumpy(self)[()])

    def item(self, *args: Any) -> Any:
        return asnumpy(self).item(*args)

    def tolist(self) -> Any:
        return asnumpy(self).tolist()

    def get(self, stream: Any = None, out: Any = None, blocking: bool = True) -> np.ndarray:
        return asnumpy(self, stream, out=out, blocking=blocking)

    def set(self, array: np.ndarray, stream: Any = None) -> None:
        refuse_while_capturing()
        if type(array) is not np.ndarray:
            raise TypeError("Only numpy.ndarray can be set to cupy.ndarray")
        refuse_unlike(self, array)
        if not self.flags.c_contiguous:
            raise RuntimeError("Cannot set to non-contiguous array")
        self.view(np.ndarray)[...] = array


def plain(value: Any) -> Any:
    """As NumPy has it: device arrays, in tuples, lists and dictionaries too, as what they are."""
    if isinstance(value, tuple | list):
        return type(value)(plain(v) for v in value)
    if isinstance(value, dict):
        return {key: plain(v) for key, v in value.items()}
    return value.view(np.ndarray) if isinstance(value, Array) else value


def on_device_again(made: Any) -> Any:
    """What a function gave; a number is an array without dimensions on the device."""
    if isinstance(made, tuple | list):
        return type(made)(on_device_again(m) for m in made)
    return np.asarray(made).view(Array) if isinstance(made, np.ndarray | np.generic) else made


def refuse_host_arrays(values: Any) -> None:
    """As CuPy: numbers of NumPy's may take part, its arrays not."""
    for value in values:
        if type(value) is np.ndarray:
            raise TypeError("Unsupported type <class 'numpy.ndarray'>")
        if isinstance(value, tuple | list):
            refuse_host_arrays(value)


def refuse_unlike(here: np.ndarray, there: np.ndarray) -> None:
    if here.dtype != there.dtype:
        raise TypeError(f"{there.dtype} array cannot be copied to or from {here.dtype} array")
    if here.shape != there.shape:
        raise ValueError(f"Shape mismatch: {here.shape} and {there.shape}")


def refuse_while_capturing() -> None:
    if recording is not None:
        raise RuntimeError("operation not permitted when stream is capturing")


def count_masks(key: Any) -> None:
    """CuPy asks the device how many pixels of a mask are set."""
    for part in key if isinstance(key, tuple) else (key,):
        if isinstance(part, Array) and part.dtype == bool:
            refuse_while_capturing()
            downloads.append(8)


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
    if isinstance(a, Array):
        return a if dtype is None or a.dtype == dtype else a.astype(dtype)
    refuse_while_capturing()
    return np.array(plain(a), dtype).view(Array)


def lying_there(a: Any) -> Array:
    """The "device" memory that an object tells of, which is kept while this is in use."""
    told = types.SimpleNamespace(__array_interface__=a.__cuda_array_interface__, owner=a)
    return np.asarray(told).view(Array)


def asnumpy(
    a: Any, stream: Any = None, order: str = "C", out: Any = None, *, blocking: bool = True
) -> np.ndarray:
    """A copy on the host."""
    assert isinstance(a, Array), type(a)
    refuse_while_capturing()
    downloads.append(a.nbytes)
    if out is None:
        return np.array(a.view(np.ndarray))
    refuse_unlike(a, out)
    np.copyto(out, a.view(np.ndarray))
    return out


def on_device(function: Any) -> Any:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        refuse_host_arrays(args)
        return on_device_again(function(*plain(args), **plain(kwargs)))

    return call


def created(function: Any) -> Any:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Array:
        return function(*plain(args), **kwargs).view(Array)

    return call


RUBBISH = 0xA5
"""In every byte: of floats a tiny number, of integers a huge one."""


def uncleared(function: Any) -> Any:
    """CuPy gives memory as those before left it."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Array:
        out = function(*plain(args), **kwargs)
        out.reshape(-1).view(np.uint8)[:] = RUBBISH
        return out.view(Array)

    return call


array = asarray
empty, empty_like = (uncleared(f) for f in (np.empty, np.empty_like))
zeros, ones, full, arange = (created(f) for f in (np.zeros, np.ones, np.full, np.arange))
zeros_like, ones_like = (created(f) for f in (np.zeros_like, np.ones_like))
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


def copyto(dst: Array, src: Array, where: Array | None = None) -> None:
    assert isinstance(dst, Array)
    assert isinstance(src, Array)
    assert where is None or isinstance(where, Array)
    np.copyto(*plain((dst, src)), where=True if where is None else where.view(np.ndarray))


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
            refuse_launch(name, grid, block)
            refuse_host_arrays(args)
            held = plain(list(args))
            blocks = tuple(max(1, n) for n in grid)  # as CuPy: where there is no work, too
            enqueue(lambda: kernel(blocks, block, held))

        return call


MOST_BLOCKS = 2**31 - 1, 65535, 65535
MOST_THREADS, MOST_IN_BLOCK = (1024, 1024, 64), 1024
"""Of every GPU since Fermi: the CUDA programming guide's table of compute capabilities."""


def refuse_launch(name: str, grid: Any, block: Any) -> None:
    if not (isinstance(grid, tuple) and isinstance(block, tuple)):
        raise TypeError(f"{name}: grid and block are to be tuples")
    limits = MOST_BLOCKS[: len(grid)] + MOST_THREADS[: len(block)]
    is_large = any(n > most for n, most in zip((*grid, *block), limits, strict=True))
    if is_large or np.prod(block) > MOST_IN_BLOCK:
        raise RuntimeError(f"{name}: CUDA_ERROR_INVALID_VALUE of {grid} blocks of {block}")


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

    def synchronize(self) -> None:
        refuse_while_capturing()


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

    def synchronize(self) -> None:
        refuse_while_capturing()

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

    def __init__(self, size: int, total: int, limit: int = 0) -> None:
        super().__init__(
            f"Out of memory allocating {size:,} bytes (allocated so far: {total:,} bytes)."
        )


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
