"""Bootstrap your own latent: predict a slow teacher's embedding of the other view (BYOL, 2006.07733)."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ptft.nn.joint import JointEmbedding, Pooling
from ptft.nn.probe import Protocol
from ptft.nn.projection import mlp
from ptft.nn.teacher import Buffers, Teacher, rising
from ptft.objective import Batch


class BYOL(JointEmbedding):
    """The sum over both orders of the views of 2 - 2 cos(predictor(embedding), teacher's embedding of the other).

    momentum rises to momentum_end over the run along half a cosine. teacher_buffers: own, copy or ema (see Teacher).
    hidden, width: of projection and predictor.
    """

    loss_ranks = False
    teacher_model = "teacher.network.model."

    def __init__(
        self,
        model: nn.Module,
        transform: Any,
        momentum: float,
        momentum_end: float,
        teacher_buffers: Buffers,
        hidden: int,
        width: int,
        pooling: Pooling,
        probe: Protocol | None,
        probe_rows: int,
        dataset: Any = None,
    ):
        super().__init__(model, transform, dataset, pooling, probe, probe_rows)
        self.momentum, self.momentum_end = momentum, momentum_end
        self.projection = mlp([model.dim, hidden, width], norm=True)
        self.predictor = mlp([width, hidden, width], norm=True)
        self.teacher = Teacher(self.encoder, teacher_buffers)

    def compare(self, views: list[Tensor], batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        self.teacher.start(self.encoder)
        first, second = (self.encoder(view) for view in views[:2])
        targets = self.teacher(views[1]), self.teacher(views[0])
        loss = sum(map(self.distance, (first, second), targets))
        return loss, first, second

    def distance(self, embeddings: Tensor, targets: Tensor) -> Tensor:
        """The mean of 2 - 2 cos between predictions and targets."""
        predicted = self.predictor(embeddings)
        return 2 - 2 * F.cosine_similarity(predicted.float(), targets.float(), dim=-1).mean()

    def after_step(self, progress: float) -> None:
        super().after_step(progress)
        self.teacher.follow(self.encoder, rising(self.momentum, self.momentum_end, progress))

    def collapsed_loss(self, size: int) -> None:
        """0, and there is no lower loss: only the embeddings' health can tell."""
