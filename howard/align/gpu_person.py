"""Where the person of the latest matte may be, on the GPU."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np

from howard.align.comparison import MOST_PERSON, PERSON_ALPHA, PERSON_MARGIN
from howard.align.geometry import Size
from howard.align.view import GAP
from howard.cuda import TILE, cupy, kernel, tiles


@dataclass(frozen=True, eq=False)
class Person:
    """As kernels take it: whether it is believed is known to the device alone."""

    mask: Any
    """(h, w) uint8, 1 where they may be."""
    count: Any
    """(1,) int32, the number of such pixels."""
    most: int
    """Believed if there are fewer."""

    @property
    def known(self) -> tuple[Any, Any, int]:
        """The kernels' parameters person, person_count and most."""
        return self.mask, self.count, self.most

    def at(self, size: Size) -> Any:
        """The mask (h, w) at another size, (width, height): the nearest pixel; 0 everywhere if
        it is not believed."""
        rows, columns = self.mask.shape
        out = cupy().empty(size[::-1], "uint8")
        kernel("light", "resize_person")(
            tiles(*size), TILE, (*self.known, columns, rows, *size, out)
        )
        return out


def nobody() -> Person:
    """While nobody has said where they are."""
    return Person(cupy().zeros((1, 1), "uint8"), cupy().zeros(1, "int32"), 0)


def person_of(alpha: Any, shared: Any | None, size: Size) -> Person:
    """From a matte's alpha (H, W), halves or float32 in [0, 1]: widened, at a (width, height).

    shared: (h, w) float32 in [0, 1], how surely frame and plate show the same there, which is then
    not the person; None where that is not known.
    """
    cp = cupy()
    width, height = size
    halves = cp.ascontiguousarray(alpha, dtype=np.float16).view(np.uint16)
    gap = GAP // 2
    if shared is None:
        shared, gap = cp.zeros((height, width), "float32"), 0
    found, kept, mask = (cp.empty((height, width), "uint8") for _ in range(3))
    count = cp.empty(1, "int32")
    rows, columns = shared.shape
    grid, source = tiles(width, height), (halves, alpha.shape[1], alpha.shape[0])
    args = *source, shared, columns, rows, gap, np.float32(PERSON_ALPHA), *size, found, count
    kernel("light", "find_person")(grid, TILE, args)
    kernel("light", "drop_specks")(grid, TILE, (found, *size, kept))
    radius = max(1, round(PERSON_MARGIN * max(size)))
    kernel("light", "widen_person")(grid, TILE, (kept, *size, radius, mask, count))
    # A matte that went wrong must not hide the place from the next alignment.
    return Person(mask, count, ceil(MOST_PERSON * width * height))
