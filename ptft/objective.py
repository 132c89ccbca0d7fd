"""The seam between the loop and everything it can train: what a batch, an output and an objective are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from inspect import isfunction
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from ptft.errors import UserError
from ptft.randomness import Draw

if TYPE_CHECKING:
    from torchmetrics import Metric

Example = dict[str, Any]
Batch = dict[str, Any]
# what class attributes of an objective may be; of a tuple or a set, each member is text
NAMES = "a tuple of names, such as ('tokens',)"
EXPECTED = {
    "needs": (frozenset, "a frozenset of traits, such as frozenset({'text'})"),
    "fields": (tuple, NAMES),
    "target": ((str, type(None)), "text or None"),
    "score": (str, "text"),
    "lower": (tuple, NAMES),
    "added_tokens": (int, "a whole number"),
    "steady": (tuple, NAMES),
    **dict.fromkeys(("lanes", "summed", "loss_ranks", "thorough"), (bool, "True or False")),
}
LIKE_A_HOOK = 0.85


class ContractError(UserError, TypeError):
    """A class that is not what the loop takes for an objective."""


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
    the best checkpoint, which of its own scores are better when `lower` (loss, perplexity and those of ptft.metrics are
    known), how many tokens of a model's length its layout takes for itself (`added_tokens`), and whether its training batches
    must continue each other (`lanes`): row i of a batch goes on where row i of the one before ended, so that buffers can
    carry a state.
    """

    needs: frozenset[str] = frozenset()
    fields: tuple[str, ...] = ()
    target: str | None = None
    score: str = "loss"
    lower: tuple[str, ...] = ()
    added_tokens: int = 0
    room_to_write: int = 0  # tokens of a model's length that a text to predict on leaves free
    lanes: bool = False
    summed: bool = False  # whether gradients are of the loss summed over a step's targets, as in word2vec, not of its mean
    steady: tuple[str, ...] = ()  # beginnings of the names of parameters whose rate follows no schedule
    loss_ranks: bool = True  # whether a lower loss means a better model; otherwise the later of equal scores is better
    thorough: bool = False  # whether what is evaluated now is the last word on a split, and may take its time
    evaluated: Any = None  # the rows that are evaluated now

    def __init_subclass__(cls) -> None:
        """Refuse what would be misread, or never called. Raises ContractError."""
        super().__init_subclass__()
        for name, value in vars(cls).items():
            _check_attribute(cls, name, value)
            if isfunction(value) and not name.startswith("_") and not hasattr(Objective, name):
                _check_name(cls, name)

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def collate(self, examples: list[Example], draw: Draw) -> Batch:
        """One batch of some examples; most objectives set self.collate to what can go to a worker without the model."""
        raise ContractError(f"{type(self).__name__} sets no self.collate, which makes a batch: collate(examples, draw)")

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

    def health(self) -> dict[str, Any]:
        """Measures, as `metrics`, of whether what is learned is alive, to be taken on a few rows now and then."""
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


HOOKS = [name for name, value in vars(Objective).items() if isfunction(value) and not name.startswith("_")]


def _check_attribute(cls: type, name: str, value: Any) -> None:
    kind, expected = EXPECTED.get(name, (object, ""))
    members = value if isinstance(value, (tuple, frozenset)) else ()
    right = isinstance(value, kind) and all(isinstance(member, str) for member in members)
    if name in EXPECTED and not right and not isinstance(value, property):
        raise ContractError(f"{cls.__module__}.{cls.__name__}.{name}: expected {expected}, found {_short(value)}")


def _check_name(cls: type, name: str) -> None:
    """A method that is nearly called as a hook is; `described` beside `describe` is a name of its own."""
    hook = next(iter(get_close_matches(name, HOOKS, 1, LIKE_A_HOOK)), None)
    if hook and not name.startswith(hook):
        raise ContractError(
            f"{cls.__module__}.{cls.__name__}.{name} would never be called; did you mean '{hook}'? "
            "(a method of your own with such a name begins with _)"
        )


def check_contract(part: Any, wanted: Mapping[str, str]) -> None:
    """Refuse a class or an object without attributes that the loop asks it for. wanted: what each is. Raises ContractError."""
    cls = part if isinstance(part, type) else type(part)
    for name, expected in wanted.items():
        if not hasattr(part, name):
            raise ContractError(f"{cls.__module__}.{cls.__name__} has no {name}: expected {expected}")


def checked(objective: Objective, output: Any) -> Output:
    """What forward returned, if the loop can learn from it. Raises ContractError."""
    if not isinstance(output, Output):
        _refuse(objective, f"expected Output(loss, count), found {_short(output)}")
    if not isinstance(output.loss, Tensor) or output.loss.numel() != 1:
        _refuse(objective, f"loss: expected one number, the sum over all targets, found {_short(output.loss)}")
    if not isinstance(output.count, (Tensor, int, float)):
        _refuse(objective, f"count: expected how many targets the loss sums, found {_short(output.count)}")
    return output


def checked_means(objective: Objective, output: Output) -> dict[str, tuple[Tensor, Tensor]]:
    """The sums and counts beside the loss, if that is what they are. Raises ContractError."""
    for name, pair in output.means.items():
        if not isinstance(pair, tuple) or len(pair) != 2:
            _refuse(objective, f"means['{name}']: expected (sum, count), found {_short(pair)}")
    return output.means


def compared(objective: Objective, output: Output) -> tuple[Any, Any]:
    """What metrics are updated with. Raises ContractError where there is none."""
    if output.prediction is None:
        _refuse(objective, "metrics() compare prediction with target, and there is no prediction in the Output")
    return output.prediction, output.target


def _refuse(objective: Objective, fault: str) -> None:
    raise ContractError(f"{type(objective).__name__}.forward: {fault}")


def _short(value: Any) -> str:
    """What something is, in a few words."""
    if isinstance(value, Tensor):
        return f"a tensor of shape {list(value.shape)}"
    text = repr(value)
    return text if isinstance(value, (str, int, float, type(None))) and len(text) < 40 else f"a {type(value).__name__}"


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
