"""A teacher: a copy of a network that follows it slowly and gets no gradient."""

from __future__ import annotations

import copy
import math
from typing import Literal

import torch
from torch import Tensor, nn

from ptft.errors import UserError

Buffers = Literal["own", "copy", "ema"]
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def rising(start: float, end: float, progress: float) -> float:
    """A momentum, or a decay, that goes from start to end along half a cosine (BYOL, 2006.07733, §3.3). progress: in [0, 1]."""
    return end - (end - start) * (math.cos(math.pi * progress) + 1) / 2


def momenta(start: float, end: float) -> tuple[float, float]:
    """Both; ValueError for shares that a teacher cannot keep of itself."""
    for name, value in (("momentum", start), ("momentum_end", end)):
        if not 0 <= value <= 1:
            raise ValueError(f"{name}={value}: expected a share from 0 to 1, such as 0.99")
    return start, end


class Teacher(nn.Module):
    """The exponential moving average of a network's parameters; equal to it until the first update.

    buffers: what becomes of batch statistics: the teacher's `own` batches move them (as in MoCo, BYOL and DINO), or they
    are a `copy` of the network's after each update, or their moving average too (`ema`). Dropout is off in a teacher;
    batch norms are in training mode where the network's are. Its state, the number of updates included, is a matter of
    parameters and buffers.
    """

    def __init__(self, network: nn.Module, buffers: Buffers):
        super().__init__()
        self.network = copy.deepcopy(network).requires_grad_(False)
        self.policy = buffers
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))
        if buffers != "own":
            for part in self.network.modules():
                if isinstance(part, BATCH_NORMS):
                    part.momentum = 0.0  # its own batches leave no trace

    def train(self, mode: bool = True) -> Teacher:
        for part in self.modules():
            part.training = mode and isinstance(part, BATCH_NORMS)
        return self

    @torch.no_grad()
    def forward(self, values: Tensor) -> Tensor:
        return self.network(values)

    def start(self, network: nn.Module) -> None:
        """Become the network, whose weights may have been loaded after the teacher was made, until the first update."""
        if self.updates == 0:
            self._move(network, 0.0, "copy")

    def follow(self, network: nn.Module, momentum: float) -> None:
        """Keep `momentum` of each parameter and take the rest from the network."""
        self._move(network, momentum, self.policy)
        self.updates += 1

    @torch.no_grad()
    def _move(self, network: nn.Module, momentum: float, policy: Buffers) -> None:
        own, theirs = dict(self.network.named_parameters()), dict(network.named_parameters())
        if own.keys() != theirs.keys():
            raise UserError(f"tuning: a teacher cannot follow weights that were renamed ({min(own.keys() ^ theirs.keys())})")
        torch._foreach_lerp_([*own.values()], [theirs[name] for name in own], 1 - momentum)
        if policy == "own":
            return
        for mine, other in zip(self.network.buffers(), network.buffers(), strict=True):
            if policy == "ema" and mine.is_floating_point():
                mine.lerp_(other, 1 - momentum)
            else:
                mine.copy_(other)
