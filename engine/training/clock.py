"""How far a run is, and what follows from it: its phase and its learning rate."""

from __future__ import annotations

import math
import time
from bisect import bisect

from engine.training.batches import PHASES, Phase
from engine.training.config import TrainConfig

LONGEST_STEP_SECONDS = 20.0
WARM_UP = 200
"""Steps in which the learning rate rises."""
EDGE_RATE = 3.0
"""Learning rate of the refinement alone, over that of the rest: it is small, and learns late."""


class Clock:
    """How much of the run is done, in steps or in seconds of work."""

    def __init__(self, config: TrainConfig, steps: int = 0, spent: float = 0.0) -> None:
        self.config, self.steps, self.spent = config, steps, spent
        self.start()

    def start(self) -> None:
        """The first step begins now."""
        self.begun = time.monotonic()

    @property
    def progress(self) -> float:
        if self.config.steps:
            return self.steps / self.config.steps
        return self.spent / (self.config.minutes * 60)

    @property
    def phase(self) -> Phase:
        base = min(self.config.base_share, self.edges)
        people = min(self.config.people_share, base)
        return PHASES[bisect((people, base, self.edges), self.progress)]

    @property
    def edges(self) -> float:
        """From where on the refinement learns alone."""
        return 1 - self.config.edges_share

    def tick(self) -> None:
        now = time.monotonic()
        self.spent += min(now - self.begun, LONGEST_STEP_SECONDS)
        self.begun = now
        self.steps += 1

    @property
    def part(self) -> float:
        """How much of what the learning rate falls over is done: of all before the refinement
        learns alone, then of that."""
        if self.phase.frozen:
            return min(1.0, (self.progress - self.edges) / self.config.edges_share)
        return min(1.0, self.progress / self.edges)

    def learning_rate(self) -> float:
        """Cosine over the run after a warm-up; and once more while the refinement learns alone."""
        highest = EDGE_RATE if self.phase.frozen else 1.0
        falling = 0.5 + 0.5 * math.cos(math.pi * self.part) + 0.01
        rate = self.config.learning_rate * highest * falling
        return rate * min(1.0, (self.steps + 1) / WARM_UP)
