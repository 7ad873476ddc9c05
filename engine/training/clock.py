"""How far a run is, and what follows from it: its phase and its learning rate."""

from __future__ import annotations

import math
import time
from bisect import bisect
from itertools import pairwise

from engine.training.batches import PHASES, Phase
from engine.training.config import TrainConfig
from engine.training.learner import UPDATES

LONGEST_STEP_SECONDS = 20.0
WARM_UP = 200
"""Updates in which the learning rate rises."""
ALONE_RATE = 3.0
"""Learning rate of a part alone, over that of the rest: it is small, and learns late."""


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
    def ends(self) -> tuple[float, float, float, float]:
        """Of each phase but the last, as a share of the run."""
        detail = 1 - self.config.detail_share
        edges = max(0.0, detail - self.config.edges_share)
        base = min(self.config.base_share, edges)
        return min(self.config.people_share, base), base, edges, detail

    @property
    def phase(self) -> Phase:
        return PHASES[bisect(self.ends, self.progress)]

    def tick(self) -> None:
        now = time.monotonic()
        self.spent += min(now - self.begun, LONGEST_STEP_SECONDS)
        self.begun = now
        self.steps += 1

    @property
    def part(self) -> float:
        """How much of what the learning rate falls over is done: of all before a part of the
        network learns alone, then of that."""
        courses = pairwise((0.0, *self.ends[2:], 1.0))
        begin, end = next((a, b) for a, b in courses if self.progress < b or b == 1)
        return min(1.0, (self.progress - begin) / (end - begin))

    def learning_rate(self) -> float:
        """Cosine over the run after a warm-up; and once more for each part that learns alone."""
        highest = ALONE_RATE if self.phase.alone else 1.0
        falling = 0.5 + 0.5 * math.cos(math.pi * self.part) + 0.01
        rate = self.config.learning_rate * highest * falling
        updates = self.steps * UPDATES if self.phase.alone else self.steps
        return rate * min(1.0, (updates + 1) / WARM_UP)
