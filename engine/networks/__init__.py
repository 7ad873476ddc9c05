"""The networks that Howard can train and export, by name."""

from collections.abc import Callable
from functools import partial

from engine.networks.bgmv2 import BackgroundMattingV2
from engine.networks.context_switching import ContextSwitching
from engine.networks.howard import HowardNetwork, howard_fast

Network = HowardNetwork | ContextSwitching | BackgroundMattingV2
"""Each names its INPUTS and OUTPUTS, and in `metadata` what the run side must know of its sizes."""

TRAINABLE: dict[str, Callable[[], HowardNetwork | ContextSwitching]] = {
    "howard": HowardNetwork,
    "howard-fast": howard_fast,
    "context-switching": ContextSwitching,
}
NETWORKS: dict[str, Callable[[], Network]] = {
    **TRAINABLE,
    "bgmv2-mobilenetv2": partial(BackgroundMattingV2, "mobilenetv2"),
    "bgmv2-resnet50": partial(BackgroundMattingV2, "resnet50"),
    "bgmv2-resnet101": partial(BackgroundMattingV2, "resnet101"),
}

__all__ = [
    "NETWORKS",
    "TRAINABLE",
    "BackgroundMattingV2",
    "ContextSwitching",
    "HowardNetwork",
    "Network",
]
