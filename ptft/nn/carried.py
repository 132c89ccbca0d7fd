"""State that one batch of training hands to the next: of recurrent networks, or a memory of what was read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

NOWHERE = -1


def follow(examples: Sequence[dict[str, Any]]) -> tuple[Tensor, Tensor]:
    """The rows of examples and the rows that go on where they end, int64 [B]: NOWHERE where nothing does.

    A block of running text says by its `next` token whether there is more; rows of other data are texts of their own.
    """
    rows = np.array([example.get("row", NOWHERE) for example in examples], dtype=np.int64)
    goes_on = np.array([example.get("next", NOWHERE) != NOWHERE for example in examples])
    return torch.from_numpy(rows), torch.from_numpy(np.where(goes_on, rows + 1, NOWHERE))


class Carried(nn.Module):
    """Tensors [B, ...] that lane i of a batch leaves to lane i of the next one, in buffers, so that checkpoints hold them.

    A lane takes over what the one before left only where it goes on with the very row that follows; otherwise it starts
    from zero: after the end of the data, in other data, and in batches of another size.
    """

    follows: Tensor

    def __init__(self, *names: str):
        super().__init__()
        self.names = names
        self.register_buffer("follows", torch.zeros(0, dtype=torch.int64))
        for name in names:
            self.register_buffer(name, torch.zeros(0))

    def take(self, rows: Tensor) -> dict[str, Tensor] | None:
        """What was left to the lanes of a batch that reads `rows` [B], zeros to some; None if nothing was left to any."""
        if len(self.follows) != len(rows):
            return None
        alive = (self.follows == rows) & (rows != NOWHERE)
        kept = ((name, getattr(self, name)) for name in self.names)
        return {name: value * alive.view(-1, *[1] * (value.ndim - 1)) for name, value in kept} if alive.any() else None

    def leave(self, follows: Tensor, **states: Tensor) -> None:
        """Leave `states` to the batch that goes on with the rows `follows` [B]; without gradient."""
        self.follows = follows.clone()
        for name, value in states.items():
            setattr(self, name, value.detach().float().nan_to_num(0.0, 0.0, 0.0))

    def make_room(self, tensors: Mapping[str, Tensor], prefix: str) -> None:
        """Take the shapes of saved buffers whose names start with `prefix`."""
        for name, value in list(self.named_buffers()):
            if prefix + name in tensors:
                setattr(self, name, value.new_zeros(tensors[prefix + name].shape))
