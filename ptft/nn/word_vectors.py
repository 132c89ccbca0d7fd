"""The vectors that a model of text has for words, for scoring and for writing them down."""

from __future__ import annotations

import numpy as np
from torch import Tensor, nn

from ptft.errors import UserError
from ptft.nn.neighbours import unit


def table(model: nn.Module) -> Tensor:
    """The vectors of a model's tokens, [vocabulary, dim], without gradient. Raises UserError where it has none."""
    embedding = getattr(model, "token_embedding", None)
    if embedding is None:
        raise UserError(f"model {type(model).__name__} has no table of token vectors")
    return embedding.weight.detach().float()


def mean_vector(vectors: Tensor, tokens: np.ndarray, unknown: int) -> Tensor | None:
    """The direction of a word, [dim]: of the mean of its tokens' vectors; None where one of them is unknown."""
    if len(tokens) == 0 or (tokens == unknown).any():
        return None
    return unit(vectors[tokens.tolist()].mean(0, keepdim=True))[0]
