"""Regression: one number for each text, image or row of a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ptft import metrics
from ptft.nn.inputs import input_reader
from ptft.nn.labelled import LabelledCollate, sample_lines, worst
from ptft.nn.pooling import Hidden, PooledHead, Pooling
from ptft.objective import Batch, Objective, Output

if TYPE_CHECKING:
    from torchmetrics import Metric


class Regress(Objective):
    """Dropout and a linear map on the pooled features, trained on squared error.

    The loss is in units of the training targets' spread, so that one learning rate serves any scale; predictions and
    metrics are in the units of the data. target_mean, target_std: of the training targets. pooling, hidden: as
    in classification.
    """

    added_tokens = 2  # what stands around one text at the most
    fields = ("label",)
    target = "number"
    score = "mse"
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        model: nn.Module,
        target_mean: float,
        target_std: float,
        pooling: Pooling,
        dropout: float,
        tokenizer: Any = None,
        transform: Any = None,
        hidden: Hidden | None = None,
    ):
        super().__init__(model)
        self.tokenizer, self.transform = tokenizer, transform
        self.head = PooledHead(model, pooling, 1, dropout, hidden)
        self.register_buffer("mean", torch.tensor(target_mean, dtype=torch.float32))
        self.register_buffer("std", torch.tensor(target_std or 1.0, dtype=torch.float32))
        self.collate = LabelledCollate(input_reader(model, tokenizer, transform), torch.float32)

    def scaled(self, inputs: dict[str, Tensor]) -> Tensor:
        """The numbers [B] in units of the training targets' spread."""
        return self.head(self.model(**inputs), inputs.get("mask")).squeeze(-1).float()

    def answer(self, inputs: dict[str, Tensor]) -> Tensor:
        """The numbers [B] in the units of the data."""
        return self.scaled(inputs) * self.std + self.mean

    def forward(self, batch: Batch) -> Output:
        scaled = self.scaled(batch["inputs"])
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
        pairs = zip(output.prediction.tolist(), output.target.tolist(), strict=True)
        return sample_lines(batch, self.tokenizer, ((f"{guess:.4g}", f"{truth:.4g}") for guess, truth in pairs))

    def pictures(self, batch: Batch, output: Output) -> dict[str, Tensor]:
        """The images whose number is furthest from the truth."""
        pairs = zip(output.target.tolist(), output.prediction.tolist(), strict=True)
        captions = [f"{truth:.4g}: {guess:.4g}" for truth, guess in pairs]
        return worst(batch, self.transform, (output.prediction - output.target).abs(), captions, "true: predicted")
