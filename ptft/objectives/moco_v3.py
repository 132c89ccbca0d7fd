"""Momentum contrast without a queue: a slow teacher's embeddings of the batch are the keys (MoCo v3, 2104.02057)."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, nn

from ptft.errors import UserError
from ptft.nn.bootstrap import Bootstrap
from ptft.nn.contrast import info_nce_one_way
from ptft.nn.joint import Pooling
from ptft.nn.probe import Protocol
from ptft.nn.projection import mlp
from ptft.nn.teacher import Buffers


class MoCoV3(Bootstrap):
    """InfoNCE times 2 temperature, over both orders of the views: predictions find their image among the teacher's embeddings.

    temperature: of the softmax. momentum rises to momentum_end over the run along half a cosine. teacher_buffers: own, copy
    or ema (see Teacher). frozen_patches: a vision transformer's patch projection stays as it is, random from scratch, which
    spares it sudden falls of accuracy (4.2). hidden, width: of projection and predictor. Raises UserError.
    """

    def __init__(
        self,
        model: nn.Module,
        transform: Any,
        temperature: float,
        momentum: float,
        momentum_end: float,
        teacher_buffers: Buffers,
        frozen_patches: bool,
        hidden: int,
        width: int,
        pooling: Pooling,
        probe: Protocol | None,
        probe_rows: int,
        dataset: Any = None,
    ):
        super().__init__(model, transform, dataset, pooling, probe, probe_rows)
        self.temperature = temperature
        if frozen_patches:
            if "patches" not in model.traits:
                raise UserError("objective.frozen_patches=true: this model projects no patches; use model=vit, or false")
            model.embedding.project.requires_grad_(False)
        projection = mlp([model.dim, hidden, hidden, width], norm=True, last_norm=True, affine=False, bias=False)
        predictor = mlp([width, hidden, width], norm=True, last_norm=True, affine=False, bias=False)
        self.bootstrap(projection, predictor, momentum, momentum_end, teacher_buffers)

    def distance(self, predicted: Tensor, targets: Tensor) -> Tensor:
        # the gradient of a cosine has a factor of 1 / temperature: with this one, rates suit all temperatures
        return 2 * self.temperature * info_nce_one_way(predicted, targets, self.temperature)

    def collapsed_loss(self, size: int) -> float:
        return 4 * self.temperature * math.log(size)
