"""Alpha that does not boil: what the same surface had in the frame before speaks for it too.

The network mattes each frame by itself, and where it is in doubt the next one may come out
otherwise. Dense flow between the two frames' views tells where each pixel was; as far as the
colours there agree, its alpha is drawn to the one it had. Where they do not (what moves too fast,
what was hidden before, a cut) the network alone has its say.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from howard.align.direct import Flow, dense_flow
from howard.align.field import displaced, places
from howard.align.geometry import Size
from howard.align.view import View
from howard.frames import Matte, Plate
from howard.write.pack import TRANSPARENT

SHARE = 0.7
"""Of alpha, at most, that comes from the frame before: some three frames' memory. CONTRIBUTING.md
has what this and the next two change."""
SURE = 0.3
"""Of that, where the network says 0 or 1; all of it from 0.15 to 0.85. Else edges spread where flow
blurs parallax, and what was wrong in a first frame is outgrown too slowly."""
LEVELS = 10.0
"""Difference in colour at which the share has fallen to a third."""
MARGIN = 1 / 40
"""Of the longest side: how far a person moves from frame to frame, where colours still agree."""


@dataclass(frozen=True, eq=False)
class Before:
    """The frame before."""

    index: int
    view: View
    alpha: Any
    """(H, W), or the device's, as it was drawn."""

    def is_of(self, index: int, alpha: Any) -> bool:
        """Whether it is this frame's, and of this alpha's size."""
        return self.index == index and self.alpha.shape == alpha.shape


class Steady:
    """Draws mattes, frame by frame, to those of the frames before. One for each run."""

    def __init__(self, draw: Callable[[Any, View, Before | None], Any]) -> None:
        """draw: the device's `drawn`."""
        self.draw = draw
        self.before: Before | None = None

    def __call__(self, index: int, plate: Plate, matte: Any) -> Any:
        """The matte of a frame and its plate; as it is where the frame before was not seen."""
        view, before = plate.shown[0], self.before
        is_known = before is not None and before.is_of(index - 1, matte.alpha)
        alpha = self.draw(matte, view, before if is_known else None)
        self.before = Before(index, view, alpha)
        return replace(matte, alpha=alpha)


def drawn(matte: Matte, view: View, before: Before | None) -> NDArray[np.float32]:
    """alpha (H, W) of a matte of the frame of a view, drawn to what it was before, if that is
    known."""
    alpha = matte.alpha
    if before is None:
        return alpha
    box = around(alpha, before.alpha)
    if alpha[box].size == 0:  # nobody
        return alpha
    flow = dense_flow(view.texture, before.view.texture)
    share = SHARE * likeness(view, before.view, flow)
    height, width = alpha.shape
    scale = width / view.size[0], height / view.size[1]
    x, y = (enlarged(flow[..., k] * np.float32(scale[k]), (width, height), box) for k in (0, 1))
    rows, columns = box
    x += np.arange(columns.start, columns.stop, dtype=np.float32)
    y += np.arange(rows.start, rows.stop, dtype=np.float32)[:, None]
    was = cv2.remap(before.alpha, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    share = enlarged(share, (width, height), box)
    out, now = alpha.copy(), alpha[box]
    share *= SURE + (1 - SURE) * np.minimum(8 * now * (1 - now), 1)
    np.clip(now + share * (was - now), 0, 1, out=out[box])
    return out


def around(alpha: NDArray[np.float32], before: NDArray[np.float32]) -> tuple[slice, slice]:
    """Rows and columns of a box around what is not place in one of two alphas (H, W), and what may
    have moved there; empty if there is nothing."""
    height, width = alpha.shape
    seen = cv2.threshold(cv2.max(alpha, before), TRANSPARENT, 1, cv2.THRESH_BINARY)[1]
    x, y, w, h = cv2.boundingRect(seen.astype(np.uint8))
    margin = round(MARGIN * max(width, height)) if w else 0
    left, top = max(x - margin, 0), max(y - margin, 0)
    return slice(top, min(y + h + margin, height)), slice(left, min(x + w + margin, width))


def enlarged(
    picture: NDArray[np.float32], size: Size, box: tuple[slice, slice]
) -> NDArray[np.float32]:
    """What of a picture (h, w) lies in a box of its enlargement to this (width, height)."""
    return np.asarray(cv2.resize(picture, size)[box], np.float32)


def likeness(view: View, before: View, flow: Flow) -> NDArray[np.float32]:
    """(h, w) in [0, 1]: how surely each pixel of a view is of the surface that lies in the view
    before at x + flow (h, w, 2), by the mean over 3 x 3 pixels of the largest difference in any
    channel."""
    apart = cv2.absdiff(view.colour, displaced(before.colour, flow))
    largest = functools.reduce(cv2.max, cv2.split(apart))
    off = cv2.boxFilter(largest, cv2.CV_32F, (3, 3))
    x, y = places(flow)
    inside = (x >= 0) & (y >= 0) & (x <= flow.shape[1] - 1) & (y <= flow.shape[0] - 1)
    return np.asarray(np.exp(-np.square(off / LEVELS)) * inside, np.float32)
