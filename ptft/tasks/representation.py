"""What a representation is worth, as `ptft evaluate protocol=...` asks: nothing is trained but the probe."""

from __future__ import annotations

import copy
from typing import Any, Literal

from torch import Tensor, nn

from ptft.nn.inputs import input_reader
from ptft.nn.pooling import Pooling
from ptft.nn.probe import Probe, Protocol
from ptft.objective import Objective


class Representation(Objective):
    """Probes the pooled features of any model with labelled data, whatever it was trained for.

    weights: those of the checkpoint, or the `initial` ones that the model is built with, before any are loaded.
    """

    fields = ("label",)
    target = "class"
    added_tokens = 2  # what stands around one text at the most

    def __init__(
        self,
        model: nn.Module,
        dataset: Any,
        protocol: Protocol,
        weights: Literal["trained", "initial"],
        pooling: Pooling,
        labels: list[str],
        tokenizer: Any = None,
        transform: Any = None,
    ):
        super().__init__(model)
        self.probed = model if weights == "trained" else copy.deepcopy(model)
        read = input_reader(model, tokenizer, transform)
        self.probe = Probe(protocol, dataset.rows("train"), None, read, pooling, names=labels)
        self.score = self.probe.score

    def measure(self, rows: Any) -> dict[str, float]:
        """The probe's score on rows of a split, all of its training rows being the bank."""
        return self.probe.scores(self.probed, rows)

    def map(self, rows: Any, limit: int) -> Tensor:
        """The features of rows in the plane, as a picture."""
        return self.probe.map(self.probed, limit, rows)
