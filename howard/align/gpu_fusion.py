"""One plate from several clean-plate frames, on the GPU: `howard.align.fusion` over device arrays,
with its arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Any

import cv2
import numpy as np

from howard import cuda
from howard.align.comparison import CLIP_LEVELS, UNCOVERED_LEVELS
from howard.align.fusion import (
    LEAST_JUDGED,
    LOYALTY_LEVELS,
    REGION,
    SEAM,
    WORTH_LEVELS,
    WORTH_SHARE,
    Layer,
)
from howard.align.geometry import Homography, Size
from howard.align.gpu_field import displaced, residual_field
from howard.align.gpu_light import light_field
from howard.align.gpu_render import drawn
from howard.align.gpu_view import BLOCK, box_mean
from howard.align.view import View
from howard.cuda import TILE, tiles

F = np.float32
COSTS = 2048
"""Bins of the histogram of costs, as in fuse.cu."""
SAME_LIGHT = ((1.0, 0.0),) * 3
"""Gain and bias that change nothing."""
COUNTING_BLOCKS = 64
"""Blocks that count costs: each keeps a histogram of its own."""


def layer_of(
    source: Any,
    frame: View,
    plate: View,
    homography: Homography,
    light: Any,
    person: Any | None,
    is_plane: bool,
) -> Layer:
    """Warp by the homography (view to view), light by gain and bias (3, 2), bend, unless the place
    is known to be a plane, and light locally. The layer's arrays are on the device."""
    colour, covered, _ = drawn(plate.colour, homography, light, frame.size)
    field = None if is_plane else residual_field(frame, colour, covered, person)
    if field is not None:
        colour = displaced(colour, field)
        # In levels: where it is 255, all four pixels are covered that the sample draws on.
        covered = (displaced(covered * np.uint8(255), field) == 255).astype("uint8")
    # Not before it is known where the person is: one who is lit like the place would be lit away.
    gain = None if person is None else light_field(frame, colour, covered, person)
    if gain is not None:
        colour = relit(colour, gain)
    return Layer(source, field, gain, colour, covered)


def relit(colour: Any, gain: Any) -> Any:
    """colour (h, w, 3) uint8 times a gain of the same shape."""
    cp = cuda.cupy()
    return cp.rint(cp.minimum(colour * gain, F(255))).astype("uint8")


def covered_by(plate: View, homography: Homography, size: Size) -> Any:
    """(h, w) uint8, 1 where the plate's view, warped view to view, has data."""
    return drawn(plate.colour, homography, SAME_LIGHT, size).coverage


def regional(picture: Any) -> Any:
    """Mean over regions of (h, w, C): a box twice is nearly a bell, and costs the same at any
    width."""
    side = round(REGION * max(picture.shape[:2])) | 1
    return box_mean(box_mean(picture, side), side)


def costs_of(layers: Sequence[Layer], frame: View, person: Any | None) -> Any:
    """(h, w, N) levels per region, counting what lies outside the person: the less of a region can
    be judged, the less any layer is better than another there."""
    width, height = frame.size
    prices = cuda.cupy().empty((height, width, len(layers)), "float32")
    for number, layer in enumerate(layers):
        where = layer.covered if person is None else person
        seen = layer.colour, layer.covered, frame.colour, where, int(person is not None)
        limits = F(CLIP_LEVELS), F(UNCOVERED_LEVELS), width, height
        args = (*seen, *limits, number, len(layers), prices)
        cuda.kernel("fuse", "price_layer")(tiles(width, height), TILE, args)
    return regional(prices)


def left_over(first: Layer, frame: View, person: Any | None) -> tuple[Any, Any]:
    """(h, w) bool each: holes, and what the layer explains badly; the latter only once it is known
    where the person is."""
    cp, holes = cuda.cupy(), first.covered == 0
    if person is None:
        return holes, cp.zeros_like(holes)
    width, height = frame.size
    judged = cp.empty((height, width, 2), "float32")
    args = (first.colour, first.covered, frame.colour, person, F(CLIP_LEVELS))
    cuda.kernel("fuse", "judge_layer")(tiles(width, height), TILE, (*args, width, height, judged))
    return holes, explained_badly(judged, regional(judged))


def explained_badly(judged: Any, regions: Any) -> Any:
    """(h, w) bool, whose regions cost more than is usual; judged (h, w, 2): the difference where it
    counts, and 1 where it does; regions: their means."""
    cp, (height, width, _) = cuda.cupy(), judged.shape
    pixels, histogram = height * width, cp.zeros(COSTS, "int32")
    args = (judged, regions, pixels, histogram)
    cuda.kernel("fuse", "count_costs")((COUNTING_BLOCKS,), (BLOCK,), args)
    poor, blocks = cp.empty((height, width), "uint8"), (-(-pixels // BLOCK),)
    limits = F(WORTH_LEVELS), F(LEAST_JUDGED), pixels
    cuda.kernel("fuse", "find_poor")(blocks, (BLOCK,), (*args[:2], histogram, *limits, poor))
    return poor.view(cp.bool_)


def are_worth(*regions: Any) -> list[bool]:
    """Whether each region (h, w) bool is large enough for a layer of its own; 8 bytes of each come
    to the host, at once."""
    shares = cuda.read_back(cuda.cupy().stack(regions).mean((1, 2)))
    return [bool(share > WORTH_SHARE) for share in shares]


def fused(layers: Sequence[Layer], frame: View, person: Any | None) -> tuple[Any, Any]:
    """Weights (N, h, w) of the layers, which sum to 1, and the number of pixels where each has any
    (N,) int32: 0 for a layer not worth it."""
    cp, (width, height), count = cuda.cupy(), frame.size, len(layers)
    owner = owners(costs_of(layers, frame, person))
    sigma = SEAM * max(height, width)
    side = round(8 * sigma + 1) | 1  # as cv2.GaussianBlur chooses for floats
    bell, radius = cp.asarray(cv2.getGaussianKernel(side, sigma, cv2.CV_32F).ravel()), side // 2
    shares, weights = (cp.empty((count, height, width), "float32") for _ in range(2))
    window = bell, radius, width, height
    cuda.kernel("fuse", "soften_owners")(tiles(*frame.size, count), TILE, (owner, *window, shares))
    used, covered = cp.zeros(count, "int32"), cp.stack([layer.covered for layer in layers])
    args = (shares, covered, count, *window, weights, used)
    cuda.kernel("fuse", "weigh_layers")(tiles(*frame.size), TILE, args)
    return weights, used


def owners(costs: Any) -> Any:
    """(h, w) uint8, the layer of each region, of those that are worth it; costs (h, w, N)."""
    cp, (height, width, layers) = cuda.cupy(), costs.shape
    owner = cp.empty((height, width), "uint8")
    before, fewest = cp.full(layers, height * width, "int32"), ceil(WORTH_SHARE * height * width)
    for _ in range(2):
        owned = cp.zeros(layers, "int32")
        args = (costs, layers, F(LOYALTY_LEVELS), before, fewest, width, height, owner, owned)
        cuda.kernel("fuse", "choose_layers")(tiles(width, height), TILE, args)
        before = owned
    return owner
