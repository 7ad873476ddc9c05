"""Matte: frames and their plates -> alpha and foreground, by a network.

This module is the stage's contract; `cpu.py` runs the network with ONNX Runtime,
`context_switching.py` one that needs a coarse matte and a crop.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from howard.errors import WeightsError
from howard.frames import Frame, Plate

DEFAULT_NETWORK = "howard"
BUILT = Path("engine/built")
"""Where `build_engine.py` writes, from where it is called."""


class MattingNetwork(Protocol):
    """Batched: all frames of a call have one size."""

    @property
    def warnings(self) -> Sequence[str]:
        """What to tell the user at the end of the run."""
        ...

    def __call__(self, frames: Sequence[Frame], plates: Sequence[Plate]) -> list[Any]:
        """One matte per frame, of the frame's size: a `Matte`, or on the GPU a `DeviceMatte`. Any
        size is padded as the network needs. Raises DeviceMemoryError for too many at once."""
        ...


def existing(weights: Path) -> Path:
    """Raises WeightsError if it is no file."""
    if not os.path.isfile(weights):  # Path's raises for a folder that may not be entered
        raise WeightsError(f"weights {weights} do not exist, or are no file: check --weights")
    return weights


def default_weights(network: str = DEFAULT_NETWORK) -> Path:
    """The network's ONNX file: as `build_engine.py` made it, else as it ships with Howard (inside
    the package when installed from a wheel, under engine/ in a checkout).

    Raises WeightsError if there is neither.
    """
    package = Path(__file__).parents[1]
    checkout = package.parent / "engine"
    folders = (BUILT, checkout / "built", package / "weights", checkout / "weights")
    for folder in folders:
        if (file := folder / f"{network}.onnx").is_file():
            return file
    raise WeightsError(
        f"no weights for the network {network!r} are installed: make them with `python "
        f"build_engine.py --network {network} --checkpoint FILE`, or give --weights FILE"
    )
