"""What OpenCV guesses of damaged JPEG without a word, told by FFmpeg's decoder."""

from __future__ import annotations

from pathlib import Path

import av

START = b"\xff\xd8"


class Guesses:
    """Which pictures of an input are damaged inside, and the sentence about them."""

    def __init__(self, path: Path, warnings: list[str]) -> None:
        """path: of the input; warnings: where the sentence goes, which names it."""
        self._path, self._warnings = path, warnings
        self._looked_at: set[int] = set()
        self._damaged: dict[int, Path] = {}
        self._told = ""

    def look(self, index: int, file: Path) -> None:
        """At picture `index`, the first time that it is read."""
        if index in self._looked_at:
            return
        self._looked_at.add(index)
        if is_damaged(file):
            self._damaged[index] = file
            self._tell()

    def _tell(self) -> None:
        """Instead of what was said when fewer were known."""
        first, count = self._damaged[min(self._damaged)], len(self._damaged)
        sentence = f"{first} is damaged, and parts of it were guessed: export or copy it again"
        if count > 1:
            sentence = (
                f"{self._path} holds {count} pictures that are damaged, and parts of them were "
                f"guessed, the first of them {first.name}: export or copy them again"
            )
        self._warnings[:] = [said for said in self._warnings if said != self._told] + [sentence]
        self._told = sentence


def is_damaged(file: Path) -> bool:
    """Whether a JPEG file breaks off or makes no sense within its picture; nothing else is.

    Damage after which the bits happen to make sense goes unseen: of 100 sectors of 4096 bytes that
    were zeroed in the sample's first frame (JPEGs of five kinds) 90 are seen, of 512 bytes 79.
    """
    with file.open("rb") as opened:
        start = opened.read(len(START))
        if start != START:
            return False
        data = start + opened.read()
    decoder = av.CodecContext.create("mjpeg", "r")
    decoder.options = {"err_detect": "explode"}
    try:
        for packet in (av.Packet(data), None):
            decoder.decode(packet)
    except MemoryError:  # one of FFmpeg's as well
        raise
    except av.FFmpegError as error:
        return isinstance(error, av.InvalidDataError)
    return False
