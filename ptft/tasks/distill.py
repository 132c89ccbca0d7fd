"""Distillation: a student learns a class for each example from labels and from what a trained teacher says of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ptft import metrics
from ptft.errors import UserError
from ptft.nn.inputs import TextInputs, input_reader
from ptft.nn.labelled import LabelledCollate
from ptft.nn.pooling import PooledHead, Pooling, vector
from ptft.objective import Batch, Example, Objective, Output
from ptft.randomness import Draw

if TYPE_CHECKING:
    from torchmetrics import Metric


def soft_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 KL(softmax(teacher / T) || softmax(student / T)), summed over the batch (Hinton et al., 1503.02531).

    The factor keeps the gradient's size whatever T is; beyond all T it is that of (student - teacher)^2 / (2 classes) for
    logits whose mean is 0.
    """
    wanted, given = (F.log_softmax(logits / temperature, dim=-1) for logits in (teacher, student))
    return temperature**2 * F.kl_div(given, wanted, reduction="sum", log_target=True)


def feature_loss(student: Tensor, teacher: Tensor, kind: Literal["mse", "cosine"]) -> Tensor:
    """How far features [B, dim] are from the teacher's, summed over the batch: mean square over dim, or 1 - cosine."""
    if kind == "mse":
        return (student - teacher).square().mean(-1).sum()
    return (1 - F.cosine_similarity(student, teacher, dim=-1)).sum()


@dataclass
class Collate:
    """Labelled examples as the student reads them, and texts as the teacher reads them, where they are learned from."""

    labelled: LabelledCollate
    taught: TextInputs | None

    def __call__(self, examples: list[Example], draw: Draw) -> Batch:
        batch = self.labelled(examples, draw)
        return {**batch, "taught": self.taught(examples, draw)} if self.taught and draw.training else batch


class Distill(Objective):
    """alpha * cross-entropy + (1 - alpha) * soft_loss + feature_weight * feature_loss; evaluations are of the first alone.

    teacher: a run that gives the same classes; it stays as it is and is not saved with the student. Texts need the teacher's
    tokenizer; images are normalised, and resized, as the teacher is used to. features: mse or cosine, between pooled
    features, the student's first mapped to the teacher's width; null for none. open_run: a fact, RUN -> what was trained
    there; None where nothing is to be learned. Raises ValueError, UserError.
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
        teacher: str,
        alpha: float,
        temperature: float,
        features: Literal["mse", "cosine"] | None,
        feature_weight: float,
        pooling: Pooling,
        dropout: float,
        tokenizer: Any = None,
        transform: Any = None,
        open_run: Callable[[str], Any] | None = None,
    ):
        super().__init__(model)
        if not 0 <= alpha <= 1 or temperature <= 0:
            raise ValueError(f"alpha={alpha} must be a share, and temperature={temperature} above 0")
        self.alpha, self.temperature = alpha, temperature
        self.features, self.feature_weight = features, feature_weight
        self.tokenizer, self.transform, self.labels = tokenizer, transform, list(labels)
        self.head = PooledHead(model, pooling, num_classes, dropout)
        self.projection: nn.Linear | None = None
        self.teacher = None if open_run is None else open_run(teacher)
        reader = None
        if self.teacher:
            self._check(f"task.teacher={teacher}")
            self.order = torch.tensor([self.teacher.objective.labels.index(label) for label in self.labels])
            self.projection = nn.Linear(model.dim, self.teacher.model.dim) if features else None
            reader = input_reader(self.teacher.model, tokenizer, transform) if tokenizer else None
        self.collate = Collate(LabelledCollate(input_reader(model, tokenizer, transform), torch.int64), reader)

    def _check(self, name: str) -> None:
        """Refuse a teacher that cannot teach this."""
        teacher = self.teacher
        classes = getattr(teacher.objective, "labels", None)
        if classes is None or teacher.objective.target != "class":
            raise UserError(f"{name}: {type(teacher.objective).__name__} gives no class; expected a run of task=classify")
        if set(classes) != set(self.labels):
            raise UserError(f"{name} knows the classes {', '.join(classes)}, and the data has {', '.join(self.labels)}")
        kinds = [(side.tokenizer is not None, side.transform is not None) for side in (self, teacher)]
        if kinds[0] != kinds[1]:
            raise UserError(f"{name}: it was trained on data of another kind")
        if self.tokenizer and self.tokenizer.hash != teacher.tokenizer.hash:
            place = f"tokenizer=published tokenizer.path={teacher.source / 'assets'}"
            raise UserError(f"{name} has another tokenizer; take it over with {place}, or with ckpt={teacher.source}")
        if self.transform and self.transform.channels != teacher.transform.channels:
            channels = f"{teacher.transform.channels} channels, and the student {self.transform.channels}"
            raise UserError(f"{name} sees images of {channels}")

    def make_room(self, tensors: Mapping[str, Tensor]) -> None:
        if self.projection is None and "projection.weight" in tensors:  # the teacher, and so its width, is not here
            wide, narrow = tensors["projection.weight"].shape
            self.projection = nn.Linear(narrow, wide)

    def answer(self, inputs: dict[str, Tensor]) -> Tensor:
        """The logits [B, classes]."""
        return self._judge(self.model(**inputs), inputs)

    def _judge(self, features: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        return self.head(features, inputs.get("mask")).float()

    def forward(self, batch: Batch) -> Output:
        features = self.model(**batch["inputs"])
        logits = self._judge(features, batch["inputs"])
        probabilities = logits.detach().softmax(-1)
        if "target" not in batch:
            return Output(logits.sum() * 0, logits.new_zeros(()), probabilities)
        target = batch["target"]
        loss = F.cross_entropy(logits, target, reduction="sum")
        if self.training and self.teacher:
            loss = self._taught(loss, features, logits, batch)
        return Output(loss, target.new_tensor(len(target)), probabilities, target)

    def _taught(self, loss: Tensor, features: Tensor, logits: Tensor, batch: Batch) -> Tensor:
        """The loss with what the teacher says added."""
        inputs = batch.get("taught") or self._as_taught(batch["inputs"])
        with torch.no_grad():
            said = self.teacher.objective.answer(inputs).float()[:, self.order.to(logits.device)]
        loss = self.alpha * loss + (1 - self.alpha) * soft_loss(logits, said, self.temperature)
        if self.features:
            with torch.no_grad():
                wanted = vector(self.teacher.model(**inputs), inputs.get("mask")).float()
            found = self.projection(vector(features, batch["inputs"].get("mask"))).float()
            loss = loss + self.feature_weight * feature_loss(found, wanted, self.features)
        return loss

    def _as_taught(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """The student's images with the teacher's normalisation and size; tables as they are."""
        if self.transform is None:
            return inputs
        own, other, values = self.transform, self.teacher.transform, inputs["values"]
        mean, std, its_mean, its_std = (part.to(values) for part in (own.mean, own.std, other.mean, other.std))
        values = (values * std + mean - its_mean) / its_std
        if tuple(values.shape[2:]) != tuple(other.size):
            values = F.interpolate(values, size=tuple(other.size), mode="bilinear", antialias=True)
        return {"values": values}

    def metrics(self) -> dict[str, Metric]:
        return metrics.classification(len(self.labels))

    def predict(self, output: Output, batch: Batch) -> list[dict[str, Any]]:
        """The likeliest label of each example and the probability of every label by its name."""
        found = (dict(zip(self.labels, row, strict=True)) for row in output.prediction.tolist())
        return [{"label": max(named, key=named.get), "probabilities": named} for named in found]
