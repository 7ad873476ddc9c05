"""The matting network on the CPU, with ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
from numpy.typing import NDArray

from howard.errors import WeightsError
from howard.frames import Frame, Matte, Plate

REQUIRED = {"frame", "plate"}
OFFERED = REQUIRED | {"coverage", "small_frame", "small_plate", "small_coverage"}
"""A network takes the required inputs and any of the others."""
OUTPUTS = ["alpha", "foreground"]
DOUBT = "doubt"
"""Optional output: the error that the network expects of its alpha."""

Planes = NDArray[np.float32]
"""(N, C, H, W)."""


class OnnxMattingNetwork:
    """A network that `build_engine.py` exported: its metadata say which sizes it takes."""

    def __init__(self, weights: Path, threads: int) -> None:
        self.session = open_session(weights, threads)
        self.inputs = {i.name for i in self.session.get_inputs()}
        self.outputs = [o.name for o in self.session.get_outputs()]
        stored = self.session.get_modelmeta().custom_metadata_map
        try:
            self.base_multiple = int(stored["base_multiple"])
            self.full_multiple = int(stored["full_multiple"])
            self.base_pixels = int(stored["base_pixels"])
        except (KeyError, ValueError) as error:
            raise WeightsError(
                f"{weights} was not exported by build_engine.py (no {error} in its metadata): "
                "export the checkpoint again"
            ) from error

    def __call__(self, frames: Sequence[Frame], plates: Sequence[Plate]) -> list[Matte]:
        height, width = frames[0].pixels.shape[:2]
        # Padded first: the base's output is enlarged to the padded size.
        bottom, right = -height % self.full_multiple, -width % self.full_multiple
        pictures = [pad(f.pixels, bottom, right) for f in frames]
        backgrounds = [pad(p.pixels, bottom, right) for p in plates]
        coverages = [pad(p.coverage, bottom, right) for p in plates]
        base = base_size(width + right, height + bottom, self.base_pixels, self.base_multiple)
        make: dict[str, Callable[[], Planes]] = {
            "frame": lambda: planes(pictures),
            "plate": lambda: planes(backgrounds),
            "coverage": lambda: np.stack(coverages)[:, None].astype(np.float32),
            "small_frame": lambda: planes([shrink(p, base) for p in pictures]),
            "small_plate": lambda: planes([shrink(p, base) for p in backgrounds]) * small_coverage,
            "small_coverage": lambda: small_coverage,
        }
        small_coverage = np.stack([shrink_coverage(c, base) for c in coverages])[:, None]
        feeds = {name: make[name]() for name in self.inputs}
        alpha, foreground, *doubt = self.session.run(self.outputs, feeds)
        sure = [confidence(a, d) for d in doubt for a, d in zip(alpha, d, strict=True)]
        return [
            Matte(a[0, :height, :width], f[:, :height, :width].transpose(1, 2, 0), c)
            for a, f, c in zip(alpha, foreground, sure or [1.0] * len(frames), strict=True)
        ]


def confidence(alpha: Planes, doubt: Planes) -> float:
    """From alpha and the error that the network expects of it, at any sizes: 1 where it expects
    none, 0.5 where it expects as much error as there is person."""
    error, person = float(doubt.mean()), float(alpha.mean())
    return 1 - error / (error + person) if error > 0 else 1.0


def open_session(weights: Path, threads: int) -> onnxruntime.InferenceSession:
    """Raises WeightsError for a file that is missing, is no ONNX model, or has other inputs."""
    if not weights.is_file():
        raise WeightsError(f"weights {weights} do not exist: check --weights")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(
            str(weights), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # ONNX Runtime raises a kind per cause, none of them public
        reason = str(error).splitlines()[0]
        raise WeightsError(
            f"{weights} is not a model that ONNX Runtime can load: {reason}"
        ) from error
    names = {i.name for i in session.get_inputs()}
    outputs = [o.name for o in session.get_outputs()]
    if not REQUIRED <= names <= OFFERED or outputs not in (OUTPUTS, [*OUTPUTS, DOUBT]):
        raise WeightsError(
            f"{weights} has the inputs {', '.join(sorted(names))}, not those of a Howard network: "
            "export it with build_engine.py"
        )
    return session


def base_size(width: int, height: int, pixels: int, multiple: int) -> tuple[int, int]:
    """(width, height) of the small inputs: at most about `pixels` in area, aspect kept as far as
    the multiple allows."""
    scale = min(1.0, (pixels / (width * height)) ** 0.5)
    w, h = (max(multiple, round(v * scale / multiple) * multiple) for v in (width, height))
    return w, h


def planes(pictures: Sequence[NDArray[np.uint8]]) -> Planes:
    """Stack of (H, W, 3) uint8 -> (N, 3, H, W) float32 in [0, 1]."""
    return np.asarray(cv2.dnn.blobFromImages(pictures, 1 / 255), np.float32)


def pad(picture: NDArray[np.uint8], bottom: int, right: int) -> NDArray[np.uint8]:
    """Repeat the last row and column."""
    if not bottom and not right:
        return picture
    padded = cv2.copyMakeBorder(picture, 0, bottom, 0, right, cv2.BORDER_REPLICATE)
    return np.asarray(padded, np.uint8)


def shrink(picture: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Area average; bilinear where a side grows to its multiple."""
    grows = picture.shape[1] < size[0] or picture.shape[0] < size[1]
    how = cv2.INTER_LINEAR if grows else cv2.INTER_AREA
    return np.asarray(cv2.resize(picture, size, interpolation=how), np.uint8)


def shrink_coverage(coverage: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.float32]:
    """1 where every pixel that a small one draws on is covered."""
    return (shrink(coverage * np.uint8(255), size) == 255).astype(np.float32)
