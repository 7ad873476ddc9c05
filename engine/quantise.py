"""ONNX -> ONNX with INT8 convolutions, to see what that costs and gains; none is shipped.

    python -m engine.quantise [howard.onnx] [--out engine/built/howard-int8.onnx]
    python -m benchmarks.matting --networks howard howard-int8 --rounds 10

Post-training static quantisation by ONNX Runtime's own tools, as pairs of QuantizeLinear and
DequantizeLinear (Jacob et al., CVPR 2018; weights per channel). Only the base's convolutions: they
are most of the arithmetic. Its first layer, whose input is the picture, what compares frame and
plate, and the heads stay in fp32, as does all of the refinement, which draws the edges.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import onnx
import tyro
from numpy.typing import NDArray
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from engine.training.material import Material
from engine.training.scenes import Sample, sample
from howard.errors import HowardError, WeightsError
from howard.frames import IDENTITY, Alignment, Frame, Plate
from howard.matte import BUILT, default_weights
from howard.matte.cpu import OnnxMattingNetwork

QUANTISED = "/base/"
"""Prefix of the names of the nodes that may be quantised."""
KEPT = ("/encode2/", "/compare", "/anywhere/", "/head/", "/doubt/")
"""Parts of the names of those that stay as they are."""
FIRST_SEED = 8_000_000_000_000
"""Beyond any seed that training and validation use."""
SYMMETRIC = {"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False}
SHAPE = (288, 512)
"""Of the calibration scenes: about the base's own size."""

Feeds = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class QuantiseConfig:
    model: Annotated[Path | None, tyro.conf.Positional] = None
    """ONNX file; the network that ships if not given."""
    out: Path = BUILT / "howard-int8.onnx"
    """ONNX file to write."""
    scenes: int = 32
    """For calibration."""


@dataclass
class Recorder:
    """Stands in for a network's session and keeps what it is fed."""

    session: Any
    feeds: list[Feeds] = field(default_factory=list)

    def run(self, outputs: Sequence[str], feeds: Feeds) -> Any:
        self.feeds.append(feeds)
        return self.session.run(outputs, feeds)


class Replay(CalibrationDataReader):
    """Hands recorded inputs to the calibration."""

    def __init__(self, feeds: Sequence[Feeds]) -> None:
        self.left: Iterator[Feeds] = iter(feeds)

    def get_next(self) -> Any:
        return next(self.left, None)


def quantise(
    model: Path,
    out: Path,
    scenes: int,
    material: Material | None = None,
    is_symmetric: bool = False,
) -> list[str]:
    """Write the quantised model; returns the names of its INT8 convolutions. Raises WeightsError
    for a model that the run side cannot run, or that has no base as Howard's networks do.

    material: what the calibration scenes are made of; what ships in scikit-image if not given.
    is_symmetric: as TensorRT takes it, signed and without zero points, biases as they were. On a
    CPU activations behind a ReLU are better off with all 256 levels above zero.
    """
    network = OnnxMattingNetwork(model, threads=2)  # first: its errors are the plain ones
    loaded = onnx.load(model)
    weights_as_float(loaded.graph)
    convolutions, activations = quantisable(loaded.graph)
    if not convolutions:
        raise WeightsError(f"{model} has no convolutions named {QUANTISED}: it is none of Howard's")
    feeds = calibration_feeds(network, scenes, material or Material())
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as scratch:
        plain, quantised = Path(scratch) / "plain.onnx", Path(scratch) / "quantised.onnx"
        onnx.save_model(loaded, str(plain))
        quantize_static(
            plain,
            quantised,
            Replay(feeds),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QInt8 if is_symmetric else QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_quantize=[*convolutions, *activations],
            extra_options=SYMMETRIC if is_symmetric else {},
        )
        finished = onnx.load(quantised)
    del finished.metadata_props[:]
    finished.metadata_props.extend(loaded.metadata_props)
    onnx.checker.check_model(finished)
    onnx.save_model(finished, str(out))
    return convolutions


def calibration_feeds(network: OnnxMattingNetwork, scenes: int, material: Material) -> list[Feeds]:
    """What the run side feeds the network on training scenes. Replaces the network's session."""
    recorder = Recorder(network.session)
    network.session = recorder
    for seed in range(FIRST_SEED, FIRST_SEED + scenes):
        network(*as_nouns(sample(seed, *SHAPE, material)))
    return recorder.feeds


def as_nouns(scene: Sample) -> tuple[list[Frame], list[Plate]]:
    """The scene's frame and plate, as the stages hand them over."""
    frame, plate, view = (
        (x * 255 + 0.5).astype(np.uint8) for x in (scene.frame, scene.plate, scene.unaligned)
    )
    coverage = scene.coverage.astype(np.uint8)
    alignment = Alignment(0, 0, 0, 0, 0.0, float(coverage.mean()), None, IDENTITY)
    return [Frame(0, 0.0, frame)], [Plate(plate, coverage, alignment, unaligned=view)]


def weights_as_float(graph: onnx.GraphProto) -> None:
    """Undoes `export.store_weights_as_half`: the tools quantise fp32 initialisers alone."""
    stored = {tensor.name: tensor for tensor in graph.initializer}
    casts = [n for n in graph.node if n.op_type == "Cast" and n.input[0] in stored]
    for cast in casts:
        half = stored[cast.input[0]]
        single = numpy_helper.to_array(half).astype(np.float32)
        half.CopyFrom(numpy_helper.from_array(single, cast.output[0]))
        graph.node.remove(cast)


def quantisable(graph: onnx.GraphProto) -> tuple[list[str], list[str]]:
    """Names of the convolutions to quantise, and of the ReLUs right behind them, which they take
    in."""
    convolutions = [
        node
        for node in graph.node
        if node.op_type == "Conv"
        and node.name.startswith(QUANTISED)
        and not any(part in node.name for part in KEPT)
    ]
    made = {node.output[0] for node in convolutions}
    activations = [n.name for n in graph.node if n.op_type == "Relu" and n.input[0] in made]
    return [node.name for node in convolutions], activations


def main() -> int:
    config = tyro.cli(QuantiseConfig, description=__doc__)
    # The tools advise to simplify the graph first, which the exporter has done.
    logging.getLogger().setLevel(logging.ERROR)
    try:
        names = quantise(config.model or default_weights(), config.out, config.scenes)
    except HowardError as error:
        print(f"engine.quantise: {error}", file=sys.stderr)
        return 2
    print(f"{config.out}: {config.out.stat().st_size / 2**20:.1f} MiB, {len(names)} convolutions")
    return 0


if __name__ == "__main__":
    sys.exit(main())
