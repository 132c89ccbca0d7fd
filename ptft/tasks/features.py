"""A published model without a task of ours: what it makes of its inputs, as it is."""

from __future__ import annotations

from ptft.errors import UserError
from ptft.objective import Batch, Example, Objective
from ptft.randomness import Draw


class Features(Objective):
    """The model's features, for export and for the protocols of evaluate; there is nothing to score. Raises UserError."""

    def collate(self, examples: list[Example], draw: Draw) -> Batch:
        raise UserError("published weights without a task have no score: fine-tune them first, or give protocol=NAME")
