"""Self-distillation without labels: a student sees what its slow teacher sees, in smaller pieces too (DINO, 2104.14294)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ptft.nn.joint import JointEmbedding, Pooling
from ptft.nn.probe import Protocol
from ptft.nn.projection import Encoder, Prototypes, mlp
from ptft.nn.teacher import Buffers, Teacher, momenta, rising
from ptft.objective import Batch

GLOBAL = 2  # the first views, which the teacher sees


class DINO(JointEmbedding):
    """Cross-entropy between the teacher's distribution over prototypes for a large crop and the student's for any other.

    prototypes: how many. hidden, width: of the projection's three layers and what it ends in. temperature: the student's.
    teacher_temperature goes to teacher_temperature_end in the share temperature_warmup of the run. centre_momentum: of the
    running mean of the teacher's outputs that is taken off them, moved after use. momentum rises to momentum_end.
    freeze_prototypes: the share of the run in which the last layer stands still. The teacher's model is what is probed,
    and handed on by default. Small crops are enlarged for models that read one size only.
    """

    loss_ranks = False
    teacher_model = "teacher.network.model."
    teacher_first = True

    def __init__(
        self,
        model: nn.Module,
        transform: Any,
        prototypes: int,
        hidden: int,
        width: int,
        batch_norm: bool,
        temperature: float,
        teacher_temperature: float,
        teacher_temperature_end: float,
        temperature_warmup: float,
        centre_momentum: float,
        momentum: float,
        momentum_end: float,
        freeze_prototypes: float,
        teacher_buffers: Buffers,
        pooling: Pooling,
        probe: Protocol | None,
        probe_rows: int,
        dataset: Any = None,
    ):
        super().__init__(model, transform, dataset, pooling, probe, probe_rows)
        self.temperature, self.centre_momentum = temperature, centre_momentum
        self.teacher_temperatures = teacher_temperature, teacher_temperature_end
        self.temperature_warmup, self.freeze_prototypes = temperature_warmup, freeze_prototypes
        self.momentum, self.momentum_end = momenta(momentum, momentum_end)
        self.projection = mlp([model.dim, hidden, hidden, width], batch_norm, activation=nn.GELU)
        for part in self.projection:
            if isinstance(part, nn.Linear):
                nn.init.trunc_normal_(part.weight, std=0.02)
                part.bias = part.bias if part.bias is None else nn.init.zeros_(part.bias)
        self.prototypes = Prototypes(width, prototypes)
        self.teacher = Teacher(self.student, teacher_buffers)
        self.register_buffer("centre", torch.zeros(prototypes))
        self.register_buffer("progress", torch.zeros((), dtype=torch.float64))

    @property
    def student(self) -> Encoder:
        """All that the teacher follows: values -> [B, prototypes]."""
        return Encoder(self.model, nn.Sequential(self.projection, self.prototypes), self.pooling)

    @property
    def probed(self) -> nn.Module:
        return self.teacher.network.model

    def compare(self, views: list[Tensor], batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        self.teacher.start(self.student)
        progress = float(self.progress)
        taught = self.teacher(torch.cat(views[:GLOBAL])).float()
        targets = ((taught - self.centre) / self.teacher_temperature(progress)).softmax(-1).chunk(GLOBAL)
        embeddings = self.embed([self.readable(view, views[0].shape[2:]) for view in views])
        still = progress < self.freeze_prototypes
        guesses = [(self.prototypes(each, still).float() / self.temperature).log_softmax(-1) for each in embeddings]
        if self.training:
            self.centre.lerp_(taught.mean(0), 1 - self.centre_momentum)
        return distance(targets, guesses), embeddings[0], embeddings[1]

    def readable(self, view: Tensor, size: torch.Size) -> Tensor:
        """A crop as the model can read it: enlarged to `size` where the model takes no smaller one."""
        any_size = self.model.traits & {"pyramid", "patches"} and min(view.shape[2:]) >= getattr(self.model, "smallest", 1)
        return view if any_size or view.shape[2:] == size else F.interpolate(view, size, mode="bilinear")

    def teacher_temperature(self, progress: float) -> float:
        """Linear up to the end of the warm-up."""
        start, end = self.teacher_temperatures
        return start + (end - start) * min(1.0, progress / self.temperature_warmup if self.temperature_warmup else 1.0)

    def after_step(self, progress: float) -> None:
        super().after_step(progress)
        self.progress.fill_(progress)
        self.teacher.follow(self.student, rising(self.momentum, self.momentum_end, progress))

    def collapsed_loss(self, size: int) -> float:
        return math.log(len(self.centre))


def distance(targets: Sequence[Tensor], guesses: Sequence[Tensor]) -> Tensor:
    """The mean cross-entropy over all pairs of different views: targets are shares, guesses log shares, [B, K] each."""
    pairs = [(target, guess) for i, target in enumerate(targets) for j, guess in enumerate(guesses) if i != j]
    return sum(-(target * guess).sum(-1).mean() for target, guess in pairs) / len(pairs)
