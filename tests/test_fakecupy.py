"""The stand-in refuses what CuPy 14.2 refuses. Each of these was seen of the real one, run on a
runtime without a GPU that only has memory; tests of the device code rely on it."""

import sys
from types import SimpleNamespace

import fakecupy as cp
import numpy as np
import pytest

from howard import cuda
from howard.errors import DeviceError

HOST = np.arange(12, dtype=np.float32).reshape(3, 4)


@pytest.fixture
def there():
    cp.downloads.clear()
    yield cp.asarray(HOST)
    cp.downloads.clear()


@pytest.mark.parametrize(
    "mixed",
    [
        lambda a: a + HOST,
        lambda a: HOST * a,
        lambda a: a > HOST,
        lambda a: a * np.array(2.0),
        lambda a: cp.where(a > 0, a, HOST),
        lambda a: cp.stack([a, HOST]),
        lambda a: cp.concatenate((a, HOST)),
        lambda a: np.stack([a, HOST]),
        lambda a: cp.abs(HOST),
    ],
)
def test_arrays_of_host_and_device_do_not_mix(there, mixed):
    with pytest.raises(TypeError, match=r"Unsupported type .*numpy\.ndarray"):
        mixed(there)


def test_an_array_of_the_host_is_not_stored_into(there):
    with pytest.raises(ValueError, match="cannot be used for fill"):
        there[...] = HOST
    there[...] = np.float32(1)
    assert there.get().sum() == HOST.size


def test_numbers_of_the_host_may_take_part_and_types_are_kept(there):
    for made in (there * np.float32(2), np.float32(2) * there, there + 1, there.sum(), there[0, 0]):
        assert isinstance(made, cp.ndarray)
        assert made.dtype == np.float32
    assert there.sum().shape == there[0, 0].shape == ()
    assert cp.downloads == []


@pytest.mark.parametrize(
    "asked",
    [
        lambda a: float(a.sum()),
        lambda a: int(a.sum()),
        lambda a: bool((a > 0).any()),
        lambda a: a.sum().item(),
        lambda a: a.tolist(),
        lambda a: a[a > 5],
    ],
)
def test_what_comes_to_the_host_unasked_is_counted(there, asked):
    asked(there)
    assert len(cp.downloads) == 1


def test_views_are_views(there):
    there[1][2] = 50
    there[2, 3:][0] += 1
    assert there.get()[1, 2] == 50
    assert there.get()[2, 3] == HOST[2, 3] + 1


def test_new_memory_is_not_zero():
    assert cp.empty(3, np.uint8).get().all()
    assert cp.empty_like(cp.zeros((2, 2), np.int32)).get().all()


def test_copies_are_between_alike(there):
    with pytest.raises(TypeError):
        there.get(out=np.empty(there.shape, np.float64))
    with pytest.raises(ValueError, match="Shape"):
        there.get(out=np.empty(HOST.size, np.float32))
    with pytest.raises(TypeError):
        there.set(HOST.astype(np.float64))
    with pytest.raises(RuntimeError, match="non-contiguous"):
        there[:, ::2].set(HOST[:, ::2])


def test_nothing_is_waited_for_while_a_stream_is_captured(there, monkeypatch):
    monkeypatch.setattr(cp.Stream, "ptr", 7)
    stream = cp.Stream()
    stream.begin_capture()
    for forbidden in (there.get, stream.synchronize, lambda: cp.asarray(HOST)):
        with pytest.raises(RuntimeError, match="captur"):
            forbidden()
    stream.end_capture()


@pytest.mark.parametrize(
    ("grid", "block", "error"),
    [
        ([1], (32,), TypeError),
        ((1, 70000, 1), (32,), RuntimeError),
        ((1,), (2048,), RuntimeError),
        ((1,), (2, 2, 128), RuntimeError),
    ],
)
def test_launches_are_within_the_limits(grid, block, error):
    with pytest.raises(error, match="some_kernel"):
        cp.refuse_launch("some_kernel", grid, block)


def test_without_cudas_compiler_a_gpu_is_refused_with_the_remedy(monkeypatch):
    def not_there():
        raise RuntimeError("Failure finding libnvrtc\nand where it was looked for")

    runtime = SimpleNamespace(getDeviceCount=lambda: 1, CUDARuntimeError=OSError)
    nvrtc = SimpleNamespace(getVersion=not_there)
    fake = SimpleNamespace(cuda=SimpleNamespace(runtime=runtime, nvrtc=nvrtc))
    monkeypatch.setitem(sys.modules, "cupy", fake)
    with pytest.raises(DeviceError, match=r"NVRTC.*finding libnvrtc\).*pip install") as told:
        cuda.loaded.__wrapped__()
    assert "\n" not in str(told.value)
    nvrtc.getVersion = lambda: (13, 0)
    assert cuda.loaded.__wrapped__() is fake
