"""Align: for each frame of the shot, the clean-plate image that fits it best, warped onto it.

This module is the stage's contract. `aligner.py` makes the plate of what `search.py` finds in the
clean plate, with `plate_track.py` for its memory and `window.py` for the frames; all of that is the
same on every device. `operations.py` says what is asked of a device: `cpu.py` answers with OpenCV,
`gpu.py` with the kernels of `kernels/`.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from howard.frames import Frame, Plate


class Aligner(Protocol):
    """Frames go in in order; the aligner remembers the last good match."""

    def __call__(self, frame: Frame) -> Plate:
        """The plate for this frame; never fails for want of texture or light (see `fallback`)."""
        ...

    def observe(self, plate: Plate, alpha: NDArray[np.float32]) -> None:
        """Tell where the person was in the frame of one of its latest plates, (H, W) in [0, 1]: the
        next alignment looks beside them."""
        ...

    def close(self) -> None:
        """Release the clean plate."""
        ...
