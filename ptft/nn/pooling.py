"""One vector for a whole text, whatever the padding after it, and the head that reads it."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from ptft.nn.dropout import Dropout


def first(features: Tensor, mask: Tensor | None) -> Tensor:
    """The features of the first token, [CLS] in BERT's layout."""
    return features[:, 0]


def last(features: Tensor, mask: Tensor | None) -> Tensor:
    """The features of the last real token."""
    if mask is None:
        return features[:, -1]
    return features[torch.arange(features.shape[0], device=features.device), mask.sum(1) - 1]


def before_end(features: Tensor, mask: Tensor | None) -> Tensor:
    """The features of the token before the last, which is what ends a text in its layout; of the only one where that is all."""
    if mask is None:
        return features[:, -min(2, features.shape[1])]
    return features[torch.arange(features.shape[0], device=features.device), (mask.sum(1) - 2).clamp(min=0)]


def maximum(features: Tensor, mask: Tensor | None) -> Tensor:
    """The highest value of each feature over the real tokens."""
    if mask is not None:
        features = features.masked_fill(~mask.unsqueeze(-1), torch.finfo(features.dtype).min)
    return features.amax(1)


def mean(features: Tensor, mask: Tensor | None) -> Tensor:
    """The mean over the real tokens."""
    if mask is None:
        return features.mean(1)
    weights = mask.unsqueeze(-1).to(features.dtype)
    return (features * weights).sum(1) / weights.sum(1)


def concat(features: Tensor, mask: Tensor | None) -> Tensor:
    """Last, maximum and mean side by side (ULMFiT, 1801.06146, 3.3)."""
    return torch.cat([pool(features, mask) for pool in (last, maximum, mean)], dim=-1)


Hidden = Literal["tanh", "relu"]
Pooling = Literal["mean", "max", "last", "before_end", "cls", "concat"]
POOLINGS = {"cls": first, "last": last, "before_end": before_end, "max": maximum, "mean": mean, "concat": concat}


def vector(features: Tensor, mask: Tensor | None = None, pooling: str = "mean") -> Tensor:
    """One vector for each example [B, dim], whatever a model gives: that itself, tokens [B, T, dim] or a map [B, dim, h, w]."""
    if features.ndim == 2:
        return features
    if features.ndim == 4:
        features = features.flatten(2).transpose(1, 2)
    return POOLINGS[pooling](features, mask)


class PooledHead(nn.Module):
    """Dropout and a linear map on pooled features: [B, T, dim], [B, dim, h, w] or [B, dim] -> [B, outputs].

    hidden: the activation of a dense layer before them, tanh as in BERT, relu as in DistilBERT; None for no such layer.
    Raises ValueError for pooling=cls on a causal model, whose first token sees nothing else.
    """

    def __init__(self, model: nn.Module, pooling: str, outputs: int, dropout: float, hidden: Hidden | None = None):
        super().__init__()
        if pooling == "cls" and "causal" in model.traits:
            raise ValueError(
                "pooling=cls reads the first token, and in a causal model that sees nothing else; use last or mean"
            )
        self.pooling, self.activation = pooling, hidden
        self.dropout = Dropout(dropout)
        tripled = pooling == "concat" and model.traits & {"text", "patches", "pyramid"}
        width = model.dim * (3 if tripled else 1)
        self.hidden = nn.Linear(width, width) if hidden else None
        self.linear = nn.Linear(width, outputs)
        for linear in filter(None, (self.hidden, self.linear)):
            nn.init.normal_(linear.weight, std=0.02)
            nn.init.zeros_(linear.bias)

    def forward(self, features: Tensor, mask: Tensor | None) -> Tensor:
        pooled = vector(features, mask, self.pooling)
        if self.hidden is not None:
            pooled = getattr(torch, self.activation)(self.hidden(pooled))
        return self.linear(self.dropout(pooled))
