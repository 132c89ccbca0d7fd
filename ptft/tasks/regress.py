"""Regression: one number for each text or pair of texts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ptft import metrics
from ptft.nn.pooling import PooledHead
from ptft.nn.text import Layout
from ptft.objective import Batch, Example, Objective, Output
from ptft.randomness import Draw

if TYPE_CHECKING:
    from torchmetrics import Metric

SHOWN_TEXTS = 4
SHOWN_TOKENS = 48


@dataclass
class Collate:
    """Texts in the model's layout; targets only where the examples have labels."""

    layout: Layout

    def __call__(self, examples: list[Example], draw: Draw) -> Batch:
        batch: Batch = {"inputs": self.layout.inputs(examples)}
        if "label" in examples[0]:
            batch["target"] = torch.tensor([example["label"] for example in examples], dtype=torch.float32)
        return batch


class Regress(Objective):
    """Dropout and a linear map on the pooled features of a text, trained on squared error.

    The loss is in units of the training targets' spread, so that one learning rate serves any scale; predictions and
    metrics are in the units of the data. target_mean, target_std: of the training targets. pooling: as in
    classification.
    """

    needs = frozenset({"text"})
    added_tokens = 2  # what stands around one text at the most
    fields = ("tokens", "label")
    target = "number"
    score = "mse"
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,
        target_mean: float,
        target_std: float,
        pooling: Literal["mean", "max", "last", "cls", "concat"],
        dropout: float,
    ):
        super().__init__(model)
        self.tokenizer = tokenizer
        self.head = PooledHead(model, pooling, 1, dropout)
        self.register_buffer("mean", torch.tensor(target_mean, dtype=torch.float32))
        self.register_buffer("std", torch.tensor(target_std or 1.0, dtype=torch.float32))
        self.collate = Collate(Layout.of(model, tokenizer))

    def forward(self, batch: Batch) -> Output:
        inputs = batch["inputs"]
        scaled = self.head(self.model(**inputs), inputs.get("mask")).squeeze(-1).float()
        prediction = (scaled * self.std + self.mean).detach()
        if "target" not in batch:
            return Output(scaled.sum() * 0, scaled.new_zeros(()), prediction)
        target = batch["target"]
        loss = F.mse_loss(scaled, (target - self.mean) / self.std, reduction="sum")
        return Output(loss, target.new_tensor(len(target)), prediction, target)

    def metrics(self) -> dict[str, Metric]:
        return metrics.regression()

    def predict(self, output: Output, batch: Batch) -> list[dict[str, Any]]:
        """The number predicted for each example."""
        return [{"value": value} for value in output.prediction.tolist()]

    def samples(self, batch: Batch, output: Output) -> list[str]:
        tokens = batch["inputs"]["tokens"][:SHOWN_TEXTS, :SHOWN_TOKENS].tolist()
        pairs = zip(tokens, output.prediction.tolist(), output.target.tolist(), strict=False)
        return [f"{guess:.4g} (true: {truth:.4g}): {self.tokenizer.decode(row)}" for row, guess, truth in pairs]
