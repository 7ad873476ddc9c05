"""The networks that Howard can train and export, by name."""

from collections.abc import Callable

from engine.networks.howard import HowardNetwork, howard_fast

NETWORKS: dict[str, Callable[[], HowardNetwork]] = {
    "howard": HowardNetwork,
    "howard-fast": howard_fast,
}

__all__ = ["NETWORKS", "HowardNetwork"]
