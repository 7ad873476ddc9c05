"""What tests of several stages share."""

from __future__ import annotations

from collections.abc import Iterator

import fakecupy
import pytest

from howard import cuda


@pytest.fixture
def host_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """howard.cuda.cupy() is a stand-in over NumPy, whose kernels run on the CPU."""
    monkeypatch.setattr(cuda, "loaded", lambda: fakecupy)
    cuda.module.cache_clear()
    fakecupy.downloads.clear()
    yield fakecupy
    cuda.module.cache_clear()


@pytest.fixture
def host_runner(host_gpu: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """The network of the device code runs in ONNX Runtime on the CPU."""
    from howard.matte import runner
    from howard.matte.onnxruntime_runner import OnnxRuntimeRunner

    def opened(wanted: runner.Wanted) -> runner.Runner:
        return OnnxRuntimeRunner(wanted.weights, "CPUExecutionProvider")

    monkeypatch.setattr(runner, "OPENERS", {"onnxruntime": opened})
