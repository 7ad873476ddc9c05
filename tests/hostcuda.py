"""CUDA kernels on the CPU: g++ compiles a .cu with `cudacpu.h`, ctypes calls it, in CuPy's form.

    module = HostModule(Path("kernels/color.cu"))
    module.get_function("luma_from_rgb")((1, 1, 1), (32, 8, 1), (rgb, 32, 8, luma))

Stricter than CuPy: an argument of another type than the kernel's parameter is a TypeError.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

HEADER = Path(__file__).with_name("cudacpu.h")
COMMON = "common.cuh"
COMPILER = os.environ.get("CXX", "g++")
IS_MISSING = shutil.which(COMPILER) is None
WITHOUT = f"{COMPILER} is not installed: it builds the kernels"
"""Why tests are skipped then."""
FLAGS = "-std=c++17 -O1 -g1 -fPIC -fvisibility=hidden -ffp-contract=off -Wall -Werror".split()
"""No contraction: a product and a sum are rounded one by one, as in NumPy."""
RACES = ("-fsanitize=thread",)
"""Only when compiling: the hooks are in the header, not in the compiler's runtime."""
MEMORY = ("-O0", "-fsanitize=address,undefined,float-cast-overflow", "-fno-sanitize-recover=all")
"""Only works in a process that has loaded libasan first (LD_PRELOAD)."""

DECLARATION = re.compile(r'extern "C" __global__ void (\w+)\(([^)]*)\)')
DTYPES = {
    "u8": np.uint8,
    "signed char": np.int8,
    "u16": np.uint16,
    "int": np.int32,
    "unsigned": np.uint32,
    "float": np.float32,
    "double": np.float64,
}


class LaunchError(RuntimeError):
    """What `cudacpu.h` found wrong: a race, a barrier that not all threads reach."""


@dataclass(frozen=True)
class Parameter:
    """One parameter of a kernel."""

    name: str
    dtype: np.dtype[Any]
    is_pointer: bool

    @property
    def is_integer(self) -> bool:
        return self.dtype.kind in "iu"

    def held(self, value: Any) -> Any:
        """The value as C has it. Raises TypeError if it is of another type."""
        wanted = f"{self.name} must be {self.dtype}{' array' if self.is_pointer else ''}"
        if isinstance(value, np.ndarray) != self.is_pointer:
            raise TypeError(f"{wanted}, not {type(value).__name__}")
        if isinstance(value, np.ndarray | np.generic) and value.dtype != self.dtype:
            raise TypeError(f"{wanted}, not {value.dtype}")
        if isinstance(value, np.ndarray):
            if not value.flags.c_contiguous:
                raise TypeError(f"{wanted}, contiguous")
            return ctypes.c_void_p(value.ctypes.data)
        if not isinstance(value, np.generic) and not (isinstance(value, int) and self.is_integer):
            raise TypeError(f"{wanted}: CuPy passes Python's numbers as long and double")
        return np.ctypeslib.as_ctypes_type(self.dtype)(value)


def declarations(source: Path) -> dict[str, list[Parameter]]:
    """The kernels of a .cu by name, each with its parameters."""
    found = DECLARATION.findall(source.read_text())
    return {name: [parameter(p) for p in text.split(",")] for name, text in found}


def parameter(declaration: str) -> Parameter:
    """From, for example, `const u8* luma`."""
    kind, name = declaration.strip().removeprefix("const ").rsplit(None, 1)
    return Parameter(name, np.dtype(DTYPES[kind.rstrip("*")]), kind.endswith("*"))


class HostKernel:
    """One kernel; the call has the form of CuPy's RawKernel."""

    def __init__(self, function: Any, parameters: Sequence[Parameter]) -> None:
        self.function, self.parameters = function, parameters
        function.restype = ctypes.c_char_p

    def __call__(
        self,
        grid: tuple[int, ...],
        block: tuple[int, ...],
        args: Sequence[Any],
        *,
        seed: int = 0,
        without_barrier: str | None = None,
    ) -> None:
        """seed: 0 runs threads in the order of their numbers, others shuffle them.
        without_barrier: "file:line" of a __syncthreads() that is left out. Raises LaunchError."""
        if len(args) != len(self.parameters):
            raise TypeError(f"{len(self.parameters)} arguments are wanted, {len(args)} given")
        held = [p.held(a) for p, a in zip(self.parameters, args, strict=True)]
        values = (ctypes.c_void_p * len(held))(*map(ctypes.addressof, held))
        without = None if without_barrier is None else without_barrier.encode()
        message = self.function(sizes(grid), sizes(block), values, ctypes.c_uint(seed), without)
        if message:
            raise LaunchError(message.decode())


def sizes(counts: tuple[int, ...]) -> Any:
    return (ctypes.c_uint * 3)(*(tuple(counts) + (1, 1))[:3])


class HostModule:
    """The kernels of one .cu, compiled."""

    def __init__(self, source: Path, flags: Sequence[str] = RACES) -> None:
        self.parameters = declarations(source)
        self.library = ctypes.CDLL(str(compiled(source, flags)))

    def get_function(self, name: str) -> HostKernel:
        return HostKernel(getattr(self.library, f"launch_{name}"), self.parameters[name])


def compiled(source: Path, flags: Sequence[str]) -> Path:
    """The shared library of a .cu; kept in the temporary folder by the hash of all it depends on.

    Raises subprocess.CalledProcessError, with the compiler's words on stderr.
    """
    exports = "".join(f"CUDACPU_EXPORT({name})\n" for name in declarations(source))
    text = f'#include "{source.resolve()}"\n{exports}'
    inputs = [HEADER, source, source.with_name(COMMON)]
    state = [exports, compiler_version(), *FLAGS, *flags, *(p.read_text() for p in inputs)]
    digest = hashlib.sha256("\0".join(state).encode()).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"howard-kernels-{os.getuid()}"
    library = folder / f"{source.stem}-{digest}.so"
    if not library.exists():
        folder.mkdir(mode=0o700, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as work:
            build(text, flags, Path(work) / "kernels").replace(library)
    return library


def build(text: str, flags: Sequence[str], stem: Path) -> Path:
    source, objects, library = (stem.with_suffix(s) for s in (".cpp", ".o", ".so"))
    source.write_text(text)
    command = [COMPILER, *FLAGS, *flags, "-include", str(HEADER), "-c", str(source)]
    subprocess.run([*command, "-o", str(objects)], check=True)
    runtime = [flag for flag in flags if flag not in RACES]
    subprocess.run([COMPILER, "-shared", *runtime, str(objects), "-o", str(library)], check=True)
    return library


@functools.cache
def compiler_version() -> str:
    return subprocess.run(
        [COMPILER, "--version"], check=True, capture_output=True, text=True
    ).stdout
