"""Similarity: how alike two texts are, by the cosine of their embeddings (Sentence-BERT, 1908.10084, 3)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ptft import metrics
from ptft.nn.inputs import input_reader
from ptft.nn.pooling import Pooling, vector
from ptft.objective import Batch, Example, Objective, Output
from ptft.randomness import Draw

if TYPE_CHECKING:
    from torchmetrics import Metric

SHOWN_EXAMPLES = 4
SHOWN_TOKENS = 24


@dataclass
class Collate:
    """Two texts of each example, each as an input of its own."""

    read: Callable[[list[Example], Draw], dict[str, Tensor]]

    def __call__(self, examples: list[Example], draw: Draw) -> Batch:
        first, second = ([{"tokens": example[name]} for example in examples] for name in ("tokens", "pair"))
        batch: Batch = {"inputs": self.read(first, draw), "others": self.read(second, draw)}
        if "label" in examples[0]:
            batch["target"] = torch.as_tensor(np.array([example["label"] for example in examples]), dtype=torch.float32)
        return batch


class Similarity(Objective):
    """The cosine of two texts' embeddings, brought to the scale of the labels and trained on squared error.

    Embeddings are the model's pooled features, without a head: they serve as they are, before this task and after it.
    The loss is in units of the training targets' spread. target_mean, target_std: of the training targets. Scores are
    correlations of the cosine, which the two numbers of the scale do not change.
    """

    needs = frozenset({"text"})
    added_tokens = 2  # what stands around one text at the most
    fields = ("tokens", "pair", "label")
    target = "likeness"
    score = "spearman"
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,
        target_mean: float,
        target_std: float,
        pooling: Pooling,
    ):
        super().__init__(model)
        self.tokenizer, self.pooling = tokenizer, pooling
        self.slope, self.offset = nn.Parameter(torch.tensor(2.0)), nn.Parameter(torch.tensor(-1.0))
        self.register_buffer("mean", torch.tensor(target_mean, dtype=torch.float32))
        self.register_buffer("std", torch.tensor(target_std or 1.0, dtype=torch.float32))
        self.collate = Collate(input_reader(model, tokenizer))

    def answer(self, inputs: dict[str, Tensor]) -> Tensor:
        """The embeddings [B, dim] of texts."""
        return vector(self.model(**inputs), inputs.get("mask"), self.pooling).float()

    def forward(self, batch: Batch) -> Output:
        cosine = F.cosine_similarity(self.answer(batch["inputs"]), self.answer(batch["others"]), dim=-1)  # [B]
        if "target" not in batch:
            return Output(cosine.sum() * 0, cosine.new_zeros(()), cosine.detach())
        target = batch["target"]
        scaled = self.slope * cosine + self.offset
        loss = F.mse_loss(scaled, (target - self.mean) / self.std, reduction="sum")
        return Output(loss, target.new_tensor(len(target)), cosine.detach(), target)

    def metrics(self) -> dict[str, Metric]:
        return metrics.likeness()

    def predict(self, output: Output, batch: Batch) -> list[dict[str, Any]]:
        """The cosine of each pair, and what that means on the scale of the labels."""
        values = (self.slope * output.prediction + self.offset) * self.std + self.mean
        pairs = zip(values.tolist(), output.prediction.tolist(), strict=True)
        return [{"value": value, "cosine": cosine} for value, cosine in pairs]

    def samples(self, batch: Batch, output: Output) -> list[str]:
        """Pairs of texts with their cosine and the label."""
        sides = [batch[name]["tokens"][:SHOWN_EXAMPLES, :SHOWN_TOKENS].tolist() for name in ("inputs", "others")]
        texts = ([self.tokenizer.decode(row) for row in side] for side in sides)
        numbers = zip(output.prediction.tolist(), output.target.tolist(), strict=False)
        shown = zip(numbers, *texts, strict=False)
        return [f"{cosine:.3f} (true: {truth:.4g}): {first} | {second}" for (cosine, truth), first, second in shown]
