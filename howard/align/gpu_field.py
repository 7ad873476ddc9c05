"""Beyond one plane, on the GPU: `howard.align.field` over device arrays, with its arithmetic."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from howard import cuda
from howard.align import epipolar
from howard.align.field import (
    COMPANY,
    DIFFERENCE_WINDOW,
    IN_PERSON,
    LEAST_TRUST,
    LIMIT,
    LONELY_PIXELS,
    LONG_PIXELS,
    MATCHED_LEVELS,
    NEEDED_PIXELS,
    NEEDED_SHARE,
    ROUNDS,
    TEXTURE,
    WORTH_LEVELS,
    is_plane_by,
    no_evidence,
)
from howard.align.geometry import Homography
from howard.align.gpu_direct import dense_flow, warped
from howard.align.gpu_smooth import smooth
from howard.align.gpu_view import BLOCK, agreement, box_mean, gradient, texture_of
from howard.align.view import View
from howard.cuda import TILE, tiles

F = np.float32


class Detail(NamedTuple):
    """What of a frame says where flow can be believed."""

    texture: Any
    """(h, w) uint8."""
    slope: Any
    """(h, w) float32, the texture's gradient, averaged."""


class Evidence(NamedTuple):
    """What flow says of a field, and how far it can be believed."""

    signal: Any
    """(h, w, 3): the displacement on top of the homography times its trust, and the trust."""
    sums: Any
    """(2,): of the trust in what is off, and in all."""


def residual_field(frame: View, plate: Any, covered: Any, person: Any | None) -> Any | None:
    """The field (h, w, 2) float32: what belongs at x of the frame is at x + field of the warped
    plate.

    plate: colour (h, w, 3) of the frame's size, warped by the homography; covered: 1 where it has
    data; person: not 0 where they may be. None where the homography is enough, which takes 8 bytes
    to the host.
    """
    detail = detail_of(frame.texture)
    cp, field = cuda.cupy(), None
    for smoothness, edge, finest in ROUNDS:
        now = plate if field is None else displaced(plate, field)
        here = covered if field is None else displaced(covered, field)
        # Without data, the frame's own, so that there is no edge that draws the flow away.
        now = cp.where(here[..., None] > 0, now, frame.colour)
        signal, sums = evidence(detail, texture_of(now), here, person, field, finest)
        if field is None and share_off(sums) <= NEEDED_SHARE:
            return None
        signal *= plausible(signal)[..., None]
        smooth(now, signal, smoothness, edge)
        field = signal[..., :2] / (signal[..., 2:] + F(no_evidence(person)))
    return field


def plausible(signal: Any) -> Any:
    """(h, w), how far each vector of a signal (h, w, 3) is one that two cameras can have made."""
    cp, (height, width) = cuda.cupy(), signal.shape[:2]
    epipole = cp.empty(4, "float32")
    (wider, _), (wider_far, _) = epipolar.STARTS
    seen = F(epipolar.LEAST_TRUST), F(epipolar.LEAST_PIXELS), epipolar.FEWEST
    widths = F(epipolar.CLOSE_PIXELS), wider, wider_far
    limits = *seen, *widths, F(epipolar.CONSISTENT_SHARE), epipolar.ROUNDS
    args = signal, width, height, epipolar.sampling(height, width), *limits, epipole
    cuda.kernel("epipole", "find_epipole")((1,), (BLOCK,), args)
    xs, ys = (cp.arange(count, dtype="float32") for count in (width, height))
    flow = signal[..., :2] / cp.maximum(signal[..., 2:], F(1e-9))
    return epipolar.plausibility(flow[..., 0], flow[..., 1], xs, ys, epipole)


def is_plane(frame: Any, plate: Any, homography: Homography, person: Any | None) -> bool:
    """Whether the homography is enough, by two coarse textures, (h, w) and of any size."""
    cp = cuda.cupy()
    there_and_back = cp.asarray(np.stack([homography, np.linalg.inv(homography)]).ravel())
    pictures, inside = warped(frame, plate[None], there_and_back)
    covered = (inside[0] == 255).astype("uint8")
    now = cp.where(covered > 0, pictures[1], frame)
    detail = detail_of(frame)

    def look(finest: int, limit: float) -> float:
        return share_off(evidence(detail, now, covered, person, None, finest, limit).sums)

    return is_plane_by(look)


def detail_of(texture: Any) -> Detail:
    """Of a frame's."""
    return Detail(texture, box_mean(gradient(texture), DIFFERENCE_WINDOW))


def evidence(
    frame: Detail,
    plate: Any,
    covered: Any,
    person: Any | None,
    field: Any | None,
    finest: int,
    limit: float = NEEDED_PIXELS,
) -> Evidence:
    """What the flow, down to the finest scale, from a frame to a texture (h, w), displaced by the
    field so far, says; off is what is so by more pixels than `limit`."""
    flow = worthwhile(dense_flow(frame.texture, plate[None], finest)[0], frame.texture, plate)
    trusted = trusted_flow(frame, plate, covered, person, flow)
    height, width = plate.shape
    around = box_mean(trusted, max(3, round(max(height, width) * COMPANY)) | 1)
    cp, blocks = cuda.cupy(), -(-height * width // BLOCK)
    signal, sums = cp.empty((height, width, 3), "float32"), cp.empty((blocks, 2), "float32")
    before = flow if field is None else field
    reach = F(LIMIT * max(height, width))
    limits = F(LONELY_PIXELS), F(limit), reach, width, height
    args = (flow, trusted, around, before, int(field is not None), *limits, signal, sums)
    cuda.kernel("field", "believe_flow")((blocks,), (BLOCK,), args)
    return Evidence(signal, sums.sum(0))


def worthwhile(flow: Any, frame: Any, plate: Any) -> Any:
    """The flow from frame to plate (h, w), 0 where a long vector explains hardly more than none."""
    cp, wanted = cuda.cupy(), frame.astype("float32")
    before, after = (cp.abs(there - wanted) for there in (plate, displaced(plate, flow)))
    gain = box_mean(before - after, DIFFERENCE_WINDOW)
    is_long = (flow * flow).sum(-1) > F(LONG_PIXELS**2)
    return cp.where((is_long & (gain < F(WORTH_LEVELS)))[..., None], F(0), flow)


def trusted_flow(frame: Detail, plate: Any, covered: Any, person: Any | None, flow: Any) -> Any:
    """(h, w, 3): each vector times its trust, and the trust, from what it is by itself."""
    height, width = plate.shape
    moved = displaced(plate, flow)
    out = cuda.cupy().empty((height, width, 3), "float32")
    # Where nobody knows of a person, any picture may stand for theirs.
    where, hidden = (covered, 1.0) if person is None else (person, IN_PERSON)
    pictures = frame.texture, moved, flow, frame.slope, agreement(frame.texture, moved), covered
    limits = F(hidden), F(MATCHED_LEVELS), F(TEXTURE)
    args = (*pictures, where, *limits, width, height, out)
    cuda.kernel("field", "trust_flow")(tiles(width, height), TILE, args)
    return out


def share_off(sums: Any) -> float:
    """Of what can be believed, in [0, 1]: what is off."""
    off, total = cuda.read_back(sums)
    return float(off) / max(float(total), LEAST_TRUST)


def displaced(picture: Any, flow: Any) -> Any:
    """picture (h, w[, C]) uint8 at x + flow, bilinear; 0 outside."""
    height, width = flow.shape[:2]
    out = cuda.cupy().empty_like(picture)
    channels = picture.size // (width * height)
    args = (picture, width, height, channels, flow, out)
    cuda.kernel("field", "displace_levels")(tiles(width, height), TILE, args)
    return out
