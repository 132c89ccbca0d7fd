"""Sentences of a split in memory while they are encoded, and on disk afterwards."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from ptft.data.conll import Sentence
from ptft.data.pieces import WordEncoder
from ptft.data.rows import Example, Rows, write_ragged
from ptft.data.table import ragged
from ptft.errors import DataError
from ptft.nn.spans import NO_TAG
from ptft.nn.words import text_of


@dataclass
class Sentences:
    """The sentences of a split. empty: those without words, left out."""

    sentences: list[Sentence]
    empty: int = 0
    pairs = None

    def __len__(self) -> int:
        return len(self.sentences)

    @cached_property
    def texts(self) -> list[str]:
        """The sentences as running text, by which they are held out."""
        return [text_of(row.words) for row in self.sentences]

    @property
    def labels(self) -> list[str]:
        """Nothing: no class is balanced between the splits."""
        return [""] * len(self.sentences)

    def rows(self, numbers: Sequence[int]) -> Sentences:
        """Some of the sentences."""
        return Sentences([self.sentences[number] for number in numbers])


def collected(found: Iterable[Sentence]) -> Sentences:
    """Sentences in memory; those without words are left out and counted."""
    rows, empty = [], 0
    for sentence in found:
        if sentence.words:
            rows.append(sentence)
        else:
            empty += 1
    return Sentences(rows, empty)


def write(folder: Path, split: str, table: Sentences, encoder: WordEncoder, labels: list[str] | None) -> list[str]:
    """Encode a split into files; return notes on what was left out or cut."""
    encoder.learn(row.words for row in table.sentences)
    found = [encoder.pieces(row.words) for row in table.sentences]
    write_ragged(folder, split, [tokens for tokens, _, _ in found], encoder.type)
    write_ragged(folder, f"{split}.places", [places.ravel() for _, places, _ in found], "int32")
    texts = [json.dumps(row.words, ensure_ascii=False).encode() for row in table.sentences]
    write_ragged(folder, f"{split}.words", [np.frombuffer(text, dtype=np.uint8) for text in texts], "uint8")
    if labels is not None:
        code = {name: index for index, name in enumerate(labels)}
        write_ragged(folder, f"{split}.tags", [np.array([code[tag] for tag in row.tags]) for row in table.sentences], "int32")
    if table.sentences[0].marked is not None:
        np.array([row.marked for row in table.sentences], dtype=np.int32).tofile(folder / f"{split}.marked")
    lost = [int((places[:, 0] < 0).sum()) for _, places, _ in found]
    lengths = [length for _, _, length in found]
    return said_of(table.empty, lost, lengths, sum(len(row.words) for row in table.sentences), encoder.room)


def said_of(empty: int, lost: list[int], lengths: list[int], words: int, room: int) -> list[str]:
    """What was left out or cut, in words; DataError where most sentences lose words."""
    said = [f"{empty:,} sentences without words dropped"] if empty else []
    cut = sum(length > room for length in lengths)
    if cut:
        told = f"{cut:,} of {len(lengths):,} sentences ({cut / len(lengths):.1%}) cut to {room} tokens"
        said.append(f"{told}: {sum(lost):,} of {words:,} words count as {NO_TAG}; the longest has {max(lengths):,} tokens")
    if cut > len(lengths) / 2:
        raise DataError(f"{said[-1]}; more than half lose words: raise model.max_length, or dataset.max_length where it is set")
    return said


class TaggedRows(Rows):
    """Encoded sentences of one split.

    An example has tokens int32 [n]; places int32 [words, 2], the first and last token of each word, -1 where it was cut
    off; words, as they stand in the file; label int32 [words], the number of each tag, if tags are learned; marked, the
    number of the word that the tags are about, if there is one; row.
    """

    def __init__(self, folder: Path, split: str, kind: str):
        self.tokens, self.places = ragged(folder, split, kind), ragged(folder, f"{split}.places", "int32")
        self.words = ragged(folder, f"{split}.words", "uint8")
        self.tags = ragged(folder, f"{split}.tags", "int32") if (folder / f"{split}.tags.ids").exists() else None
        marked = folder / f"{split}.marked"
        self.marked = np.fromfile(marked, np.int32).tolist() if marked.exists() else None

    def __len__(self) -> int:
        return len(self.tokens)

    def lengths(self) -> np.ndarray:
        return self.tokens.lengths()

    def take(self, indices: Sequence[int]) -> list[Example]:
        return [self.example(int(index)) for index in indices]

    def example(self, index: int) -> Example:
        example: Example = {"tokens": self.tokens[index], "places": self.places[index].reshape(-1, 2), "row": index}
        example["words"] = json.loads(self.words.raw(index))
        if self.tags is not None:
            example["label"] = self.tags[index]
        if self.marked is not None:
            example["marked"] = self.marked[index]
        return example
