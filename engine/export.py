"""torch -> ONNX: fixed names, the checker, and parity with torch on a seeded input."""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from engine.networks import NETWORKS, HowardNetwork
from engine.networks.howard import BASE_MULTIPLE, FULL_MULTIPLE
from howard.errors import WeightsError

OPSET = 18
PARITY = {"alpha": 1e-4, "foreground": 1e-4, "doubt": 1e-4}
"""Largest difference between ONNX Runtime and torch in fp32: both sum in other orders."""


def load_checkpoint(path: Path) -> tuple[str, HowardNetwork]:
    """Name and network of a checkpoint that `engine.training.train` wrote, in evaluation mode.

    Raises WeightsError for a file that is missing, is not such a checkpoint, or has other shapes.
    Loaded with weights_only, so that a pickle with code in it is refused.
    """
    if not path.is_file():
        raise WeightsError(
            f"checkpoint {path} does not exist: train one with engine.training.train"
        )
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
        name, weights = stored["network"], stored["weights"]
    except Exception as error:  # torch raises many kinds, by what is wrong with the file
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise WeightsError(f"{path} is not a checkpoint of Howard's training: {reason}") from error
    if name not in NETWORKS:
        raise WeightsError(f"{path} holds the network {name!r}; known are {', '.join(NETWORKS)}")
    network = NETWORKS[name]()
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip()
        raise WeightsError(f"{path} does not fit the network {name!r}: {reason}") from error
    return name, deployable(network)


def deployable(network: HowardNetwork) -> HowardNetwork:
    """As it is shipped: in evaluation mode, batch normalisation folded into the convolutions, the
    weights rounded to fp16, in which they are stored. Folded first: it changes the weights."""
    network.eval()
    for block in [m for m in network.modules() if isinstance(m, nn.Sequential)]:
        for i in range(len(block) - 1):
            first, second = block[i], block[i + 1]
            if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                block[i], block[i + 1] = fuse_conv_bn_eval(first, second), nn.Identity()
    network.half().float()
    return network


def example_inputs(batch: int, height: int, width: int, seed: int = 0) -> tuple[torch.Tensor, ...]:
    """Seeded inputs in the order of HowardNetwork.INPUTS; the base at half the full size."""
    generator = torch.Generator().manual_seed(seed)
    coverage = (torch.rand(batch, 1, height, width, generator=generator) > 0.1).float()
    frame = torch.rand(batch, 3, height, width, generator=generator)
    plate = torch.rand(batch, 3, height, width, generator=generator) * coverage
    size = tuple(max(1, v // 2 // BASE_MULTIPLE) * BASE_MULTIPLE for v in (height, width))
    small = [torch.nn.functional.interpolate(x, size=size) for x in (frame, plate, coverage)]
    return frame, plate, *small


def export_onnx(network: HowardNetwork, out: Path) -> dict[str, float]:
    """Write the ONNX model with dynamic batch and sizes, if it agrees with torch; returns how
    closely, by output. Raises WeightsError, and leaves what was there, if it does not.

    Metadata: the multiples that the inputs must obey and the area that the base was trained
    for, so that the run side needs no table of networks.
    """
    axes = {name: {0: "batch", 2: f"{name}_height", 3: f"{name}_width"} for name in network.INPUTS}
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_suffix(".partial")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # The tracing exporter: the newer one takes a minute where this takes 5 s, because it
        # decomposes each of best_match's thousand small operations; the graphs run equally fast.
        torch.onnx.export(
            network,
            example_inputs(2, 128, 192),
            partial,
            input_names=list(network.INPUTS),
            output_names=list(network.OUTPUTS),
            dynamic_axes=axes,
            opset_version=OPSET,
            dynamo=False,
        )
    model = onnx.load(partial)
    store_weights_as_half(model.graph)
    onnx.checker.check_model(model, full_check=True)
    for key, value in network.metadata.items():
        model.metadata_props.add(key=key, value=str(value))
    try:
        onnx.save_model(model, str(partial))
        differences = check_parity(network, partial)
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)
    return differences


def store_weights_as_half(graph: onnx.GraphProto) -> None:
    """Keep large fp32 initialisers as fp16 and a Cast: half the file; the runtime folds the casts
    and computes in fp32. Loses nothing from a `deployable` network."""
    casts = []
    for stored in graph.initializer:
        if stored.data_type != onnx.TensorProto.FLOAT or np.prod(stored.dims) < 1024:
            continue
        name = stored.name
        half = numpy_helper.from_array(numpy_helper.to_array(stored).astype(np.float16))
        stored.CopyFrom(half)
        stored.name = f"{name}_fp16"
        casts.append(
            onnx.helper.make_node("Cast", [stored.name], [name], to=onnx.TensorProto.FLOAT)
        )
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def check_parity(network: HowardNetwork, model: Path) -> dict[str, float]:
    """Largest difference of each output between ONNX Runtime and torch, on two sizes and batches.

    Raises WeightsError beyond PARITY.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    worst = dict.fromkeys(network.OUTPUTS, 0.0)
    for batch, height, width in ((1, 160, 224), (3, 130 // FULL_MULTIPLE * FULL_MULTIPLE, 96)):
        inputs = example_inputs(batch, height, width, seed=height)
        with torch.no_grad():
            expected = network(*inputs)
        feeds = {n: x.numpy() for n, x in zip(network.INPUTS, inputs, strict=True)}
        results = session.run(list(worst), feeds)
        for name, ours, theirs in zip(worst, results, expected, strict=True):
            difference = np.abs(np.asarray(ours) - theirs.numpy()).max()
            worst[name] = max(worst[name], float(difference))
    for name, difference in worst.items():
        if not difference <= PARITY[name]:
            raise WeightsError(
                f"{model}: {name} differs from torch by {difference:.2g}, over {PARITY[name]}"
            )
    return worst


def sha256(path: Path) -> str:
    """Hexadecimal digest of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
