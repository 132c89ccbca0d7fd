"""Tokens by their spelling: convolutions over the bytes of each (Kim et al. 2016, 1508.06615; ELMo, 1802.05365, 3.4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

NOTHING, BEGIN, END = 0, 257, 258  # bytes are 1 to 256
SPECIAL = 259
CARRY_BIAS = -2.0  # highways start out handing on what comes in
SPREAD = 4.0  # spellings have much in common: with torch's own start, LSTMs take long to tell tokens apart


def spellings(tokenizer: Any, longest: int) -> Tensor:
    """The codes of each token's bytes between BEGIN and END, cut to `longest`: int64 [vocabulary, longest].

    Each special token has a code of its own instead of bytes, and padding has none.
    """
    table = np.full((tokenizer.vocab_size, longest), NOTHING, dtype=np.int64)
    specials = {index: SPECIAL + place for place, index in enumerate(sorted(set(tokenizer.special_ids)))}
    for index, content in enumerate(tokenizer.token_bytes):
        inside = [specials[index]] if index in specials else [1 + byte for byte in content[: longest - 2]]
        table[index, : len(inside) + 2] = [BEGIN, *inside, END]
    return torch.from_numpy(table)


class Highway(nn.Module):
    """A gate's share of a transformed x, and the rest of x as it is (1505.00387)."""

    def __init__(self, dim: int):
        super().__init__()
        self.transform, self.gate = nn.Linear(dim, dim), nn.Linear(dim, dim)
        nn.init.constant_(self.gate.bias, CARRY_BIAS)

    def forward(self, x: Tensor) -> Tensor:
        return torch.lerp(x, F.relu(self.transform(x)), torch.sigmoid(self.gate(x)))


class Characters(nn.Module):
    """Tokens [B, T] -> vectors [B, T, dim] made of their bytes: convolutions, maximum, activation, highways, projection.

    filters: [width, number] of each convolution. size: of a character's vector. longest: bytes of a token that are read,
    with the two that mark its ends. Raises ValueError.
    """

    table: Tensor

    def __init__(self, tokenizer: Any, dim: int, size: int, filters: Sequence[Sequence[int]], highways: int, longest: int):
        super().__init__()
        widest = max(width for width, _ in filters)
        if longest < max(3, widest):
            raise ValueError(f"max_characters={longest}: expected at least {max(3, widest)}")
        features = sum(number for _, number in filters)
        self.register_buffer("table", spellings(tokenizer, longest), persistent=False)
        self.character = nn.Embedding(SPECIAL + len(set(tokenizer.special_ids)), size)
        self.filters = nn.ModuleList(nn.Conv1d(size, number, width) for width, number in filters)
        self.highways = nn.Sequential(*(Highway(features) for _ in range(highways)))
        self.projection = nn.Linear(features, dim)
        nn.init.normal_(self.projection.weight, std=SPREAD * features**-0.5)
        nn.init.zeros_(self.projection.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        if torch.compiler.is_exporting():  # a graph's shapes must not depend on how often a token occurs
            return self.spelled(tokens.flatten()).unflatten(0, tokens.shape)
        known, places = tokens.unique(return_inverse=True)
        return F.embedding(places, self.spelled(known))

    def spelled(self, tokens: Tensor) -> Tensor:
        """The vectors of tokens [N]: [N, dim]."""
        x = self.character(self.table[tokens]).transpose(1, 2)  # [N, size, longest]
        found = torch.cat([F.relu(convolution(x).amax(-1)) for convolution in self.filters], dim=-1)
        return self.projection(self.highways(found))
