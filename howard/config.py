"""The options of a run: this dataclass is the truth, the command line is derived from it."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, get_args

import tyro

from howard.errors import ConfigError

Device = Literal["auto", "cpu", "gpu"]
PlateSearch = Literal["nearest", "track", "global"]
OnMismatch = Literal["continue", "stop"]
Runner = Literal["auto", "tensorrt", "torch", "onnxruntime"]
Features = Literal["kernels", "opencv-cuda"]
BitDepth = Literal[8, 16]
Network = Literal[
    "howard",
    "howard-fast",
    "context-switching",
    "bgmv2-mobilenetv2",
    "bgmv2-resnet50",
    "bgmv2-resnet101",
]
CHOICES = {
    "device": Device,
    "network": Network,
    "runner": Runner,
    "features": Features,
    "plate_search": PlateSearch,
    "on_mismatch": OnMismatch,
    "bit_depth": BitDepth,
}
"""The options that are one of a few words or numbers."""
MOST_THREADS = 256
"""As many as large machines have cores. Far more are refused by the system, or run for ever."""
PATHS = "shot", "clean_plate", "out", "weights", "debug"
"""The options that name a file or a folder."""


def check_choices(**given: str | int) -> None:
    """ConfigError for what is none of its option's choices. The command line's parser sees to
    that; a program that calls Howard has no parser."""
    for name, value in given.items():
        choices = get_args(CHOICES[name])
        if value not in choices:
            raise ConfigError(f"{name} is {value!r}: give {', '.join(map(str, choices))}")


@dataclass(frozen=True)
class AlignOptions:
    """How the clean plate is searched, and what is shown of it."""

    search: PlateSearch = "global"
    debug: Path | None = None
    features: Features = "kernels"


@dataclass(frozen=True)
class RunConfig:
    """Cut the person out of SHOT with the help of CLEAN_PLATE; write RGBA PNGs into OUT."""

    shot: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="SHOT")]
    """Video of the person in the place: a file, a folder or pattern of images."""
    clean_plate: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="CLEAN_PLATE")]
    """Video of the same place without the person, or one image of it."""
    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """Folder for the pictures (000000.png and on) and report.json."""
    overwrite: bool = False
    """Start anew, replacing an earlier run in OUT; else a run goes on where it stopped."""
    frames: Annotated[str, tyro.conf.arg(metavar="FIRST:LAST")] = ":"
    """Frames of the shot to make, counted from 0, without LAST; either may be left out. Later calls
    with other frames add to OUT."""
    bit_depth: BitDepth = 8
    """Of each channel of the pictures. 16 keeps the network's finer steps of alpha, in hair say."""
    device: Device = "auto"
    """Where to compute. auto takes an NVIDIA GPU where one can be used, else the CPU."""
    network: Network = "howard"
    """Matting network. What does not ship with Howard is made by build_engine.py."""
    weights: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """ONNX file of the network, instead of the one that was built or ships."""
    runner: Runner = "auto"
    """What runs the network on a GPU; auto takes the fastest that is installed and built."""
    gpus: int = 1
    """GPUs to share the shot between, each taking a range of its frames; 0 takes all."""
    features: Features = "kernels"
    """What finds and matches keypoints on a GPU: our kernels, or an OpenCV built with CUDA."""
    plate_search: PlateSearch = "global"
    """Where to look for each frame's plate: nearest, about the same share of the clean plate's
    length; track, from there on where the matches lead; global, all over the clean plate when the
    track begins or is lost."""
    on_mismatch: OnMismatch = "continue"
    """When the clean plate shows another scene: stop, or continue by what people look like."""
    debug: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Folder for a picture per frame of what the alignment did (slow)."""
    batch: int = 0
    """Frames per call of the network; 0 takes 1 on the CPU, up to 4 on a GPU with enough memory."""
    threads: int = 0
    """Threads of the network; 0 takes one per core."""
    writers: int = 2
    """Threads that pack and encode PNGs."""
    steady: bool = True
    """Draw each frame's alpha to that of the frame before where the same surface shows; --no-steady
    leaves every frame as the network gave it."""

    def __post_init__(self) -> None:
        """Paths may be given as text, and as what else names a file, by programs."""
        for name in PATHS:
            if (value := getattr(self, name)) is not None:
                object.__setattr__(self, name, Path(value))  # frozen for all others

    @property
    def align_options(self) -> AlignOptions:
        return AlignOptions(self.plate_search, self.debug, self.features)

    @property
    def for_a_gpu(self) -> dict[str, str | int]:
        """The options that were given and say nothing to a CPU."""
        usual = {"runner": "auto", "features": "kernels", "gpus": 1}
        return {name: getattr(self, name) for name in usual if getattr(self, name) != usual[name]}

    @property
    def wanted(self) -> range:
        """Indices of the frames to make; without LAST it stops at sys.maxsize. Raises
        ConfigError."""
        said = re.fullmatch(r"(\d{0,9}):(\d{0,9})", self.frames, re.ASCII)
        wanted = range(int(said[1] or 0), int(said[2] or sys.maxsize)) if said else range(0)
        if not wanted:
            raise ConfigError(
                f"--frames is {self.frames}: give FIRST:LAST, two numbers of which the second is "
                "larger; 100:200 makes frames 100 to 199, 100: all from 100 on"
            )
        return wanted

    def validate(self) -> None:
        """Raises ConfigError. Not in __post_init__: the parser would swallow the one line."""
        check_choices(**{name: getattr(self, name) for name in CHOICES})
        for name, lowest in (("batch", 0), ("threads", 0), ("writers", 1), ("gpus", 0)):
            if (value := getattr(self, name)) < lowest:
                raise ConfigError(f"--{name} is {value}: give {lowest} or more")
        for name in ("threads", "writers"):
            if (value := getattr(self, name)) > MOST_THREADS:
                raise ConfigError(f"--{name} is {value}: give {MOST_THREADS} or fewer")
        _ = self.wanted
        for name, value in self.for_a_gpu.items():
            if self.device == "cpu":
                raise ConfigError(f"--{name} {value} is for --device gpu: leave one of them out")
