"""Triplets: an anchor is closer to its positive than to its negative, by a margin (FaceNet, 1503.03832)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ptft.nn.contrast import all_triplets, hardest_triplets, triplet
from ptft.nn.joint import JointEmbedding, Pooling, Views
from ptft.nn.probe import Protocol
from ptft.nn.projection import mlp
from ptft.objective import Batch, Example, Output
from ptft.randomness import Draw, key

EXPLICIT = ("image", "positive", "negative")


@dataclass
class Triplets(Views):
    """Two views of each image with its class; or, where examples name them, an anchor, its positive and its negative."""

    labelled: bool = True

    def __call__(self, examples: list[Example], draw: Draw) -> Batch:
        if "positive" not in examples[0]:
            return super().__call__(examples, draw)
        draws = [dataclasses.replace(draw, seed=key(draw.seed, "triplet", field)) for field in EXPLICIT]
        views = [
            self.transform.one([example[field] for example in examples], own)
            for field, own in zip(EXPLICIT, draws, strict=True)
        ]
        return {"inputs": {"values": views[0]}, "views": views}


class Triplet(JointEmbedding):
    """The hinge of margin + d(anchor, positive) - d(anchor, negative), squared distances on the unit sphere.

    Triplets are those the examples name (positive, negative beside image), or come from classes: mining takes the hardest
    positive and negative of each anchor in the batch, or all there are. margin: between the distances. hidden, width: of
    the projection. triplet_accuracy: the share of named triplets whose anchor is nearer to its positive.
    """

    fields = ("image", "label")
    target = "class|triplet"

    def __init__(
        self,
        model: nn.Module,
        transform: Any,
        margin: float,
        mining: Literal["hardest", "all"],
        hidden: int,
        width: int,
        pooling: Pooling,
        probe: Protocol | None,
        probe_rows: int,
        dataset: Any = None,
    ):
        named = "triplet" in getattr(dataset, "targets", ())
        super().__init__(model, transform, dataset, pooling, probe, probe_rows, least_views=1 if named else 2)
        self.margin, self.mining = margin, mining
        self.projection = mlp([model.dim, hidden, width], norm=False)
        self.collate = Triplets(transform)

    def compare(self, views: list[Tensor], batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        embeddings = self.embed(views)
        if "target" in batch:
            mine = hardest_triplets if self.mining == "hardest" else all_triplets
            losses = mine(torch.cat(embeddings), batch["target"].repeat(len(views)), self.margin)
        else:
            losses = triplet(*embeddings, self.margin)
        return losses.sum() / max(len(losses), 1), embeddings[0], embeddings[1]

    def forward(self, batch: Batch) -> Output:
        output = super().forward(batch)
        if not self.training and "target" not in batch and output.count:
            [negative] = self.embed(batch["views"][2:])
            likeness = (F.cosine_similarity(output.prediction, other.float()) for other in (output.target, negative))
            output.means["triplet_accuracy"] = torch.gt(*likeness).sum(), output.count
        return output

    def collapsed_loss(self, size: int) -> float:
        return self.margin
