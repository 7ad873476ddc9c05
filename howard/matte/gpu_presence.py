"""`howard.matte.presence` on the GPU."""

from __future__ import annotations

from typing import Any

import numpy as np

from howard.cuda import TILE, cupy, kernel, tiles
from howard.matte.gpu import DeviceMatte
from howard.matte.presence import DOUBTS, KEPT, REACH, SURE


def recalled(matte: DeviceMatte, memory: Any | None) -> tuple[Any, Any]:
    """As the CPU's, both in memory of their own; where they may be in halves, what to remember in
    float32. Does not synchronise."""
    cp, doubt = cupy(), matte.doubt
    assert doubt is not None
    rows, columns = doubt.shape[-2:]
    before = cp.zeros((rows, columns), "float32") if memory is None else memory
    seen, after = (cp.empty((rows, columns), kind) for kind in ("uint16", "float32"))
    alpha = matte.alpha.view("uint16"), matte.alpha.shape[-1], matte.alpha.shape[-2]
    shares = np.float32(SURE), np.float32(DOUBTS), np.float32(KEPT)
    args = *alpha, doubt.view("uint16"), before, columns, rows, *shares, REACH, seen, after
    kernel("light", "recall_person")(tiles(columns, rows), TILE, args)
    return seen.view("float16"), after
