"""What a run is to be like."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro

from engine.training.batches import MaterialConfig
from engine.training.gpu_material import PROCEDURAL
from howard.errors import ConfigError, DeviceError


@dataclass(frozen=True)
class TrainConfig:
    out: Annotated[Path, tyro.conf.Positional]
    """Folder for checkpoints and validation pictures."""
    networks: tuple[Literal["howard", "context-switching"], ...] = ("howard",)
    """`howard-fast` is `howard` used otherwise, and exported from the same checkpoint."""
    material: tyro.conf.OmitArgPrefixes[MaterialConfig] = field(default_factory=MaterialConfig)
    minutes: float = 120.0
    steps: int = 0
    """Length of the run in steps instead of minutes, if not 0."""
    people_share: float = 0.3
    """Share of the run in which half of the plates are of no use."""
    base_share: float = 0.5
    """Share of the run in which the base is trained alone, that one included."""
    edges_share: float = 0.15
    """Share of the run, towards its end, in which the refinement is trained alone."""
    detail_share: float = 0.1
    """Share of the run, at its end, in which the last stage is trained alone."""
    batch: int = 8
    """Scenes of 224 x 224; fewer of larger ones."""
    learning_rate: float = 1.5e-3
    validate_every: int = 500
    """Steps between validations."""
    threads: int = 2
    workers: int = 1
    seed: int = 1
    start: Path | None = None
    """OUT of an earlier run, or a folder of ONNX files (engine/weights), to begin with."""
    resume: bool = False
    """Go on with the run in OUT that was interrupted."""
    device: str = "cpu"
    generator: Literal["auto", "cpu", "gpu"] = "auto"
    """Where scenes are made: workers on the CPU, or batches in torch on the device; by itself the
    latter if the device is not the CPU, or with `--pack`."""
    pack: Path | None = None
    """Packed people, places, views and held-out scenes, instead of the folders."""
    sequence: int = 0
    """Frames of the clips that the batches hold, if not 0; from the gpu generator alone."""
    drawn: int = PROCEDURAL
    """Textures and silhouettes that the gpu generator draws before it begins."""

    @property
    def on_device(self) -> bool:
        """Whether scenes are made in torch."""
        if self.generator == "auto":
            return self.pack is not None or self.device != "cpu"
        return self.generator == "gpu"

    def validate(self) -> None:
        """Raises ConfigError, DeviceError."""
        if self.sequence and not self.on_device:
            raise ConfigError("--sequence needs --generator gpu: the other makes single frames")
        check_device(self.device)
        for name in self.networks:
            self.check_begin(name)

    def check_begin(self, name: str) -> None:
        """Raises ConfigError where a network's run cannot begin, or go on, as it was asked for."""
        checkpoint = self.out / f"{name}.pt"
        is_there = os.path.isfile(checkpoint)
        if self.resume and not is_there:
            raise ConfigError(f"{checkpoint} does not exist: leave --resume out to begin a run")
        if is_there and not self.resume:
            raise ConfigError(
                f"{checkpoint} is of an earlier run: give --resume to go on with it, or another OUT"
            )
        if not self.start or self.resume:
            return
        if not any(os.path.isfile(self.start / f"{name}{x}") for x in (".pt", ".onnx")):
            raise ConfigError(
                f"--start {self.start} holds neither {name}.pt nor {name}.onnx: give OUT of an "
                "earlier run, or engine/weights"
            )


def check_device(name: str) -> None:
    """Raises DeviceError where torch cannot use it."""
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:  # the latter where torch is built without CUDA
        reason = str(error).splitlines()[0]
        raise DeviceError(f"torch cannot use --device {name} ({reason}): give cpu") from error
