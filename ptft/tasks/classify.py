"""Classification: one label for each text, image or row of a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ptft import metrics
from ptft.nn.gaze import gaze
from ptft.nn.inputs import input_reader
from ptft.nn.labelled import LabelledCollate, sample_lines, worst
from ptft.nn.mixing import Mixing
from ptft.nn.pooling import Hidden, PooledHead, Pooling
from ptft.objective import Batch, Objective, Output

if TYPE_CHECKING:
    from torchmetrics import Metric


class Classify(Objective):
    """Dropout and a linear map on the pooled features.

    pooling: mean, max, last, before_end, cls (the first token) or concat (last, max and mean). hidden: see PooledHead.
    label_smoothing: the share of the target that is spread over all classes. mixup, cutmix: alpha of mixing images (mixup:
    also features) with one another, 0 for none; mix_epochs: only in so many of the first epochs. Smoothing and mixing are
    in the training loss only, so that losses of evaluations compare.
    """

    added_tokens = 2  # what stands around one text at the most
    fields = ("label",)
    target = "class"
    score = "accuracy"

    def __init__(
        self,
        model: nn.Module,
        num_classes: int,
        labels: list[str],
        pooling: Pooling,
        dropout: float,
        label_smoothing: float,
        mixup: float,
        cutmix: float,
        mix_epochs: int | None,
        tokenizer: Any = None,
        transform: Any = None,
        hidden: Hidden | None = None,
    ):
        super().__init__(model)
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing={label_smoothing} is no share below 1")
        if (mixup or cutmix) and tokenizer is not None:
            raise ValueError(f"mixup={mixup}, cutmix={cutmix}: texts cannot be mixed, only images and tables")
        if cutmix and transform is None:
            raise ValueError(f"cutmix={cutmix}: only images have parts to paste; use mixup")
        self.tokenizer, self.transform, self.labels = tokenizer, transform, list(labels)
        self.label_smoothing = label_smoothing
        self.head = PooledHead(model, pooling, num_classes, dropout, hidden)
        mixing = Mixing(mixup, cutmix, mix_epochs)
        self.collate = LabelledCollate(input_reader(model, tokenizer, transform), torch.int64, mixing, num_classes)

    def answer(self, inputs: dict[str, Tensor]) -> Tensor:
        """The logits [B, classes]."""
        return self.head(self.model(**inputs), inputs.get("mask")).float()

    def forward(self, batch: Batch) -> Output:
        logits = self.answer(batch["inputs"])
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
        pairs = zip(output.prediction.argmax(-1).tolist(), output.target.tolist(), strict=True)
        return sample_lines(batch, self.tokenizer, ((self.labels[guess], self.labels[truth]) for guess, truth in pairs))

    def pictures(self, batch: Batch, output: Output) -> dict[str, Tensor]:
        """The images whose true class got the least probability."""
        rows = torch.arange(len(output.target), device=output.target.device)
        likeliest, guesses = output.prediction.max(-1)
        triples = zip(output.target.tolist(), guesses.tolist(), likeliest.tolist(), strict=True)
        captions = [f"{self.labels[truth]}: {self.labels[guess]} {share:.0%}" for truth, guess, share in triples]
        badness = 1 - output.prediction[rows, output.target]
        found = worst(batch, self.transform, badness, captions, "true: predicted")
        return found | gaze(self.model, batch["inputs"].get("values"), self.transform)
