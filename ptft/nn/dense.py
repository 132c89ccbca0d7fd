"""Layers of linear maps: what perceptrons and dense autoencoders are made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import nn

from ptft.nn.dropout import Dropout

Activation = Literal["relu", "gelu", "silu", "tanh"]
ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU, "tanh": nn.Tanh}
Norm = Literal["batch", "layer"]
NORMS = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm}


def dense_layers(
    sizes: Sequence[int], activation: Activation, norm: Norm | None = None, dropout: float = 0.0, open_end: bool = False
) -> nn.Sequential:
    """Layers [B, sizes[0]] -> ... -> [B, sizes[-1]], each one module: linear map, norm, activation, dropout.

    open_end: the last layer is its linear map alone.
    """
    pairs = list(zip(sizes[:-1], sizes[1:], strict=True))
    layers = [_layer(before, after, activation, norm, dropout) for before, after in pairs]
    if open_end:
        layers[-1] = nn.Sequential(nn.Linear(*pairs[-1]))
    return nn.Sequential(*layers)


def _layer(before: int, after: int, activation: Activation, norm: Norm | None, dropout: float) -> nn.Sequential:
    parts: list[nn.Module] = [nn.Linear(before, after)]
    if norm:
        parts.append(NORMS[norm](after))
    parts.append(ACTIVATIONS[activation]())
    if dropout:
        parts.append(Dropout(dropout))
    return nn.Sequential(*parts)


def check_widths(widths: Sequence[int], setting: str = "widths") -> None:
    """Refuse, with a ValueError, widths that make no layers."""
    if not widths or min(widths) < 1:
        raise ValueError(f"{setting}={list(widths)}: give the width of each layer, such as [128, 64]")
