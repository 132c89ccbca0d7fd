"""Attention by relative positions (Transformer-XL, 1901.02860, 3.3), with XLNet's relative segments (1906.08237, 2.5).

Shapes: B batch, H heads, Q queries, T tokens, M tokens of memory before them, S = M + T keys, size = dim / H.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ptft.nn.dropout import dropout
from ptft.nn.positions import NEAR_WAVES, angles, toward


def distances(memory: int, length: int, dim: int, like: Tensor) -> Tensor:
    """Sinusoids of the distances M + T down to 1 - T from a query back to a key: [M + 2T, dim], sines first."""
    waves = angles(torch.arange(memory + length, -length, -1, device=like.device), dim)
    return torch.cat((waves.sin(), waves.cos()), dim=-1).to(like.dtype)


def shifted(scores: Tensor) -> Tensor:
    """Scores by distance [B, H, T, S + T] -> by key [B, H, T, S]: what query i has for key j is at place T - i + j."""
    batch, heads, length, width = scores.shape
    return scores.flatten(2)[:, :, length:].view(batch, heads, length, width - 1)[..., : width - length]


def picked(scores: Tensor, places: Tensor, length: int) -> Tensor:
    """As `shifted`, for queries at `places` [B, Q] of T = length: [B, H, Q, S + T] -> [B, H, Q, S]."""
    keys = torch.arange(scores.shape[-1] - length, device=scores.device)
    index = length - places[:, None, :, None] + keys
    return scores.gather(-1, index.expand(-1, scores.shape[1], -1, -1))


def in_order(order: Tensor, asked: Tensor, strictly: bool, mask: Tensor | None, remembered: Tensor | None) -> Tensor:
    """What queries that come at `asked` [B, Q] see of keys that come at `order` [B, T], and of the memory: bool [B, Q, S].

    strictly: only what comes before them, else also what comes with them. mask, remembered: True where there is something.
    """
    visible = order[:, None, :] < asked[:, :, None] if strictly else order[:, None, :] <= asked[:, :, None]
    if mask is not None:
        visible = visible & mask[:, None, :]
    if remembered is None:
        return visible
    return torch.cat((remembered[:, None, :].expand(-1, asked.shape[1], -1), visible), dim=-1)


@dataclass(frozen=True)
class Sight:
    """What one stream's queries see, the same in every layer.

    bias: [B or 1, 1, Q or 1, S], added to the scores; None where all is seen. blind: True where a query sees nothing at
    all [B, 1, Q, 1]. other: True where query and key lie in different segments [B, 1, Q, S]. places: where queries stand
    [B, Q]; None where every token asks.
    """

    bias: Tensor | None
    blind: Tensor | None
    other: Tensor | None
    places: Tensor | None

    @classmethod
    def of(
        cls, visible: Tensor | None, other: Tensor | None, places: Tensor | None = None, dtype: torch.dtype = torch.float32
    ) -> Sight:
        """visible: bool [B, Q or 1, S], or None. A query that sees nothing gets nothing, not the mean of what is hidden."""
        other = None if other is None else other.unsqueeze(1)
        if visible is None:
            return cls(None, None, other, places)
        visible = visible.unsqueeze(1)
        bias = torch.zeros(visible.shape, dtype=dtype, device=visible.device).masked_fill(~visible, torch.finfo(dtype).min / 2)
        return cls(bias, ~visible.any(-1, keepdim=True), other, places)


class RelativeAttention(nn.Module):
    """Scores (q + u) k + (q + v) W r of the distance + (q + s) segment, divided by sqrt(size); no biases in the maps.

    segments: whether there are vectors for "same segment" and "other segment".
    """

    def __init__(self, dim: int, heads: int, dropout: float, segments: bool):
        super().__init__()
        if dim % heads:
            raise ValueError(f"dim={dim} cannot be split over heads={heads}")
        self.heads, self.dropout = heads, dropout
        self.query, self.key, self.value, self.distance, self.out = (nn.Linear(dim, dim, bias=False) for _ in range(5))
        self.content_bias = nn.Parameter(torch.zeros(heads, 1, dim // heads))
        self.distance_bias = nn.Parameter(torch.zeros(heads, 1, dim // heads))
        self.segment_bias = nn.Parameter(torch.zeros(heads, 1, dim // heads)) if segments else None
        self.segment = nn.Parameter(torch.zeros(heads, 2, dim // heads)) if segments else None

    def look(self, head: int, offset: int) -> None:
        """Let a fresh head find the token `offset` on by its distance: constant scores, which are those of `toward`.

        The waves of heads of that size are every `heads`-th of those of the whole width.
        """
        size = self.distance_bias.shape[-1]
        query, key = toward(offset, size)
        count = min(NEAR_WAVES, size // 2)
        cos, sin = key.view(2, -1)[:, :count]
        weight = self.distance.weight.data.view(self.heads, size, 2, -1)[head, :count]  # [count, sines and cosines, dim / 2]
        weight.zero_()
        weight[:, 0, :: self.heads][:, :count] = sin.diag()
        weight[:, 1, :: self.heads][:, :count] = cos.diag()
        self.distance_bias.data[head, 0] = query

    def seen(self, context: Tensor, waves: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Keys and values of the context [B, S, dim] and keys of distances, for any stream to look at."""
        key, value = self._split(self.key(context)), self._split(self.value(context))
        return key, value, self._split(self.distance(waves).unsqueeze(0))

    def forward(self, x: Tensor, seen: tuple[Tensor, Tensor, Tensor], sight: Sight) -> Tensor:
        """What the queries x [B, Q, dim] find: [B, Q, dim]."""
        key, value, distance = seen
        query = self._split(self.query(x)) * key.shape[-1] ** -0.5
        scale = key.shape[-1] ** -0.5
        by_distance = torch.matmul(query + self.distance_bias * scale, distance.transpose(2, 3))
        length = by_distance.shape[-1] - key.shape[2]
        scores = shifted(by_distance) if sight.places is None else picked(by_distance, sight.places, length)
        scores = scores + torch.matmul(query + self.content_bias * scale, key.transpose(2, 3))
        if sight.other is not None and self.segment is not None:
            same, other = torch.matmul(query + self.segment_bias * scale, self.segment.transpose(1, 2)).split(1, dim=-1)
            scores = scores + torch.where(sight.other, other, same)
        if sight.bias is not None:
            scores = scores + sight.bias.to(scores.dtype)
        weights = F.softmax(scores, dim=-1)
        if sight.blind is not None:
            weights = weights.masked_fill(sight.blind, 0.0)
        weights = dropout(weights, self.dropout, self.training)
        return self.out(torch.matmul(weights, value).transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        """[B, T, dim] -> [B, H, T, size]"""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)
