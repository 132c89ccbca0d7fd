"""Texts cut into stretches, each word with its window: the vectorised part of word2vec's inner loop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ptft.objective import Example
from ptft.randomness import Draw

STRETCH = 16  # words that share their negatives, and one matrix product


@dataclass
class Stretches:
    """Stretches of STRETCH words that follow each other in a text, with `window` words on either side.

    words: int64 [S, STRETCH + 2 window], -1 where there is none. row, number: int64 [S], which row of the batch each stretch
    is from, and its number in the row. inside: bool [S, STRETCH, STRETCH + 2 window], which words are in the window of which.
    """

    words: np.ndarray
    row: np.ndarray
    number: np.ndarray
    inside: np.ndarray
    window: int

    @property
    def centres(self) -> np.ndarray:
        """The words of the stretches without those beside them, int64 [S, STRETCH]."""
        return self.words[:, self.window : self.window + STRETCH]


def stretches(examples: Sequence[Example], draw: Draw, keep: np.ndarray, window: int) -> Stretches:
    """Leave words out with probability 1 - keep[word], and give each that stays a window of 1 to `window`, uniformly.

    As in word2vec.c, what is left out takes no place, so that windows reach further; they end with row and document.
    """
    words, documents, radius = _kept(examples, draw, keep, window)
    length = words.shape[1] - 2 * window
    used = (words[:, window : window + length].reshape(len(words), -1, STRETCH) >= 0).any(2)
    row, number = np.nonzero(used)
    begins = number * STRETCH
    around = begins[:, None] + np.arange(STRETCH + 2 * window)
    found, texts = words[row[:, None], around], documents[row[:, None], around]
    middle = slice(window, window + STRETCH)
    apart = np.abs(np.arange(STRETCH)[:, None] + window - np.arange(STRETCH + 2 * window))  # [STRETCH, STRETCH + 2 window]
    reach = radius[row[:, None], around[:, middle]]
    inside = (apart <= reach[:, :, None]) & (apart > 0) & (texts[:, middle, None] == texts[:, None, :])
    return Stretches(found, row, number, inside, window)


def _kept(examples: Sequence[Example], draw: Draw, keep: np.ndarray, window: int) -> tuple[np.ndarray, ...]:
    """Words [B, L + 2 window], their documents and windows (0 where there is no word), what stays moved together.

    L is a multiple of STRETCH; there are `window` empty places at either end.
    """
    lengths = np.array([len(example["tokens"]) for example in examples])
    tokens = np.concatenate([example["tokens"] for example in examples])
    documents = np.concatenate([np.broadcast_to(example.get("documents", 0), len(example["tokens"])) for example in examples])
    chances = draw.uniform("words.keep", (int(lengths.max()),))
    present = np.arange(chances.shape[1]) < lengths[:, None]
    stays = np.flatnonzero(chances[present] < keep[tokens])
    rows = np.repeat(np.arange(len(examples)), lengths)[stays]
    counts = np.bincount(rows, minlength=len(examples))
    places = np.arange(len(stays)) - np.repeat(np.cumsum(counts) - counts, counts)
    length = max(1, -(-int(counts.max()) // STRETCH)) * STRETCH
    padded = np.full((3, len(examples), length + 2 * window), -1, dtype=np.int64)
    padded[2] = 0
    padded[0, rows, places + window] = tokens[stays]
    padded[1, rows, places + window] = documents[stays]
    padded[2, rows, places + window] = 1 + draw.integers("words.window", window, (length,))[rows, places]
    return tuple(padded)
