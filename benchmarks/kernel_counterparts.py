"""What one would write without our kernels: the same work by CuPy, cupyx.scipy or OpenCV's CUDA.

A counterpart is made from the arguments of the work's first kernel, by the parameters' names, on
the device. It gives what the work's last kernel gives, as near as its library comes to it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from benchmarks.kernel_frames import searched_to
from benchmarks.kernel_work import EXACT, ROUNDED, TIES, Tolerance
from howard.cuda import cupy

Arguments = Mapping[str, Any]
Call = Callable[[], Any]
F = np.float32

AT_EDGES = Tolerance(1.0, beyond=0.01)
"""Levels. Which pixels still lie on the plate is a matter of rounding, and OpenCV lets its border
fade."""
SCORES = Tolerance(0.05, relative=1e-3)
"""Differences of float32 sums of some ten thousands."""


class Missing(Exception):
    """The library is not installed, or was built without what is needed."""


@dataclass(frozen=True)
class Counterpart:
    """The same work by a library."""

    library: str
    output: str
    """What it gives, by the parameter's name."""
    tolerance: Tolerance
    make: Callable[[Arguments], Call]
    """Raises Missing."""
    part: Callable[[Any], Any] = lambda output: output
    """Of the output, what it gives."""


def ndimage() -> Any:
    """cupyx.scipy.ndimage."""
    try:
        from cupyx.scipy import ndimage
    except ImportError as error:
        raise Missing(str(error)) from error
    return ndimage


def opencv() -> Any:
    """cv2.cuda, if OpenCV was built with it: no wheel is."""
    if cv2.cuda.getCudaEnabledDeviceCount() < 1:
        raise Missing("this OpenCV was built without CUDA")
    return cv2.cuda


def matrix_of(array: Any) -> Any:
    """A picture (H, W) or (H, W, C) uint8 of CuPy's as OpenCV's GpuMat, the same memory."""
    height, width, channels = (*array.shape, 1)[:3]
    kind = {1: cv2.CV_8UC1, 3: cv2.CV_8UC3}[channels]
    return opencv().createGpuMatFromCudaMemory(height, width, kind, array.data.ptr)


def stream() -> Any:
    """CuPy's current stream as OpenCV's."""
    return opencv().wrapStream(cupy().cuda.get_current_stream().ptr)


# Frames


def coloured(a: Arguments) -> Call:
    """Chroma from what DALI made of samples beside the left one of two columns."""
    cp, ycbcr, matrix = cupy(), a["ycbcr"], a["matrix"].reshape(3, 4)
    width = a["width"]
    beside = [cp.clip(cp.arange(width) + by, 0, width - 1) for by in (-1, 1, 2)]
    is_odd = (cp.arange(width) % 2).reshape(-1, 1) > 0

    def call() -> Any:
        levels = ycbcr.astype(F)
        chroma = levels[..., 1:]
        left, right, far = (chroma[:, :, at] for at in beside)
        near = chroma + right
        levels[..., 1:] = cp.where(is_odd, near * F(0.5), near * F(0.75) - (left + far) * F(0.25))
        return cp.rint(cp.clip(levels @ matrix[:, :3].T + matrix[:, 3], 0, 255)).astype("uint8")

    return call


def resized_by_means(a: Arguments) -> Call:
    """For whole factors, of which 1080p and 2160p are."""
    out, source = a["target"], a["source"]
    down, across = a["height"] // a["target_height"], a["width"] // a["target_width"]
    if (a["target_height"] * down, a["target_width"] * across) != (a["height"], a["width"]):
        raise Missing("a mean over blocks needs a whole factor")
    blocks = source.reshape(out.shape[0], out.shape[1], down, out.shape[2], across, out.shape[3])
    return lambda: cupy().rint(blocks.mean((2, 4), dtype=F)).astype("uint8")


def resized_by_opencv(a: Arguments) -> Call:
    out = cupy().empty_like(a["target"])
    there, here, queue, size = matrix_of(a["source"][0]), matrix_of(out[0]), stream(), out.shape

    def call() -> Any:
        wanted = size[2], size[1]
        opencv().resize(there, wanted, here, 0, 0, cv2.INTER_AREA, stream=queue)
        return out

    return call


def drawn_by_ndimage(a: Arguments) -> Call:
    cp, library = cupy(), ndimage()
    x = cp.arange(a["frame_width"], dtype=F)
    y = cp.arange(a["frame_height"], dtype=F).reshape(-1, 1)
    h, plate = [F(v) for v in a["plate_from_frame"].get()], a["plate"]

    def call() -> Any:
        w = h[6] * x + h[7] * y + h[8]
        at = cp.stack([(h[k] * x + h[k + 1] * y + h[k + 2]) / w for k in (3, 0)])
        inside = (at >= 0) & (at <= cp.asarray(plate.shape[:2]).reshape(2, 1, 1) - 1)
        levels = [library.map_coordinates(plate[..., c], at, F, order=1) for c in range(3)]
        return cp.rint(cp.stack(levels, -1) * inside.all(0)[..., None]).astype("uint8")

    return call


def drawn_by_opencv(a: Arguments) -> Call:
    out = cupy().empty_like(a["pixels"])
    there, here, queue = matrix_of(a["plate"]), matrix_of(out), stream()
    homography = a["plate_from_frame"].get().reshape(3, 3).astype(np.float64)
    size, how = out.shape[1::-1], cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP

    def call() -> Any:
        opencv().warpPerspective(there, homography, size, here, how, stream=queue)
        return out

    return call


def laid_over(a: Arguments) -> Call:
    cp, library, weight = cupy(), ndimage(), a["weight"]
    above, covered, below, before = (
        a[name] for name in ("above", "above_coverage", "pixels", "coverage")
    )
    times = [to / of for to, of in zip(covered.shape, weight.shape, strict=True)]

    def call() -> Any:
        share = library.zoom(weight, times, order=1, mode="nearest", grid_mode=True) * covered
        share = cp.where((covered > 0) & (before == 0), F(1), share)[..., None]
        levels = below.astype(F)
        return cp.rint(levels + (above.astype(F) - levels) * share).astype("uint8")

    return call


def packed(a: Arguments) -> Call:
    cp, pictures, scale = cupy(), a["pictures"], a["scale"]
    shown, (width, height) = a["coverage"][..., None] > 0, (a["width"], a["height"])
    planes = cp.empty(a["planes"].shape, cp.float16)

    def call() -> Any:
        values = cp.where(shown, pictures * scale, F(0)).astype(cp.float16)
        planes[..., :height, :width] = values.transpose(0, 3, 1, 2)
        planes[..., height:, :width] = planes[..., height - 1 : height, :width]
        planes[..., width:] = planes[..., width - 1 : width]
        return planes.view(cp.uint16)

    return call


def unpacked(a: Arguments) -> Call:
    cp, width, height = cupy(), a["width"], a["height"]
    planes = [a[name].view(cp.float16)[..., :height, :width] for name in ("foreground", "alpha")]

    def call() -> Any:
        values = cp.concatenate(planes, axis=1).astype(F).transpose(0, 2, 3, 1)
        levels = cp.rint(cp.clip(values, 0, 1) * F(255)).astype("uint8")
        alpha = levels[..., 3:]
        alpha[:] = cp.where(alpha >= 254, 255, cp.where(alpha <= 1, 0, alpha))
        return levels * (alpha > 0)

    return call


# Views


def luma_by_opencv(a: Arguments) -> Call:
    out = cupy().empty_like(a["luma"])
    there, here, queue = matrix_of(a["rgb"][0]), matrix_of(out[0]), stream()

    def call() -> Any:
        opencv().cvtColor(there, cv2.COLOR_RGB2GRAY, here, 0, stream=queue)
        return out

    return call


def luma_by_sums(a: Arguments) -> Call:
    rgb, weights = a["rgb"], (9798, 19235, 3735)

    def call() -> Any:
        sums = sum(rgb[..., c].astype("int32") * weight for c, weight in enumerate(weights))
        return ((sums + (1 << 14)) >> 15).astype("uint8")

    return call


def box_by_ndimage(a: Arguments) -> Call:
    """Its "mirror" does not repeat the edge: our border."""
    library, source, side = ndimage(), a["source"], a["side"]
    planes = source.reshape(source.shape[0], source.shape[1], source.shape[3])

    def call() -> Any:
        return library.uniform_filter(planes, (1, side, side), mode="mirror")[..., None]

    return call


def corners_by_ndimage(a: Arguments) -> Call:
    cp, library, luma, margin = cupy(), ndimage(), a["luma"][0], a["margin"]
    out = cp.zeros_like(a["score"])

    def call() -> Any:
        levels = luma.astype(F)
        x, y = (library.sobel(levels, axis) * F(0.125) for axis in (1, 0))
        xx, yy, xy = (library.uniform_filter(v, 5) for v in (x * x, y * y, x * y))
        half = (xx - yy) * F(0.5)
        score = (xx + yy) * F(0.5) - cp.sqrt(half * half + xy * xy)
        inner = slice(margin, -margin), slice(margin, -margin)
        out[0][inner] = cp.maximum(score, F(0))[inner]
        return out

    return call


def blurred_by_ndimage(a: Arguments) -> Call:
    library, levels, weights = ndimage(), a["source"][0, ..., 0], a["weights"]

    def call() -> Any:
        lines = library.correlate1d(levels, weights, 1, F, mode="mirror")
        both = library.correlate1d(lines, weights, 0, F, mode="mirror")
        return cupy().rint(both).astype("uint8")[None, ..., None]

    return call


def nearest_by_products(a: Arguments) -> Call:
    """Hamming distances as products of matrices of -1 and 1, for which GPUs have units."""
    cp, (first, second) = cupy(), a["descriptors"]

    def call() -> Any:
        bits = [cp.unpackbits(d.view("uint8")).reshape(len(d), 256) for d in (first, second)]
        signs = [b.astype(cp.float16) * cp.float16(2) - cp.float16(1) for b in bits]
        distances = (256 - (signs[0] @ signs[1].T).astype("int32")) >> 1
        return cp.stack([distances.min(1), distances.min(0)])

    return call


def scored(a: Arguments) -> Call:
    cp, threshold = cupy(), a["threshold"]
    x, y, u, v = (a["matched"][:, None, :, k] for k in range(4))
    h = a["homographies"].astype(F)[..., None]

    def call() -> Any:
        w = h[:, :, 6] * x + h[:, :, 7] * y + h[:, :, 8]
        across = (h[:, :, 0] * x + h[:, :, 1] * y + h[:, :, 2]) / w - u
        down = (h[:, :, 3] * x + h[:, :, 4] * y + h[:, :, 5]) / w - v
        share = cp.minimum(cp.sqrt(across * across + down * down) / threshold, F(1))
        left = cp.where(w > 0, 1 - share, F(0))
        return (left * left).sum(-1)

    return call


def distances_by_ndimage(a: Arguments) -> Call:
    cp, library, holes = cupy(), ndimage(), 1 - a["solid"][0]
    most = F(searched_to(a["reach"]))

    def call() -> Any:
        return cp.minimum(library.distance_transform_edt(holes), most).astype(F)[None]

    return call


COUNTERPARTS: dict[str, tuple[Counterpart, ...]] = {
    "ycbcr_to_rgb": (Counterpart("cupy", "rgb", TIES, coloured),),
    "resize_area": (
        Counterpart("cupy", "target", TIES, resized_by_means),
        Counterpart("opencv", "target", TIES, resized_by_opencv),
    ),
    "draw_plate_plain": (
        Counterpart("cupyx", "pixels", AT_EDGES, drawn_by_ndimage),
        Counterpart("opencv", "pixels", AT_EDGES, drawn_by_opencv),
    ),
    "lay_over": (Counterpart("cupyx", "pixels", TIES, laid_over),),
    "pack_planes": (Counterpart("cupy", "planes", EXACT, packed),),
    "unpack_rgba8": (Counterpart("cupy", "rgba", EXACT, unpacked),),
    "luma_from_rgb": (
        Counterpart("cupy", "luma", EXACT, luma_by_sums),
        Counterpart("opencv", "luma", TIES, luma_by_opencv),
    ),
    "box_mean": (Counterpart("cupyx", "target", ROUNDED, box_by_ndimage),),
    "corner_score": (Counterpart("cupyx", "score", SCORES, corners_by_ndimage),),
    "blur": (Counterpart("cupyx", "target", TIES, blurred_by_ndimage),),
    "hamming_best_two": (
        Counterpart("cupy", "distances", EXACT, nearest_by_products, lambda d: d[..., 0]),
    ),
    "score_homographies": (Counterpart("cupy", "scores", ROUNDED, scored),),
    "nearest_solid": (Counterpart("cupyx", "distance", ROUNDED, distances_by_ndimage),),
}
"""By the names of the works."""
