"""How well clean-plate frames explain a frame, on the GPU: `howard.align.comparison` for several
candidates at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from howard.align.comparison import LIGHT_STEP, PROBE_BLUR, Fit, small
from howard.align.geometry import Homography, Size
from howard.align.gpu_blur import blurred
from howard.align.gpu_outputs import Outputs
from howard.align.gpu_person import Person, nobody, person_of
from howard.align.gpu_view import shrunk
from howard.align.view import View
from howard.cuda import TILE, cupy, kernel, tiles

PROBE_RADIUS = 2
"""Of the blur of probes: OpenCV's choice for PROBE_BLUR."""
BLOCK = 256


@dataclass(frozen=True, eq=False)
class Probe:
    """What is compared of a picture, on the device."""

    colour: Any
    """(h, w, 3) uint8, small and slightly blurred."""
    texture: Any
    """(h', w') uint8, the view's coarse texture."""


class DeviceComparison:
    """Compares plates with frames of one size, and remembers where the person was."""

    def __init__(self, frame_size: Size, plate_size: Size) -> None:
        self.frame_size, self.plate_size = frame_size, plate_size
        self.frame_probe_size, self.plate_probe_size = small(frame_size), small(plate_size)
        self.person: Person = nobody()
        """At probe scale."""
        self.is_person_known = False
        """Of a mask too large to be believed, the host hears at the next `judge`."""
        self.masks: dict[Size, Any] = {}
        """The person at other sizes."""

    def of_frame(self, view: View) -> Probe:
        """From the frame's view, its pictures on the device."""
        return probe(view, self.frame_probe_size)

    def of_plate(self, view: View) -> Probe:
        return probe(view, self.plate_probe_size)

    def observe(self, alpha: Any, shared: Any | None = None) -> None:
        """Remember the person of a matte: see `person_of`."""
        self.person = person_of(alpha, shared, self.frame_probe_size)
        self.is_person_known = True
        self.masks = {}

    def person_at(self, size: Size) -> Any | None:
        """(h, w) uint8 on the device at a size, (width, height): 1 where the person may be; None
        where nobody has said."""
        if not self.is_person_known:
            return None
        if size not in self.masks:
            self.masks[size] = self.person.at(size)
        return self.masks[size]

    def judge(
        self, frame: Probe, plates: Sequence[Probe], homographies: Sequence[Homography]
    ) -> list[tuple[Fit, float]]:
        """Of each plate, laid on the frame by its homography (frame_from_plate at full size): the
        fit of its colours, and what its texture costs (`comparison.texture_cost`)."""
        if not plates:
            return []
        number = len(plates)
        out = Outputs(
            verdicts=("float32", (number, 2)),
            light=("float32", (number, 3, 2)),
            textures=("int32", (number, 2)),
            person=("int32", (1,)),
        )
        out["person"][:] = self.person.count
        inverses = cupy().asarray(self.plate_from_frame(homographies))
        self.judge_colours(frame.colour, [p.colour for p in plates], inverses, out)
        self.judge_textures(frame.texture, [p.texture for p in plates], inverses, out)
        got = out.get()
        self.is_person_known = bool(got["person"][0] < self.person.most)
        rows = zip(got["verdicts"], got["light"], got["textures"], strict=True)
        return [
            (
                Fit(float(cost), float(residual), light.astype(np.float64)),
                int(price) / max(1, int(counted)),
            )
            for (cost, residual), light, (price, counted) in rows
        ]

    def judge_colours(self, frame: Any, plates: Sequence[Any], inverses: Any, out: Outputs) -> None:
        """Fills `light` and `verdicts`."""
        cp, number, (width, height) = cupy(), len(plates), self.frame_probe_size
        warped = cp.empty((number, height, width, 3), "float32")
        covered = cp.empty((number, height, width), "uint8")
        plate = cp.stack(plates), *self.plate_probe_size, *self.plate_size, inverses
        target = width, height, *self.frame_size, warped, covered
        kernel("warp", "warp_probes")(tiles(width, height, number), TILE, (*plate, *target))
        compared = frame, warped, covered, *self.person.known
        lit = width, height, LIGHT_STEP, out["light"]
        kernel("light", "fit_light")((3, 1, number), (BLOCK,), (*compared, *lit))
        judged = out["light"], width, height, out["verdicts"]
        kernel("light", "judge_plates")((1, 1, number), (BLOCK,), (*compared, *judged))

    def judge_textures(
        self, frame: Any, plates: Sequence[Any], inverses: Any, out: Outputs
    ) -> None:
        """Fills `textures`: sums and counts."""
        height, width = frame.shape
        rows, columns = self.person.mask.shape
        plate = cupy().stack(plates), *plates[0].shape[::-1], *self.plate_size, inverses
        person = *self.person.known, columns, rows
        args = frame, *plate, width, height, *self.frame_size, *person, out["textures"]
        kernel("warp", "judge_textures")(tiles(width, height, len(plates)), TILE, args)

    def plate_from_frame(self, homographies: Sequence[Homography]) -> NDArray[np.float32]:
        """(N, 9), scaled so that w is 1 at the frame's centre."""
        inverses = np.linalg.inv(np.stack(homographies))
        width, height = self.frame_size
        w = inverses[:, 2] @ [(width - 1) / 2, (height - 1) / 2, 1]
        return np.float32(inverses / w[:, None, None]).reshape(-1, 9)


def probe(view: View, size: Size) -> Probe:
    """Area average, slightly blurred."""
    return Probe(blurred(shrunk(view.colour, size), PROBE_BLUR, PROBE_RADIUS), view.coarse)
