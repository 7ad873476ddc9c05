"""What the matting benchmark compares, behind Howard's own MattingNetwork contract."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from howard.frames import Frame, Matte, Plate
from howard.matte import MattingNetwork, default_weights
from howard.matte.context_switching import ContextSwitchingNetwork
from howard.matte.cpu import OnnxMattingNetwork

KEY = "difference-key"
TRANSPARENT_LEVELS, OPAQUE_LEVELS = 20.0, 60.0
"""Colour distance below which the key sees the plate, and above which it sees a person."""


class DifferenceKey:
    """What a compositor without a network does: a soft threshold on the colour distance.

    The distance is that of the channel that differs most; a hole in the plate is black. The
    foreground is the frame un-mixed from the plate.
    """

    warnings: Sequence[str] = ()

    def __call__(self, frames: Sequence[Frame], plates: Sequence[Plate]) -> list[Matte]:
        return [
            self.key(f.pixels.astype(np.float32), p.pixels.astype(np.float32))
            for f, p in zip(frames, plates, strict=True)
        ]

    def key(self, frame: NDArray[np.float32], plate: NDArray[np.float32]) -> Matte:
        """(H, W, 3) levels of 255, both."""
        distance = np.abs(frame - plate).max(-1)
        alpha = np.clip(
            (distance - TRANSPARENT_LEVELS) / (OPAQUE_LEVELS - TRANSPARENT_LEVELS), 0, 1
        )
        opacity = np.maximum(alpha, 1e-3)[..., None]
        foreground = np.clip((frame - (1 - opacity) * plate) / opacity / 255, 0, 1)
        return Matte(alpha.astype(np.float32), foreground.astype(np.float32))


def open_network(name: str, threads: int) -> MattingNetwork:
    """KEY, a network that ships or was built, or an ONNX file. Raises WeightsError."""
    if name == KEY:
        return DifferenceKey()
    weights = Path(name) if name.endswith(".onnx") else default_weights(name)
    if name == "context-switching":
        coarse = OnnxMattingNetwork(default_weights(), threads)
        return ContextSwitchingNetwork(weights, coarse, threads)
    return OnnxMattingNetwork(weights, threads)
