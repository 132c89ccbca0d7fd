"""What objectives share that predict something an image tells of itself: the line of not learning, and probes."""

from __future__ import annotations

import math
from typing import Any

from torch import nn

from ptft.nn.inputs import input_reader
from ptft.nn.probe import Protocol, online
from ptft.objective import Objective

NEAR = 0.01


class Pretext(Objective):
    """Predicts a part or a change of an image.

    A subclass adds to the means of its outputs `collapsed_loss`: what an answer costs that does not depend on the input.
    Evaluations report the loss as a share of it, and warn where that is within 1% of 1. probe: knn or linear, how well
    features tell classes at each evaluation, with at most probe_rows rows of train as the bank, and as many of the split.
    """

    needs = frozenset({"image"})
    fields = ("image",)

    def __init__(self, model: nn.Module, transform: Any, dataset: Any, probe: Protocol | None, probe_rows: int):
        super().__init__(model)
        self.transform = transform
        self.probe = online(probe, probe_rows, dataset, input_reader(model, transform=transform), "mean")

    def scores(self, means: dict[str, float]) -> dict[str, float]:
        """The loss as a share of its collapse constant, and what the probe finds."""
        constant = means["collapsed_loss"]
        found = {"loss_over_collapse": means["loss"] / constant if constant else math.nan}
        return found | (self.probe.scores(self.model, self.evaluated) if self.probe else {})

    def warnings(self, scores: dict[str, float]) -> list[str]:
        share = scores["loss_over_collapse"]
        if not abs(share - 1) < NEAR:
            return []
        return [f"not learning: the loss is {share:.3f} of what an answer costs that does not depend on the image"]
