"""What scenes are built from."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from engine.training.people import People
from engine.training.views import ViewPair


@dataclass
class Material:
    """What scenes are built from. Every list may be empty: procedural material fills in."""

    people: People | None = None
    places: list[Path] = field(default_factory=list)
    pairs: list[ViewPair] = field(default_factory=list)
