"""What tests of several stages share."""

from __future__ import annotations

from collections.abc import Iterator

import fakecupy
import pytest

from howard import cuda


@pytest.fixture
def host_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """howard.cuda.cupy() is a stand-in over NumPy, whose kernels run on the CPU."""
    monkeypatch.setattr(cuda, "cupy", lambda: fakecupy)
    cuda.module.cache_clear()
    fakecupy.downloads.clear()
    yield fakecupy
    cuda.module.cache_clear()
