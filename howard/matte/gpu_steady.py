"""`howard.matte.steady` on the GPU."""

from __future__ import annotations

from typing import Any

import numpy as np

from howard import cuda
from howard.align.gpu_direct import dense_flow
from howard.align.gpu_field import displaced
from howard.align.view import View
from howard.cuda import TILE, tiles
from howard.matte.gpu import DeviceMatte
from howard.matte.steady import LEVELS, SHARE, SURE, Before


def drawn(matte: DeviceMatte, view: View, before: Before | None) -> Any:
    """As the CPU's, on CuPy's stream, in memory of its own: the network will write on the matte's.
    Does not synchronise."""
    out = matte.alpha.copy()
    if before is None:
        return out
    flow = dense_flow(view.texture, before.view.texture[None])[0]
    share, size = likeness(view, before.view, flow), (matte.width, matte.height)
    pictures = matte.alpha.view("uint16"), before.alpha.view("uint16"), matte.alpha.shape[-1]
    shares = np.float32(SHARE), np.float32(SURE)
    args = *pictures, flow, share, *view.size, *shares, *size, out.view("uint16")
    cuda.kernel("steady", "draw_alpha")(tiles(*size), TILE, args)
    return out


def likeness(view: View, before: View, flow: Any) -> Any:
    """(h, w) float32, as the CPU's."""
    out = cuda.cupy().empty(view.size[::-1], "float32")
    moved = displaced(before.colour, flow)
    args = view.colour, moved, flow, *view.size, np.float32(LEVELS), out
    cuda.kernel("steady", "tell_likeness")(tiles(*view.size), TILE, args)
    return out
