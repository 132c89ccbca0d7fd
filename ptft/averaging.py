"""A running average of the weights, evaluated beside them."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from ptft.errors import CheckpointError

UPDATES = "ema.updates"


class Average:
    """The exponential moving average of what trains; buffers and frozen weights are shared, not averaged.

    After n optimizer steps the next one keeps min(decay, (1 + n) / (10 + n)) of the average, so that it forgets the untrained
    weights first. parameters: by name. decay: in [0, 1), per optimizer step. every: of so many steps only the last moves the
    average, by what all of them keep together, so that its half-life stays. Raises ValueError.
    """

    def __init__(self, parameters: Mapping[str, Tensor], decay: float, every: int = 1):
        if not 0 <= decay < 1:
            raise ValueError(f"ema={decay}: give a decay in [0, 1), such as 0.999, or null for none")
        self.decay, self.every, self.updates = decay, every, 0
        self.parameters = dict(parameters)
        self.averages = {name: parameter.detach().clone() for name, parameter in self.parameters.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take note of an optimizer step, and move the average towards the weights where it is time to."""
        self.updates += 1
        if self.updates % self.every:
            return
        keep = math.prod(min(self.decay, (1 + n) / (10 + n)) for n in range(self.updates - self.every, self.updates))
        torch._foreach_lerp_(list(self.averages.values()), list(self.parameters.values()), 1 - keep)

    @contextlib.contextmanager
    def swap(self) -> Iterator[None]:
        """Lend the average to the model: inside, the model is the average and `averages` holds the raw weights."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    @torch.no_grad()
    def _exchange(self) -> None:
        for name, parameter in self.parameters.items():
            raw = parameter.clone()
            parameter.copy_(self.averages[name])
            self.averages[name].copy_(raw)

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint holds of it."""
        return {**self.averages, UPDATES: torch.tensor(self.updates)}

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Continue from `state()`; raises CheckpointError where it belongs to other weights."""
        unlike = tensors.keys() ^ {*self.averages, UPDATES}
        if unlike:
            raise CheckpointError(f"the average of the weights in the checkpoint does not fit: {min(unlike)}")
        self.updates = int(tensors[UPDATES])
        for name, average in self.averages.items():
            average.copy_(tensors[name])
