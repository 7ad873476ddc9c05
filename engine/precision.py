"""ONNX -> ONNX in the numbers that a plan computes in: TensorRT 11 is strongly typed, so that a
model's types are the plan's.

Inputs and outputs become halves whatever the precision: those are what Howard's kernels write and
read.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from howard.errors import WeightsError
from howard.matte.device_inputs import Needs, needs_of
from howard.matte.plan import Precision

HALF_OPSET = 19
"""The first whose QuantizeLinear takes halves."""
LARGEST_HALF = 65504.0
ALPHA_BOUND: Mapping[Precision, float] = {"fp16": 5e-3, "fp32": 1e-3, "int8": 0.3}
"""Largest difference of alpha from the fp32 model's on a plain scene. fp32 rounds at both ends
only. How good int8 is, benchmarks must judge: it was off by 0.1 at an edge, a broken one by 0.7."""
CHECKED = (256, 144)
"""(width, height) of that scene."""

Feeds = Mapping[str, NDArray[np.float32]]


def with_precision(model: Path, precision: Precision, quantised: Path | None = None) -> bytes:
    """The serialised model for a plan. quantised: of int8, what `engine.quantise` made of it.

    Raises WeightsError where it would differ from the model by more than ALPHA_BOUND.
    """
    loaded = onnx.load(quantised or model)
    if precision == "fp32":
        with_half_ends(loaded)
    else:
        to_half(loaded)
    onnx.checker.check_model(loaded, full_check=True)
    typed = loaded.SerializeToString()
    check_alpha(model, typed, ALPHA_BOUND[precision])
    return typed


def to_half(model: onnx.ModelProto) -> None:
    """All of a model that is fp32 becomes fp16."""
    graph = model.graph
    for tensor in graph.initializer:
        halve(tensor)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == AttributeProto.TENSOR:
                halve(attribute.t)
            elif attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.FLOAT16
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    del graph.value_info[:]  # the types of what lies between
    for imported in model.opset_import:
        if imported.domain == "":
            imported.version = max(imported.version, HALF_OPSET)


def halve(tensor: TensorProto) -> None:
    if tensor.data_type != TensorProto.FLOAT:
        return
    values, name = numpy_helper.to_array(tensor), tensor.name
    if np.abs(values).max(initial=0) > LARGEST_HALF:
        raise WeightsError(f"{name} is too large for fp16: give --precision fp32")
    tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), name))


def with_half_ends(model: onnx.ModelProto) -> None:
    """Inputs and outputs as halves, converted just inside."""
    graph = model.graph
    first, last = [], []
    for value in graph.input:
        inner = f"{value.name}_fp32"
        first.append(helper.make_node("Cast", [value.name], [inner], to=TensorProto.FLOAT))
        for node in graph.node:
            node.input[:] = [inner if name == value.name else name for name in node.input]
    for value in graph.output:
        inner = f"{value.name}_fp32"
        last.append(helper.make_node("Cast", [inner], [value.name], to=TensorProto.FLOAT16))
        for node in graph.node:
            for names in (node.input, node.output):
                names[:] = [inner if name == value.name else name for name in names]
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    nodes = [*first, *graph.node, *last]
    del graph.node[:]
    graph.node.extend(nodes)


def check_alpha(model: Path, changed: bytes, bound: float) -> None:
    """Raises WeightsError where alpha of the changed model is further from the model's."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # As the model is: what ONNX Runtime makes of quantised halves underflows.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    feeds = scene_feeds(needs_of(model), *CHECKED)
    alphas = []
    for source in (str(model), changed):
        session = onnxruntime.InferenceSession(source, options, ["CPUExecutionProvider"])
        is_half = session.get_inputs()[0].type == "tensor(float16)"
        typed = {k: v.astype(np.float16 if is_half else np.float32) for k, v in feeds.items()}
        alphas.append(np.asarray(session.run(["alpha"], typed)[0], np.float32))
    difference = float(np.abs(alphas[0] - alphas[1]).max())
    if not difference <= bound:
        raise WeightsError(f"{model}: alpha would differ by {difference:.2g}, over {bound}")


def scene_feeds(needs: Needs, width: int, height: int) -> Feeds:
    """Inputs by name, of a batch of one: a smooth place, a figure in it, a border without plate."""
    random = np.random.default_rng(0)
    place = cv2.resize(random.uniform(0.2, 0.6, (9, 16, 3)).astype(np.float32), (width, height))
    coverage = np.ones((height, width, 1), np.float32)
    coverage[:, : width // 20] = 0
    frame, axes = place.copy(), (width // 8, height * 2 // 5)
    cv2.ellipse(frame, (width // 2, height // 2), axes, 0, 0, 360, (0.9, 0.4, 0.2), -1)
    pictures = {"frame": frame, "plate": place * coverage, "coverage": coverage}
    feeds = {}
    for name, (_, channels, rows, columns) in needs.shapes(1, width, height).items():
        picture = pictures[name.removeprefix("small_")]
        scaled = cv2.resize(picture, (columns, rows), interpolation=cv2.INTER_AREA)
        planes = np.asarray(scaled, np.float32).reshape(rows, columns, channels).transpose(2, 0, 1)
        feeds[name] = np.floor(planes[None]) if channels == 1 else planes[None].copy()
    return feeds
