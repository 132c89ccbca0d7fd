"""A multi-layer perceptron for tables and small images."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

from ptft.nn.dense import Activation, Norm, check_widths, dense_layers


class MLP(nn.Module):
    """Values -> features through dense layers.

    input_shape: of one example, [C, H, W] or [F]. widths: of each layer. activation: relu, gelu, silu, tanh. norm: batch,
    layer or None, before the activation. dropout: after it.
    """

    traits = frozenset({"image", "table"})

    def __init__(
        self, input_shape: Sequence[int], widths: Sequence[int], activation: Activation, norm: Norm | None, dropout: float
    ):
        super().__init__()
        check_widths(widths)
        self.dim = widths[-1]
        self.layers = dense_layers([math.prod(input_shape), *widths], activation, norm, dropout)

    @property
    def blocks(self) -> list[nn.Module]:
        """Shallow to deep."""
        return list(self.layers)

    def forward(self, values: Tensor) -> Tensor:
        """Features [B, dim] of values [B, ...]."""
        return self.layers(values.flatten(1))
