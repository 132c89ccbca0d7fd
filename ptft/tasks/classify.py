"""Classification of texts and pairs of texts: one label each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from torch import nn

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
            batch["target"] = torch.tensor([example["label"] for example in examples])
        return batch


class Classify(Objective):
    """Dropout and a linear map on the pooled features of a text.

    pooling: mean, max, last, cls (the first token) or concat (last, max and mean). label_smoothing: the share of the
    target that is spread over all classes; it is in the training loss only, so that losses of evaluations compare.
    """

    needs = frozenset({"text"})
    added_tokens = 2  # what stands around one text at the most
    fields = ("tokens", "label")
    target = "class"
    score = "accuracy"

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,
        num_classes: int,
        labels: list[str],
        pooling: Literal["mean", "max", "last", "cls", "concat"],
        dropout: float,
        label_smoothing: float,
    ):
        super().__init__(model)
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing={label_smoothing} is no share below 1")
        self.tokenizer, self.labels = tokenizer, list(labels)
        self.label_smoothing = label_smoothing
        self.head = PooledHead(model, pooling, num_classes, dropout)
        self.collate = Collate(Layout.of(model, tokenizer))

    def forward(self, batch: Batch) -> Output:
        inputs = batch["inputs"]
        logits = self.head(self.model(**inputs), inputs.get("mask")).float()
        probabilities = logits.detach().softmax(-1)
        if "target" not in batch:
            return Output(logits.sum() * 0, logits.new_zeros(()), probabilities)
        target = batch["target"]
        smoothing = self.label_smoothing if self.training else 0.0
        loss = F.cross_entropy(logits, target, reduction="sum", label_smoothing=smoothing)
        return Output(loss, target.new_tensor(len(target)), probabilities, target)

    def metrics(self) -> dict[str, Metric]:
        return metrics.classification(len(self.labels))

    def predict(self, output: Output, batch: Batch) -> list[dict[str, Any]]:
        """The likeliest label of each example and the probability of every label by its name."""
        rows = output.prediction.tolist()
        found = (dict(zip(self.labels, row, strict=True)) for row in rows)
        return [{"label": max(named, key=named.get), "probabilities": named} for named in found]

    def samples(self, batch: Batch, output: Output) -> list[str]:
        tokens = batch["inputs"]["tokens"][:SHOWN_TEXTS, :SHOWN_TOKENS].tolist()
        guesses = output.prediction.argmax(-1).tolist()
        return [
            f"{self.labels[guess]} (true: {self.labels[truth]}): {self.tokenizer.decode(row)}"
            for row, guess, truth in zip(tokens, guesses, output.target.tolist(), strict=False)
        ]
