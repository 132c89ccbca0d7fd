"""Documents in chunks of whole sentences, read from their file as batches ask for them: what pairs of sentences are made of."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ptft.objective import Example

# a line end, or a mark that ends a sentence, maybe with what closes quotes and brackets behind it
CLOSES = re.compile(r"\n|[.!?…。！？｡؟।][\"'”’»)\]」』]*\s*$")


def closing(tokenizer: Any) -> np.ndarray:
    """Which tokens end a sentence, bool [vocabulary]; special ones do not."""
    return np.array([bool(CLOSES.search(content.decode(errors="replace"))) for content in tokenizer.token_bytes])


def sentence_ends(tokens: np.ndarray, closes: np.ndarray, longest: int) -> np.ndarray:
    """Where the sentences of tokens [T] end, the last at T; one without an end in sight is cut after `longest` tokens."""
    ends = closes[tokens].nonzero()[0] + 1
    if not len(ends) or ends[-1] < len(tokens):
        ends = np.append(ends, len(tokens))
    begins = np.empty_like(ends)
    begins[0], begins[1:] = 0, ends[:-1]
    if (ends - begins).max() <= longest:
        return ends
    cuts = [np.arange(begin + longest, end, longest) for begin, end in zip(begins.tolist(), ends.tolist(), strict=True)]
    return np.sort(np.concatenate((ends, *cuts)))


def documents_of(rows: Any) -> tuple[Any, np.ndarray, np.ndarray]:
    """The file of a split's tokens, and where its documents begin and end: those of running text, else each row is one."""
    if hasattr(rows, "ends"):
        ends = rows.ends.read(0, len(rows.ends))
        return rows.ids, np.append(0, ends)[: len(ends)], ends - 1  # without [EOS]
    return rows.tokens.values, rows.tokens.bounds[:-1], rows.tokens.bounds[1:]


class Chunks:
    """The documents of a split as rows, and sentences of other documents than that of a row.

    A row is a run of sentences of one document: as many as it takes to fill `room` tokens, so that the last one sticks out,
    or those that are left. Sentences have at most room / 2 tokens. Documents of one token are left out.
    """

    def __init__(self, rows: Any, room: int, closes: np.ndarray):
        self.room, self.closes = room, closes
        self.ids, begins, ends = documents_of(rows)
        kept = ends - begins >= 2
        begins, ends = begins[kept], ends[kept]
        short = ends - begins <= room
        long = zip(begins[~short].tolist(), ends[~short].tolist(), strict=True)
        cuts = np.array([cut for bounds in long for cut in self._cut(*bounds)], dtype=np.int64).reshape(-1, 2)
        starts = np.concatenate((begins[short], cuts[:, 0]))
        order = starts.argsort()
        self.starts = starts[order]
        self.stops = np.concatenate((ends[short], cuts[:, 1]))[order]
        # the rows that begin a document, and behind them the number of rows
        self.firsts = np.searchsorted(self.starts, np.append(begins, len(self.ids)))

    def _cut(self, begin: int, end: int) -> Iterator[tuple[int, int]]:
        """The chunks of a document; one token alone goes with those before it."""
        while begin < end:
            sentences = self.sentences(begin, min(begin + 2 * self.room, end))
            stop = begin + int(enough(sentences, self.room)[-1])
            stop = end if end - stop < 2 else stop
            yield begin, stop
            begin = stop

    def sentences(self, start: int, stop: int) -> np.ndarray:
        """The ends of the sentences in tokens start..stop, counted from start."""
        return sentence_ends(self.ids.read(start, stop), self.closes, self.longest_sentence)

    @property
    def longest_sentence(self) -> int:
        """The most tokens in a sentence."""
        return max(1, self.room // 2)

    @property
    def documents(self) -> int:
        """How many documents there are."""
        return len(self.firsts) - 1

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, index: int) -> Example:
        return self.take([range(len(self))[index]])[0]

    def take(self, indices: Sequence[int]) -> list[Example]:
        """Rows with their tokens int32, the ends of their sentences and, as `chunks`, where others are to be had."""
        return [self._example(index) for index in indices]

    def _example(self, index: int) -> Example:
        tokens = self.ids.read(self.starts[index], self.stops[index]).astype(np.int32)
        ends = sentence_ends(tokens, self.closes, self.longest_sentence)
        return {"tokens": tokens, "ends": ends, "row": index, "chunks": self}

    def elsewhere(self, row: int, size: int, place: Sequence[float]) -> np.ndarray:
        """Sentences of another document than that of `row`, from a random one on, until they have `size` tokens or it ends.

        place: numbers in [0, 1) that choose the document, the chunk of it and the sentence in that.
        """
        own = np.searchsorted(self.firsts, row, side="right") - 1
        other = int(place[0] * (self.documents - 1))
        first, following = self.firsts[other + (other >= own) :][:2]
        chunk = first + int(place[1] * (following - first))
        start, stop, end = self.starts[chunk], self.stops[chunk], self.stops[following - 1]
        begins = np.append(0, self.sentences(start, stop)[:-1])
        begin = start + begins[int(place[2] * len(begins))]
        tokens = self.ids.read(begin, min(begin + size + self.longest_sentence, end)).astype(np.int32)
        return tokens[: enough(sentence_ends(tokens, self.closes, self.longest_sentence), size)[-1]]

    def lengths(self) -> np.ndarray:
        """How many tokens each row fills at the most, int64 [rows]."""
        return np.minimum(self.stops - self.starts, self.room)

    def longest(self, number: int) -> list[int]:
        """The rows with the most tokens, longest first."""
        return np.argsort(-self.lengths(), kind="stable")[:number].tolist()


def enough(ends: np.ndarray, size: int) -> np.ndarray:
    """The first sentence ends, up to the one that makes `size` tokens full."""
    return ends[: ends.searchsorted(size) + 1]
