"""Redundancy reduction: the features of two views correlate with themselves only (Barlow Twins, 2103.03230)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ptft.nn.joint import JointEmbedding, Pooling
from ptft.nn.probe import Protocol
from ptft.nn.projection import mlp
from ptft.objective import Batch


def redundancy(first: Tensor, second: Tensor, off_diagonal: float) -> Tensor:
    """Sum of (1 - C_ii)^2 + off_diagonal * sum of C_ij^2, C the correlations of the features of two views [B, D]."""
    with torch.autocast(first.device.type, enabled=False):
        first, second = (F.batch_norm(view.float(), None, None, training=True) for view in (first, second))
        correlations = first.mT @ second / len(first)
    diagonal = correlations.diagonal()
    others = correlations.square().sum() - diagonal.square().sum()
    return (1 - diagonal).square().sum() + off_diagonal * others


class Barlow(JointEmbedding):
    """Barlow Twins. off_diagonal: the weight of correlations between features. width: of the projection's three layers."""

    def __init__(
        self,
        model: nn.Module,
        transform: Any,
        off_diagonal: float,
        width: int,
        pooling: Pooling,
        probe: Protocol | None,
        probe_rows: int,
        dataset: Any = None,
    ):
        super().__init__(model, transform, dataset, pooling, probe, probe_rows)
        self.off_diagonal, self.width = off_diagonal, width
        self.projection = mlp([model.dim, width, width, width], norm=True, bias=False)

    def compare(self, views: list[Tensor], batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        first, second = (self.encoder(view) for view in views[:2])
        return redundancy(first, second, self.off_diagonal), first, second

    def collapsed_loss(self, size: int) -> float:
        """All features constant: no correlation, of a feature with itself neither."""
        return float(self.width)
