"""`howard.matte.steady` on the GPU."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from howard import cuda
from howard.align.gpu_direct import dense_flow
from howard.align.gpu_field import displaced
from howard.align.view import View
from howard.cuda import TILE, tiles
from howard.frames import Plate
from howard.matte.gpu import DeviceMatte
from howard.matte.steady import LEVELS, SHARE, SURE, Before


class DeviceSteady:
    """As `Steady`, on CuPy's stream. Does not synchronise; its mattes have alphas of their own."""

    def __init__(self) -> None:
        self.before: Before | None = None

    def __call__(self, index: int, plate: Plate, matte: DeviceMatte) -> DeviceMatte:
        view, alpha, before = plate.shown[0], matte.alpha.copy(), self.before
        if before is not None and before.is_of(index - 1, alpha):
            draw(alpha, matte, view, before)
        self.before = Before(index, view, alpha)
        return replace(matte, alpha=alpha)


def draw(drawn: Any, matte: DeviceMatte, view: View, before: Before) -> None:
    """Into `drawn`, a copy of the matte's alpha."""
    flow = dense_flow(view.texture, before.view.texture[None])[0]
    share, size = likeness(view, before.view, flow), (matte.width, matte.height)
    pictures = matte.alpha.view("uint16"), before.alpha.view("uint16"), matte.alpha.shape[-1]
    shares = np.float32(SHARE), np.float32(SURE)
    args = *pictures, flow, share, *view.size, *shares, *size, drawn.view("uint16")
    cuda.kernel("steady", "draw_alpha")(tiles(*size), TILE, args)


def likeness(view: View, before: View, flow: Any) -> Any:
    """(h, w) float32, as the CPU's."""
    out = cuda.cupy().empty(view.size[::-1], "float32")
    moved = displaced(before.colour, flow)
    args = view.colour, moved, flow, *view.size, np.float32(LEVELS), out
    cuda.kernel("steady", "tell_likeness")(tiles(*view.size), TILE, args)
    return out
