"""Which vectors of a field two cameras can have made.

Between a frame and a plate that a plane's homography lays on it, what lies off that plane moves
along lines that meet in one point, the epipole (plane and parallax: Hartley & Zisserman,
*Multiple View Geometry*, 2004, 13.3), whatever its depth. The place obeys, as far as shutter and
lens do. A person's chance matches mostly do not, and while nobody has said where they are, nothing
else tells the two apart.

`plausibility` is the same for arrays of NumPy and of CuPy.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

SAMPLES = 96
"""Along the longest side."""
FEWEST = 100
"""Samples that say something."""
LEAST_TRUST = 0.1
LEAST_PIXELS = 0.3
"""Of a sample that says something: its trust and its length."""
CLOSE_PIXELS = 0.7
"""A sample this far from its line counts a quarter, and one that is nearer is consistent."""
CONSISTENT_SHARE = 0.75
"""Of the samples' trust, at least: else it is no rigid place, or the homography no plane's."""
ROUNDS = 8
STARTS = ((16, False), (2, True))
"""Tried in turn: what is close is at first so many times as wide, in each round that follows half
of it; and whether the search begins at infinity, where the epipole of cameras side by side is. The
kernel has these two in this order."""
OFF_PIXELS, OFF_SHARE = 1.5, 0.2
"""A vector that is off its line by so many pixels, and this share of its length, counts a half;
less is noise, and what bent lenses and rolling shutters do."""

Epipole = NDArray[np.float32]
"""(4,): x, y, w and 1; zeros if it is not known. In pixels it lies at (x / w, y / w); w is 0 at
infinity."""


def find_epipole(flow: NDArray[np.float32], trust: NDArray[np.float32]) -> Epipole:
    """Of a field (h, w, 2) with its trust (h, w): not known where there is none that most of what
    is seen agrees with."""
    height, width = trust.shape
    step, side = sampling(height, width), max(height, width)
    ys, xs = np.mgrid[:height:step, :width:step]
    flow, trust = flow[::step, ::step], trust[::step, ::step]
    counts = (trust > LEAST_TRUST) & ((flow**2).sum(-1) > LEAST_PIXELS**2)
    if counts.sum() < FEWEST:
        return np.zeros(4, np.float32)
    trust, (u, v) = trust[counts].astype(float), flow[counts].T.astype(float) / side
    x, y = ((at[counts] - middle(n)) / side for at, n in ((xs, width), (ys, height)))
    lines = np.column_stack([-v, u, x * v - y * u])  # each through the epipole, but for noise
    directions = trust / (1 + (u**2 + v**2) * side**2)  # one each, however long
    best, most = np.zeros(3), -1.0
    for wider, far in STARTS:
        weight = directions
        for k in range(ROUNDS):
            sums = (lines * weight[:, None]).T @ lines
            if far and k == 0:
                sums[2] = sums[:, 2] = 0, 0, np.trace(sums)
            epipole = np.linalg.eigh(sums)[1][:, 0]
            away = np.hypot(epipole[0] - epipole[2] * x, epipole[1] - epipole[2] * y) + 0.1 / side
            off = np.abs(lines @ epipole) / away * side
            close = CLOSE_PIXELS * max(1, wider >> k)
            weight = trust / ((1 + (off / close) ** 2) * away) ** 2
        agreeing = trust[off < CLOSE_PIXELS].sum()
        if agreeing > most:
            best, most = epipole, agreeing
    if most < CONSISTENT_SHARE * trust.sum():
        return np.zeros(4, np.float32)
    x, y, w = best * np.sign(best[np.abs(best).argmax()])
    found = [x * side + middle(width) * w, y * side + middle(height) * w, w, 1]
    return np.array(found, np.float32)


def sampling(height: int, width: int) -> int:
    """Pixels between the samples of a field."""
    return max(1, round(max(height, width) / SAMPLES))


def middle(pixels: int) -> float:
    """Of a row or column."""
    return (pixels - 1) / 2


def plausibility(flow_x: Any, flow_y: Any, xs: Any, ys: Any, epipole: Any) -> Any:
    """(h, w) in [0, 1] of vectors (h, w) at pixels xs (w,) and ys (h,), float32 arrays of one
    device, by an epipole on it; 1 by one that is not known."""
    x, y, w, known = (epipole[k] for k in range(4))
    across, down = x - w * xs, (y - w * ys)[:, None]
    aside = flow_x * down - flow_y * across
    length = np.sqrt(flow_x * flow_x + flow_y * flow_y)
    limit = np.float32(OFF_PIXELS) + np.float32(OFF_SHARE) * length
    off = aside * aside / ((across * across + down * down + np.float32(1e-12)) * limit * limit)
    return 1 / (1 + known * off * off)
