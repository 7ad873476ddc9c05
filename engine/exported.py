"""ONNX -> torch program (torch.export), for the torch runner on a GPU.

From the ONNX file, not from a checkpoint: that is what ships, and its initialisers have the names
of the network's parameters.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn
from torch.export import Dim

from engine.export import PARITY, deployable, example_inputs, export_onnx
from engine.networks import NETWORKS, HowardNetwork
from engine.networks.howard import BASE_MULTIPLE
from engine.networks.refinement import FULL_MULTIPLE
from howard.errors import WeightsError
from howard.matte import existing
from howard.matte.plan import program_name, sha256, write_program_sidecar


class ByName(nn.Module):
    """A network as the runner calls it: inputs and outputs by name."""

    def __init__(self, network: HowardNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        outputs = self.network(*(inputs[name] for name in self.network.INPUTS))
        return dict(zip(self.network.OUTPUTS, outputs, strict=True))


def network_from_onnx(model: Path, name: str) -> HowardNetwork:
    """The network in torch, with the weights of a model that `export_onnx` wrote. Raises
    WeightsError for another one."""
    network = NETWORKS[name]() if name in NETWORKS else None
    if not isinstance(network, HowardNetwork):
        raise WeightsError(f"torch programs are made of Howard's own networks, not of {name}")
    deployable(network)
    try:
        network.load_state_dict(weights_of(model))
    except RuntimeError as error:
        raise WeightsError(f"{model} does not hold the network {name!r}") from error
    return network


def weights_of(model: Path) -> dict[str, Tensor]:
    """What an ONNX file holds, by the names of the network's parameters. Raises WeightsError."""
    try:
        stored = onnx.load(existing(model)).graph.initializer
        return {
            tensor.name.removesuffix("_fp16"): torch.from_numpy(
                numpy_helper.to_array(tensor).astype(np.float32)
            )
            for tensor in stored
        }
    except WeightsError:
        raise
    except Exception as error:  # the system, protobuf, onnx and NumPy have a kind each
        raise WeightsError(
            f"{model} is no ONNX model that can be read: give one that build_engine.py exported"
        ) from error


def in_one_piece(model: Path, name: str, folder: Path) -> Path:
    """The model without tiles, written into the folder, for TensorRT, whose CUDA graphs want shapes
    that depend on the inputs' alone; itself, if it has none. Raises WeightsError."""
    if not any(weight.startswith("detail.") for weight in weights_of(model)):
        return model
    whole = folder / model.name
    export_onnx(network_from_onnx(model, name), whole, in_tiles=False)
    return whole


def program_from_onnx(model: Path, name: str, folder: Path) -> Path:
    """Write the program, with its sidecar, into the folder. Raises WeightsError for a model that is
    none of Howard's networks, or a program that disagrees with it."""
    program = program_of(network_from_onnx(model, name))
    out = folder / program_name(name)
    folder.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f"partial-{out.name}")
    torch.export.save(program, partial)
    write_program_sidecar(out, name, sha256(model))
    partial.replace(out)
    return out


def program_of(network: HowardNetwork) -> torch.export.ExportedProgram:
    """Raises WeightsError where the program's alpha is not the network's, at another size."""
    example, others = named(2, 128, 192), named(1, 160, 256)
    program = torch.export.export(ByName(network), (example,), dynamic_shapes=(dynamic_shapes(),))
    with torch.no_grad():
        expected = network(*others.values())[0]
        difference = float((program.module()(others)["alpha"] - expected).abs().max())
    if not difference <= PARITY["alpha"]:
        raise WeightsError(f"the torch program's alpha differs by {difference:.2g}")
    return program


def named(batch: int, height: int, width: int) -> dict[str, Tensor]:
    inputs = example_inputs(batch, height, width)
    return dict(zip(HowardNetwork.INPUTS, inputs, strict=True))


def dynamic_shapes() -> dict[str, dict[int, Dim]]:
    """Batch and sides, which are multiples of what the network asks for."""
    batch = Dim("batch", min=1, max=1024)
    full = [FULL_MULTIPLE * Dim(f"full_{axis}", min=2) for axis in ("rows", "columns")]
    base = [BASE_MULTIPLE * Dim(f"base_{axis}", min=2) for axis in ("rows", "columns")]
    return {
        name: {0: batch, **dict(zip((2, 3), base if "small" in name else full, strict=True))}
        for name in HowardNetwork.INPUTS
    }
