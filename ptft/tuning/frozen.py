"""Part of the model stands still."""

from __future__ import annotations

from fnmatch import fnmatchcase

from ptft.errors import UserError, did_you_mean
from ptft.objective import Objective
from ptft.tuning.tuning import Tuning, depths, free_own


class Frozen(Tuning):
    """Part of the model is frozen: no gradient, evaluation mode, not in the optimizer.

    blocks: "all", or how many layers from the bottom, the embeddings always with them; negative leaves that many at the
    top free; 0 freezes by name only. names: patterns (`*` matches anything) over names in the model's state.
    """

    def __init__(self, blocks: int | str, names: list[str]):
        if blocks != "all" and (isinstance(blocks, bool) or not isinstance(blocks, int)):
            raise ValueError(f"blocks={blocks}: give all or a number of layers")
        self.blocks, self.names = blocks, names

    def apply(self, objective: Objective) -> None:
        """Freeze; raises UserError where the model has too few layers or no parameter of a name."""
        lowest = self._lowest(len(objective.model.blocks) - 1)
        patterns = self._checked_names([name for name, _ in objective.model.named_parameters()])
        depth = depths(objective)
        for name, parameter in objective.model.named_parameters():
            if depth[f"model.{name}"] <= lowest or any(fnmatchcase(name, pattern) for pattern in patterns):
                parameter.requires_grad_(False)

        if self.blocks == "all" and not patterns:
            free_own(objective.model)

    def _lowest(self, layers: int) -> int:
        """The depth up to which all is frozen; -1 for nothing."""
        if self.blocks == "all":
            return layers
        if abs(self.blocks) > layers:
            raise UserError(f"tuning.blocks={self.blocks}: the model has {layers} layers")
        return self.blocks or -1 if self.blocks >= 0 else layers + self.blocks

    def _checked_names(self, known: list[str]) -> list[str]:
        for pattern in self.names:
            if not any(fnmatchcase(name, pattern) for name in known):
                raise UserError(f"tuning.names={pattern}: no parameter of that name{did_you_mean(pattern, known)}")
        return self.names
