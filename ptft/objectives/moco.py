"""Momentum contrast: keys of a slow encoder, queued, are the negatives (MoCo v2, 1911.05722 and 2003.04297)."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ptft.nn.contrast import info_nce_against
from ptft.nn.joint import JointEmbedding, Pooling
from ptft.nn.probe import Protocol
from ptft.nn.projection import mlp
from ptft.nn.teacher import Buffers, Teacher, momenta, rising
from ptft.objective import Batch


class MoCo(JointEmbedding):
    """InfoNCE of the first view's embedding against the teacher's of the second, among a queue of the teacher's older ones.

    temperature: of the softmax. queue: how many keys wait, first in first out; they need not be a multiple of the batch.
    momentum rises to momentum_end over the run. teacher_buffers: own, copy or ema (see Teacher). hidden, width: of the
    projection; batch_norm: after both of its maps. There is no shuffling of batches between devices, which matters with
    batch norm on several of them only.
    """

    loss_ranks = False
    teacher_model = "teacher.network.model."

    def __init__(
        self,
        model: nn.Module,
        transform: Any,
        temperature: float,
        queue: int,
        momentum: float,
        momentum_end: float,
        teacher_buffers: Buffers,
        hidden: int,
        width: int,
        batch_norm: bool,
        pooling: Pooling,
        probe: Protocol | None,
        probe_rows: int,
        dataset: Any = None,
    ):
        super().__init__(model, transform, dataset, pooling, probe, probe_rows)
        self.temperature = temperature
        self.momentum, self.momentum_end = momenta(momentum, momentum_end)
        self.projection = mlp([model.dim, hidden, width], norm=batch_norm, last_norm=batch_norm)
        self.teacher = Teacher(self.encoder, teacher_buffers)
        self.register_buffer("queue", F.normalize(torch.randn(queue, width), dim=-1))
        self.register_buffer("place", torch.zeros((), dtype=torch.int64))
        images = dataset and dataset.rows("train")
        if images and len(images) < queue:
            dataset.notes.append(
                f"objective.queue={queue} is more than the {len(images):,} training images: each meets its own older views "
                f"as negatives"
            )

    def compare(self, views: list[Tensor], batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        self.teacher.start(self.encoder)
        queries, keys = self.encoder(views[0]), self.teacher(views[1])
        # a copy, because the queue moves before the backward pass needs what it was
        loss = info_nce_against(queries, keys, self.queue.clone(), self.temperature)
        if self.training:
            self.enqueue(keys)
        return loss, queries, keys

    @torch.no_grad()
    def enqueue(self, keys: Tensor) -> None:
        """Put keys in the place of the oldest ones, around the end where that comes."""
        size = len(self.queue)
        keys = F.normalize(keys[-size:].float(), dim=-1)
        places = (self.place + torch.arange(len(keys), device=keys.device)) % size
        self.queue[places] = keys
        self.place.add_(len(keys)).remainder_(size)

    def after_step(self, progress: float) -> None:
        super().after_step(progress)
        self.teacher.follow(self.encoder, rising(self.momentum, self.momentum_end, progress))

    def collapsed_loss(self, size: int) -> float:
        return math.log(len(self.queue) + 1)
