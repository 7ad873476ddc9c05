"""The networks that Howard can train and export, by name."""

from engine.networks.howard import HowardNetwork

NETWORKS = {"howard": HowardNetwork}

__all__ = ["NETWORKS", "HowardNetwork"]
