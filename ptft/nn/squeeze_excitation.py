"""Squeeze and excitation: channels weigh each other by what the whole image holds (Hu et al. 2018, 1709.01507)."""

from __future__ import annotations

from torch import Tensor, nn

REDUCTION = 16  # 1709.01507, 6.1
NARROWEST = 4


class SqueezeExcitation(nn.Module):
    """x [B, dim, h, w] -> x times a gate in (0, 1) for each example and channel."""

    def __init__(self, dim: int):
        super().__init__()
        hidden = max(dim // REDUCTION, NARROWEST)
        self.gate = nn.Sequential(nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, dim), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x.mean((2, 3)))[:, :, None, None]
