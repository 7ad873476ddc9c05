"""Where the person may be: what the aligner is told of a frame, to look beside it in the next.

Where the network loses a person whom it has just known, the plate of the next frame would be bent
and lit until it looks like them, and they would stay lost. So whom it was sure of is remembered
where they were, as long as it doubts what it sees there now. What it took for a person in doubt is
not: that is as often a place whose plate lies badly, and wants a better one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from howard.frames import Matte

SURE = 0.1
"""Doubt up to which a person is known; beyond twice as much they are not."""
DOUBTS = 8.0
"""Times the doubt is what remains of a memory at most: at 0.05 they are no longer looked beside."""
KEPT = 0.98
"""Of a memory, from frame to frame: it lasts a second or two."""
REACH = 1
"""Pixels of the network's doubt, a 250th of the picture, by which a memory spreads in a frame: they
move."""

Memory = NDArray[np.float32]
"""(h, w) in [0, 1], of the size of the network's doubt."""


class Presence:
    """Remembers the person through a run, frame by frame."""

    def __init__(self, recall: Callable[[Any, Any | None], tuple[Any, Any]]) -> None:
        """recall: the device's `recalled`."""
        self.recall = recall
        self.memory: Any | None = None

    def __call__(self, matte: Any) -> Any:
        """(h, w) in [0, 1]: alpha where the person is, and a memory where they may be; the matte's
        own alpha if its network tells no doubt."""
        if matte.doubt is None:
            return matte.alpha
        seen, self.memory = self.recall(matte, self.memory)
        return seen


def recalled(matte: Matte, memory: Memory | None) -> tuple[Memory, Memory]:
    """Where the person of a matte may be, (h, w), and what to remember of them. memory: of the
    frame before, None in the first."""
    doubt = matte.doubt
    assert doubt is not None
    alpha = cv2.resize(matte.alpha, doubt.shape[::-1], interpolation=cv2.INTER_AREA)
    known = alpha * np.clip(2 - doubt / np.float32(SURE), 0, 1)
    if memory is not None:
        side = 2 * REACH + 1
        nearby = cv2.dilate(memory, np.ones((side, side), np.uint8))
        known = np.maximum(known, np.minimum(np.float32(KEPT) * nearby, np.float32(DOUBTS) * doubt))
    memory = np.asarray(known, np.float32)
    return np.maximum(alpha, memory), memory
