"""Plans, and programs of torch: what `build_engine.py` leaves in engine/built/ for this machine.

A plan depends on the GPU, on the version of TensorRT and on the platform; its name carries them,
and a sidecar (NAME.json) all that it depends on. What was built elsewhere, or from other weights,
is refused with the command that builds it again.
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from howard import cuda
from howard.errors import DeviceError
from howard.frames import Noun
from howard.matte import BUILT

Precision = Literal["fp16", "fp32", "int8"]
MAJOR = 11
"""Of TensorRT: what came before has another interface."""


@dataclass(frozen=True)
class Wanted(Noun):
    """What a run asks of its network."""

    network: str
    weights: Path
    """The network's ONNX file."""
    batch: int
    """Frames per call, at most."""
    width: int
    """Of the frames, in pixels."""
    height: int
    """Of the frames, in pixels."""


@dataclass(frozen=True)
class Profile(Noun):
    """Frames that a plan takes, as (width, height), and how many of them at once."""

    batch: int
    """At most, and what it is fastest for."""
    smallest: tuple[int, int]
    usual: tuple[int, int]
    """What it is fastest for."""
    largest: tuple[int, int]

    def takes(self, wanted: Wanted) -> bool:
        sides = zip(self.smallest, (wanted.width, wanted.height), self.largest, strict=True)
        return wanted.batch <= self.batch and all(low <= v <= high for low, v, high in sides)

    def __str__(self) -> str:
        return f"{size(self.smallest)} to {size(self.largest)} in batches of up to {self.batch}"


@dataclass(frozen=True)
class Machine(Noun):
    """What a plan is built for."""

    gpu: str
    """The GPU's name, as its driver says it."""
    tensorrt: str
    """Version."""
    platform: str
    """Operating system and processor."""

    @property
    def slug(self) -> str:
        """For names of files."""
        gpu = re.sub(r"[^A-Za-z0-9.]+", "-", self.gpu).strip("-")
        return f"{gpu}_trt{'.'.join(self.tensorrt.split('.')[:2])}"


@dataclass(frozen=True)
class PlanInfo(Noun):
    """A plan's sidecar."""

    network: str
    onnx_sha256: str
    """Of the ONNX file that it was built from."""
    precision: Precision
    profile: Profile
    machine: Machine

    @property
    def name(self) -> str:
        (w, h), (most_w, most_h) = self.profile.smallest, self.profile.largest
        shapes = f"1x{h}x{w}-{self.profile.batch}x{most_h}x{most_w}"
        return f"{self.network}_{self.precision}_{shapes}_{self.machine.slug}.plan"

    def refusal(self, wanted: Wanted, digest: str, machine: Machine) -> str | None:
        """Why this plan cannot serve; None if it can."""
        for what in ("gpu", "tensorrt", "platform"):
            ours, theirs = (getattr(m, what) for m in (machine, self.machine))
            if ours != theirs:
                name = {"gpu": "GPU", "tensorrt": "TensorRT"}.get(what, what)
                return f"was built for the {name} {theirs}, not {ours}"
        if self.onnx_sha256 != digest:
            return f"was not built from {wanted.weights}"
        if not self.profile.takes(wanted):
            frames = f"{size((wanted.width, wanted.height))} in batches of {wanted.batch}"
            return f"takes {self.profile}, not {frames}"
        return None


def size(pixels: tuple[int, int]) -> str:
    return f"{pixels[0]}x{pixels[1]}"


def load_tensorrt() -> Any:
    """TensorRT's bindings. Raises DeviceError without them, or without a GPU: their objects would
    hold NULL, and the first call of a method would end the process."""
    cuda.cupy()
    try:
        import tensorrt
    except ImportError as error:
        raise DeviceError(
            f"TensorRT is not installed: pip install 'tensorrt-cu13>={MAJOR}'"
        ) from error
    if int(tensorrt.__version__.split(".")[0]) < MAJOR:
        raise DeviceError(
            f"TensorRT is {tensorrt.__version__}, Howard needs {MAJOR}: "
            f"pip install 'tensorrt-cu13>={MAJOR}'"
        )
    return tensorrt


def this_machine() -> Machine:
    """Raises DeviceError without TensorRT or a GPU."""
    version = load_tensorrt().__version__
    runtime, device = cuda.cupy().cuda.runtime, cuda.cupy().cuda.Device().id
    gpu = runtime.getDeviceProperties(device)["name"].decode()
    return Machine(gpu, version, f"{platform.system()}-{platform.machine()}".lower())


def sha256(path: Path) -> str:
    """Hexadecimal digest of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def sidecar(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def write_sidecar(path: Path, info: PlanInfo) -> None:
    sidecar(path).write_text(json.dumps(asdict(info), indent=2) + "\n")


def read_sidecar(path: Path) -> PlanInfo | None:
    """None where there is none, or it is none of ours."""
    try:
        stored = json.loads(sidecar(path).read_text())
        profile = stored["profile"]
        sizes = (tuple(profile[k]) for k in ("smallest", "usual", "largest"))
        if stored["precision"] not in get_args(Precision):
            return None
        return PlanInfo(
            stored["network"],
            stored["onnx_sha256"],
            stored["precision"],
            Profile(profile["batch"], *sizes),
            Machine(**stored["machine"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def built_folders() -> tuple[Path, ...]:
    """Where build_engine.py writes: in the checkout, and where it is called from."""
    return Path(__file__).parents[2] / "engine" / "built", BUILT


def build_command(wanted: Wanted) -> str:
    most = f"--opt {size((wanted.width, wanted.height))} --batch {wanted.batch}"
    return f"python build_engine.py --plan --network {wanted.network} {most}"


def find_plan(wanted: Wanted, machine: Machine, folders: Sequence[Path] | None = None) -> Path:
    """The latest plan that can serve. Raises DeviceError where there is none: what is wrong with
    the latest of the network's plans, and the command that builds one."""
    digest, refusals = sha256(wanted.weights), []
    for file in latest(f"{wanted.network}_*.plan", folders):
        info = read_sidecar(file)
        if info is None:
            refusals.append(f"{file.name} has no {sidecar(file).name} that says what it is")
        elif info.network == wanted.network:
            if (refusal := info.refusal(wanted, digest, machine)) is None:
                return file
            refusals.append(f"{file.name} {refusal}")
    reason = refusals[0] if refusals else f"there is no TensorRT plan of {wanted.network}"
    raise DeviceError(f"{reason}: build one with `{build_command(wanted)}`")


def program_name(network: str) -> str:
    """Of a torch.export program."""
    return f"{network}.pt2"


def write_program_sidecar(path: Path, network: str, onnx_sha256: str) -> None:
    about = {"network": network, "onnx_sha256": onnx_sha256}
    sidecar(path).write_text(json.dumps(about, indent=2) + "\n")


def find_program(wanted: Wanted, folders: Sequence[Path] | None = None) -> Path:
    """The torch program of the network's weights. Raises DeviceError where there is none."""
    reason = f"there is no torch program of {wanted.network}"
    for file in latest(program_name(wanted.network), folders):
        try:
            if json.loads(sidecar(file).read_text())["onnx_sha256"] == sha256(wanted.weights):
                return file
        except (OSError, ValueError, KeyError, TypeError):
            pass
        reason = f"{file} was not made from {wanted.weights}"
    command = f"python build_engine.py --exported --network {wanted.network}"
    raise DeviceError(f"{reason}: make one with `{command}`")


def latest(pattern: str, folders: Sequence[Path] | None = None) -> list[Path]:
    """Files of engine/built/, the latest first."""
    found = {f.resolve() for folder in folders or built_folders() for f in folder.glob(pattern)}
    return sorted(found, key=lambda file: file.stat().st_mtime_ns, reverse=True)
