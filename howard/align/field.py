"""Beyond one plane: a smooth field of displacements on top of the homography.

Where the place is no plane (parallax) or the shutter rolls, the warped plate is still off. Dense
flow from frame to plate says by how much, where it can be believed: where it is textured, agrees
with its neighbours and with a rigid place (`epipolar.py`), leaves no difference, and outside the
person. From there it is carried on, along surfaces and not across their edges, by a smoother that
the plate's own picture guides (Min et al., *Fast Global Image Smoothing*, TIP 2014). The plate
shows nobody, so that what lies under the person moves with the surface that it belongs to; and
since the field is smooth, bounded, and falls to nothing where there is no evidence, it cannot shape
the plate into a person.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from howard.align.direct import Flow, coverage_levels, dense_flow, gradient
from howard.align.epipolar import find_epipole, plausibility
from howard.align.geometry import Homography
from howard.align.view import View, agreement, texture_of

ROUNDS = ((100.0, 5.0, 1), (30.0, 5.0, 0))
"""Smoothness, the colour difference that counts as an edge, and the finest scale of the flow, round
by round: the first brings surfaces near, the second sees to fractions of a pixel what is left."""
LIMIT = 0.08
"""Largest displacement, in longest sides."""
MATCHED_LEVELS = 14.0
TEXTURE = 20.0
"""At these a vector's trust has fallen to about a third."""
LEAST_TRUST = 1e-6
"""In all: with less, nothing is off."""
COMPANY = 1 / 32
"""Of the longest side: the window whose mean a vector is compared with."""
LONELY_PIXELS = 1.0
"""A vector this far from its company counts a quarter: chance matches disagree, surfaces do not."""
LONG_PIXELS, WORTH_LEVELS = 0.5, 1.5
"""A vector longer than the first must leave so much less difference than none does: a pattern of
stripes or bricks explains itself at every period."""
DIFFERENCE_WINDOW = 5
"""Pixels over which differences are averaged."""
NO_EVIDENCE = 0.0005
"""Trust, after smoothing, at which the field has fallen to a half: next to none, for what is flat
or half hidden belongs to a surface whose displacement is seen elsewhere."""
NO_EVIDENCE_BLIND = 0.01
"""While nobody has said where the person is: chance matches on them would be carried on."""
IN_PERSON = 0.03
"""Factor on the trust where the person of the latest matte may be: what is seen beside them
decides, and what a wrong matte took for them speaks where nothing else does."""
NEEDED_PIXELS = 0.4
"""View pixels that trusted places must be off before a field is worth its work."""
NEEDED_SHARE = 0.04
COARSE_LOOKS = ((1, 0.2), (0, 0.25))
"""Finest scale of the flow between coarse textures, and what NEEDED_PIXELS is in their pixels,
twice as large, with a little more for noise. The second look costs three times as much as the
first, and only settles what that leaves in doubt."""
DOUBTFUL_SHARE, SETTLED_SHARE = 0.13, 0.07
"""Off by the first look, in shares of the trust: so many are off on planes too, and less than the
other by the second. Of exact homographies the second look finds 0.03 or less on planes, up to 0.066
where light and a person disturb, and 0.09 or more of the mildest parallax (19 kinds of scene at
960x540, nine of them at 1080p too); of scenes by night 0.04 to 0.1, half of which pass for deep."""

Trust = NDArray[np.float32]
"""(h, w) in [0, 1]."""


def trusted_flow(
    frame: NDArray[np.uint8],
    plate: NDArray[np.uint8],
    covered: NDArray[np.uint8],
    person: NDArray[np.uint8] | None,
    finest: int,
) -> tuple[Flow, Trust]:
    """Flow between two textures (h, w), and how far each vector can be believed. covered, person:
    (h, w), not 0 where the plate has data, and where the person may be. finest: of the flow."""
    flow = worthwhile(dense_flow(frame, plate, finest), frame, plate)
    there = places(flow)
    moved = sampled(plate, there)
    window = DIFFERENCE_WINDOW, DIFFERENCE_WINDOW
    error = cv2.blur(cv2.absdiff(moved, frame), window).astype(np.float32)
    slope = cv2.blur(gradient(frame), window)
    trust = slope / (slope + TEXTURE)
    trust *= np.exp(-((error / MATCHED_LEVELS) ** 2))
    trust *= agreement(frame, moved) * (sampled(covered, there) > 0)
    trust = trust.astype(np.float32)
    if person is not None:
        trust[person != 0] *= IN_PERSON
    side = max(3, round(max(frame.shape) * COMPANY)) | 1
    nearby = cv2.blur(trust, (side, side)) + 1e-3
    apart = np.zeros(trust.shape, np.float32)
    for part in cv2.split(flow):
        apart += np.square(part - cv2.blur(part * trust, (side, side)) / nearby)
    return flow, trust / (1 + apart / LONELY_PIXELS**2) ** 2


def worthwhile(flow: Flow, frame: NDArray[np.uint8], plate: NDArray[np.uint8]) -> Flow:
    """The flow from frame to plate (h, w), 0 where a long vector explains hardly more than none."""
    before, after = (cv2.absdiff(there, frame) for there in (plate, displaced(plate, flow)))
    window = DIFFERENCE_WINDOW, DIFFERENCE_WINDOW
    gain = cv2.blur(cv2.subtract(before, after, dtype=cv2.CV_32F), window)
    x, y = cv2.split(flow)
    out = flow.copy()
    out[(x * x + y * y > LONG_PIXELS**2) & (gain < WORTH_LEVELS)] = 0
    return out


def is_plane(
    frame: NDArray[np.uint8],
    plate: NDArray[np.uint8],
    homography: Homography,
    person: NDArray[np.uint8] | None,
) -> bool:
    """Whether the homography is enough, by two coarse textures, (h, w) and of any size, before the
    work at the views' size is begun. Where it is nearly enough, noise may say that it is not."""
    size = frame.shape[1], frame.shape[0]
    inside = coverage_levels(homography, (plate.shape[1], plate.shape[0]), size)
    covered = (inside == 255).astype(np.uint8)
    warped = np.asarray(cv2.warpPerspective(plate, homography, size), np.uint8)
    now = filled(warped, covered, frame)

    def look(finest: int, limit: float) -> float:
        return share_off(*trusted_flow(frame, now, covered, person, finest), limit)

    return is_plane_by(look)


def is_plane_by(look: Callable[[int, float], float]) -> bool:
    """By what share is off at a finest scale and beyond so many pixels."""
    first, second = COARSE_LOOKS
    share = look(*first)
    if share <= NEEDED_SHARE:
        return True
    return share <= DOUBTFUL_SHARE and look(*second) <= SETTLED_SHARE


def share_off(flow: Flow, trust: Trust, limit: float = NEEDED_PIXELS) -> float:
    """Of what can be believed, in [0, 1]: off by more pixels than `limit`."""
    x, y = cv2.split(flow)
    off = x * x + y * y > limit**2
    return float((trust * off).sum()) / max(float(trust.sum()), LEAST_TRUST)


def residual_field(
    frame: View,
    plate: NDArray[np.uint8],
    covered: NDArray[np.uint8],
    person: NDArray[np.uint8] | None,
) -> Flow | None:
    """The field (h, w, 2): what belongs at x of the frame is at x + field of the warped plate.

    plate: the plate's view's colour (h, w, 3), warped onto the frame's by the homography; covered:
    1 where it has data; person: not 0 where they may be. None where the homography is enough.
    """
    field: Flow | None = None
    for smoothness, edge, finest in ROUNDS:
        now = plate if field is None else displaced(plate, field)
        here = covered if field is None else displaced(covered, field)
        now = filled(now, here, frame.colour)
        flow, trust = trusted_flow(frame.texture, texture_of(now), here, person, finest)
        if field is None and share_off(flow, trust) <= NEEDED_SHARE:
            return None
        total = flow if field is None else displaced(field, flow) + flow
        reach = LIMIT * max(frame.size)
        total = np.clip(total, -reach, reach)
        signal = total, trust * plausible(total, trust)
        field = carried_on(*signal, now, smoothness, edge, no_evidence(person))
    return field


def plausible(flow: Flow, trust: Trust) -> Trust:
    """(h, w), how far each vector is one that two cameras can have made."""
    xs, ys = (np.arange(count, dtype=np.float32) for count in trust.shape[::-1])
    epipole = find_epipole(flow, trust)
    return np.asarray(plausibility(flow[..., 0], flow[..., 1], xs, ys, epipole), np.float32)


def filled(
    plate: NDArray[np.uint8], covered: NDArray[np.uint8], frame: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """plate (h, w[, 3]), and where it has no data the frame's own levels, so that it does not end
    in an edge that draws the flow away. The field alone looks at it: it is never shown."""
    return np.asarray(cv2.copyTo(plate, covered, frame.copy()), np.uint8)


def no_evidence(person: Any | None) -> float:
    """Of a field with what is known of the person."""
    return NO_EVIDENCE_BLIND if person is None else NO_EVIDENCE


def carried_on(
    flow: Flow,
    trust: Trust,
    guide: NDArray[np.uint8],
    smoothness: float,
    edge: float,
    least: float,
) -> Flow:
    """The mean of the trusted vectors on the same surface of the guide (h, w, 3); half of it where
    their trust is `least`."""
    smoother = cv2.ximgproc.createFastGlobalSmootherFilter(guide, smoothness, edge)
    weight = smoother.filter(trust)
    parts = [smoother.filter(part * trust) / (weight + least) for part in cv2.split(flow)]
    return np.asarray(cv2.merge(parts), np.float32)


def displaced(picture: NDArray, flow: Flow) -> NDArray:
    """picture (h, w[, C]) at x + flow, bilinear; 0 outside."""
    return sampled(picture, places(flow))


def places(flow: Flow) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """x + flow, (h, w) each."""
    height, width = flow.shape[:2]
    xs, ys = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
    return flow[..., 0] + xs, flow[..., 1] + ys


def sampled(picture: NDArray, where: tuple[NDArray[np.float32], NDArray[np.float32]]) -> NDArray:
    """picture (h, w[, C]) at places, bilinear; 0 outside."""
    return cv2.remap(picture, *where, cv2.INTER_LINEAR)
