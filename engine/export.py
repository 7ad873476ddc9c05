"""torch -> ONNX: fixed names, the checker, and parity with torch on a seeded input."""

from __future__ import annotations

import os
import textwrap
import warnings
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from engine.networks import NETWORKS, WEIGHTS_OF, HowardNetwork, Network, network_for
from engine.networks.howard import BASE_MULTIPLE
from howard.errors import WeightsError

OPSET = 18
PARITY = {"alpha": 1e-4, "foreground": 1e-4, "doubt": 1e-4}
"""Largest difference between ONNX Runtime and torch in fp32: both sum in other orders."""


def load_checkpoint(path: Path, name: str | None = None) -> tuple[str, Network]:
    """Name and network of a checkpoint, in evaluation mode.

    A checkpoint that `engine.training.train` wrote says which network it holds; weights that the
    network's authors published do not, so that `name` must. Raises WeightsError for a file that
    is missing, is no checkpoint, or has other shapes. Loaded with weights_only, so that a pickle
    with code in it is refused.
    """
    if not os.path.isfile(path):  # Path's raises for a folder that may not be entered
        raise WeightsError(
            f"checkpoint {path} does not exist, or is no file: train one with engine.training.train"
        )
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}: check its rights") from error
    except Exception as error:  # many kinds; torch's own words advise to run what is in the file
        remedy = "give one that engine.training.train wrote, or weights that its authors published"
        if path.suffix == ".onnx":
            remedy = f"give an ONNX model by --weights {path}, with --exported or --plan"
        raise WeightsError(f"{path} is not a checkpoint: {remedy}") from error
    try:
        name, weights = named_weights(stored, name)
    except ValueError as error:
        raise WeightsError(f"{path} is not a checkpoint that Howard knows: {error}") from error
    if name not in NETWORKS:
        raise WeightsError(f"{path}: there is no network {name!r}; known are {', '.join(NETWORKS)}")
    network = network_for(name, weights)
    if name in WEIGHTS_OF:  # it may do without parts of the other
        weights = {key: weights[key] for key in network.state_dict() if key in weights}
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        reason = textwrap.shorten(str(error).splitlines()[1], 200, placeholder=" ...")
        raise WeightsError(f"{path} does not fit the network {name!r}: {reason}") from error
    return name, deployable(network)


def named_weights(stored: Any, name: str | None) -> tuple[str, dict[str, Tensor]]:
    """Of a checkpoint of our training, or of published weights, which may have been saved from a
    DataParallel. Raises ValueError for anything else."""
    ours = isinstance(stored, dict) and set(stored) >= {"network", "weights"}
    weights = stored["weights"] if ours else stored
    if not is_weights(weights):
        raise ValueError("it holds no weights")
    holds = str(stored["network"]) if ours else name
    if holds is None:
        raise ValueError("it does not say of which network it is: give --network NAME")
    name = name or holds
    if holds not in (name, WEIGHTS_OF.get(name)):
        raise ValueError(f"it holds the network {holds!r}")
    return name, {key.removeprefix("module."): value for key, value in weights.items()}


def is_weights(stored: object) -> bool:
    """Whether these are tensors by name, one or more."""
    return (
        isinstance(stored, dict)
        and bool(stored)
        and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in stored.items())
    )


def deployable(network: Network) -> Network:
    """As it is shipped: in evaluation mode, batch normalisation folded into the convolutions, the
    weights rounded to fp16, in which they are stored. Folded first: it changes the weights."""
    network.eval()
    for block in list(network.modules()):
        for (key, first), (norm, second) in pairwise(list(block.named_children())):
            if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                setattr(block, key, fuse_conv_bn_eval(first, second))
                setattr(block, norm, nn.Identity())
    network.half().float()
    return network


def example_inputs(
    batch: int,
    height: int,
    width: int,
    seed: int = 0,
    names: Sequence[str] = HowardNetwork.INPUTS,
) -> tuple[Tensor, ...]:
    """Seeded inputs by name; the base at half the full size. In the frame something with soft edges
    stands before the plate: of noise alone a network that has learnt says 0 or 1 everywhere, which
    any other agrees with."""
    generator = torch.Generator().manual_seed(seed)
    cells = torch.rand(batch, 8, max(2, height // 32), max(2, width // 32), generator=generator)
    smooth = nn.functional.interpolate(cells, size=(height, width), mode="bicubic").clamp(0, 1)
    coverage = (smooth[:, 7:] > 0.1).float()
    plate = 0.9 * smooth[:, :3] + 0.1 * torch.rand(batch, 3, height, width, generator=generator)
    frame = torch.lerp(plate, 1 - plate, (4 * smooth[:, 6:7] - 1.5).clamp(0, 1))
    plate = plate * coverage
    full = {"frame": frame, "plate": plate, "coverage": coverage}
    size = tuple(max(1, v // 2 // BASE_MULTIPLE) * BASE_MULTIPLE for v in (height, width))
    small = {f"small_{k}": nn.functional.interpolate(x, size=size) for k, x in full.items()}
    segmentation = torch.rand(batch, 1, height, width, generator=generator)
    made = {**full, **small, "segmentation": segmentation}
    return tuple(made[name] for name in names)


def export_onnx(network: Network, out: Path, in_tiles: bool = True) -> dict[str, float]:
    """Write the ONNX model with dynamic batch and sizes, if it agrees with torch; returns how
    closely, by output. Raises WeightsError, and leaves what was there, if it does not.

    in_tiles: as a CPU is quick at it; else for what wants shapes that depend on the inputs' alone.
    Metadata: the multiples that the inputs must obey and the area that the base was trained
    for, so that the run side needs no table of networks.
    """
    axes = {name: {0: "batch", 2: f"{name}_height", 3: f"{name}_width"} for name in network.INPUTS}
    if isinstance(network, HowardNetwork) and network.detail:
        network.detail.in_tiles = in_tiles
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_suffix(".partial")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # The tracing exporter: the newer one takes a minute where this takes 5 s, because it
        # decomposes each of best_match's thousand small operations; the graphs run equally fast.
        torch.onnx.export(
            network,
            example_inputs(2, 128, 192, names=network.INPUTS),
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


def check_parity(network: Network, model: Path) -> dict[str, float]:
    """Largest difference of each output between ONNX Runtime and torch, on two sizes and batches.

    Raises WeightsError beyond PARITY.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    worst = dict.fromkeys(network.OUTPUTS, 0.0)
    multiple = network.metadata["full_multiple"]
    for batch, height, width in ((1, 160, 224), (3, 130 // multiple * multiple, 96)):
        inputs = example_inputs(batch, height, width, height, network.INPUTS)
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
