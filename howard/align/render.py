"""The plate at full resolution: one resampling through homography and field, then the light."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from howard.align.direct import Flow
from howard.align.geometry import Homography

STEP = 4
"""Full pixels between the nodes at which the map is computed; between them it is bilinear, which
for a homography of video is exact to a hundredth of a pixel."""

EDGE = 0.05
"""Pixels by which a sample may miss the plate: what alignments err by, which would leave a line of
holes around the picture where the takes are the same."""

Map = NDArray[np.float32]
"""(H, W, 2) xy in the plate for each pixel of the frame."""


def plate_map(frame_from_plate: Homography, size: tuple[int, int], field: Flow | None) -> Map:
    """Where in the plate each pixel of the frame, (width, height), lies. field: (h, w, 2) in its
    own pixels, at any smaller size: frame's x is the warped plate's x + field."""
    width, height = size
    # One node more on each side: resizing must not run out of them at the border.
    xs = STEP * np.arange(-1, -(-width // STEP) + 1, dtype=np.float64) + (STEP - 1) / 2
    ys = STEP * np.arange(-1, -(-height // STEP) + 1, dtype=np.float64) + (STEP - 1) / 2
    x, y = np.meshgrid(xs, ys)
    if field is not None:
        rows, columns = field.shape[:2]
        sx, sy = columns / width, rows / height
        at = ((x + 0.5) * sx - 0.5).astype(np.float32), ((y + 0.5) * sy - 0.5).astype(np.float32)
        moved = cv2.remap(field, *at, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        x, y = x + moved[..., 0] / sx, y + moved[..., 1] / sy
    a = np.linalg.inv(frame_from_plate)
    w = a[2, 0] * x + a[2, 1] * y + a[2, 2]
    nodes = np.dstack(
        [
            (a[0, 0] * x + a[0, 1] * y + a[0, 2]) / w,
            (a[1, 0] * x + a[1, 1] * y + a[1, 2]) / w,
        ]
    ).astype(np.float32)
    full = cv2.resize(nodes, None, fx=STEP, fy=STEP, interpolation=cv2.INTER_LINEAR)
    return np.asarray(full[STEP : STEP + height, STEP : STEP + width], np.float32)


def is_inside(where: Map, plate_size: tuple[int, int]) -> NDArray[np.uint8]:
    """(H, W), 1 where all four plate pixels that a bilinear sample draws on exist, but for EDGE."""
    last = (plate_size[0] - 1 + EDGE, plate_size[1] - 1 + EDGE)
    inside = cv2.inRange(where, (-EDGE, -EDGE), last)
    return np.asarray(inside, np.uint8) & np.uint8(1)


def covered_by(
    frame_from_plate: Homography, size: tuple[int, int], plate_size: tuple[int, int]
) -> NDArray[np.uint8]:
    """The same of a homography alone, for a frame of this size: in every row a run of pixels, since
    the plate's edges stay straight."""
    width, height = size
    a = np.linalg.inv(frame_from_plate)
    x, y, w = a / (a[2] @ [(width - 1) / 2, (height - 1) / 2, 1.0])
    planes = [w]  # at least 0 at pixels in front of the camera, and on the near side of each edge
    for at, count in zip((x, y), plate_size, strict=True):
        planes += [at + EDGE * w, (count - 1 + EDGE) * w - at]
    rows = np.arange(height)
    first, last = np.zeros(height), np.full(height, width - 1.0)
    for across, along, offset in planes:
        rest = along * rows + offset
        if across > 0:
            first = np.maximum(first, np.ceil(-rest / across))
        elif across < 0:
            last = np.minimum(last, np.floor(-rest / across))
        else:
            last[rest < 0] = -1
    covered = np.zeros((height, width), np.uint8)
    runs = (v.clip(0, width).astype(int).tolist() for v in (first, last + 1))
    for row, begin, end in zip(covered, *runs, strict=True):
        row[begin:end] = 1
    return covered


def warped(
    pixels: NDArray[np.uint8], frame_from_plate: Homography, size: tuple[int, int]
) -> NDArray[np.uint8]:
    """As `resampled`, on a frame of this size (width, height), by a homography alone."""
    drawn = cv2.warpPerspective(
        four_channels(pixels),
        np.linalg.inv(frame_from_plate),
        size,
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return three_channels(drawn)


def resampled(pixels: NDArray[np.uint8], where: Map) -> NDArray[np.uint8]:
    """pixels (H', W', 3) at the map's places, bilinear; outside, those of the edge."""
    # No second map: x and y are in the first. The stubs do not know of that form.
    how = {"interpolation": cv2.INTER_LINEAR, "borderMode": cv2.BORDER_REPLICATE}
    drawn = cv2.remap(four_channels(pixels), where, None, **how)  # type: ignore[call-overload]
    return three_channels(drawn)


def four_channels(pixels: NDArray[np.uint8]) -> cv2.typing.MatLike:
    """With one more, since OpenCV samples four channels in half the time of three."""
    return cv2.cvtColor(pixels, cv2.COLOR_RGB2RGBA)


def three_channels(pixels: cv2.typing.MatLike) -> NDArray[np.uint8]:
    """Without it."""
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGBA2RGB), np.uint8)


def relit(pixels: NDArray[np.uint8], gain: NDArray[np.float32]) -> NDArray[np.uint8]:
    """pixels (H, W, 3) times a gain (h, w, 3) at any smaller size."""
    full = cv2.resize(gain, pixels.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    return np.asarray(cv2.multiply(pixels, full, dtype=cv2.CV_8U), np.uint8)
