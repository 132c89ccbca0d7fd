"""Classification with any number of labels for each text, image or row of a table."""

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


class Multilabel(Objective):
    """Dropout and a linear map on the pooled features, with one yes or no for each class.

    The loss is the mean binary cross-entropy over examples and classes. pooling, hidden: as in classification. threshold: the
    probability from which a label is given.
    """

    added_tokens = 2  # what stands around one text at the most
    fields = ("label",)
    target = "classes"
    score = "map"

    def __init__(
        self,
        model: nn.Module,
        num_classes: int,
        labels: list[str],
        pooling: Pooling,
        dropout: float,
        threshold: float,
        tokenizer: Any = None,
        transform: Any = None,
        hidden: Hidden | None = None,
    ):
        super().__init__(model)
        if not 0 < threshold < 1:
            raise ValueError(f"threshold={threshold} is no probability between 0 and 1")
        self.tokenizer, self.transform, self.labels = tokenizer, transform, list(labels)
        self.threshold = threshold
        self.head = PooledHead(model, pooling, num_classes, dropout, hidden)
        self.collate = LabelledCollate(input_reader(model, tokenizer, transform), torch.float32)

    def answer(self, inputs: dict[str, Tensor]) -> Tensor:
        """The logits [B, labels]."""
        return self.head(self.model(**inputs), inputs.get("mask")).float()

    def forward(self, batch: Batch) -> Output:
        logits = self.answer(batch["inputs"])
        probabilities = logits.detach().sigmoid()
        if "target" not in batch:
            return Output(logits.sum() * 0, logits.new_zeros(()), probabilities)
        target = batch["target"]
        loss = F.binary_cross_entropy_with_logits(logits, target, reduction="sum")
        return Output(loss, target.new_tensor(target.numel()), probabilities, target.long())

    def metrics(self) -> dict[str, Metric]:
        return metrics.multilabel(len(self.labels), self.threshold)

    def predict(self, output: Output, batch: Batch) -> list[dict[str, Any]]:
        """The labels each example gets, and the probability of every label by its name."""
        found = [dict(zip(self.labels, row, strict=True)) for row in output.prediction.tolist()]
        return [{"labels": self.given(named), "probabilities": named} for named in found]

    def given(self, values: dict[str, float]) -> list[str]:
        """The labels whose value reaches the threshold."""
        return [name for name, value in values.items() if value >= self.threshold]

    def said(self, row: list[float]) -> str:
        return ", ".join(self.given(dict(zip(self.labels, row, strict=True)))) or "none"

    def samples(self, batch: Batch, output: Output) -> list[str]:
        pairs = zip(output.prediction.tolist(), output.target.tolist(), strict=True)
        return sample_lines(batch, self.tokenizer, ((self.said(guess), self.said(truth)) for guess, truth in pairs))

    def pictures(self, batch: Batch, output: Output) -> dict[str, Tensor]:
        """The images whose probabilities are furthest from the truth."""
        pairs = zip(output.target.tolist(), output.prediction.tolist(), strict=True)
        captions = [f"{self.said(truth)}: {self.said(guess)}" for truth, guess in pairs]
        badness = (output.prediction - output.target).abs().mean(-1)
        return worst(batch, self.transform, badness, captions, "true: predicted")
