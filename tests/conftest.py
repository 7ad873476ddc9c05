"""What tests of several stages share."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import fakecupy
import pytest
from hostcuda import IS_MISSING, WITHOUT

from howard import cuda
from howard.decode import nvdec
from howard.errors import DeviceError


@pytest.fixture
def leaves_no_thread() -> Iterator[None]:
    """The test must leave as many threads as it found, its own mistakes included."""
    before = threading.active_count()
    yield
    deadline = time.monotonic() + 2
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before, threading.enumerate()


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine without a GPU, whatever there is; in processes that are started, too."""

    def missing() -> None:
        raise DeviceError("no NVIDIA GPU can be used: this test has none")

    monkeypatch.setattr(cuda, "loaded", missing)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


@pytest.fixture
def host_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """howard.cuda.cupy() is a stand-in over NumPy, whose kernels run on the CPU."""
    if IS_MISSING:
        pytest.skip(WITHOUT)
    monkeypatch.setattr(cuda, "loaded", lambda: fakecupy)
    monkeypatch.setattr(nvdec, "is_there", lambda: False)  # it would decode into a real GPU
    cuda.module.cache_clear()
    cuda.kernel.cache_clear()
    fakecupy.downloads.clear()
    yield fakecupy
    cuda.module.cache_clear()
    cuda.kernel.cache_clear()


@pytest.fixture
def host_runner(host_gpu: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """The network of the device code runs in ONNX Runtime on the CPU."""
    from howard import matting
    from howard.engine import device
    from howard.matte import runner
    from howard.matte.onnxruntime_runner import OnnxRuntimeRunner

    def opened(wanted: runner.Wanted) -> runner.Runner:
        return OnnxRuntimeRunner(wanted.weights, "CPUExecutionProvider")

    monkeypatch.setattr(runner, "OPENERS", {"onnxruntime": opened})
    for user in (device, matting):
        monkeypatch.setattr(user, "check_runners", lambda network: None)
