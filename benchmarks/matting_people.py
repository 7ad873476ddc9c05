"""The people in scenes of exact truth."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray

from engine.training.people import Foreground, hair, premultiplied, put
from sample.truth import PERSON

Pixels = NDArray[np.uint8]

PERSON_SHARES = (0.05, 0.5)
"""Of the frame, at least and at most."""


def placed(
    rng: np.random.Generator,
    pick: Callable[[np.random.Generator], Pixels],
    height: int,
    width: int,
    reach: int,
    plain: bool = False,
) -> Foreground:
    """One of those that are picked, put where they fill PERSON_SHARES of a frame; wider than that
    by `reach` on both sides."""
    smallest, largest = PERSON_SHARES
    share = 0.0
    while not smallest < share < largest:
        layer = put(rng, height, width + 2 * reach, pick(rng), plain)
        share = float(layer[:, reach : reach + width, 3].mean())
    return layer


def with_hair(rng: np.random.Generator, layer: Foreground) -> Foreground:
    """Strands about the upper end of a person, of the colour that is there."""
    rows = np.flatnonzero(layer[..., 3].max(1) > 0.5)
    top, at = rows[0], rows[0] + round(0.08 * np.ptp(rows))  # a head is about as wide there
    columns = np.flatnonzero(layer[at, :, 3] > 0.5)
    head = layer[top : at + 1]
    colour = head[..., :3].sum((0, 1)) / head[..., 3].sum()
    radius = max(4.0, len(columns) / 2)
    # `hair` begins at 1.15 radii above the centre: a little inside the head.
    centre = float(columns.mean()), float(top + 1.3 * radius)
    height, width = layer.shape[:2]
    strands = np.max([hair(rng, height, width, centre, radius) for _ in range(4)], axis=0)
    strands = strands[..., None] * np.append(colour, 1).astype(np.float32)
    return np.asarray(layer + strands * (1 - layer[..., 3:]), np.float32)


@cache
def sample_person() -> Pixels:
    """(H, W, 4) premultiplied: the astronaut of the bundled sample."""
    return premultiplied(PERSON, 1024)
