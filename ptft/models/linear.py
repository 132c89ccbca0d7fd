"""The features are the values themselves: with a task's head a linear or logistic regression."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn


class Linear(nn.Module):
    """Values -> the same values as one vector; all that is learned is the linear map of the objective's head.

    input_shape: of one example, [C, H, W] or [F].
    """

    traits = frozenset({"image", "table"})

    def __init__(self, input_shape: Sequence[int]):
        super().__init__()
        self.dim = math.prod(input_shape)
        self.values = nn.Flatten()

    @property
    def blocks(self) -> list[nn.Module]:
        """One block without weights."""
        return [self.values]

    def forward(self, values: Tensor) -> Tensor:
        """Features [B, dim] of values [B, ...]."""
        return self.values(values)
