"""Everything that training reads, in one file small enough to carry to another machine.

    python -m engine.training.pack OUT.bin --people DIR --places DIR --views DIR... --max-mb 50

OUT is a zip of people (WebP, straight RGBA), places and views (JPEG), all as large as fits, and of
the held-out scenes of the validation, whose plates went through Howard's aligner here. To train
from it: `python -m engine.training.train RUN --pack OUT.bin --device cuda`.
"""

from __future__ import annotations

import json
import sys
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import cv2
import numpy as np

from engine.training.batches import Files, MaterialConfig, command, files_of, material_of
from engine.training.gpu_material import Picture, Pictures, in_parallel, read_pictures, runs_of
from engine.training.scenes import Sample
from engine.training.validate import HeldOut, held_out_scenes
from engine.training.views import ViewPair
from howard.errors import ConfigError, InputError
from howard.write.files import prepare_folder, writing

if TYPE_CHECKING:
    import tyro

SETTINGS = (
    (768, 1024, 90),
    (768, 896, 85),
    (640, 800, 85),
    (576, 720, 85),
    (512, 640, 85),
    (448, 576, 80),
    (384, 512, 80),
    (320, 400, 75),
    (256, 320, 70),
)
"""Longest side of people, of places and views, and the quality of WebP and JPEG."""
TRIAL = 16
"""One picture in so many is encoded to see whether a setting fits."""
HELD_OUT_QUALITY = 95

Entries = dict[str, bytes]
"""Contents by name."""


@dataclass(frozen=True)
class PackConfig:
    out: Annotated[Path, tyro.conf.Positional]
    """File to write."""
    material: tyro.conf.OmitArgPrefixes[MaterialConfig] = field(default_factory=MaterialConfig)
    max_mb: float = 50.0
    """Most that OUT may take, in 10^6 bytes."""


def pack(config: PackConfig) -> None:
    """Write the pack with the largest pictures that fit. Raises ConfigError if none do."""
    prepare_folder(config.out.parent)
    files, kept = files_of(config.material)
    found = read_pictures(*files)
    held_out = held_out_entries(held_out_scenes(material_of(kept, config.material.cache)))
    room = config.max_mb * 1e6 - size(held_out)
    for setting in SETTINGS:
        trial = size(entries(found, files, setting, TRIAL)) * TRIAL
        print(f"people {setting[0]} px, places {setting[1]} px: about {trial / 1e6:.0f} MB")
        if trial < 1.1 * room:
            everything = entries(found, files, setting) | held_out
            if size(everything) <= config.max_mb * 1e6:
                write(config.out, everything)
                return
    raise ConfigError(
        f"nothing fits into {config.max_mb} MB: raise --max-mb or take fewer pictures"
    )


def size(contents: Entries) -> int:
    """Bytes in a zip that stores them."""
    return sum(len(v) + 2 * len(k) + 120 for k, v in contents.items())


def write(out: Path, contents: Entries) -> None:
    """Whole or not at all. Raises OutputError."""
    partial = out.with_suffix(".partial")
    with writing(out):
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:
            for name, content in contents.items():
                archive.writestr(name, content)
        partial.replace(out)
    print(f"{out}: {len(contents)} entries, {out.stat().st_size / 1e6:.1f} MB")


def entries(
    found: Pictures, files: Files, setting: tuple[int, int, int], every: int = 1
) -> Entries:
    """Every so many pictures, encoded."""
    side, other, quality = setting
    frames = {id(pair.frame): pair.frame for pair in found.pairs}
    number = {key: i for i, key in enumerate(frames)}
    jpeg = lambda folder, picture: (f"{folder}.jpg", smaller(picture, other), quality)  # noqa: E731
    work = [
        (f"people/{file.stem}.webp", straight(smaller(person, side)), quality)
        for file, person in list(zip(files.people, found.people, strict=True))[::every]
    ]
    work += [jpeg(f"places/{i:05d}", p) for i, p in enumerate(found.places[::every])]
    work += [jpeg(f"wild/{i:05d}", p) for i, p in enumerate(found.wild[::every])]
    work += [jpeg(f"views/{i:05d}", p) for i, p in enumerate(list(frames.values())[::every])]
    for i, pair in list(enumerate(found.pairs))[::every]:
        work.append(jpeg(f"plates/{i:05d}", pair.plate))
        work.append((f"coverage/{i:05d}.png", 255 * smaller(pair.coverage, other), 0))
    encoded = in_parallel("encoding", lambda item: encode(*item), work)
    contents = {name: content for (name, _, _), content in zip(work, encoded, strict=True)}
    contents["pairs.json"] = json.dumps([number[id(p.frame)] for p in found.pairs]).encode()
    return contents


def smaller(picture: Picture, side: int) -> Picture:
    """With its longest side at most `side`; coverage {0, 1} stays so."""
    scale = side / max(picture.shape[:2])
    if scale >= 1:
        return picture
    width, height = (max(1, round(s * scale)) for s in picture.shape[1::-1])
    how = cv2.INTER_AREA if picture.ndim == 3 else cv2.INTER_NEAREST
    return np.asarray(cv2.resize(picture, (width, height), interpolation=how), np.uint8)


def straight(person: Picture) -> Picture:
    """Premultiplied -> straight RGBA."""
    alpha = person[..., 3:].astype(np.float32)
    colour = person[..., :3] * (255 / np.maximum(alpha, 1))
    return np.rint(np.dstack([np.minimum(colour, 255), alpha])).astype(np.uint8)


def premultiplied(person: Picture) -> Picture:
    """Straight -> premultiplied RGBA."""
    colour = person[..., :3] * (person[..., 3:].astype(np.float32) / 255)
    return np.dstack([np.rint(colour).astype(np.uint8), person[..., 3]])


def encode(name: str, picture: Picture, quality: int) -> bytes:
    """RGB, RGBA (its alpha without loss) or grey, as the ending of the name says."""
    if picture.ndim == 3:
        picture = picture[..., [2, 1, 0, 3][: picture.shape[2]]]
    how = {
        ".webp": [cv2.IMWRITE_WEBP_QUALITY, quality],
        ".jpg": [cv2.IMWRITE_JPEG_QUALITY, quality],
    }
    ending = Path(name).suffix
    return cv2.imencode(ending, picture, how.get(ending, []))[1].tobytes()


def decode(content: bytes) -> Picture:
    """RGB, RGBA or grey."""
    picture = np.asarray(cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED))
    if picture.ndim == 3:
        picture = picture[..., [2, 1, 0, 3][: picture.shape[2]]]
    return np.ascontiguousarray(picture, np.uint8)


def held_out_entries(scenes: HeldOut) -> Entries:
    """The scenes of the validation. Nothing is kept of a scene that this page's decoder does not
    bring back: 8 bits, the colours with a little loss."""
    contents: Entries = {}
    for i, (kind, scene) in enumerate(scenes):
        for part, picture in scene._asdict().items():
            levels = np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)
            name = f"held_out/{i:04d}_{kind}/{part}{'.jpg' if levels.ndim == 3 else '.png'}"
            contents[name] = encode(name, levels, HELD_OUT_QUALITY)
    return contents


def unpack(file: Path) -> tuple[Pictures, HeldOut]:
    """What to train on, and the validation's scenes. Raises InputError."""
    try:
        with zipfile.ZipFile(file) as archive:
            contents = {name: archive.read(name) for name in archive.namelist()}
    except (OSError, zipfile.BadZipFile) as error:
        raise InputError(f"{file} is no pack: make one with engine.training.pack") from error
    names = [name for name in contents if not name.endswith(".json")]
    decoded = dict(
        zip(names, in_parallel("unpacking", lambda n: decode(contents[n]), names), strict=True)
    )
    inside = lambda folder: [p for n, p in decoded.items() if n.startswith(folder + "/")]  # noqa: E731
    people = [Path(name) for name in names if name.startswith("people/")]
    views, order = inside("views"), json.loads(contents["pairs.json"])
    pairs = [
        ViewPair(views[k], plate, coverage // 255)
        for k, plate, coverage in zip(order, inside("plates"), inside("coverage"), strict=True)
    ]
    cut_outs = [premultiplied(person) for person in inside("people")]
    found = Pictures(cut_outs, runs_of(people), inside("places"), pairs, inside("wild"))
    return found, held_out_scenes_of({n: p for n, p in decoded.items() if "held_out/" in n})


def held_out_scenes_of(decoded: dict[str, Picture]) -> HeldOut:
    """The inverse of `held_out_entries`."""
    scenes: dict[str, dict[str, np.ndarray]] = {}
    for name, picture in decoded.items():
        _, scene, part = name.split("/")
        scenes.setdefault(scene, {})[Path(part).stem] = picture.astype(np.float32) / 255
    out = []
    for name, parts in scenes.items():
        parts["plate"] = parts["plate"] * parts["coverage"][..., None]
        parts.setdefault("unaligned", np.zeros_like(parts["plate"]))  # older packs have none
        out.append((name.split("_", 1)[1], Sample(**parts)))
    return out


if __name__ == "__main__":
    import tyro  # the config's annotations name it

    sys.exit(command("engine.training.pack", PackConfig, pack, __doc__))
