"""Supervised contrast: views of images of one class are closer than those of others (Khosla et al. 2020, 2004.11362)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ptft.nn.contrast import supervised_contrast
from ptft.nn.joint import JointEmbedding, Pooling
from ptft.nn.probe import Protocol
from ptft.nn.projection import mlp
from ptft.objective import Batch


class SupCon(JointEmbedding):
    """The mean of -log softmax over all other views of the anchor's class; two views of each image.

    temperature: of the softmax. hidden, width: of the projection.
    """

    fields = ("image", "label")
    target = "class"

    def __init__(
        self,
        model: nn.Module,
        transform: Any,
        temperature: float,
        hidden: int,
        width: int,
        pooling: Pooling,
        probe: Protocol | None,
        probe_rows: int,
        dataset: Any = None,
    ):
        super().__init__(model, transform, dataset, pooling, probe, probe_rows)
        self.temperature = temperature
        self.projection = mlp([model.dim, hidden, width], norm=False)

    def compare(self, views: list[Tensor], batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        first, second = self.embed(views[:2])
        loss = supervised_contrast(torch.cat((first, second)), batch["target"].repeat(2), self.temperature)
        return loss, first, second

    def collapsed_loss(self, size: int) -> float:
        return math.log(2 * size - 1)
