"""Short two-pass sequences with exact truth, by what is hard about them.

Built from the parts of `engine/training/scenes.py`, from seeds of their own, and of what ships:
photographs of scikit-image, drawn textures, the sample's person. Each kind differs from the
plainest by one thing. The camera pans, the person walks; every clean-plate frame has another
residual homography and flow; noise and compression are fresh in every frame. The plates come from
Howard's own aligner, told where the person truly was: alignment that is misled by a bad matte is
for `benchmarks.quality` to show. Conventions as in `howard.frames`.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.alignment_takes import FRAMES_PER_SECOND, Rendered
from benchmarks.matting_people import placed, sample_person, with_hair
from engine.training import camera, textures
from engine.training.clothes import camouflage, robed
from engine.training.material import Material
from engine.training.people import Foreground, outline
from engine.training.places import MARGIN, from_elsewhere, misalign, photograph
from engine.training.scenes import cast_shadow, composite
from engine.training.textures import Image
from engine.training.things import hold
from howard.align.cpu import OpenCVAligner
from howard.frames import IDENTITY, Alignment, Frame, Plate, VideoInfo
from howard.write.pack import pack_rgba

Pixels = NDArray[np.uint8]

PLATES = ("aligned", "perfect", "wrong", "none")
"""aligned: by Howard's aligner; perfect: the true background, noise-free, the ceiling; wrong:
another place; none: no coverage."""
PACE = 0.01
"""Share of the width that camera and person move in a frame, each, at most."""
MISALIGNMENT = 0.6
"""Strength of `misalign`: what training takes for a plate that is off by little."""
THINGS = 6
"""Near things where there is parallax."""
EXPOSURES = (0.65, 1.4)
"""Gains of the clean plate where it was exposed otherwise."""


@dataclass(frozen=True)
class Kind:
    """How a scene differs from the plainest: a person before a plane, filmed twice."""

    parallax: float = 0.0
    """Share of the width by which the nearest thing is displaced between the takes."""
    elsewhere: float = 0.0
    """Share of the width by which the clean plate's camera pointed aside."""
    exposure: bool = False
    """The clean plate is much darker or brighter, of another tint and contrast."""
    lamps: bool = False
    """Patches of the clean plate are lit otherwise."""
    similar: bool = False
    """The person has the mean colour of the place behind them, in part."""
    hair: bool = False
    """Strands about the head, drawn one by one."""
    holding: bool = False
    """The person holds something, or wears it."""
    stage: bool = False
    """The place is full of lamps, and the person wears a robe of glitter or the like."""
    person: bool = True
    plate: str = "place"
    """What the clean plate shows: the place, another ("other"), the place so that nothing aligns it
    ("unaligned"), or there is "none"."""


KINDS = {
    "planar": Kind(),
    "parallax-mild": Kind(parallax=0.01),
    "parallax-strong": Kind(parallax=0.05),
    "holes": Kind(elsewhere=0.3),
    "exposure": Kind(exposure=True),
    "local-light": Kind(lamps=True),
    "similar-colours": Kind(similar=True),
    "hair": Kind(hair=True),
    "holding": Kind(holding=True),
    "stage": Kind(stage=True),
    # On a plane it would be too easy.
    "nobody": Kind(parallax=0.01, person=False),
    "missing-plate": Kind(plate="none"),
    "unaligned-plate": Kind(plate="unaligned"),
    "wrong-plate": Kind(plate="other"),
}


@dataclass(frozen=True, eq=False)
class Truth:
    """What one frame shows; exact: alpha and foreground are as Howard would write them, and
    `picture` is composited from them."""

    alpha: NDArray[np.float32]
    """(H, W) in steps of 1/255."""
    foreground: Image
    """(H, W, 3) straight, in steps of 1/255; 0 where alpha is 0."""
    background: Image
    """(H, W, 3) in steps of 1/255."""
    picture: Image
    """(H, W, 3) alpha F + (1 - alpha) B: the frame before noise and compression."""


class Scene:
    """`frames`, their `truth`, and their `plates` by origin, see PLATES."""

    def __init__(
        self,
        name: str,
        number: int,
        width: int,
        height: int,
        frames: int = 4,
        seed: int = 0,
        material: Material | None = None,
    ) -> None:
        """name: a key of KINDS (KeyError for another). A scene is the same in any selection."""
        self.name, self.kind, self.size = name, KINDS[name], (width, height)
        self.material = material or Material()
        self.rng = np.random.default_rng((zlib.crc32(name.encode()), number, seed))
        self.of_people = self.apart()
        self.margin = [int((MARGIN + self.kind.elsewhere + PACE * frames) * v) for v in self.size]
        self.noise, self.quality = self.rng.uniform(0.003, 0.02), int(self.rng.integers(70, 96))
        self.pan = self.rng.uniform(-PACE, PACE, 2) * (1, 0.3) * width
        live, plate = self.takes()
        self.truth = self.film_shot(live, frames)
        self.frames = [
            Frame(i, i / FRAMES_PER_SECOND, self.filmed(truth.picture))
            for i, truth in enumerate(self.truth)
        ]
        other = levels(photograph(self.rng, height, width, self.material))
        none = flat_plate(np.zeros_like(other), covered=False)
        self.clean_plate = self.film_clean_plate(plate, frames)
        self.plates = {
            "aligned": self.aligned(),
            "perfect": [flat_plate(levels(truth.background)) for truth in self.truth],
            "wrong": [flat_plate(other)] * frames,
            "none": [none] * frames,
        }
        if self.kind.plate == "none":
            self.plates["aligned"] = self.plates["none"]
        if self.kind.plate == "unaligned":
            self.plates["aligned"] = [replace(none, unaligned=self.astray())] * frames

    def takes(self) -> tuple[Image, Image]:
        """The place in both takes, with its margin, in one light."""
        width, height = (v + 2 * m for v, m in zip(self.size, self.margin, strict=True))
        live = photograph(self.rng, height, width, self.material)
        if self.kind.stage:
            live = textures.festive(self.apart(), live)
        plate = live
        if self.kind.plate == "other":
            plate = photograph(self.rng, height, width, self.material)
        if self.kind.parallax:
            live, plate = self.with_near_things(live)
        return live, plate

    def with_near_things(self, place: Image) -> tuple[Image, Image]:
        """The place with things before it; the nearest is displaced by `parallax` exactly."""
        height, width = place.shape[:2]
        angle = self.rng.normal(0, 0.3) + np.pi * self.rng.integers(2)
        baseline = self.kind.parallax * self.size[0] * np.array([np.cos(angle), np.sin(angle)])
        live, plate = place, place
        for nearness in np.linspace(1, 0.4, THINGS)[::-1]:
            cover = np.zeros((height, width), np.float32)
            curve = outline(self.rng, height, width)
            cv2.fillPoly(cover, [np.rint(curve * 16).astype(np.int32)], 1.0, cv2.LINE_AA, 4)
            colour = photograph(self.rng, height, width, self.material)
            thing = np.dstack([colour * cover[..., None], cover])
            move = np.column_stack([np.eye(2), baseline * nearness])
            live = over(thing, live)
            moved = cv2.warpAffine(thing, move, (width, height))
            plate = over(np.asarray(moved, np.float32), plate)
        return live, plate

    def film_shot(self, live: Image, frames: int) -> list[Truth]:
        """Person and shadow before the place, which the camera pans over."""
        person, walk = self.person(live, frames), self.rng.uniform(-PACE, PACE) * self.size[0]
        # The same draws for each frame: the shadow goes with the person.
        shadow_seed = int(self.rng.integers(2**32))
        films = []
        for index in range(frames):
            place = self.window(live, index)
            left = self.reach(frames) + round(index * walk)
            layers = [layer[:, left : left + self.size[0]] for layer in person]
            place = cast_shadow(np.random.default_rng(shadow_seed), place, layers)
            _, colour, alpha = composite(place, layers)
            films.append(truth_of(alpha, colour, place))
        return films

    def person(self, live: Image, frames: int) -> list[Foreground]:
        """[the person], wider than a frame by `reach` on both sides; [] if nobody is there."""
        if not self.kind.person:
            return []
        (width, height), (x, y), reach = self.size, self.margin, self.reach(frames)
        people = self.material.people
        pick = people.pick if people else lambda _: sample_person()
        layer = placed(self.of_people, pick, height, width, reach)
        if self.kind.hair:
            layer = with_hair(self.rng, layer)
        if self.kind.holding:
            layer = hold(self.apart(), layer)
        if self.kind.stage:
            layer = robed(self.apart(), layer, textures.cloth(self.apart(), *layer.shape[:2]))
        if self.kind.similar:
            behind = live[y : y + height, x - reach : x + width + reach]
            layer = camouflage(self.rng, layer, behind)
        return [layer]

    def apart(self) -> np.random.Generator:
        """For what is put on top, so that all else is the same without it."""
        return self.rng.spawn(1)[0]

    def reach(self, frames: int) -> int:
        """Pixels that the person walks at most."""
        return int(PACE * frames * self.size[0])

    def film_clean_plate(self, plate: Image, frames: int) -> list[Pixels]:
        """As the shot, in its own light, misaligned anew in each frame."""
        width, height = self.size
        light = camera.Light(self.rng, height, width, 1.0 if self.kind.exposure else 0.0)
        if self.kind.exposure:
            tint = self.rng.normal(1, 0.05, 3)
            light.gain = np.float32(self.rng.choice(EXPOSURES) * tint)
        if self.kind.lamps:
            light.lamps(self.rng)
        films = []
        for index in range(frames):
            off, _ = misalign(self.rng, plate, MISALIGNMENT)
            aside = round(self.kind.elsewhere * width)
            films.append(self.filmed(light(self.window(off, index, aside))))
        return films

    def window(self, canvas: Image, index: int, aside: int = 0) -> Image:
        """What the camera sees of a place with its margin."""
        across, down = (np.array(self.margin) + np.rint(index * self.pan)).astype(int)
        left = across + aside
        return canvas[down : down + self.size[1], left : left + self.size[0]]

    def filmed(self, picture: Image) -> Pixels:
        """With sensor noise and compression."""
        grain = self.rng.standard_normal(picture.shape, np.float32) * np.float32(self.noise)
        noisy = levels(picture + grain * (0.5 + picture))
        coded = cv2.imencode(".jpg", noisy, [cv2.IMWRITE_JPEG_QUALITY, self.quality])[1]
        return np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8)

    def astray(self) -> Pixels:
        """The first frame of the clean plate as if from a viewpoint far off."""
        picture = self.clean_plate[0].astype(np.float32) / np.float32(255)
        return levels(from_elsewhere(self.apart(), picture))

    def aligned(self) -> list[Plate]:
        """By Howard's aligner, in the order of the frames."""
        info = VideoInfo(Path(self.name), *self.size, len(self.frames), FRAMES_PER_SECOND)
        aligner = OpenCVAligner(info, Rendered(info, self.clean_plate.__getitem__))
        plates = []
        for frame, truth in zip(self.frames, self.truth, strict=True):
            plates.append(aligner(frame))
            aligner.observe(plates[-1], truth.alpha)
        aligner.close()
        return plates


def truth_of(alpha: NDArray[np.float32], colour: Image, place: Image) -> Truth:
    """In the steps that Howard writes, so that a perfect matte is no further off than 0."""
    rgba = pack_rgba(alpha, colour).astype(np.float32) / np.float32(255)
    background = levels(place).astype(np.float32) / np.float32(255)
    opacity = rgba[..., 3:]
    picture = opacity * rgba[..., :3] + (1 - opacity) * background
    return Truth(rgba[..., 3], rgba[..., :3], background, picture)


def over(layer: Foreground, picture: Image) -> Image:
    """A premultiplied layer (H, W, 4) on a picture (H, W, 3)."""
    return np.asarray(layer[..., :3] + picture * (1 - layer[..., 3:]), np.float32)


def flat_plate(pixels: Pixels, covered: bool = True) -> Plate:
    """A plate that no aligner has touched."""
    coverage = np.full(pixels.shape[:2], covered, np.uint8)
    return Plate(pixels, coverage, Alignment(0, 0, 0, 0, 0.0, float(covered), None, IDENTITY))


def levels(picture: Image) -> Pixels:
    """[0, 1] -> levels of 255, rounded, clipped."""
    return (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)
