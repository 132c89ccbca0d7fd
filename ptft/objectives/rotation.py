"""Rotation: tell by how much an image was turned (RotNet, Gidaris et al. 2018, 1803.07728)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ptft.nn.pooling import vector
from ptft.nn.pretext import Pretext
from ptft.nn.probe import Protocol
from ptft.nn.projection import mlp
from ptft.objective import Batch, Example, Output
from ptft.randomness import Draw

TURNS = 4
SHOWN = 8


@dataclass
class Collate:
    """All images [B] as they are, then all turned by 90 degrees, by 180 and by 270: [4 B], with the quarter turns as target.

    Quarter turns move pixels and do not mix them: interpolation would give the turned ones away.
    """

    transform: Any

    def __call__(self, examples: list[Example], draw: Draw) -> Batch:
        values = self.transform.one([example["image"] for example in examples], draw)
        turned = torch.cat([values.rot90(turns, (2, 3)) for turns in range(TURNS)])
        return {"inputs": {"values": turned}, "target": torch.arange(TURNS).repeat_interleave(len(values))}


class Rotation(Pretext):
    """Cross-entropy over four turns of each image, by a small network on the mean of its features.

    A linear map there would leave in the features only what tells turns apart; the paper, too, reads them further down.
    hidden: width of that network. Useless for images that look the same turned, such as textures and cells. probe: see
    `Pretext`. Raises ValueError for images that are not square.
    """

    def __init__(self, model: nn.Module, transform: Any, dataset: Any, hidden: int, probe: Protocol | None, probe_rows: int):
        super().__init__(model, transform, dataset, probe, probe_rows)
        height, width = transform.size
        if height != width:
            raise ValueError(f"images of {height}x{width} change shape when turned; give transform.size={min(height, width)}")
        self.head = mlp([model.dim, hidden, TURNS], norm=True)
        self.collate = Collate(transform)

    def forward(self, batch: Batch) -> Output:
        logits, target = self.head(vector(self.model(**batch["inputs"]))).float(), batch["target"]
        count = target.new_tensor(len(target))
        guesses = logits.argmax(-1)
        means = {"accuracy": ((guesses == target).sum(), count), "collapsed_loss": (count * math.log(TURNS), count)}
        return Output(F.cross_entropy(logits, target, reduction="sum"), count, guesses, target, means)

    def pictures(self, batch: Batch, output: Output) -> dict[str, Tensor]:
        """Images at each turn, and the turn that was guessed."""
        from ptft.canvas import tile

        images = self.transform.restore(batch["inputs"]["values"]).unflatten(0, (TURNS, -1))[:, :SHOWN].cpu()
        guesses = output.prediction.unflatten(0, (TURNS, -1))[:, :SHOWN].tolist()
        captions = [
            [f"{90 * guess}°{'' if guess == turns else ' (wrong)'}" for guess in row] for turns, row in enumerate(guesses)
        ]
        return {"turns": tile(list(images), captions, [f"turned by {90 * turns}°" for turns in range(TURNS)])}
