"""One plate from several clean-plate frames: each region from the one that explains it best.

The clean plate's camera moves, so that its frames see behind near objects from other sides, and
cover other parts of the frame. Decided on the small views, over regions and not pixels, and by
what lies outside the person, so that no region is taken for its likeness to them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from howard.align.comparison import CLIP_LEVELS, UNCOVERED_LEVELS
from howard.align.direct import Flow, coverage_levels
from howard.align.field import displaced, residual_field
from howard.align.geometry import Homography
from howard.align.light import in_light, light_field
from howard.align.photometric import median
from howard.align.view import View

REGION = 1 / 12
"""Of the longest side: the window over which a layer's differences count."""
LOYALTY_LEVELS = 2.0
"""How much better another layer must explain a region than the first."""
TOO_COSTLY = 1.5
"""A candidate that fits the frame as a whole this much worse than the first has gone astray."""
SEAM = 1 / 120
"""Of the longest side: deviation of the blend between layers."""
WORTH_LEVELS = 4.0
"""A first layer whose regions all differ by no more than this over the usual needs no other."""
LEAST_WEIGHT = 1e-6
"""Of layers together: what is nothing is divided by that."""
LEAST_JUDGED = 0.3
"""Of a region: where less can be judged, a layer does not count as explaining it badly."""
WORTH_SHARE = 0.02
"""A layer that would give less than this share of the frame is left out."""


@dataclass(frozen=True, eq=False)
class Layer:
    """A candidate as it would appear on the frame's view."""

    source: Any
    """What it is drawn from at full resolution."""
    field: Flow | None
    """Displacements on top of the homography, (h, w, 2)."""
    gain: NDArray[np.float32] | None
    """(h, w, 3) on top of the candidate's gain and bias."""
    colour: NDArray[np.uint8]
    """(h, w, 3)."""
    covered: NDArray[np.uint8]
    """(h, w), 1 where there is data."""


def layer_of(
    source: Any,
    frame: View,
    plate: View,
    homography: Homography,
    light: NDArray[np.float64],
    person: NDArray[np.uint8] | None,
    is_plane: bool,
) -> Layer:
    """Warp by the homography (view to view), light by gain and bias (3, 2), bend, unless the place
    is known to be a plane, and light locally."""
    colour = np.asarray(
        cv2.warpPerspective(in_light(plate.colour, light), homography, frame.size), np.uint8
    )
    inside = coverage_levels(homography, plate.size, frame.size)
    covered = (inside == 255).astype(np.uint8)
    field = None if is_plane else residual_field(frame, colour, covered, person)
    if field is not None:
        colour = displaced(colour, field)
        covered = (displaced(inside, field) == 255).astype(np.uint8)
    # Not before it is known where the person is: one who is lit like the place would be lit away.
    gain = None if person is None else light_field(frame, colour, covered, person)
    if gain is not None:
        colour = np.asarray(cv2.multiply(colour, gain, dtype=cv2.CV_8U), np.uint8)
    return Layer(source, field, gain, colour, covered)


def difference_of(layer: Layer, frame: View) -> NDArray[np.float32]:
    """(h, w) mean of the channels' differences, in levels up to CLIP_LEVELS."""
    channels = cv2.absdiff(layer.colour, frame.colour)
    mean = cv2.transform(channels, np.full((1, 3), 1 / 3, np.float32))
    return np.minimum(mean.astype(np.float32), np.float32(CLIP_LEVELS))


def cost_of(layer: Layer, frame: View, person: NDArray[np.uint8] | None) -> NDArray[np.float32]:
    """(h, w) levels per region, counting what lies outside the person: the less of a region can be
    judged, the less any layer is better than another there."""
    price = np.where(layer.covered > 0, difference_of(layer, frame), UNCOVERED_LEVELS)
    outside = np.ones_like(price) if person is None else (person == 0).astype(np.float32)
    outside = np.maximum(outside, (layer.covered == 0).astype(np.float32))
    return regional(price.astype(np.float32) * outside)


def regional(picture: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean over regions: a box twice is nearly a bell, and costs the same at any width."""
    side = round(REGION * max(picture.shape)) | 1
    return np.asarray(cv2.blur(cv2.blur(picture, (side, side)), (side, side)), np.float32)


def left_over(
    first: Layer, frame: View, person: NDArray[np.uint8] | None
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(h, w) each: holes, and what the layer explains badly; the latter only once it is known
    where the person is."""
    holes = first.covered == 0
    if person is None:
        return holes, np.zeros_like(holes)
    judged = ~holes & (person == 0)
    weight = regional(judged.astype(np.float32))
    cost = regional(difference_of(first, frame) * judged) / (weight + np.float32(1e-3))
    usual = median(cost[judged]) if judged.any() else 0.0  # noise, focus, compression
    return holes, (cost > usual + WORTH_LEVELS) & (weight > LEAST_JUDGED) & judged


def is_worth(region: NDArray[np.bool_]) -> bool:
    """Whether a region is large enough for a layer of its own."""
    return bool(region.mean() > WORTH_SHARE)


def fused(
    layers: list[Layer], frame: View, person: NDArray[np.uint8] | None
) -> list[NDArray[np.float32]]:
    """Weights (h, w) of the layers, which sum to 1; 0 throughout for a layer not worth it."""
    costs = [cost_of(layer, frame, person) for layer in layers]
    for cost in costs[1:]:
        cost += LOYALTY_LEVELS
    owner = np.argmin(costs, 0)
    for k in range(1, len(layers)):
        if (owner == k).mean() < WORTH_SHARE:
            costs[k][:] = np.inf
    owner = np.argmin(costs, 0)
    sigma = SEAM * max(owner.shape)
    weights = [
        cv2.GaussianBlur((owner == k).astype(np.float32), (0, 0), sigma) for k in range(len(layers))
    ]
    # No layer is blended in where it has no data.
    for weight, layer in zip(weights, layers, strict=True):
        weight *= cv2.erode(layer.covered, np.ones((3, 3), np.uint8))
    total = np.maximum(sum(weights), LEAST_WEIGHT)
    return [np.asarray(weight / total, np.float32) for weight in weights]
