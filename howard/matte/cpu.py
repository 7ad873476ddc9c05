"""The matting network on the CPU, with ONNX Runtime."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
from numpy.typing import NDArray

from howard.errors import WeightsError, is_out_of_memory
from howard.frames import Frame, Matte, Plate
from howard.matte import existing
from howard.matte.holes import REACH, fill_holes

REQUIRED = {"frame", "plate"}
SMALL = {"small_frame", "small_plate", "small_coverage"}
OFFERED = REQUIRED | {"coverage"} | SMALL
"""A network takes the required inputs and any of the others."""
OUTPUTS = ["alpha", "foreground"]
DOUBTFUL = 0.02
"""Mean error of alpha that is visibly bad: a tenth of a person who fills a fifth of the picture."""
DOUBT = "doubt"
"""Optional output: the error that the network expects of its alpha."""

Planes = NDArray[np.float32]
"""(N, C, H, W)."""


class OnnxMattingNetwork:
    """A network that `build_engine.py` exported: its metadata say which sizes it takes."""

    warnings: Sequence[str] = ()

    def __init__(self, weights: Path, threads: int) -> None:
        self.session = open_session(weights, threads)
        self.inputs = {i.name for i in self.session.get_inputs()}
        self.outputs = [o.name for o in self.session.get_outputs()]
        self.full_multiple = stored_number(self.session, weights, "full_multiple")
        self.guess = stored_number(self.session, weights, "guess_percent", 100) / 100
        self.takes_unaligned = stored_number(self.session, weights, "takes_unaligned", 0)
        if self.inputs & SMALL:
            self.base_multiple = stored_number(self.session, weights, "base_multiple")
            self.base_pixels = stored_number(self.session, weights, "base_pixels")

    def __call__(self, frames: Sequence[Frame], plates: Sequence[Plate]) -> list[Matte]:
        height, width = frames[0].pixels.shape[:2]
        # Padded first: the base's output is enlarged to the padded size.
        bottom, right = -height % self.full_multiple, -width % self.full_multiple
        pictures = [pad(f.pixels, bottom, right) for f in frames]
        knows_holes = self.inputs & {"coverage", "small_coverage"}
        reach = REACH * max(height, width) if knows_holes else math.inf
        filled = [fill_holes(p.pixels, p.coverage, reach) for p in plates]
        backgrounds = [pad(plate, bottom, right) for plate, _ in filled]
        reached = [pad(coverage, bottom, right) for _, coverage in filled]
        seen = [pad(p.coverage, bottom, right) for p in plates]
        feeds = {"frame": planes(pictures), "plate": planes(backgrounds)}
        if "coverage" in self.inputs:
            feeds["coverage"] = trusted(seen, reached, self.guess)
        if self.inputs & SMALL:
            unaligned = [p.unaligned for p in plates]
            feeds |= self.small_feeds(pictures, backgrounds, seen, reached, unaligned)
        feeds = {name: feeds[name] for name in self.inputs}
        alpha, foreground, *told = self.session.run(self.outputs, feeds)
        np.minimum(alpha, 1, out=alpha)  # ONNX Runtime's sigmoid rounds beyond it
        doubts = [one[0] for batch in told for one in batch] or [None] * len(frames)
        return [
            Matte(a[0, :height, :width], f[:, :height, :width].transpose(1, 2, 0), confidence(d), d)
            for a, f, d in zip(alpha, foreground, doubts, strict=True)
        ]

    def small_feeds(
        self,
        pictures: Sequence[NDArray[np.uint8]],
        backgrounds: Sequence[NDArray[np.uint8]],
        seen: Sequence[NDArray[np.uint8]],
        reached: Sequence[NDArray[np.uint8]],
        unaligned: Sequence[NDArray[np.uint8] | None],
    ) -> dict[str, Planes]:
        """The same pictures at the base's size; where a plate does not reach, it is unaligned."""
        height, width = pictures[0].shape[:2]
        base = base_size(width, height, self.base_pixels, self.base_multiple)
        seen, reached = ([shrink_coverage(c, base) for c in part] for part in (seen, reached))
        small = [shrink(p, base) * r[..., None] for p, r in zip(backgrounds, reached, strict=True)]
        for plate, covered, view in zip(small, reached, unaligned, strict=True):
            if self.takes_unaligned and view is not None and not covered.all():
                np.copyto(plate, shrink(view, base), where=covered[..., None] == 0)
        return {
            "small_frame": planes([shrink(p, base) for p in pictures]),
            "small_plate": planes(small),
            "small_coverage": trusted(seen, reached, self.guess),
        }


def confidences(mattes: Sequence[Matte]) -> list[float]:
    """Of each."""
    return [matte.confidence for matte in mattes]


def confidence(doubt: Planes | None) -> float:
    """From the error that the network expects of its alpha, at any size: 1 where it expects none,
    or tells of none, 0.5 at DOUBTFUL on average. Of the whole picture, so that an empty one can be
    sure too."""
    return 1.0 if doubt is None else 1 / (1 + float(doubt.mean()) / DOUBTFUL)


def open_session(
    weights: Path, threads: int, required: set[str] = REQUIRED, offered: set[str] = OFFERED
) -> onnxruntime.InferenceSession:
    """Raises WeightsError for a file that is missing, is no ONNX model, or has other inputs than
    all of the required and some of the offered."""
    existing(weights)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Else its threads keep the cores busy between frames, which others need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    try:
        # Read here: names that are no UTF-8 are nothing to ONNX Runtime, nor are missing rights.
        model = weights.read_bytes()
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except OSError as error:
        raise WeightsError(
            f"weights {weights} cannot be read: {error.strerror}: check the file and its rights"
        ) from error
    except Exception as error:  # ONNX Runtime raises a kind per cause, none of them public
        if is_out_of_memory(error):
            raise
        reason = str(error).splitlines()[0]
        raise WeightsError(
            f"{weights} is not a model that ONNX Runtime can load: give one that "
            f"build_engine.py exported ({reason})"
        ) from error
    names = {i.name for i in session.get_inputs()}
    outputs = [o.name for o in session.get_outputs()]
    if not required <= names <= offered or outputs not in (OUTPUTS, [*OUTPUTS, DOUBT]):
        raise WeightsError(
            f"{weights} has the inputs {', '.join(sorted(names))}, not those of this network: "
            "export it with build_engine.py, and check --network"
        )
    return session


def stored_number(
    session: onnxruntime.InferenceSession, weights: Path, key: str, otherwise: int | None = None
) -> int:
    """From the model's metadata; `otherwise`, or WeightsError, where it is not there."""
    stored = session.get_modelmeta().custom_metadata_map
    if otherwise is not None and key not in stored:
        return otherwise
    try:
        return int(stored[key])
    except (KeyError, ValueError) as error:
        raise WeightsError(
            f"{weights} was not exported by build_engine.py (no {error} in its metadata): "
            "export the checkpoint again"
        ) from error


def base_size(width: int, height: int, pixels: int, multiple: int) -> tuple[int, int]:
    """(width, height) of the small inputs: at most about `pixels` in area, aspect kept as far as
    the multiple allows."""
    scale = min(1.0, (pixels / (width * height)) ** 0.5)
    w, h = (max(multiple, round(v * scale / multiple) * multiple) for v in (width, height))
    return w, h


def planes(pictures: Sequence[NDArray[np.uint8]]) -> Planes:
    """Stack of (H, W, 3) uint8 -> (N, 3, H, W) float32 in [0, 1]. In a fifth of the time that
    OpenCV's blobFromImages takes."""
    height, width = pictures[0].shape[:2]
    out = np.empty((len(pictures), 3, height, width), np.float32)
    for picture, of_picture in zip(pictures, out, strict=True):
        for channel, plane in zip(cv2.split(picture), of_picture, strict=True):
            np.multiply(channel, np.float32(1 / 255), out=plane)
    return out


def pad(picture: NDArray[np.uint8], bottom: int, right: int) -> NDArray[np.uint8]:
    """Repeat the last row and column."""
    if not bottom and not right:
        return picture
    padded = cv2.copyMakeBorder(picture, 0, bottom, 0, right, cv2.BORDER_REPLICATE)
    return np.asarray(padded, np.uint8)


def shrink(picture: NDArray[Any], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Area average; bilinear where a side grows to its multiple."""
    grows = picture.shape[1] < size[0] or picture.shape[0] < size[1]
    how = cv2.INTER_LINEAR_EXACT if grows else cv2.INTER_AREA
    return np.asarray(cv2.resize(picture, size, interpolation=how), np.uint8)


def shrink_coverage(coverage: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """1 where every pixel that a small one draws on is covered."""
    if coverage.all():  # as most are
        return np.ones(size[::-1], np.uint8)
    return (shrink(coverage * np.uint8(255), size) == 255).astype(np.uint8)


def trusted(
    seen: Sequence[NDArray[np.uint8]], reached: Sequence[NDArray[np.uint8]], guess: float
) -> Planes:
    """(N, 1, H, W): 1 where the plate was seen, `guess` where it is filled, 0 where it is not."""
    both = (np.stack(part)[:, None].astype(np.float32) for part in (seen, reached))
    return (1 - guess) * next(both) + guess * next(both)
