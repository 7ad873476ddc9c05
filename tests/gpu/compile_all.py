"""Compile every kernel for every GPU that CUDA 13 knows, and say what each takes.

    python tests/gpu/compile_all.py [sm_90 ...]

Needs nvcc, no GPU. Exits with status 1 if a kernel spills registers to memory.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

KERNELS = Path(__file__).parents[2] / "kernels"
ARCHITECTURES = "sm_75 sm_80 sm_86 sm_89 sm_90 sm_100 sm_103 sm_110 sm_120 sm_121".split()
OPTIONS = "-std=c++17 --fmad=false -Werror all-warnings -cubin -Xptxas -v".split()


@dataclass(frozen=True)
class Row:
    """What ptxas says of one kernel; bytes, but for registers."""

    kernel: str
    registers: int
    shared: int
    stack: int
    spilled: int


def compiled(architecture: str, work: Path) -> list[Row]:
    """Compiles all kernels as one program, which also shows that no two share a name."""
    program = work / "all.cu"
    names = sorted(path.name for path in KERNELS.glob("*.cu"))
    program.write_text("".join(f'#include "{name}"\n' for name in names))
    command = ["nvcc", f"-arch={architecture}", *OPTIONS, "-I", str(KERNELS), str(program)]
    run = subprocess.run([*command, "-o", str(work / "all.cubin")], capture_output=True, text=True)
    if run.returncode:
        raise RuntimeError(f"{architecture}: {run.stderr}")
    return [row(part) for part in run.stderr.split("Compiling entry function ")[1:]]


def row(text: str) -> Row:
    name = re.match(r"'(\w+)'", text)

    def number(pattern: str) -> int:
        return sum(map(int, re.findall(pattern, text)))

    return Row(
        name[1] if name else "?",
        number(r"Used (\d+) registers"),
        number(r"(\d+) bytes smem"),
        number(r"(\d+) bytes stack frame"),
        number(r"(\d+) bytes spill"),
    )


def main() -> int:
    architectures = sys.argv[1:] or ARCHITECTURES
    with tempfile.TemporaryDirectory() as work:
        table = {a: {r.kernel: r for r in compiled(a, Path(work))} for a in architectures}
    print(f"{'registers':20}", *(f"{a:>7}" for a in architectures), " shared  stack  spilled")
    for kernel in sorted(table[architectures[0]]):
        rows = [table[a][kernel] for a in architectures]
        worst = [max(getattr(r, field) for r in rows) for field in ("shared", "stack", "spilled")]
        print(f"{kernel:20}", *(f"{r.registers:7}" for r in rows), "{:7}{:7}{:9}".format(*worst))
    spilled = any(r.spilled for rows in table.values() for r in rows.values())
    return int(spilled)


if __name__ == "__main__":
    sys.exit(main())
