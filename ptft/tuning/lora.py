"""Small factors beside frozen weights."""

from __future__ import annotations

from torch import Tensor

from ptft.errors import UserError, did_you_mean
from ptft.nn import lora
from ptft.objective import Objective
from ptft.tuning.tuning import Tuning, free_own


class LoRA(Tuning):
    """Low-rank factors train beside the frozen weights of the model; heads train as always.

    rank, alpha: the update is alpha / rank * up @ down. targets: patterns over layer names in the model, `*` for all of
    its linear, convolutional and LSTM layers. seed: a fact about the run, from which the factors start. Raises ValueError.
    """

    def __init__(self, seed: int, rank: int, alpha: float, targets: list[str]):
        if rank < 1:
            raise ValueError(f"rank={rank}: give at least 1, such as 8")
        self.seed, self.rank, self.alpha, self.targets = seed, rank, alpha, targets

    def apply(self, objective: Objective) -> None:
        """Freeze and inject; raises UserError where no layer has such a name."""
        model = objective.model.requires_grad_(False)
        if not lora.inject(model, self.targets, self.rank, self.alpha, self.seed):
            layers = [name for name, layer in model.named_modules() if isinstance(layer, lora.LAYERS)]
            wrong = ",".join(self.targets)
            if not layers:
                raise UserError(f"tuning=lora: {type(model).__name__} has no linear, convolutional or LSTM layer to adapt")
            raise UserError(f"tuning.targets=[{wrong}]: no layer of that name{did_you_mean(wrong, layers)}")
        free_own(model)

    def plain_state(self, objective: Objective) -> dict[str, Tensor]:
        return lora.merged_state(objective.model)

    def raw_state(self, objective: Objective) -> dict[str, Tensor]:
        return lora.raw_state(objective.model)
