"""Tables of labelled text in memory while they are encoded, and on disk afterwards."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ptft.data.encoding import id_type
from ptft.data.reading import label_cell, rows, text_cell
from ptft.data.rows import Example, Ragged, Rows, write_ragged
from ptft.data.tokenizer import Tokenizer
from ptft.errors import DataError

SPLITS = ("train", "valid", "test")
ENCODED_AT_ONCE = 1024
TYPES = {"class": np.int64, "number": np.float64, "likeness": np.float64, "classes": np.uint8}  # of labels on disk


@dataclass
class Table:
    """Rows as columns.

    places: what an error message names ("file:line"). empty: rows without text, left out. listed: where the first label
    stands that is a list. others: for each row the further texts that would do as well as its label, where rows have some.
    completions: the labels as texts to write, where the blanks around them count.
    """

    texts: list[str]
    pairs: list[str] | None
    labels: list[str]
    places: list[str]
    empty: int = 0
    listed: str | None = None
    others: list[list[str]] | None = None
    completions: list[str] | None = None

    def __len__(self) -> int:
        return len(self.texts)

    def rows(self, chosen: Sequence[int]) -> Table:
        """Some of the rows."""
        pairs = None if self.pairs is None else [self.pairs[row] for row in chosen]
        texts, labels = [self.texts[row] for row in chosen], [self.labels[row] for row in chosen]
        others = None if self.others is None else [self.others[row] for row in chosen]
        written = None if self.completions is None else [self.completions[row] for row in chosen]
        places = [self.places[row] for row in chosen]
        return Table(texts, pairs, labels, places, listed=self.listed, others=others, completions=written)

    def completed(self) -> Table:
        """The rows that have something to write."""
        table = self.rows([row for row, text in enumerate(self.written) if text.strip()])
        table.empty = self.empty
        return table

    @property
    def written(self) -> list[str]:
        """What a task that writes learns of each row."""
        return self.labels if self.completions is None else self.completions


def read_table(paths: Sequence[Path], text: str, pair: str | None, label: str) -> Table:
    """All rows of some files; rows without text are left out and counted."""
    table = Table([], None if pair is None else [], [], [], completions=[])
    for path in paths:
        for where, row in rows(path):
            content = text_cell(row, where, text)
            if not content.strip():
                table.empty += 1
                continue
            table.texts.append(content)
            found = label_cell(row, where, label)
            table.labels.append(found)
            table.completions.append(text_cell(row, where, label) if isinstance(row[label], str) else found)
            table.places.append(where)
            if isinstance(row[label], list):
                table.listed = table.listed or where
            if pair is not None:
                table.pairs.append(text_cell(row, where, pair))
    return table


@dataclass
class Encoder:
    """Texts to examples of at most max_length tokens.

    pair: rows have a second text, read together with the first, or apart, each of its own length. completion: the label is a
    text that follows the first.
    """

    tokenizer: Tokenizer
    max_length: int
    pair: bool
    completion: bool
    apart: bool = False

    @property
    def type(self) -> str:
        return id_type(self.tokenizer.vocab_size)

    @property
    def room(self) -> int:
        """Tokens left beside a [SEP] between two texts that are read together."""
        return max(1, self.max_length - (self.pair and not self.apart))

    def second(self, table: Table) -> list[str] | None:
        """What is read after the text, or written in answer to it."""
        return table.written if self.completion else table.pairs

    def write(self, folder: Path, split: str, table: Table) -> list[str]:
        """Encode a split into files; return notes on what was left out or cut."""
        tokens = self.encode(table.texts)
        second = self.second(table)
        others = None if second is None else self.encode(second)
        lengths = [len(ids) for ids in tokens]
        if others is not None:
            lengths = [self.total(one, two) for one, two in zip(tokens, others, strict=True)]
            kept = [self.both(one, two) for one, two in zip(tokens, others, strict=True)]
            tokens, others = [one for one, _ in kept], [two for _, two in kept]
            write_ragged(folder, f"{split}.second", others, self.type)
        write_ragged(folder, split, [ids[: self.room] for ids in tokens], self.type)
        write_ragged(folder, f"{split}.texts", [as_bytes(text) for text in table.texts], "uint8")
        if self.completion:
            write_ragged(folder, f"{split}.references", [as_bytes(json.dumps(some)) for some in references(table)], "uint8")
        return notes(table.empty, lengths, self.room)

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Token ids of each text, as many texts at a time as memory is spent on."""
        starts = range(0, len(texts), ENCODED_AT_ONCE)
        return [ids for start in starts for ids in self.tokenizer.encode(texts[start : start + ENCODED_AT_ONCE])]

    def example(self, text: str, pair: str | None) -> Example:
        """One row without a label. cut: how many tokens are left of it, where there were more."""
        if pair is None:
            whole = self.tokenizer.encode([text])
            found = {"tokens": whole[0][: self.room]}
        else:
            whole = self.tokenizer.encode([text, pair])
            found = dict(zip(("tokens", "pair"), self.both(*whole), strict=True))
        return found | ({"cut": self.room} if self.total(*whole) > self.room else {})

    def total(self, *texts: np.ndarray) -> int:
        """The tokens of a row that have to fit: of all its texts, or of the longest where they are read apart."""
        return (max if self.apart else sum)(map(len, texts))

    def both(self, first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Two texts as long as may be."""
        return (first[: self.room], second[: self.room]) if self.apart else shorten(first, second, self.room)


def as_bytes(text: str) -> np.ndarray:
    """A text as its UTF-8 bytes, uint8."""
    return np.frombuffer(text.encode(), dtype=np.uint8)


def references(table: Table) -> Iterator[list[str]]:
    """For each row all texts that would be right."""
    others = table.others or [[]] * len(table)
    return ([label, *more] for label, more in zip(table.written, others, strict=True))


def shorten(first: np.ndarray, second: np.ndarray, room: int) -> tuple[np.ndarray, np.ndarray]:
    """Two texts that fit together: the longer one is cut first, at its end."""
    if len(first) + len(second) <= room:
        return first, second
    kept = min(len(first), max(room // 2, room - len(second)))
    return first[:kept], second[: room - kept]


def notes(empty: int, lengths: Sequence[int], room: int) -> list[str]:
    """What was left out or cut, in words; DataError where most rows lose text."""
    said = [f"{empty:,} rows without text dropped"] if empty else []
    cut = sum(length > room for length in lengths)
    if cut:
        told = f"{cut:,} of {len(lengths):,} rows ({cut / len(lengths):.1%}) cut to {room} tokens"
        said.append(f"{told}; the longest has {max(lengths):,}")
    if cut > len(lengths) / 2:
        raise DataError(f"{said[-1]}; more than half lose text: raise model.max_length, or dataset.max_length where it is set")
    return said


class LabelledRows(Rows):
    """Encoded rows of one split.

    An example has tokens int32 [n]; pair int32 [m] where rows have two texts; label (int class, float, or uint8 [classes] of
    zeros and ones), or completion int32 [k] and its references as they stand in the file, as the target is; row; text.
    """

    def __init__(self, folder: Path, split: str, kind: str, target: str | None, pair: bool):
        self.tokens = ragged(folder, split, kind)
        self.texts = ragged(folder, f"{split}.texts", "uint8")
        self.name = "completion" if target == "text" else "pair" if pair else None
        self.second = ragged(folder, f"{split}.second", kind) if self.name else None
        self.references = ragged(folder, f"{split}.references", "uint8") if target == "text" else None
        labels = np.fromfile(folder / f"{split}.labels", TYPES[target]) if target in TYPES else None
        several = target == "classes"
        self.labels = labels.reshape(len(self.tokens), -1) if several else None if labels is None else labels.tolist()

    def __len__(self) -> int:
        return len(self.tokens)

    def lengths(self) -> np.ndarray:
        return self.tokens.lengths() + (0 if self.second is None else self.second.lengths())

    def take(self, indices: Sequence[int]) -> list[Example]:
        return [self.example(int(index)) for index in indices]

    def example(self, index: int) -> Example:
        example: Example = {"tokens": self.tokens[index], "row": index, "text": self.texts.raw(index).decode()}
        if self.second is not None:
            example[self.name] = self.second[index]
        if self.references is not None:
            example["references"] = json.loads(self.references.raw(index))
        if self.labels is not None:
            example["label"] = self.labels[index]
        return example


def ragged(folder: Path, name: str, kind: str) -> Ragged:
    """Sequences of different lengths as they were written to the cache."""
    return Ragged(folder / f"{name}.ids", folder / f"{name}.bounds", kind)
