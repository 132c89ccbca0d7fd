"""Stochastic depth: in training, whole residual branches are left out for some examples (Huang et al. 2016, 1603.09382)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class DropPath(nn.Module):
    """Zero a branch for each example with probability `rate`, and scale it up for the others. Raises ValueError."""

    def __init__(self, rate: float):
        super().__init__()
        if not 0 <= rate < 1:
            raise ValueError(f"drop_path={rate} is no probability below 1")
        self.rate = rate

    def forward(self, branch: Tensor) -> Tensor:
        if not self.training or not self.rate:
            return branch
        shape = (len(branch), *[1] * (branch.ndim - 1))
        kept = torch.rand(shape, device=branch.device) >= self.rate
        return branch * (kept / (1 - self.rate)).to(branch.dtype)

    def extra_repr(self) -> str:
        return f"rate={self.rate:.4g}"


def rising(rate: float, count: int) -> list[float]:
    """Rates of `count` branches, from 0 at the first to `rate` at the last: early features are needed by all."""
    return [rate * place / max(count - 1, 1) for place in range(count)]
