"""Matte: frames and their plates -> alpha and foreground, by a network.

This module is the stage's contract; `cpu.py` runs the network with ONNX Runtime.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from howard.errors import WeightsError
from howard.frames import Frame, Matte, Plate

DEFAULT_NETWORK = "howard"


class MattingNetwork(Protocol):
    """Batched: all frames of a call have one size."""

    def __call__(self, frames: Sequence[Frame], plates: Sequence[Plate]) -> list[Matte]:
        """One matte per frame, of the frame's size; any size is padded as the network needs."""
        ...


def default_weights(network: str = DEFAULT_NETWORK) -> Path:
    """The ONNX file that ships with Howard: inside the package when installed from a wheel,
    under engine/ in a checkout."""
    package = Path(__file__).parents[1]
    for folder in (package / "weights", package.parent / "engine" / "weights"):
        if (file := folder / f"{network}.onnx").is_file():
            return file
    raise WeightsError(f"no weights for the network {network!r} are installed: give --weights FILE")
