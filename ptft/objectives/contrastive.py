"""Contrast: two views of an image are closer to each other than to any other image of the batch (SimCLR, 2002.05709)."""

from __future__ import annotations

import math
from typing import Any, Literal

from torch import Tensor, nn

from ptft.nn.contrast import info_nce, nt_xent
from ptft.nn.joint import JointEmbedding, Pooling
from ptft.nn.probe import Protocol
from ptft.nn.projection import mlp
from ptft.objective import Batch

LOSSES = {"nt_xent": nt_xent, "info_nce": info_nce}


class Contrastive(JointEmbedding):
    """NT-Xent between projected features, or InfoNCE, whose negatives are views of the other kind only.

    temperature: of the softmax. hidden, width: of the projection. batch_norm: after both of its linear maps.
    """

    def __init__(
        self,
        model: nn.Module,
        transform: Any,
        loss: Literal["nt_xent", "info_nce"],
        temperature: float,
        hidden: int,
        width: int,
        batch_norm: bool,
        pooling: Pooling,
        probe: Protocol | None,
        probe_rows: int,
        dataset: Any = None,
    ):
        super().__init__(model, transform, dataset, pooling, probe, probe_rows)
        self.loss, self.temperature = loss, temperature
        self.projection = mlp([model.dim, hidden, width], norm=batch_norm, last_norm=batch_norm)

    def compare(self, views: list[Tensor], batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        first, second = self.embed(views[:2])
        return LOSSES[self.loss](first, second, self.temperature), first, second

    def collapsed_loss(self, size: int) -> float:
        return math.log(2 * size - 1 if self.loss == "nt_xent" else size)
