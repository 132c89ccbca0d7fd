"""The seam between the loop and everything it can train: what a batch, an output and an objective are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from ptft.randomness import Draw

if TYPE_CHECKING:
    from torchmetrics import Metric

Example = dict[str, Any]
Batch = dict[str, Any]


@dataclass
class Output:
    """What an objective says of one batch.

    loss: the sum over targets (a scalar with gradient). count: how many targets were summed. prediction, target: what the
    metrics compare. means: further sums and counts that are reported as streaming means.
    """

    loss: Tensor
    count: Tensor
    prediction: Tensor | None = None
    target: Tensor | None = None
    means: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)


class Objective(nn.Module):
    """What is trained for: a collate, heads, a loss and its scores around a model that survives it.

    A subclass names the model traits it `needs` ("causal|seq2seq": one of them), the `fields` of an example it reads, the
    kind of `target` it wants from labelled data (class, number, text; "class|triplet": one of them), the `score` that chooses
    the best checkpoint, how many tokens of a model's length its layout takes for itself (`added_tokens`), and whether its
    training batches must continue each other (`lanes`): row i of a batch goes on where row i of the one before ended, so that
    buffers can carry a state.
    """

    needs: frozenset[str] = frozenset()
    fields: tuple[str, ...] = ()
    target: str | None = None
    score: str = "loss"
    added_tokens: int = 0
    lanes: bool = False
    summed: bool = False  # whether gradients are of the loss summed over a step's targets, as in word2vec, not of its mean
    steady: tuple[str, ...] = ()  # beginnings of the names of parameters whose rate follows no schedule
    loss_ranks: bool = True  # whether a lower loss means a better model; otherwise the later of equal scores is better
    thorough: bool = False  # whether what is evaluated now is the last word on a split, and may take its time
    collate: Callable[[list[Example], Draw], Batch]

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def view(self, rows: Any) -> Any:
        """What the rows of a split are to this objective: as they are, or others made of them, such as pairs of sentences."""
        return rows

    def together(self, batches: Iterable[Batch]) -> Iterable[Batch]:
        """The batches that one step accumulates, before the first is learned from: as they are, or told of one another."""
        return batches

    def forward(self, batch: Batch) -> Output:
        """The loss of one batch, as a sum and a count."""
        raise TypeError(f"{type(self).__name__} defines no forward")

    def answer(self, inputs: dict[str, Tensor]) -> Tensor:
        """What the trained whole makes of a model's inputs, as one tensor: logits of a task, else the model's features."""
        return self.model(**inputs)

    def metrics(self) -> dict[str, Metric]:
        """Dataset-level metrics, each updated with (prediction, target)."""
        return {}

    def scores(self, means: dict[str, float]) -> dict[str, float]:
        """Scores that follow from the means of an evaluation, such as perplexity from loss."""
        return {}

    def samples(self, batch: Batch, output: Output) -> list[str]:
        """Lines of text that show what the model now does."""
        return []

    def pictures(self, batch: Batch, output: Output) -> dict[str, Tensor]:
        """Pictures by name, uint8 [3, H, W], that show what the model now does."""
        return {}

    def make_room(self, tensors: Mapping[str, Tensor]) -> None:
        """Give buffers whose shape the batches settle that of saved ones, which are about to be loaded."""

    def describe(self) -> dict[str, Any]:
        """What the run card says of this objective, such as what its labels mean."""
        return {}

    def warnings(self, scores: dict[str, float]) -> list[str]:
        """What an evaluation's scores say must not go unnoticed, such as features that collapse."""
        return []

    def after_step(self, progress: float) -> None:
        """What moves after each optimizer step without a gradient: teachers, queues, clamps."""


def lacking(needs: frozenset[str], traits: frozenset[str]) -> list[str]:
    """The needs that a model with these traits does not meet."""
    return sorted(need for need in needs if not traits.intersection(need.split("|")))


def learned(objective: type[Objective] | Objective, targets: Sequence[str | None]) -> list[str | None]:
    """Those of a dataset's targets that the objective can learn, what it likes best first."""
    wanted = objective.target.split("|") if objective.target else [None]
    return [target for target in wanted if target in targets]


def heads(objective: Objective) -> dict[str, Tensor]:
    """The state of an objective that is thrown away after its stage: all but the model."""
    return {name: value for name, value in objective.state_dict().items() if not name.startswith("model.")}
