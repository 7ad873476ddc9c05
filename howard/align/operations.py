"""What the aligner asks of a device: the arithmetic on pictures.

`search.py` and `aligner.py` decide, `cpu.py` and `gpu.py` compute. Whatever is done to several
clean-plate frames is asked for at once, so that a device can do it at once; homographies come and
go at full resolution, as 3x3 float64 arrays of the host.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple, Protocol

from numpy.typing import NDArray

from howard.align.comparison import Fit
from howard.align.direct import DirectFit
from howard.align.features import WORKING_SIDE
from howard.align.fusion import Layer
from howard.align.geometry import Homography, Resolution, Size
from howard.align.photometric import FAR, Reach
from howard.align.robust import REPROJECTION_PIXELS, Match
from howard.align.view import View, fine_size, half, view_size
from howard.frames import Frame

Features = Any
"""Keypoints and descriptors, where the device keeps them."""
Array = Any
"""NDArray, or the device's."""


@dataclass(eq=False)
class Look:
    """What is prepared once from a picture; the features when they are first needed."""

    pixels: Array
    view: View
    probe: Any
    """What the device compares."""
    find: Callable[[Array, bool], Features]
    """The device's search for features, thorough or quick."""
    found: dict[bool, Features] = field(default_factory=dict)

    def features(self, thorough: bool = False) -> Features:
        if thorough not in self.found:
            self.found[thorough] = self.find(self.pixels, thorough)
        return self.found[thorough]


class Closeness(Enum):
    """How exact direct alignment has to be."""

    CHOOSE = "to choose between candidates"
    CLOSE = "for `exact` to begin with"


class Scales:
    """The sizes of the pictures on which frames and clean-plate frames of one size are aligned."""

    def __init__(self, frame_size: Size, plate_size: Size) -> None:
        """(width, height) each."""
        sizes = frame_size, plate_size
        views = view_size(frame_size), view_size(plate_size)
        self.view = Resolution.of(*sizes, *views)
        self.coarse = Resolution.of(*sizes, half(views[0]), half(views[1]))
        fine = fine_size(frame_size), fine_size(plate_size)
        self.fine = Resolution.of(*sizes, *fine)
        self.threshold = REPROJECTION_PIXELS * max(1.0, max(frame_size) / WORKING_SIDE)
        """Of matches, in pixels of the frame."""

    def at(self, how: Closeness) -> Scale:
        """What direct alignment looks at."""
        if how is Closeness.CHOOSE:
            return Scale(self.coarse, lambda view: view.coarse)
        return Scale(self.view, lambda view: view.texture)

    def of(self, reach: Reach) -> Scale:
        """What the last step looks at."""
        if reach is FAR:
            return Scale(self.coarse, lambda view: view.coarse)
        return Scale(self.fine, lambda view: view.fine)


class Scale(NamedTuple):
    """One of them."""

    resolution: Resolution
    picture: Callable[[View], Array]
    """What of a view has this size."""


class Composed(NamedTuple):
    """A plate at full resolution."""

    pixels: Array
    """(H, W, 3) RGB uint8; 0 where coverage is 0."""
    coverage: Array
    """(H, W) uint8."""
    share: float
    """Of the frame that is covered, in [0, 1]."""
    is_fused: bool
    """Whether others than the first layer were of use."""


class Operations(Protocol):
    """One device's arithmetic, for frames of one size and clean-plate frames of one size."""

    def look_at_frame(self, frame: Frame) -> Look: ...

    def look_at_plate(self, frame: Frame) -> Look: ...

    def features(self, picture: Array) -> Features:
        """Of (H, W, 3), the quick search."""
        ...

    def keypoints(self, frame: Look) -> int:
        """How many keypoints the quick search finds in a frame."""
        ...

    def direct(
        self, frame: Look, plates: Sequence[Look], starts: Sequence[Homography], how: Closeness
    ) -> list[DirectFit | None]:
        """Direct alignment of each plate from its start; None where too little is to be seen."""
        ...

    def exact(
        self, frame: Look, plates: Sequence[Look], starts: Sequence[Homography], reach: Reach
    ) -> list[Homography | None]:
        """The homographies near these at which the pictures themselves differ least; None where
        that cannot be told."""
        ...

    def find(
        self, frame: Look, plates: Sequence[Look], thorough: bool = False
    ) -> list[Match | None]:
        """By keypoints beside the person, from nothing; None for what cannot be believed."""
        ...

    def locate(self, frame: Look, places: Sequence[Features]) -> list[Match | None]:
        """The same with all keypoints of the frame and features of earlier."""
        ...

    def judge(
        self, frame: Look, plates: Sequence[Look], homographies: Sequence[Homography]
    ) -> list[tuple[Fit, float]]:
        """How well each plate explains the frame in colours, and what it costs in textures."""
        ...

    def is_plane(self, frame: Look, plate: Look, homography: Homography) -> bool:
        """Whether the homography surely is enough to explain the frame by the plate."""
        ...

    def layer(
        self, frame: Look, plate: Look, homography: Homography, fit: Fit, is_plane: bool
    ) -> Layer:
        """A plate as it would appear on the frame's view, lit, and bent unless it is a plane."""
        ...

    def left_over(self, frame: Look, first: Layer) -> tuple[Array, bool, bool]:
        """Holes of the layer (h, w); whether they are worth a layer of its own; whether what it
        explains badly is."""
        ...

    def fills(
        self,
        frame: Look,
        plates: Sequence[Look],
        homographies: Sequence[Homography],
        holes: Array,
    ) -> list[bool]:
        """Of each plate, whether it covers enough of the holes to be worth a layer."""
        ...

    def compose(self, frame: Look, layers: Sequence[tuple[Layer, Frame]]) -> Composed:
        """The plate of layers and the clean-plate frames that they are of, the best first."""
        ...

    def nothing(self) -> Composed:
        """A plate that covers nothing."""
        ...

    def observe(self, shown: tuple[View, Array], alpha: Array) -> None:
        """Where the person was, (H, W) in [0, 1], in the frame of a view, and the colour (h, w, 3)
        of its plate's first layer."""
        ...

    def on_host(self, picture: Array) -> NDArray[Any]:
        """As a NumPy array."""
        ...
