"""What OpenCV reads wrong of TIFF without a word, told by the file's own tags."""

from __future__ import annotations

import struct

import cv2
import numpy as np
from numpy.typing import NDArray

BITS, PHOTOMETRIC, PLANES, EXTRA = 258, 262, 284, 338
"""Tags (TIFF 6.0, part 1)."""
WHITE_IS_ZERO, APART, UNASSOCIATED = 0, 2, 2
"""Of the last three."""
SHORT = 3
"""Type of all four."""
TIFF, BIG_TIFF = 42, 43
"""What follows the order of bytes."""


def flaw(data: NDArray[np.uint8]) -> str | None:
    """What a file's bytes hold that would come out wrong, in words; None if nothing does."""
    found = tags(data.data)
    if found.get(BITS) == 16 and found.get(PLANES) == APART:
        return "16 bits in planes apart"
    if found.get(BITS) == 16 and found.get(PHOTOMETRIC) == WHITE_IS_ZERO:
        return "16 bits of which 0 is white"
    if found.get(BITS) == 8 and found.get(EXTRA) == UNASSOCIATED:
        whole = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
        if whole is not None and whole.ndim == 3 and whole[..., 3:].min(initial=255) < 255:
            return "transparent pixels, whose colours are multiplied by their alpha"
    return None


def tags(data: memoryview) -> dict[int, int]:
    """The first value of each tag of type SHORT of a file's first picture, BigTIFF too; none of
    what is no TIFF or is cut off."""
    order = {b"II": "<", b"MM": ">"}.get(bytes(data[:2]), "")
    try:
        (version,) = struct.unpack_from(f"{order}H", data, 2)
        if not order or version not in (TIFF, BIG_TIFF):
            return {}
        word, count, entry, at = ("Q", "Q", 20, 8) if version == BIG_TIFF else ("I", "H", 12, 4)
        (begin,) = struct.unpack_from(f"{order}{word}", data, at)
        (length,) = struct.unpack_from(f"{order}{count}", data, begin)
        begin += struct.calcsize(count)
        found = {}
        for place in range(begin, begin + entry * length, entry):
            tag, kind, values = struct.unpack_from(f"{order}HH{word}", data, place)
            if kind != SHORT:
                continue
            room = struct.calcsize(word)
            value = place + entry - room
            if 2 * values > room:
                (value,) = struct.unpack_from(f"{order}{word}", data, value)
            (found[tag],) = struct.unpack_from(f"{order}H", data, value)
        return found
    except struct.error:
        return {}
