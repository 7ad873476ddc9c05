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

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from howard.command_line import parsed
from howard.errors import ConfigError, HowardError
from howard.matte import BUILT, DEFAULT_NETWORK, default_weights
from howard.matte.plan import Precision


@dataclass(frozen=True)
class BuildConfig:
    file: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="CHECKPOINT")] = None
    """Checkpoint that `python -m engine.training.train` wrote."""
    checkpoint: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """The same, or published weights."""
    network: str | None = None
    """Name of the network, for a checkpoint that does not say."""
    out: Path | None = None
    """ONNX file to write; engine/built/NETWORK.onnx if not given."""
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


def build(config: BuildConfig) -> list[Path]:
    """What was asked for, verified; returns the files."""
    checkpoint = config.file or config.checkpoint
    if (config.file and config.checkpoint) or (checkpoint and config.weights):
        raise ConfigError("give one checkpoint, or --weights: python build_engine.py CHECKPOINT.pt")
    if not (checkpoint or config.plan or config.exported):
        raise ConfigError("give one checkpoint: python build_engine.py CHECKPOINT.pt")
    name, model = config.network or DEFAULT_NETWORK, config.weights
    made = []
    if checkpoint:
        name, model = export(checkpoint, config)
        made.append(model)
    if config.exported:
        made.append(export_program(name, model or default_weights(name)))
    if config.plan:
        made.append(build_plan(name, model or default_weights(name), config))
    return made


def export(checkpoint: Path, config: BuildConfig) -> tuple[str, Path]:
    """Name of the network, and its ONNX file."""
    from engine.export import export_onnx, load_checkpoint
    from howard.matte.plan import sha256

    name, network = load_checkpoint(checkpoint, config.network)
    out = config.out or BUILT / f"{name}.onnx"
    differences = export_onnx(network, out)
    within = ", ".join(f"{k} within {v:.1e}" for k, v in differences.items())
    print(f"{described(out)}, {within} of torch, sha256 {sha256(out)}")
    return name, out


def export_program(name: str, model: Path) -> Path:
    from engine.exported import program_from_onnx

    out = program_from_onnx(model, name, BUILT)
    print(f"{described(out)}, from {model}")
    return out


def build_plan(name: str, model: Path, config: BuildConfig) -> Path:
    from engine.plan import plan_from_onnx, profile_of

    smallest, usual, largest = map(pixels, (config.smallest, config.usual, config.largest))
    profile = profile_of(smallest, usual, largest, config.batch)
    out = plan_from_onnx(model, name, profile, config.precision, BUILT)
    print(f"{described(out)}, from {model}, for {profile}")
    return out


def pixels(text: str | None) -> tuple[int, int] | None:
    """(width, height) of "1920x1080". Raises ConfigError."""
    if text is None:
        return None
    if not (match := re.fullmatch(r"(\d+)x(\d+)", text)):
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
