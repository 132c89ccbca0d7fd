"""Which words have similar vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

COMPARED_AT_ONCE = 256
TOO_FREQUENT = 1 / 400  # of all words: such a word is grammar, whose neighbours say little
NEIGHBOURS = 8


def unit(vectors: Tensor) -> Tensor:
    """Rows of length 1, so that products are cosines; rows of zeros stay."""
    return F.normalize(vectors.detach().float(), dim=-1)


def nearest(vectors: Tensor, words: Sequence[int], number: int, among: np.ndarray) -> list[list[int]]:
    """The `number` words of highest cosine to each of `words`, nearest first, itself left out.

    vectors: [vocabulary, dim]. among: bool [vocabulary], which words may be found.
    """
    table, found = unit(vectors), []
    barred = torch.from_numpy(~among).to(table.device)
    for chunk in torch.as_tensor(list(words), device=table.device).split(COMPARED_AT_ONCE):
        cosines = (table[chunk] @ table.mT).masked_fill_(barred, -torch.inf)
        cosines.scatter_(1, chunk[:, None], -torch.inf)
        found += cosines.topk(min(number, max(int(among.sum()) - 1, 0))).indices.tolist()
    return found


def familiar(counts: np.ndarray, number: int) -> list[int]:
    """The most frequent words, but for those that are in every sentence, unless there are no others."""
    order = np.argsort(-counts, kind="stable")[: int((counts > 0).sum())]
    telling = order[counts[order] <= counts.sum() * TOO_FREQUENT]
    return (telling if len(telling) else order)[:number].tolist()


def described(vectors: Tensor, counts: np.ndarray, tokenizer: Any, number: int) -> list[str]:
    """A line for each of some frequent words: it, and the words nearest to it."""
    words = familiar(counts, number)
    rows = zip(words, nearest(vectors, words, NEIGHBOURS, counts > 0), strict=True)
    return [f"{tokenizer.token(word)}: {' '.join(map(tokenizer.token, others))}" for word, others in rows]
