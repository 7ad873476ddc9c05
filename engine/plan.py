"""ONNX -> TensorRT plan, for the GPU of this machine.

Nobody of this project has run this on a GPU yet: it is tested against a stand-in whose interface
is compared with that of TensorRT's own bindings.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from engine.exported import in_one_piece
from engine.precision import with_precision
from howard.errors import ConfigError, WeightsError
from howard.matte.device_inputs import Needs, needs_of
from howard.matte.plan import (
    PlanInfo,
    Precision,
    Profile,
    load_tensorrt,
    sha256,
    this_machine,
    write_sidecar,
)

SMALLEST, LARGEST = (640, 360), (1920, 1080)
"""Frames that a plan takes if nothing else is asked for, as (width, height)."""
SCENES = 32
"""For the calibration of INT8."""

Size = tuple[int, int]
Shapes = dict[str, tuple[tuple[int, ...], ...]]
"""(smallest, usual, largest) shape of every input."""


def profile_of(
    smallest: Size | None, usual: Size | None, largest: Size | None, batch: int
) -> Profile:
    """The sizes that were asked for, and for the others defaults that agree with them. Raises
    ConfigError for sizes that contradict each other."""
    usual = usual or largest or LARGEST
    smallest = smallest or pairwise(min, SMALLEST, usual)
    largest = largest or pairwise(max, LARGEST, usual)
    if not all(1 <= a <= b <= c for a, b, c in zip(smallest, usual, largest, strict=True)):
        raise ConfigError("--min, --opt and --max contradict each other: give them in this order")
    if batch < 1:
        raise ConfigError(f"--batch is {batch}: give 1 or more")
    return Profile(batch, smallest, usual, largest)


def pairwise(choose: Any, a: Size, b: Size) -> Size:
    return choose(a[0], b[0]), choose(a[1], b[1])


def plan_from_onnx(
    model: Path, network: str, profile: Profile, precision: Precision, folder: Path
) -> Path:
    """Build the plan and write it, with its sidecar, into the folder; minutes.

    Raises DeviceError without TensorRT or a GPU, WeightsError for a model that loses too much in
    this precision or that TensorRT cannot take.
    """
    machine, needs = this_machine(), needs_of(model)
    info = PlanInfo(network, sha256(model), precision, profile, machine)
    with TemporaryDirectory() as scratch:
        typed = typed_model(in_one_piece(model, network, Path(scratch)), precision)
    out = folder / info.name
    folder.mkdir(parents=True, exist_ok=True)
    plan = built(typed, model, shapes_of(needs, profile), folder / f"timings_{machine.slug}.cache")
    partial = out.with_suffix(".partial")
    partial.write_bytes(plan)
    write_sidecar(out, info)
    partial.replace(out)
    return out


def typed_model(model: Path, precision: Precision) -> bytes:
    if precision != "int8":
        return with_precision(model, precision)
    from engine.quantise import quantise

    with TemporaryDirectory() as scratch:
        quantised = Path(scratch) / "int8.onnx"
        quantise(model, quantised, SCENES, is_symmetric=True)
        return with_precision(model, precision, quantised)


def shapes_of(needs: Needs, profile: Profile) -> Shapes:
    """What the profile's frames become. The small inputs have about one area but any aspect: theirs
    are those of the widest and the tallest frame."""
    (w, h), (most_w, most_h) = profile.smallest, profile.largest
    corners = [
        needs.shapes(1, *size) for size in ((w, h), (most_w, h), (w, most_h), (most_w, most_h))
    ]
    usual = needs.shapes(profile.batch, *profile.usual)
    shapes: Shapes = {}
    for name in needs.inputs:
        sides = [[shape[name][axis] for shape in corners] for axis in (2, 3)]
        channels = usual[name][1]
        smallest = (1, channels, *map(min, sides))
        shapes[name] = smallest, usual[name], (profile.batch, channels, *map(max, sides))
    return shapes


def built(typed: bytes, model: Path, shapes: Shapes, timings: Path) -> bytes:
    """The serialised plan. timings: how fast each way was, kept for the next build."""
    trt = load_tensorrt()
    logger = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(logger)
    network = builder.create_network()  # strongly typed, as all are since TensorRT 11
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(typed):
        errors = "; ".join(parser.get_error(i).desc() for i in range(parser.num_errors))
        raise WeightsError(f"TensorRT {trt.__version__} cannot take {model}: {errors}")
    config = builder.create_builder_config()
    profile = builder.create_optimization_profile()
    for name, of_input in shapes.items():
        profile.set_shape(name, *of_input)
    config.add_optimization_profile(profile)
    cache = config.create_timing_cache(timings.read_bytes() if timings.exists() else b"")
    config.set_timing_cache(cache, ignore_mismatch=False)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise WeightsError(f"TensorRT could not build a plan of {model}: it says why above")
    timings.write_bytes(bytes(config.get_timing_cache().serialize()))
    return bytes(plan)
