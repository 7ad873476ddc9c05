"""Images as a video: a folder, a numbered or a glob pattern, or one image."""

from __future__ import annotations

import glob
import re
import shlex
import time
from collections import Counter
from collections.abc import Container, Generator, Iterable, Sequence
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from howard.decode.ahead import Pass, Source, evenly
from howard.decode.jpeg import Guesses
from howard.decode.tiff import flaw
from howard.errors import InputError, InputMissing, is_out_of_memory
from howard.frames import Frame, VideoInfo

EXTENSIONS = {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".tif", ".tiff", ".bmp"}
UNREAD = {".exr", ".hdr", ".dpx", ".cin", ".heic", ".heif", ".dng", ".cr2", ".cr3", ".nef", ".arw"}
"""Linear or logarithmic light, which FFmpeg would pass off as sRGB; photographs in tiles, of which
it would give the first; what a camera's sensor saw."""
SAME_KIND = {".jpeg": ".jpg", ".jpe": ".jpg", ".jfif": ".jpg", ".tiff": ".tif", ".heif": ".heic"}
FRAMES_PER_SECOND = 30  # for the times of images, which have none
PRINTF_NUMBER = re.compile(r"%0?(\d*)d")


def is_image(path: Path) -> bool:
    """By its name: a common extension, and not hidden."""
    return path.suffix.lower() in EXTENSIONS and not path.name.startswith(".")


def kind_of(path: Path) -> str:
    """The format that a picture's name states, "" for what is no picture or hidden: previews, and
    what editors and file managers leave beside pictures."""
    extension = path.suffix.lower()
    if extension not in EXTENSIONS | UNREAD or path.name.startswith("."):
        return ""
    return SAME_KIND.get(extension, extension)


def check_format(path: Path) -> None:
    """InputError for a picture that Howard does not read as it is meant."""
    if (extension := path.suffix.lower()) in UNREAD:
        raise InputError(f"{path}: {extension} is not read; convert it to PNG, 8 or 16 bits, sRGB")


def is_pattern(path: Path) -> bool:
    """Whether the name stands for many files: `plate_%04d.png`, `plates/*.jpg`."""
    return bool(PRINTF_NUMBER.search(path.name)) or glob.has_magic(str(path))


def open_folder(folder: Path) -> Source:
    """All images of a folder in natural order; raises InputError if there is none, or several
    kinds or sequences."""
    files = _images(folder, folder.iterdir())
    if not files:
        raise InputError(
            f"{folder} holds no image ({' '.join(sorted(EXTENSIONS))}); "
            "give a video, an image or a folder of images"
        )
    return _open(folder, files)


def open_pattern(pattern: Path) -> Source:
    """All images that match, in natural order; raises InputMissing if there is none, InputError if
    they are of several kinds or sequences."""
    number = PRINTF_NUMBER.search(pattern.name)
    if number and pattern.parent.is_dir():
        before, after = pattern.name[: number.start()], pattern.name[number.end() :]
        digits = f"[0-9]{{{number[1] or 1},}}"
        name = re.compile(re.escape(before) + digits + re.escape(after))
        found = [file for file in pattern.parent.iterdir() if name.fullmatch(file.name)]
    else:
        folder = pattern.parent
        if folder.is_dir():  # its own name may hold brackets
            folder = Path(glob.escape(str(folder)))
        found = [Path(file) for file in glob.glob(str(folder / pattern.name), recursive=True)]
    files = _images(pattern, found)
    if not files:
        raise InputMissing(f"{pattern} matches no image; check the folder and the numbering")
    return _open(pattern, files)


def open_image(path: Path) -> Source:
    """One image; raises InputError if it cannot be read."""
    return _open(path, [path], still=True)


def read_image(path: Path) -> NDArray[np.uint8]:
    """(H, W, 3) RGB, upright by its EXIF tag; alpha is dropped, 16 bits are scaled to 8.

    Raises InputError if the file is damaged, or holds samples other than 8 or 16 bits, or what
    OpenCV reads wrong.
    """
    try:
        data = np.fromfile(path, np.uint8)
        # Decoded from memory because imread prints its own line about a file it cannot read.
        bgr = cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH) if data.size else None
    except (OSError, cv2.error) as error:
        if is_out_of_memory(error):
            raise
        why = "too large or damaged; export or copy it again"
        if isinstance(error, OSError):
            why = f"{error.strerror}; check the file and its rights"
        raise InputError(f"{path} cannot be read: {why}") from error
    if bgr is None:
        raise InputError(
            f"{path} is damaged, or no image that is read; export or copy it again, as PNG, 8 or "
            "16 bits"
        )
    if found := flaw(data):
        raise InputError(
            f"{path} holds {found}: save it interleaved and without alpha, or as PNG, 8 or 16 bits"
        )
    if bgr.dtype == np.uint16:
        bgr = cv2.convertScaleAbs(bgr, alpha=1 / 257)
    if bgr.dtype != np.uint8:
        raise InputError(f"{path} has {bgr.dtype} samples; save it with 8 or 16 bits")
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)


def _images(given: Path, files: Iterable[Path]) -> list[Path]:
    """The images among `files`, in natural order: frame2 before frame10.

    Raises InputError if they are of several kinds or sequences, one of which would be left out or
    interleaved with the other unseen, or of a kind that is not read.
    """
    found = sorted((file for file in files if kind_of(file) and file.is_file()), key=_parts)
    counts = Counter(map(kind_of, found)).most_common()
    usual = next((kind for kind, _ in counts if kind in EXTENSIONS), None)
    if usual and len(counts) > 1:
        there = " and ".join(f"{count} {kind}" for kind, count in counts)
        one = next(file for file in found if kind_of(file) == usual)
        pattern = shlex.quote(f"{glob.escape(str(one.parent))}/*{one.suffix}")
        raise InputError(
            f"{given} holds pictures of several kinds, {there}: give one kind alone by a pattern, "
            f"as in {pattern}, or convert all to that kind"
        )
    for file in found[:1]:
        check_format(file)
    _check_sequences(given, found)
    return found


def _check_sequences(given: Path, files: list[Path]) -> None:
    """InputError where two sequences in one folder have a number in common, as have those of two
    cameras, or of pictures and their masks."""
    alike: dict[tuple[Path, tuple[str, ...]], list[Path]] = {}
    for file in files:
        texts = tuple(re.split("[0-9]+", file.name))
        alike.setdefault((file.parent, texts), []).append(file)
    taken: dict[tuple[Path, int], Path] = {}
    for (folder, _), group in alike.items():
        for number, file in dict(zip(_numbers(group), group, strict=False)).items():
            other = taken.setdefault((folder, number), file)
            if other is not file:
                raise InputError(
                    f"{given} holds several sequences of the same numbers, as {other.name} and "
                    f"{file.name}: give one alone by a pattern, as in "
                    f"{shlex.quote(str(_pattern(group)))}, or number one on from the other"
                )


def _pattern(files: list[Path]) -> Path:
    """The numbered pattern of a sequence, which matches no other."""
    names = (re.split("([0-9]+)", file.name) for file in files[:2])
    return files[0].parent / "".join(a if a == b else "%d" for a, b in zip(*names, strict=True))


def _parts(file: Path) -> list[str | int]:
    """The name's text and numbers, which take turns, so that like is compared with like."""
    parts = re.split("([0-9]+)", str(file))
    return [int(part) if index % 2 else part for index, part in enumerate(parts)]


def _numbers(files: list[Path]) -> list[int]:
    """Of each file of a sequence; none where more than one number of the names varies, or their
    text does: these are no frames of one numbering."""
    names = [_parts(file) for file in files]
    if len({tuple(name[::2]) for name in names}) > 1:
        return []
    columns = zip(*(name[1::2] for name in names), strict=True)
    varying = [list(map(int, column)) for column in columns if len(set(column)) > 1]
    return varying[0] if len(varying) == 1 else []


def _gaps(path: Path, files: list[Path]) -> list[str]:
    """A sentence about the numbers that a sequence passes over."""
    numbers = sorted(set(_numbers(files)))
    missing = numbers[-1] - numbers[0] + 1 - len(numbers) if numbers else 0
    if not missing:
        return []
    first = next(a + 1 for a, b in pairwise(numbers) if b != a + 1)
    return [
        f"{path} lacks {missing} of the numbers {numbers[0]} to {numbers[-1]}, the first of "
        f"them {first}: its {len(files)} images are taken as frames without a gap"
    ]


def _pages(path: Path) -> list[str]:
    """A sentence about a file that holds more than the one picture that is read."""
    try:
        str(path).encode()
    except UnicodeEncodeError:  # OpenCV does not survive such a name
        return []
    pages = cv2.imcount(str(path))
    if pages < 2:
        return []
    return [
        f"{path} holds {pages} pictures, and the first was taken: to use all, save each as a file"
    ]


def _open(path: Path, files: list[Path], still: bool = False) -> Source:
    # OpenCV writes lines of its own on stderr; what matters of them becomes an InputError.
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    for file in files:
        if not file.stat().st_size:  # a program was stopped: told before hours of work, not after
            raise InputError(f"{file} is empty; export or copy it again")
    everything = range(len(files))
    warnings = _pages(path) if still else _gaps(path, files)
    guesses = Guesses(path, warnings)
    frames = _frames(files, everything, guesses)
    first = next(frames)
    height, width = first.pixels.shape[:2]
    info = VideoInfo(path, width, height, len(files), None, still, tuple(files))

    def read_from(index: int, without: Container[int] = ()) -> Pass:
        wanted = [i for i in everything[index:] if i not in without]
        return _frames(files, wanted, guesses, (width, height))

    def sample(count: int) -> Pass:
        return _frames(files, evenly(count, len(files)), guesses, (width, height))

    return Source(info, warnings, first, frames, read_from, sample)


def _frames(
    files: list[Path],
    indices: Sequence[int],
    guesses: Guesses,
    size: tuple[int, int] | None = None,
) -> Generator[Frame]:
    """The images of these indices, and what was guessed of them; raises InputError if one is not
    of `size` (width, height), of which None stands for that of the first."""
    for index in indices:
        clock = time.perf_counter()
        pixels = read_image(files[index])
        height, width = pixels.shape[:2]
        size = size or (width, height)
        if size != (width, height):
            raise InputError(
                f"{files[index]} is {width}x{height}, but {files[0].name} is {size[0]}x{size[1]}; "
                "all images of one video must have one size"
            )
        guesses.look(index, files[index])
        milliseconds = (time.perf_counter() - clock) * 1000
        yield Frame(index, index / FRAMES_PER_SECOND, pixels, milliseconds)
