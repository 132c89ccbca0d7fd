"""Simple Siamese learning: predict the other view's embedding, which gets no gradient (SimSiam, 2011.10566)."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ptft.nn.joint import JointEmbedding, Pooling
from ptft.nn.probe import Protocol
from ptft.nn.projection import mlp
from ptft.objective import Batch


class SimSiam(JointEmbedding):
    """The mean over both orders of -cos(predictor(embedding), embedding of the other view, without gradient).

    hidden: of the predictor, its bottleneck, whose rate follows no schedule (4.1). width: of the projection's three layers.
    stop_gradient: false lets the gradient through, and the embeddings collapse while the loss gets better: to see the alarm
    go off.
    """

    loss_ranks = False
    steady = ("predictor.",)

    def __init__(
        self,
        model: nn.Module,
        transform: Any,
        stop_gradient: bool,
        hidden: int,
        width: int,
        pooling: Pooling,
        probe: Protocol | None,
        probe_rows: int,
        dataset: Any = None,
    ):
        super().__init__(model, transform, dataset, pooling, probe, probe_rows)
        self.stop_gradient = stop_gradient
        self.projection = mlp([model.dim, width, width, width], norm=True, last_norm=True, affine=False)
        self.predictor = mlp([width, hidden, width], norm=True)

    def compare(self, views: list[Tensor], batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        first, second = (self.encoder(view) for view in views[:2])
        likeness = self.likeness(first, second) + self.likeness(second, first)
        return -likeness / 2, first, second

    def likeness(self, embeddings: Tensor, targets: Tensor) -> Tensor:
        """The mean cosine of predictions and targets."""
        targets = targets.detach() if self.stop_gradient else targets
        return F.cosine_similarity(self.predictor(embeddings).float(), targets.float(), dim=-1).mean()

    def collapsed_loss(self, size: int) -> float:
        """The lowest loss there is: only the embeddings' health tells this from success."""
        return -1.0
