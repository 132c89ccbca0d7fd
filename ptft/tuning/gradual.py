"""Layers join one after another, from the top."""

from __future__ import annotations

import math

from torch import nn

from ptft.duration import duration
from ptft.objective import Objective
from ptft.tuning.tuning import Tuning, depths, part_name


class Gradual(Tuning):
    """Unfreezes from the top: heads first, one more level each `every` (ULMFiT, Howard & Ruder 2018, §3.3).

    ratio: each level trains that much slower than the one above it (§3.2: 2.6). What is still frozen has no gradient,
    so the optimizer neither moves nor decays it. steps, steps_per_epoch: facts about the run. Raises ValueError.
    """

    def __init__(self, steps: int, steps_per_epoch: float, every: int | float | str, ratio: float):
        if ratio < 1:
            raise ValueError(f"ratio={ratio}: give at least 1, such as 2.6")
        self.steps, self.every, self.ratio = steps, duration(every, steps, steps_per_epoch, "every"), ratio
        if not self.every:
            raise ValueError(f'every={every}: give at least one step, such as "1 epoch"')

    def apply(self, objective: Objective) -> None:
        """Freeze all but the top."""
        self.objective, self.parameters = objective, super().trained(objective)
        depth = depths(objective)
        levels: dict[int, list] = {level: [] for level in sorted({depth[name] for name in self.parameters}, reverse=True)}
        for name, parameter in self.parameters.items():
            levels[depth[name]].append(parameter)
        self.levels, self.open = list(levels.values()), 0
        self.names = [part_name(level, objective) for level in levels]
        self.advance(0.0)

    def trained(self, objective: Objective) -> dict[str, nn.Parameter]:
        return self.parameters

    def rate(self, below: int) -> float:
        return self.ratio**-below

    def notes(self, steps: int) -> list[str]:
        """Which levels such a run never opens."""
        closed = self.names[self._opened((steps - 1) / self.steps) :]
        if not closed:
            return []
        count = len(self.names)
        share = math.floor(100 / count) / 100
        told = f"tuning=gradual: {count - len(closed)} of {count} levels join in {steps:,} steps"
        return [f"{told}, {', '.join(closed)} never train; train longer, or give tuning.every={share} (of the run)"]

    def _opened(self, progress: float) -> int:
        return min(len(self.levels), 1 + int(progress * self.steps / self.every + 1e-6))

    def advance(self, progress: float) -> None:
        count = self._opened(progress)
        if count == self.open:
            return
        self.open = count
        for index, level in enumerate(self.levels):
            for parameter in level:
                parameter.requires_grad_(index < count)
                parameter.grad = parameter.grad if index < count else None
        if self.objective.training:
            self.train_mode(self.objective)
