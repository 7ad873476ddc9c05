"""Foregrounds: rendered people from a folder of RGBA images, drawn silhouettes else."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.training.textures import Image, texture
from howard.errors import InputError

VERSION = 2
"""Of how cut-outs are decoded (`premultiplied`): raise it with a change, for no cache to keep what
was decoded before."""
Foreground = NDArray[np.float32]
"""(H, W, 4) premultiplied RGBA in [0, 1]: premultiplied, so that it can be resampled."""
CUT_SHARE = 0.05
"""Of a side of a cut-out, is opaque where the person goes on beyond it."""
CUT_INSIDE = 0.03
"""Of its size, farther inside lies the line that the outermost is compared with."""
FILLS = 1.6
"""How much larger one may become that is cut off on both sides, to fill the frame."""


class People:
    """A folder of straight RGBA images with exact alpha, decoded once into a cache.

    folder: images that OpenCV reads with an alpha channel. cache: where the decoded,
    premultiplied pixels go (about 1.2 MB each). side: longest side kept.
    """

    def __init__(self, files: list[Path], cache: Path, side: int = 768) -> None:
        cache.mkdir(parents=True, exist_ok=True)
        self.files = []
        for file in files:
            stored = cache / f"{file.stem}_{side}_{fingerprint(file)}.npy"
            if not stored.exists():
                partial = stored.with_suffix(f".{os.getpid()}.npy")
                np.save(partial, premultiplied(file, side))
                partial.replace(stored)
            self.files.append(stored)

    def __len__(self) -> int:
        return len(self.files)

    def pick(self, rng: np.random.Generator) -> NDArray[np.uint8]:
        """One person as stored, (H, W, 4) premultiplied, mapped from the disk."""
        stored: NDArray[np.uint8] = np.load(
            self.files[rng.integers(len(self.files))], mmap_mode="r"
        )
        return stored


def fingerprint(file: Path) -> str:
    """Of where it lies, its size, when it was written, and how it is decoded: another folder may
    have a file of its name, and what replaces it may be as old."""
    found = file.stat()
    key = f"{VERSION} {file.resolve()} {found.st_size} {found.st_mtime_ns}"
    return hashlib.sha256(key.encode()).hexdigest()[:12]


def recoloured(
    rng: np.random.Generator, person: NDArray[np.floating], plain: bool = False
) -> Foreground:
    """Perhaps mirrored; other light and, unless `plain`, clothes and contrast."""
    if rng.random() < 0.5:
        person = person[:, ::-1]
    alpha = person[..., 3:]
    gain = rng.uniform(0.5, 1.3) * rng.normal(1, 0.06, 3)
    colour = np.asarray(person[..., :3] * gain.astype(np.float32), np.float32)
    if rng.random() < 0.5:
        colour = colour * ramp(rng, *colour.shape[:2])
    if not plain and rng.random() < 0.25:  # other clothes: a colour cast that keeps the luma
        luma = colour.mean(-1, keepdims=True)
        mix = np.float32(rng.uniform(0, 0.8))
        tint = rng.uniform(0.3, 1.7, 3).astype(np.float32)
        colour = colour * (1 - mix) + luma * tint * mix
    colour = np.clip(colour, 0, alpha)
    if not plain and rng.random() < 0.25:  # other contrast
        power = np.float32(rng.uniform(0.6, 1.7))
        colour = alpha * (colour / np.maximum(alpha, 1e-4)) ** power
    return np.concatenate([colour, alpha], -1)


def ramp(rng: np.random.Generator, height: int, width: int) -> NDArray[np.float32]:
    """Light from one side, (H, W, 1): what comes from a window or a low sun."""
    angle, strength = rng.uniform(0, 2 * np.pi), rng.uniform(0.1, 0.6)
    down = np.linspace(-1, 1, height)[:, None] * np.sin(angle)
    across = np.linspace(-1, 1, width) * np.cos(angle)
    return (1 + strength * np.clip(down + across, -1, 1))[..., None].astype(np.float32)


def premultiplied(file: Path, side: int) -> NDArray[np.uint8]:
    """Read straight RGBA, return premultiplied RGBA uint8, longest side at most `side`, cropped."""
    return cropped([scaled(file, side)], file)[0]


def scaled(file: Path, side: int) -> NDArray[np.uint8]:
    """Read straight RGBA of 8 or 16 bits, return premultiplied RGBA uint8, longest side at most
    `side`. Raises InputError."""
    bgra = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
    if bgra is None or bgra.ndim != 3 or bgra.shape[2] != 4:
        raise InputError(f"{file} is no image with an alpha channel: give straight RGBA, as PNG")
    if bgra.dtype not in (np.uint8, np.uint16):
        raise InputError(f"{file} holds {bgra.dtype}: give 8 or 16 bits a channel, as PNG")
    rgba = bgra[..., [2, 1, 0, 3]].astype(np.float32)
    if bgra.dtype == np.uint16:
        rgba /= 257  # 65535 -> 255
    rgba[..., :3] *= rgba[..., 3:] / 255
    scale = side / max(rgba.shape[:2])
    if scale < 1:
        size = (round(rgba.shape[1] * scale), round(rgba.shape[0] * scale))
        rgba = np.asarray(cv2.resize(rgba, size, interpolation=cv2.INTER_AREA), np.float32)
    return np.rint(rgba).astype(np.uint8)


def cropped(frames: list[NDArray[np.uint8]], file: Path) -> list[NDArray[np.uint8]]:
    """Pictures (H, W, 4) of one size, cropped to what is opaque in any of them. Raises InputError,
    which names the first's file, where that is nothing."""
    seen = np.max([frame[..., 3] for frame in frames], 0) > 2
    if not seen.any():
        raise InputError(f"{file} is transparent throughout: leave it out")
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return [frame[box] for frame in frames]


def fixed(points: NDArray[Any]) -> NDArray[np.int32]:
    """As OpenCV draws with 4 bits after the point."""
    return np.round(points * 16).astype(np.int32)


def outline(rng: np.random.Generator, height: int, width: int) -> NDArray[np.float64]:
    """A wobbly closed curve, (64, 2) xy."""
    angle = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    radius = np.ones(64)
    for f in range(1, 9):
        radius += rng.normal(0, 0.25 / f) * np.cos(f * angle + rng.uniform(0, 2 * np.pi))
    radius = np.clip(radius, 0.2, 2) * rng.uniform(0.08, 0.35) * min(height, width)
    stretch = rng.uniform(0.7, 1.4)
    centre = rng.uniform(0.15, 0.85, 2) * (width, height)
    x = centre[0] + radius * np.cos(angle) * stretch
    y = centre[1] + radius * np.sin(angle) / stretch
    return np.stack([x, y], 1)


def silhouette(rng: np.random.Generator, height: int, width: int) -> NDArray[np.float32]:
    """A drawn person: head, trunk, perhaps arms, perhaps hair. Alpha (H, W)."""
    alpha = np.zeros((height, width), np.float32)
    cx, half = rng.uniform(0.2, 0.8) * width, rng.uniform(0.12, 0.3) * height
    top, head = rng.uniform(0.1, 0.5) * height, half * rng.uniform(0.3, 0.5)
    axes, centre = (fixed(np.array(xy)).tolist() for xy in ((head, head * 1.3), (cx, top)))
    cv2.ellipse(alpha, centre, axes, rng.uniform(-20, 20), 0, 360, 1.0, -1, cv2.LINE_AA, 4)
    shoulder = top + head * rng.uniform(1.3, 1.8)
    left, right = half * rng.uniform(0.7, 1.3, 2)
    trunk = [
        [cx - half * 0.2, top + head * 0.8],
        [cx + half * 0.2, top + head * 0.8],
        [cx + half, shoulder + half * 0.2],
        [cx + right, height * 1.1],
        [cx - left, height * 1.1],
        [cx - half, shoulder + half * 0.2],
    ]
    cv2.fillPoly(alpha, [fixed(np.array(trunk))], 1.0, cv2.LINE_AA, 4)
    for side in (-1, 1):
        if rng.random() < 0.4:
            joint = np.array([cx + side * half * 0.9, shoulder + half * 0.3])
            for reach in (1.2, 1.0):
                end = joint + rng.normal(0, half * reach, 2)
                width_px = int(max(2, half * rng.uniform(0.15, 0.35)))
                start, stop = joint.astype(int).tolist(), end.astype(int).tolist()
                cv2.line(alpha, start, stop, 1.0, width_px, cv2.LINE_AA)
                joint = end
    soft = cv2.GaussianBlur(alpha, (0, 0), rng.choice([0.4, 0.7, 1.0, 1.5]))
    return np.maximum(np.asarray(soft, np.float32), hair(rng, height, width, (cx, top), head))


def hair(
    rng: np.random.Generator, height: int, width: int, centre: tuple[float, float], radius: float
) -> NDArray[np.float32]:
    """Strands around a head, (H, W)."""
    strands = np.zeros((height, width), np.float32)
    strength, curl = rng.uniform(0.4, 1.0), rng.normal()
    steps = np.linspace(0, 1, 8)
    for _ in range(int(rng.integers(0, 200))):
        at = rng.uniform(np.pi, 2 * np.pi) + rng.normal(0, 0.5)
        start = np.array(centre) + radius * np.array([0.9 * np.cos(at), 1.15 * np.sin(at)])
        heading = at + curl * steps + rng.normal(0, 0.3) + rng.normal(0, 0.5) * steps**2
        step = np.stack([np.cos(heading), np.sin(heading)], 1) * radius * rng.uniform(0.1, 0.8) / 8
        points = fixed(start + np.cumsum(step, 0))
        opacity = float(strength * rng.uniform(0.5, 1))
        cv2.polylines(strands, [points], False, opacity, 1, cv2.LINE_AA, 4)
    return strands


def drawn(rng: np.random.Generator, height: int, width: int) -> Foreground:
    """A silhouette or blobs filled with a texture: any object may be held, any cloth worn."""
    if rng.random() < 0.6:
        alpha = silhouette(rng, height, width)
    else:
        alpha = np.zeros((height, width), np.float32)
        for _ in range(rng.integers(1, 4)):
            curve = (outline(rng, height, width) * 16).astype(np.int32)
            cv2.fillPoly(alpha, [curve], 1.0, cv2.LINE_AA, 4)
        soft = cv2.GaussianBlur(alpha, (0, 0), rng.choice([0.4, 0.7, 1.0, 1.5, 2.5]))
        alpha = np.asarray(soft, np.float32)
    colour: Image = texture(rng, height, width)
    alpha = np.clip(alpha, 0, 1)[..., None]
    return np.concatenate([colour * alpha, alpha], -1)


def cut_sides(opaque: NDArray[np.bool_]) -> tuple[bool, bool, bool]:
    """Whether a person, (H, W), goes on beyond the picture on the left, on the right, above: there
    the outermost line is opaque, and not much less so than one farther inside, as where a body
    curves back."""
    height, width = opaque.shape
    y, x = (max(1, round(CUT_INSIDE * length)) for length in (height, width))
    lines = (
        (opaque[:, 0], opaque[:, min(x, width - 1)]),
        (opaque[:, -1], opaque[:, max(-1 - x, -width)]),
        (opaque[0], opaque[min(y, height - 1)]),
    )
    left, right, above = (
        bool(outer.mean() > max(CUT_SHARE, inner.mean() / 2)) for outer, inner in lines
    )
    return left, right, above


def put(
    rng: np.random.Generator,
    height: int,
    width: int,
    stored: NDArray[np.uint8],
    plain: bool = False,
) -> Foreground:
    """Recolour, scale, turn and place a person in the frame. Where the picture ends in the body the
    frame ends too: nobody is cut off elsewhere."""
    rows, columns = stored.shape[:2]
    size = rng.uniform(0.35, 1.15) if rng.random() < 0.8 else rng.uniform(0.15, 1.8)
    scale = min(size * height / rows, 1.3 * max(size, 0.5) * width / columns)
    *ends, cut_above = cut_sides(stored[..., 3] > 127)
    broad = 1.05 * width / columns
    if all(ends) and broad < FILLS * scale:
        scale = max(scale, broad)
    cut_below = stored[-1, :, 3].max() > 127
    if scale < 0.8:  # shrink first: strands would alias, and small pictures are quick to recolour
        small = (max(2, round(columns * scale)), max(2, round(rows * scale)))
        stored = np.asarray(cv2.resize(stored, small, interpolation=cv2.INTER_AREA), np.uint8)
        rows, columns, scale = stored.shape[0], stored.shape[1], 1.0
    person = recoloured(rng, stored.astype(np.float32) / np.float32(255), plain)
    angle = rng.normal(0, 0.06)
    c, s = scale * np.cos(angle), scale * np.sin(angle)
    x = rng.uniform(0.1, 0.9) * width
    y = rng.uniform(0.3, 0.75) * height
    left, right, _ = cut_sides(person[..., 3] > 0.5)
    out = rng.uniform(0.01, 0.2) * min(width, 2 * columns * scale)
    if left and right and columns * scale > width:
        x = width / 2
    elif left:
        x = columns * scale / 2 - out
    elif right:
        x = width - columns * scale / 2 + out
    if cut_below:  # and the head shows as often as not, however large
        lowest = max(height - rows * scale / 2 + 0.2 * height, rows * scale / 2 + 0.05 * height)
        y = rng.uniform(height - rows * scale / 2, lowest)
    elif cut_above:
        y = rows * scale / 2 - rng.uniform(0, 0.1) * min(height, 2 * rows * scale)
    matrix = np.array([[c, -s, 0], [s, c, 0]])
    matrix[:, 2] = (x, y) - matrix[:, :2] @ (columns / 2, rows / 2)
    return np.clip(cv2.warpAffine(person, matrix, (width, height), flags=cv2.INTER_LINEAR), 0, 1)
