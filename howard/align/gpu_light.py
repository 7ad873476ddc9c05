"""Light that differs from place to place, on the GPU: `howard.align.light.light_field` over device
arrays, with its arithmetic."""

from __future__ import annotations

from typing import Any

import numpy as np

from howard import cuda
from howard.align.gpu_smooth import smooth
from howard.align.gpu_view import BLOCK, agreement, box_mean, texture_of
from howard.align.light import (
    DARKNESS,
    EDGE,
    IN_PERSON,
    LOG_GAIN_LIMITS,
    LOG_HUE_LIMIT,
    LOOK_STEP,
    MOST_LEVELS,
    NEEDED_LEVELS,
    NO_EVIDENCE,
    PATCH,
    SMOOTHNESS,
)
from howard.align.view import View
from howard.cuda import TILE, tiles

F = np.float32


def light_field(frame: View, plate: Any, covered: Any, person: Any | None) -> Any | None:
    """Gain (h, w, 3) float32 by which the plate's light differs from place to place.

    plate: colour (h, w, 3) of the frame's size, aligned and matched by one gain and bias; covered:
    1 where it has data; person: not 0 where they may be. None where one gain is enough, which takes
    16 bytes to the host.
    """
    signal, sums = evidence(frame, plate, covered, person)
    if not is_needed(sums):
        return None
    smooth(plate, signal, SMOOTHNESS, EDGE)
    height, width = covered.shape
    gain = cuda.cupy().empty((height, width, 3), "float32")
    low, high = LOG_GAIN_LIMITS
    limits = F(NO_EVIDENCE), F(low), F(high), F(LOG_HUE_LIMIT)
    args = (signal, *limits, width, height, gain)
    cuda.kernel("relight", "gain_of_light")(tiles(width, height), TILE, args)
    return gain


def evidence(frame: View, plate: Any, covered: Any, person: Any | None) -> tuple[Any, Any]:
    """(h, w, 4): the logarithm of frame / plate of each channel times its trust, and the trust;
    (4,): the sums that `is_needed` judges by."""
    cp, (height, width) = cuda.cupy(), covered.shape
    side = max(3, round(max(height, width) * PATCH)) | 1
    means = [box_mean(picture.astype("float32"), side) for picture in (frame.colour, plate)]
    likeness = agreement(frame.texture, texture_of(plate))
    # Where nobody knows of a person, any picture may stand for theirs.
    where, hidden = (covered, 1.0) if person is None else (person, IN_PERSON)
    blocks = -(-height * width // BLOCK)
    signal, sums = cp.empty((height, width, 4), "float32"), cp.empty((blocks, 4), "float32")
    trust = likeness, covered, where, F(hidden)
    args = (*means, *trust, F(DARKNESS), F(MOST_LEVELS), LOOK_STEP, width, height, signal, sums)
    cuda.kernel("relight", "compare_light")((blocks,), (BLOCK,), args)
    return signal, sums.sum(0)


def is_needed(sums: Any) -> bool:
    """Whether the light is another in enough places, and in enough of those that are believed."""
    wrong, trust, sizes, looked_at = cuda.read_back(sums)
    off = sizes / max(looked_at, 1.0), wrong / max(trust, 1.0)
    return bool(off[0] >= NEEDED_LEVELS / 2 and off[1] >= NEEDED_LEVELS)
