"""Bootstrap your own latent: predict a slow teacher's embedding of the other view (BYOL, 2006.07733)."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ptft.nn.bootstrap import Bootstrap
from ptft.nn.joint import Pooling
from ptft.nn.probe import Protocol
from ptft.nn.projection import mlp
from ptft.nn.teacher import Buffers


class BYOL(Bootstrap):
    """The sum over both orders of the views of 2 - 2 cos(predictor(embedding), teacher's embedding of the other).

    momentum rises to momentum_end over the run along half a cosine. teacher_buffers: own, copy or ema (see Teacher).
    hidden, width: of projection and predictor.
    """

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
        projection, predictor = mlp([model.dim, hidden, width], norm=True), mlp([width, hidden, width], norm=True)
        self.bootstrap(projection, predictor, momentum, momentum_end, teacher_buffers)

    def distance(self, predicted: Tensor, targets: Tensor) -> Tensor:
        return 2 - 2 * F.cosine_similarity(predicted.float(), targets.float(), dim=-1).mean()

    def collapsed_loss(self, size: int) -> None:
        """0, and there is no lower loss: only the embeddings' health can tell."""
