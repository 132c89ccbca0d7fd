"""How often words occur, and what word2vec makes of it: which are left out of a text, and which are drawn as noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ptft.errors import DataError
from ptft.randomness import Draw

Rule = Literal["code", "paper"]
READ_AT_ONCE = 1 << 20  # tokens
ROWS_AT_ONCE = 1 << 10


def count_words(rows: Any, tokenizer: Any) -> np.ndarray:
    """How often each word occurs in rows of tokens, int64 [vocabulary]; special tokens, [UNK] among them, count 0.

    Rows of running text have their tokens at hand as `ids`; those of other rows are taken row by row.
    """
    counts = np.zeros(tokenizer.vocab_size, dtype=np.int64)
    if hasattr(rows, "ids"):
        stretches = (rows.ids.read(start, start + READ_AT_ONCE) for start in range(0, len(rows.ids), READ_AT_ONCE))
    else:
        starts = range(0, len(rows), ROWS_AT_ONCE)
        taken = (rows.take(range(start, min(start + ROWS_AT_ONCE, len(rows)))) for start in starts)
        stretches = (np.concatenate([example["tokens"] for example in examples]) for examples in taken)
    for stretch in stretches:
        counts += np.bincount(stretch, minlength=len(counts))
    counts[list(tokenizer.special_ids)] = 0
    return counts


def occurring(dataset: Any, tokenizer: Any) -> np.ndarray:
    """The counts of words in the training rows; ones where there are no data, only a model. Raises DataError."""
    if dataset is None:
        return np.ones(tokenizer.vocab_size, dtype=np.int64)
    counts = count_words(dataset.rows("train"), tokenizer)
    if (counts > 0).sum() < 2:
        raise DataError(
            f"word vectors need at least 2 different words, and the training text has {(counts > 0).sum()} that the tokenizer "
            "knows; lower tokenizer.min_count, or give more text"
        )
    return counts


def keep_probabilities(counts: np.ndarray, threshold: float | None, rule: Rule) -> np.ndarray:
    """With which probability an occurrence of each word stays in the text, float64 [vocabulary]; 0 for words without any.

    f is a word's share of the text, t the threshold. code: (sqrt(f / t) + 1) t / f, as word2vec.c has it; paper:
    sqrt(t / f) (Mikolov et al. 2013, 1310.4546, 2.3). Without a threshold all stay.
    """
    occurs = counts > 0
    if threshold is None:
        return occurs.astype(np.float64)
    ratio = threshold * counts.sum() / np.maximum(counts, 1)
    kept = np.sqrt(ratio) + ratio if rule == "code" else np.sqrt(ratio)
    return np.where(occurs, np.minimum(kept, 1.0), 0.0)


@dataclass(frozen=True)
class Noise:
    """Draws words with probability in proportion to count ** power, each in constant time (Walker's alias method).

    chance, other: of each place in the table, the probability that it gives itself, and what it gives else.
    """

    chance: np.ndarray
    other: np.ndarray

    @classmethod
    def of(cls, counts: np.ndarray, power: float) -> Noise:
        """The noise of word2vec: power .75 (1310.4546, 2.2). Words that do not occur are never drawn."""
        weights = np.where(counts > 0, np.maximum(counts, 1).astype(np.float64) ** power, 0.0)
        share = weights * (len(weights) / weights.sum())
        chance, other = np.ones(len(share)), np.arange(len(share))
        small, large = np.flatnonzero(share < 1).tolist(), np.flatnonzero(share >= 1).tolist()
        left = share.tolist()
        while small and large:
            low, high = small.pop(), large[-1]
            chance[low], other[low] = left[low], high
            left[high] -= 1 - left[low]
            if left[high] < 1:
                small.append(large.pop())
        return cls(chance, other)

    def draw(self, draw: Draw, purpose: str, shape: tuple[int, ...]) -> np.ndarray:
        """Words for each sample of a batch, int64 [B, *shape]."""
        places = draw.uniform(purpose, shape) * len(self.chance)
        words = places.astype(np.int64)
        return np.where(places - words < self.chance[words], words, self.other[words])
