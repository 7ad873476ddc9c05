"""Checkpoint -> ONNX, for `python -m howard.engine run --weights FILE`.

    python build_engine.py CHECKPOINT.pt [--out engine/built/howard.onnx]

Exports, checks the model, and compares it with torch on seeded inputs before it says a word
of success. Needs the `build` extra.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from howard.errors import HowardError


@dataclass(frozen=True)
class BuildConfig:
    checkpoint: Annotated[Path, tyro.conf.Positional]
    """Checkpoint that `python -m engine.training.train` wrote."""
    out: Path | None = None
    """ONNX file to write; engine/built/NETWORK.onnx if not given."""


def build(config: BuildConfig) -> Path:
    """Export and verify; returns the ONNX file."""
    from engine.export import export_onnx, load_checkpoint, sha256

    name, network = load_checkpoint(config.checkpoint)
    out = config.out or Path("engine/built") / f"{name}.onnx"
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
