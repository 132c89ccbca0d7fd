"""Rows of tables, looked up so that a step touches no other rows: gradients are sparse, and added up in one go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor


class Lookup(torch.autograd.Function):
    """Different rows of a large table, whose gradient is sparse, each row once: table [V, dim], rows [n] -> [n, dim]."""

    @staticmethod
    def forward(context: Any, table: Tensor, rows: Tensor) -> Tensor:
        context.save_for_backward(rows)
        context.size = table.shape
        return table.index_select(0, rows)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (rows,) = context.saved_tensors
        found = torch.sparse_coo_tensor(rows[None], gradient, context.size, is_coalesced=True, check_invariants=False)
        return found, None


class Places(torch.autograd.Function):
    """Rows of a small table [n, dim] at places of any shape; the backward pass is several times faster than torch's own."""

    @staticmethod
    def forward(context: Any, table: Tensor, places: Tensor) -> Tensor:
        context.save_for_backward(places)
        context.size = table.shape
        return table.index_select(0, places.flatten()).view(*places.shape, table.shape[1])

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (places,) = context.saved_tensors
        total = gradient.new_zeros(context.size)
        return total.index_add_(0, places.flatten(), gradient.reshape(-1, context.size[1])), None


@dataclass
class Local:
    """The different words of a batch, ascending, and where each stands among them, so that a batch touches few rows."""

    words: np.ndarray
    place: np.ndarray  # [vocabulary]; of other words it means nothing

    @classmethod
    def of(cls, vocabulary: int, *groups: np.ndarray) -> Local:
        occurs = np.zeros(vocabulary, dtype=bool)
        for group in groups:
            occurs[group] = True
        words = np.flatnonzero(occurs)
        place = np.zeros(vocabulary, dtype=np.int64)
        place[words] = np.arange(len(words))
        return cls(words, place)
