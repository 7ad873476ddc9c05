"""The networks that Howard can train and export, by name."""

from collections.abc import Callable, Mapping
from functools import partial

from torch import Tensor

from engine.networks.bgmv2 import BackgroundMattingV2
from engine.networks.context_switching import TRAINED_WIDTH, ContextSwitching, stored_width
from engine.networks.howard import FAST, HowardNetwork

Network = HowardNetwork | ContextSwitching | BackgroundMattingV2
"""Each names its INPUTS and OUTPUTS, and in `metadata` what the run side must know of its sizes."""

TRAINABLE: dict[str, Callable[[], HowardNetwork | ContextSwitching]] = {
    "howard": HowardNetwork,
    "context-switching": partial(ContextSwitching, TRAINED_WIDTH),
}
NETWORKS: dict[str, Callable[[], Network]] = {
    **TRAINABLE,
    "howard-fast": partial(HowardNetwork, FAST),
    "bgmv2-mobilenetv2": partial(BackgroundMattingV2, "mobilenetv2"),
    "bgmv2-resnet50": partial(BackgroundMattingV2, "resnet50"),
    "bgmv2-resnet101": partial(BackgroundMattingV2, "resnet101"),
}

WEIGHTS_OF = {"howard-fast": "howard"}
"""Whose weights a network has, if they are another's."""


def network_for(name: str, weights: Mapping[str, Tensor]) -> Network:
    """Of the width that these weights have, for them to be loaded into. `name` is of NETWORKS."""
    if name == "context-switching":
        return ContextSwitching(stored_width(weights))
    return NETWORKS[name]()


__all__ = [
    "NETWORKS",
    "TRAINABLE",
    "WEIGHTS_OF",
    "BackgroundMattingV2",
    "ContextSwitching",
    "HowardNetwork",
    "Network",
    "network_for",
]
