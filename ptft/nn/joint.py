"""What objectives share that bring the embeddings of an image's views together: batches, health, probes, pictures."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ptft.canvas import tile
from ptft.errors import UserError
from ptft.nn import health
from ptft.nn.gaze import gaze
from ptft.nn.inputs import input_reader
from ptft.nn.probe import Protocol, online
from ptft.nn.projection import Encoder
from ptft.objective import Batch, Example, Objective, Output
from ptft.randomness import Draw

Pooling = Literal["mean", "max", "cls"]
NEAR = 0.01  # of the collapsed loss
FRESH = 50  # steps in which no alarm is raised: embeddings of fresh weights are all alike
SHOWN = 8
MAPPED = 300  # points of the map that comes with every evaluation


@dataclass
class Views:
    """The augmented views of each image; labelled: its class too. Raises UserError for a training batch of one."""

    transform: Any
    labelled: bool = False

    def __call__(self, examples: list[Example], draw: Draw) -> Batch:
        if draw.training and len(examples) == 1:
            raise UserError("trainer.batch_size=1: images are compared with others of their batch; give at least 2")
        views = self.transform.views([example["image"] for example in examples], draw)
        batch: Batch = {"inputs": {"values": views[0]}, "views": views}
        if self.labelled:
            batch["target"] = torch.tensor([int(example["label"]) for example in examples])
        return batch


class JointEmbedding(Objective):
    """Embeds views of images, and compares.

    A subclass defines `compare` and `collapsed_loss`, and sets `projection`: what makes an embedding of the model's features.
    The loss of a batch is the mean over its images times their number: with trainer.accumulate it is a mean over
    micro-batches, each compared within itself. Evaluations report the health of the embeddings, and raise the alarm when
    that is bad, whatever the loss. pooling: of the model's features. probe: knn or linear, how well features tell
    classes at each evaluation, with at most probe_rows rows of train as the bank and as many of valid.
    """

    needs = frozenset({"image"})
    fields = ("image",)
    projection: nn.Module

    def __init__(
        self,
        model: nn.Module,
        transform: Any,
        dataset: Any,
        pooling: Pooling,
        probe: Protocol | None,
        probe_rows: int,
        least_views: int = 2,
    ):
        super().__init__(model)
        if transform.count < least_views:
            raise ValueError("two views of each image are compared, and this transform makes one; use transform=simclr")
        self.transform, self.pooling, self.least_views = transform, pooling, least_views
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.collate = Views(transform, labelled=self.target == "class")
        if not self.loss_ranks:
            self.score = f"{probe or 'knn'}_accuracy"
        self.probe = online(probe, probe_rows, dataset, input_reader(model, transform=transform), pooling)

    def compare(self, views: list[Tensor], batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """The mean loss of the views [B, C, h, w] of a batch, and the embeddings of the first and the second one."""
        raise TypeError(f"{type(self).__name__} defines no compare")

    def collapsed_loss(self, size: int) -> float | None:
        """The loss of a batch of this size when all embeddings are equal; None where that is the lowest loss there is."""
        raise TypeError(f"{type(self).__name__} defines no collapsed_loss")

    @property
    def encoder(self) -> Encoder:
        """What makes embeddings of views, as one network."""
        return Encoder(self.model, self.projection, self.pooling)

    @property
    def probed(self) -> nn.Module:
        """The model whose features are probed."""
        return self.model

    def embed(self, views: list[Tensor]) -> list[Tensor]:
        """The embeddings of views, of those of one size in one go, so that batch norm sees them together."""
        groups = [list(group) for _, group in groupby(views, key=lambda view: view.shape[2:])]
        return [embedded for group in groups for embedded in self.encoder(torch.cat(group)).chunk(len(group))]

    def forward(self, batch: Batch) -> Output:
        views = batch["views"]
        size = len(views[0])
        if size == 1 and self.least_views > 1 and not self.training:  # the last of an evaluation has nothing to compare with
            nothing = views[0].new_zeros(0)
            return Output(nothing.sum(), nothing.sum(), nothing, nothing)
        loss, first, second = self.compare(views, batch)
        count = torch.tensor(size, device=loss.device)
        if self.training:
            return Output(loss * size, count)
        output = Output(loss * size, count, first, second)
        collapsed_loss = self.collapsed_loss(size)
        if collapsed_loss is not None:
            output.means["collapsed_loss"] = torch.tensor(collapsed_loss * size), count
        return output

    def metrics(self) -> dict[str, Any]:
        return self.health()

    def health(self) -> dict[str, Any]:
        return health.health()

    def scores(self, means: dict[str, float]) -> dict[str, float]:
        """The loss as a share of what it is when all embeddings are equal, and what the probe finds."""
        found = self.probe.scores(self.probed, self.evaluated) if self.probe else {}
        if "collapsed_loss" in means:
            found["loss_over_collapse"] = means["loss"] / means["collapsed_loss"]
        return found

    def after_step(self, progress: float) -> None:
        self.steps += 1

    def warnings(self, scores: dict[str, float]) -> list[str]:
        if self.steps < FRESH:
            return []
        faults = health.alarms(scores)
        share = scores.get("loss_over_collapse", 0.0)
        if self.loss_ranks and abs(share - 1) < NEAR:
            faults.append(f"not learning: the loss is {share:.3f} of what it is where all embeddings are equal")
        return faults

    def pictures(self, batch: Batch, output: Output) -> dict[str, Tensor]:
        """Views of the same images one above the other; and, where there are classes, a map of the features."""
        shown = [self.transform.restore(view[:SHOWN]) for view in batch["views"]]
        found = {"views": tile(shown, titles=[f"view {number}" for number in range(1, len(shown) + 1)])}
        found |= gaze(self.probed, batch["views"][0], self.transform)
        return found | ({"map": self.probe.map(self.probed, MAPPED)} if self.probe else {})
