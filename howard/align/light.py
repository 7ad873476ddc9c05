"""Gain and bias per channel that match the plate's light to the frame's, robust to the person."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from howard.align.view import View, agreement, texture_of

SCALE_LEVELS = 8.0
"""Residual, in levels of 255, at which a pixel's weight has fallen to a quarter: several times
sensor noise, well below the contrast of a person against the background."""
ROUNDS = 8
FEWEST_PIXELS = 50
DARK_LEVEL = 20
"""Below it noise and bias rule the ratio of two levels."""
GAIN_LIMITS = (0.25, 4.0)
RATIOS = 91
"""Bins between the limits, among which the commonest ratio is looked for: 1 lies amid one."""
SHRINKAGE = 25.0
"""Prior weight, in squared levels, that holds the gain near the ratio of medians where the
plate has too little contrast to tell gain from bias."""

MIDDLE = np.float32(128)
"""Levels are summed up from middle grey, so that single precision is enough."""

PATCH = 1 / 60
"""Of the longest side: the patch whose means are compared, a few pixels' misalignment small."""
DARKNESS = 6.0
"""Levels added before the ratio, below which noise rules."""
LOGARITHM = np.log(np.arange(256) + DARKNESS).astype(np.float32)
"""Of each level."""
IN_PERSON = 0.05
"""Trust where the person of the latest matte may be: next to none, for a person lit away is worse
than a place that is not matched; not none, for the matte may be wrong."""
NO_EVIDENCE = 0.06
"""Trust, after smoothing, at which the gain has fallen to half its logarithm."""
NEEDED_LEVELS = 2.5
"""Mean difference, among the trusted, before a field is worth its work: one light leaves 0.5 to 2,
two leave 4 to 8. In logarithms night would look like another light."""
MOST_LEVELS = 24.0
"""As which a larger difference counts: somebody whose texture agrees here and there is no light."""
LOOK_STEP = 4
"""Every so many pixels are enough to see that there is hardly any."""
SMOOTHNESS, EDGE = 400.0, 10.0
"""Of the gain, and the difference in levels that counts as an edge of a surface."""
LOG_GAIN_LIMITS = (-1.6, 1.6)
LOG_HUE_LIMIT = 0.6
"""How far a channel's gain may be from the channels' mean: lamps differ by no more."""


def gain_and_bias(frame: NDArray[np.floating], plate: NDArray[np.floating]) -> NDArray[np.float64]:
    """Least squares of frame = gain * plate + bias, reweighted (Geman-McClure).

    frame, plate: (N, 3) levels of 255, at pixels where the plate has data and, as far as known,
    no person stands. Returns (3, 2): gain and bias of each channel; (1, 0) where nothing can be
    said.
    """
    x, y = (np.ascontiguousarray(levels.T, np.float32) for levels in (plate, frame))
    inside = (x > 2) & (x < 253) & (y > 2) & (y < 253)
    channels = zip(x, y, inside, strict=True)
    prior = np.array([commonest_ratio(a[seen], b[seen]) for a, b, seen in channels], np.float32)
    gain, offset = prior, MIDDLE * (prior - 1)  # of levels from middle grey, as the sums are
    x, y, scale = x - MIDDLE, y - MIDDLE, 4 * SCALE_LEVELS
    products = np.stack([np.ones_like(x), x, y, x * x, x * y], 1) * inside[:, None]
    for _ in range(ROUNDS):
        weight = (y - gain[:, None] * x - offset[:, None]) / np.float32(scale)
        weight = 1 + weight * weight
        weight = 1 / (weight * weight)
        sums = (products @ weight[..., None])[..., 0].T
        mean_x, mean_y, mean_xx, mean_xy = sums[1:] / np.maximum(sums[0], 1e-6)
        variance, covariance = mean_xx - mean_x * mean_x, mean_xy - mean_x * mean_y
        gain = np.clip((covariance + SHRINKAGE * prior) / (variance + SHRINKAGE), *GAIN_LIMITS)
        offset = mean_y - gain * mean_x
        scale = max(SCALE_LEVELS, scale / 2)
    out = np.column_stack([gain, offset + MIDDLE * (1 - gain)]).astype(np.float64)
    out[inside.sum(1) < FEWEST_PIXELS] = 1, 0
    return out


def commonest_ratio(x: NDArray[np.float32], y: NDArray[np.float32]) -> float:
    """Where most of y / x, (N,) both, lies: a start that a person in half of the picture does not
    move; 1 for nowhere."""
    bright = np.flatnonzero(x > DARK_LEVEL)
    if not len(x):
        return 1.0
    if len(bright) < FEWEST_PIXELS:
        return float(np.clip(float(np.median(y)) / max(float(np.median(x)), 1.0), *GAIN_LIMITS))
    low, high = np.log(GAIN_LIMITS)
    # One more bin at either end takes what lies beyond the limits.
    bins = (np.log(y[bright] / x[bright]) - low) * (RATIOS / (high - low)) + 1
    bins = bins.clip(0, RATIOS + 1).astype(np.intp)
    counts = np.bincount(bins, minlength=RATIOS + 2)[1:-1]
    at = int(np.convolve(counts, [1, 2, 1], "same").argmax())
    return float(np.exp(low + (at + 0.5) * (high - low) / RATIOS))


def in_light(pixels: NDArray[np.uint8], gain_bias: NDArray[np.float64]) -> NDArray[np.uint8]:
    """pixels (H, W, 3), each channel in its gain and bias (3, 2)."""
    matrix = np.column_stack([np.diag(gain_bias[:, 0]), gain_bias[:, 1]])
    return np.asarray(cv2.transform(pixels, matrix), np.uint8)


def light_field(
    frame: View,
    plate: NDArray[np.uint8],
    covered: NDArray[np.uint8],
    person: NDArray[np.uint8] | None,
) -> NDArray[np.float32] | None:
    """Gain (h, w, 3) by which the plate's light differs from place to place: lamps, vignetting.

    plate: the plate's view's colour (h, w, 3), aligned and matched by one gain and bias; covered: 1
    where it has data; person: not 0 where they may be. None where one gain is enough. Only places
    whose normalised texture is the same in both are believed to show the same surface, so that a
    person is not lit away; from there the gain is carried on along the plate's surfaces.
    """
    side = max(3, round(max(frame.size) * PATCH)) | 1
    colours = frame.colour, plate
    means = [np.asarray(cv2.blur(colour, (side, side)), np.uint8) for colour in colours]
    prior = covered.astype(np.float32)
    if person is not None:
        prior[person != 0] *= IN_PERSON
    if is_alike(means, prior):
        return None
    trust = agreement(frame.texture, texture_of(plate)) * prior
    off = np.minimum(cv2.absdiff(*means).max(2), np.float32(MOST_LEVELS))
    wrong = float((trust * off).sum()) / max(float(trust.sum()), 1.0)
    if wrong < NEEDED_LEVELS:
        return None
    logs = [cv2.split(cv2.LUT(mean, LOGARITHM)) for mean in means]
    gain = [of_frame - of_plate for of_frame, of_plate in zip(*logs, strict=True)]
    smoother = cv2.ximgproc.createFastGlobalSmootherFilter(plate, SMOOTHNESS, EDGE)
    weight = smoother.filter(trust) + NO_EVIDENCE
    smooth = [np.clip(smoother.filter(g * trust) / weight, *LOG_GAIN_LIMITS) for g in gain]
    brightness = sum(smooth) / np.float32(3)
    hues = [np.clip(s - brightness, -LOG_HUE_LIMIT, LOG_HUE_LIMIT) for s in smooth]
    return np.asarray(cv2.merge([np.exp(brightness + hue) for hue in hues]), np.float32)


def is_alike(means: Sequence[NDArray[np.uint8]], prior: NDArray[np.float32]) -> bool:
    """Whether two mean pictures (h, w, 3) differ so little where the prior trust (h, w) is 1,
    beside the person, that no field is worth its work; by some of the pixels."""
    some = slice(None, None, LOOK_STEP)
    off = cv2.absdiff(*(mean[some, some] for mean in means))[prior[some, some] == 1]
    return not off.size or float(off.mean()) < NEEDED_LEVELS / 2
