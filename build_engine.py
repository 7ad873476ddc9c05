"""Checkpoint -> ONNX, for `python -m howard.engine run --weights FILE`.

    python build_engine.py CHECKPOINT.pt [--out engine/built/howard.onnx]
    python build_engine.py --network bgmv2-mobilenetv2 --checkpoint pytorch_mobilenetv2.pth

A checkpoint of our own training says which network it holds. Weights that others published need
its name: context-switching (Sengupta et al. 2020, `netG_epoch_*.pth`), bgmv2-mobilenetv2,
bgmv2-resnet50 or bgmv2-resnet101 (Lin et al. 2021, `pytorch_*.pth`). What is written to
engine/built/ is found by `run --network NAME`.

Exports, checks the model, and compares it with torch on seeded inputs before it says a word
of success. Needs the `build` extra.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from howard.errors import ConfigError, HowardError
from howard.matte import BUILT


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


def build(config: BuildConfig) -> Path:
    """Export and verify; returns the ONNX file."""
    from engine.export import export_onnx, load_checkpoint, sha256

    checkpoint = config.file or config.checkpoint
    if checkpoint is None or (config.file and config.checkpoint):
        raise ConfigError("give one checkpoint: python build_engine.py CHECKPOINT.pt")
    name, network = load_checkpoint(checkpoint, config.network)
    out = config.out or BUILT / f"{name}.onnx"
    differences = export_onnx(network, out)
    within = ", ".join(f"{k} within {v:.1e}" for k, v in differences.items())
    size = out.stat().st_size / 2**20
    print(f"{out}: {size:.1f} MiB, {within} of torch, sha256 {sha256(out)}")
    return out


def main() -> int:
    try:
        build(tyro.cli(BuildConfig, description=__doc__))
    except HowardError as error:
        print(f"build_engine.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
