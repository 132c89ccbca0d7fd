"""Variance, invariance, covariance: views agree, features vary and do not repeat each other (VICReg, 2105.04906)."""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ptft.nn.joint import JointEmbedding, Pooling
from ptft.nn.probe import Protocol
from ptft.nn.projection import mlp
from ptft.objective import Batch

EPS = 1e-4


def missing_deviation(view: Tensor) -> Tensor:
    """How far the deviations of the features of a view [B, D] are below 1, on average (eq. 1)."""
    return F.relu(1 - (view.var(0) + EPS).sqrt()).mean()


def shared_variance(view: Tensor) -> Tensor:
    """The sum of the squared covariances between the features of a view [B, D], over D (eq. 4)."""
    centred = view - view.mean(0)
    with torch.autocast(view.device.type, enabled=False):
        matrix = centred.mT @ centred / (len(view) - 1)
    return (matrix.square().sum() - matrix.diagonal().square().sum()) / view.size(1)


class VICReg(JointEmbedding):
    """The three terms of VICReg with their weights.

    variance_reduction: the variance term is the mean of both views' (the official code) or their sum (the paper). width:
    of the projection's three layers.
    """

    def __init__(
        self,
        model: nn.Module,
        transform: Any,
        invariance: float,
        variance: float,
        covariance: float,
        variance_reduction: Literal["mean", "sum"],
        width: int,
        pooling: Pooling,
        probe: Protocol | None,
        probe_rows: int,
        dataset: Any = None,
    ):
        super().__init__(model, transform, dataset, pooling, probe, probe_rows)
        self.invariance, self.variance, self.covariance = invariance, variance, covariance
        self.views_counted = 0.5 if variance_reduction == "mean" else 1.0
        self.projection = mlp([model.dim, width, width, width], norm=True)

    def compare(self, views: list[Tensor], batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        first, second = (self.encoder(view) for view in views[:2])
        return self.loss(first.float(), second.float()), first, second

    def loss(self, first: Tensor, second: Tensor) -> Tensor:
        """The three terms together (eq. 6), of embeddings [B, D]."""
        spread = self.views_counted * (missing_deviation(first) + missing_deviation(second))
        repeated = shared_variance(first) + shared_variance(second)
        return self.invariance * F.mse_loss(first, second) + self.variance * spread + self.covariance * repeated

    def collapsed_loss(self, size: int) -> float:
        return self.variance * self.views_counted * 2 * (1 - EPS**0.5)
