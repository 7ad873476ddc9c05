"""Checkpoint -> ONNX, for `python -m howard.engine run --weights FILE`; ONNX -> what a GPU runs.

    python build_engine.py CHECKPOINT.pt [--out engine/built/howard.onnx]
    python build_engine.py --network bgmv2-mobilenetv2 --checkpoint pytorch_mobilenetv2.pth
    python build_engine.py --plan [--network howard] [--precision int8] [--opt 1920x1080 --batch 4]
    python build_engine.py --exported [--network howard]

A checkpoint of our own training says which network it holds. Weights that others published need
its name: context-switching (Sengupta et al. 2020, `netG_epoch_*.pth`), bgmv2-mobilenetv2,
bgmv2-resnet50 or bgmv2-resnet101 (Lin et al. 2021, `pytorch_*.pth`). What is written to
engine/built/ is found by `run --network NAME`, before what ships.

--plan builds a TensorRT plan for the GPU of this machine (minutes), --exported a program for torch
on a GPU: of the ONNX file that was just exported, of --weights, or of the network as it ships.

Exports, checks the model, and compares it with torch on seeded inputs before it says a word
of success. Needs the `build` extra or, with TensorRT and CuPy for --plan, the `gpu` extra.
"""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from howard.command_line import parsed
from howard.errors import ConfigError, HowardError, OutputError
from howard.matte import BUILT, DEFAULT_NETWORK, default_weights, existing
from howard.matte.plan import Precision, program_name
from howard.write.files import partial_path


@dataclass(frozen=True)
class BuildConfig:
    file: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="CHECKPOINT")] = None
    """Checkpoint that `python -m engine.training.train` wrote."""
    checkpoint: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """The same, or published weights."""
    network: str | None = None
    """Name of the network, for a checkpoint that does not say."""
    out: Path | None = None
    """ONNX file to write of a checkpoint; engine/built/NETWORK.onnx if not given."""
    plan: bool = False
    """Build a TensorRT plan for this machine."""
    exported: bool = False
    """Make a program for torch on a GPU."""
    weights: Annotated[Path | None, tyro.conf.arg(metavar="ONNX")] = None
    """Model to build from, instead of the network as it ships or was exported."""
    precision: Precision = "fp16"
    """What the plan computes in; int8 is calibrated first."""
    smallest: Annotated[str | None, tyro.conf.arg(name="min", metavar="WxH")] = None
    """Smallest frames that the plan takes; 640x360, or --opt where that is smaller."""
    usual: Annotated[str | None, tyro.conf.arg(name="opt", metavar="WxH")] = None
    """Frames that it is fastest for; --max if not given."""
    largest: Annotated[str | None, tyro.conf.arg(name="max", metavar="WxH")] = None
    """Largest frames that it takes; 1920x1080, or --opt where that is larger."""
    batch: int = 4
    """Frames at once that the plan takes at most, and is fastest for."""

    @property
    def for_a_plan(self) -> dict[str, Any]:
        """The options that were given and say nothing but to a plan, by their names."""
        sizes = {"min": self.smallest, "opt": self.usual, "max": self.largest}
        given = {"precision": self.precision, **sizes, "batch": self.batch}
        usual = {"precision": "fp16", "batch": 4}
        return {name: value for name, value in given.items() if value != usual.get(name)}

    def validate(self) -> None:
        """Raises ConfigError for options that contradict each other or say nothing."""
        checkpoint, onward = self.file or self.checkpoint, self.plan or self.exported
        if (self.file and self.checkpoint) or (checkpoint and self.weights):
            raise ConfigError(
                "give one checkpoint, or --weights: python build_engine.py CHECKPOINT.pt"
            )
        if not (checkpoint or onward):
            raise ConfigError(
                "give one checkpoint (python build_engine.py CHECKPOINT.pt), --plan or --exported"
            )
        if self.out and not checkpoint:
            raise ConfigError(
                f"--out {self.out} is for a checkpoint: leave it out, the rest goes to {BUILT}"
            )
        for name, value in self.for_a_plan.items():
            if not self.plan:
                raise ConfigError(f"--{name} {value} is for --plan: leave it out, or give both")
        for text in filter(None, (self.smallest, self.usual, self.largest)):
            pixels(text)


def build(config: BuildConfig) -> list[Path]:
    """What was asked for, verified; returns the files."""
    config.validate()
    checkpoint = config.file or config.checkpoint
    name, model = config.network or DEFAULT_NETWORK, config.weights and existing(config.weights)
    made = []
    if checkpoint:
        name, model = export(checkpoint, config)
        made.append(model)
    if config.exported:
        made.append(export_program(name, model or default_weights(name)))
    if config.plan:
        made.append(build_plan(name, model or default_weights(name), config))
    return made


def check_place(file: Path) -> None:
    """Make the folder, prove that the file can be written there. Raises OutputError, before any
    work is done in vain."""
    if os.path.isdir(file):
        raise OutputError(f"{file} is a folder: give --out a file in it, {file / 'howard.onnx'}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        probe = partial_path(file)
        probe.write_bytes(b"-")  # not empty: a full disk still takes a name
        probe.unlink()
    except OSError as error:
        raise OutputError(
            f"cannot write {file}: {error.strerror}: choose a place where you may write"
        ) from error


def export(checkpoint: Path, config: BuildConfig) -> tuple[str, Path]:
    """Name of the network, and its ONNX file."""
    from engine.export import export_onnx, load_checkpoint
    from howard.matte.plan import sha256

    name, network = load_checkpoint(checkpoint, config.network)
    out = config.out or BUILT / f"{name}.onnx"
    check_place(out)
    differences = export_onnx(network, out)
    within = ", ".join(f"{k} within {v:.1e}" for k, v in differences.items())
    print(f"{described(out)}, {within} of torch, sha256 {sha256(out)}")
    return name, out


def export_program(name: str, model: Path) -> Path:
    from engine.exported import program_from_onnx

    check_place(BUILT / program_name(name))
    out = program_from_onnx(model, name, BUILT)
    print(f"{described(out)}, from {model}")
    return out


def build_plan(name: str, model: Path, config: BuildConfig) -> Path:
    from engine.plan import plan_from_onnx, profile_of

    asked = config.smallest, config.usual, config.largest
    smallest, usual, largest = (pixels(size) if size else None for size in asked)
    profile = profile_of(smallest, usual, largest, config.batch)
    check_place(BUILT / f"{name}.plan")
    out = plan_from_onnx(model, name, profile, config.precision, BUILT)
    print(f"{described(out)}, from {model}, for {profile}")
    return out


def pixels(text: str) -> tuple[int, int]:
    """(width, height) of "1920x1080". Raises ConfigError."""
    if not (match := re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", text)):
        raise ConfigError(f"{text!r} is no size: give WIDTHxHEIGHT, as 1920x1080")
    return int(match[1]), int(match[2])


def described(file: Path) -> str:
    return f"{file}: {file.stat().st_size / 2**20:.1f} MiB"


def main() -> int:
    try:
        build(parsed(lambda: tyro.cli(BuildConfig, description=__doc__)))
    except HowardError as error:
        print(f"build_engine.py: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "onnx"):
            raise
        remedy = f"{error.name} is not installed: pip install '.[build]'"
        print(f"build_engine.py: {remedy}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
