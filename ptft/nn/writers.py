"""What a model has read and written so far, ready to say what may come next: for causal and for encoder-decoder models.

A writer has `advance(tokens [R] or None) -> scores [R, vocabulary]` of what follows its R texts once each has taken in its
token (None: at their beginning), and `select(rows)`, which keeps some of the texts.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ptft.nn.text import pad, real, text_inputs


class Continuation:
    """Texts that a causal model goes on with; beyond its max_length it reads their last max_length tokens.

    Prompts of different lengths are padded on their left. cache: keep what was worked out for earlier tokens.
    """

    def __init__(self, objective: Any, prompts: Sequence[Sequence[int]], cache: bool = True):
        self.objective, self.limit = objective, objective.model.max_length
        device = next(objective.parameters()).device
        backwards = [np.array(prompt)[::-1] for prompt in prompts]
        self.tokens = torch.from_numpy(pad(backwards, 0)[:, ::-1].copy()).to(device)
        present = real(backwards)[:, ::-1]
        self.mask = None if present.all() else torch.from_numpy(present.copy()).to(device)
        self.memory = objective.model.new_cache() if cache else None

    def advance(self, tokens: Tensor | None) -> Tensor:
        if tokens is not None:
            self.tokens = torch.cat((self.tokens, tokens[:, None].to(self.tokens.device)), dim=1)
            self.mask = None if self.mask is None else F.pad(self.mask, (0, 1), value=True)
        if self.memory is None or self.tokens.shape[1] > self.limit:
            self.memory = None  # a window that slides reads itself anew
            return self.objective.logits(self.tokens[:, -self.limit :], **self._places(0))
        past = self.memory.length
        return self.objective.logits(self.tokens[:, past:], self.memory, **self._places(past))

    def _places(self, past: int) -> dict[str, Tensor]:
        """What tells a model where padded texts begin; only those that fit its window are padded."""
        if self.mask is None:
            return {}
        return {"mask": self.mask, "positions": (self.mask.cumsum(1) - 1).clamp(min=0)[:, past:]}

    def select(self, rows: Tensor) -> None:
        self.tokens = self.tokens[rows]
        self.mask = None if self.mask is None else self.mask[rows]
        if self.memory is not None:
            self.memory.select(rows)


class Translation:
    """Texts that an encoder-decoder model writes for its sources, each begun with the token `start`."""

    def __init__(self, objective: Any, sources: Sequence[Sequence[int]], pad_id: int, start: int):
        self.objective = objective
        device = next(objective.parameters()).device
        inputs = text_inputs([np.array(source) for source in sources], pad_id)
        self.memory = objective.model.begin(**{name: value.to(device) for name, value in inputs.items()})
        self.start = torch.full((len(sources),), start, device=device)

    def advance(self, tokens: Tensor | None) -> Tensor:
        target = self.start if tokens is None else tokens.to(self.start.device)
        features = self.objective.model.write(target[:, None], self.memory)
        return self.objective.over_vocabulary(features[:, -1])

    def select(self, rows: Tensor) -> None:
        self.start = self.start[rows]
        self.memory.select(rows)


def together(model: nn.Module, prompts: Sequence[Sequence[int]], max_tokens: int) -> list[list[int]]:
    """Which prompts can be gone on with as one batch: all at once, or only those of equal length.

    A causal model needs to take padding on the left, and room for all of it.
    """
    lengths = np.array([len(prompt) for prompt in prompts])
    takes = inspect.signature(model.forward).parameters.keys()
    fits = {"mask", "positions"} <= takes and lengths.max() + max_tokens <= model.max_length
    if "seq2seq" in model.traits or fits or (lengths == lengths[0]).all():
        return [list(range(len(prompts)))]
    return [np.flatnonzero(lengths == length).tolist() for length in np.unique(lengths)]
