"""Words to the pieces of a tokenizer: which piece each word begins and ends with, as much of a sentence as has room."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property

import numpy as np

from ptft.data.encoding import id_type
from ptft.data.tokenizer import Tokenizer
from ptft.nn.words import with_blanks

UNSEEN = -1  # the place of a word that was cut off
REMEMBERED = 1 << 18  # words


class WordEncoder:
    """Sentences as pieces, at most max_length of them, cut between words.

    Each word is encoded by itself, with the blank that stands before it in running text.
    """

    def __init__(self, tokenizer: Tokenizer, max_length: int):
        self.tokenizer, self.room = tokenizer, max_length
        self.known: dict[str, tuple[np.ndarray, int]] = {}

    @property
    def type(self) -> str:
        """How ids are kept on disk."""
        return id_type(self.tokenizer.vocab_size)

    @cached_property
    def blank(self) -> np.ndarray:
        """Which pieces are white space and nothing else, bool [vocabulary]."""
        return np.array([content.isspace() for content in self.tokenizer.token_bytes])

    def learn(self, sentences: Iterable[Sequence[str]]) -> None:
        """Encode the words of some sentences that are not known yet, each once; very many words of others are forgotten."""
        if len(self.known) > REMEMBERED:
            self.known.clear()
        words = sorted({word for words in sentences for word in with_blanks(words)} - self.known.keys())
        for word, ids in zip(words, self.tokenizer.encode(words), strict=True):
            if len(ids) == 0:  # nothing that the tokenizer keeps, such as a lone control character
                ids = np.array([self.tokenizer.unk_id], dtype=np.int32)
            begin = int(self.blank[ids].argmin())  # a character tokenizer has the blank as a piece of its own
            self.known[word] = ids, begin

    def pieces(self, words: Sequence[str]) -> tuple[np.ndarray, np.ndarray, int]:
        """The ids of a sentence of known words, int32 [n]; each word's first and last piece, int32 [words, 2], UNSEEN where
        it was cut off; and how many pieces the whole sentence has. Of a first word without room, a part is kept.
        """
        if not words:
            return np.empty(0, dtype=np.int32), np.empty((0, 2), dtype=np.int32), 0
        found = [self.known[word] for word in with_blanks(words)]
        ends = np.cumsum([len(ids) for ids, _ in found], dtype=np.int32)
        starts = np.concatenate(([0], ends[:-1])) + [begin for _, begin in found]
        kept = ends <= self.room
        kept[0] = True
        length = min(int(ends[kept][-1]), self.room)
        tokens = np.concatenate([ids for (ids, _), whole in zip(found, kept, strict=True) if whole])[:length]
        places = np.stack((starts, ends - 1), axis=1).astype(np.int32)
        places[~kept] = UNSEEN
        return tokens, places.clip(max=length - 1), int(ends[-1])
