"""Tagged text: sentences of words with a tag each, as CoNLL columns or tables hold them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ptft.data.conll import Columns, Sentence, choose_columns, sentences
from ptft.data.files import fingerprint
from ptft.data.labelled import LabelledText
from ptft.data.pieces import WordEncoder
from ptft.data.rows import Example
from ptft.data.sentences import Sentences, TaggedRows, collected, write
from ptft.data.table import SPLITS
from ptft.data.tags import as_bio, breaks, scheme_of
from ptft.data.targets import shortened
from ptft.data.tokenizer import Tokenizer
from ptft.data.untagged import new_sentences
from ptft.errors import DataError
from ptft.nn.spans import NO_TAG, OUTSIDE, parse

SCHEMES = {"bio": "BIO", "iob1": "IOB1", "bioes": "BIOES"}


@dataclass(frozen=True)
class Reader:
    """Reads sentences without tags: CoNLL columns, a table with lists of words, or lines of plain text.

    token, tag: where words and tags of the training file stood.
    """

    token: int | str
    tag: int | str | None = None

    def read(self, source: str, tokenizer: Tokenizer, max_length: int) -> Iterator[tuple[Any, Example]]:
        """The sentences of a file, or of standard input ("-"), as examples to predict on, each with its id."""
        return self.examples(new_sentences(source, self.token, self.tag), WordEncoder(tokenizer, max_length))

    def examples(self, found: Iterable[Sentence], encoder: WordEncoder) -> Iterator[tuple[Any, Example]]:
        """Sentences as examples, each with its id or its number. One without words has an empty text."""
        for number, sentence in enumerate(found):
            encoder.learn([sentence.words])
            tokens, places, length = encoder.pieces(sentence.words)
            example = {"tokens": tokens, "places": places, "words": sentence.words, "row": number}
            more = {"marked": sentence.marked, "text": sentence.text if sentence.words else ""}
            more["cut"] = encoder.room if length > encoder.room else None
            example |= {name: value for name, value in more.items() if value is not None}
            yield number if sentence.name is None else sentence.name, example


class TaggedText(LabelledText):
    """Sentences of words with a tag each.

    columns: of words and tags, by number (from 0; negative ones from the end) or by name. IOB1 tags are read as BIO.
    Splits without a file of their own are held out of the training sentences by `split_seed`; equal ones stay together.
    """

    targets = (None, "tags")

    def __init__(
        self,
        path: str,
        columns: list | None,
        valid_path: str | None,
        test_path: str | None,
        valid_fraction: float,
        test_fraction: float,
        split_seed: int,
        max_length: int | None,
    ):
        self.wanted = columns
        super().__init__(
            path=path,
            text=None,
            text_pair=None,
            label=None,
            valid_path=valid_path,
            test_path=test_path,
            valid_fraction=valid_fraction,
            test_fraction=test_fraction,
            split_seed=split_seed,
            per_class=None,
            max_length=max_length,
        )

    def choose_columns(self) -> None:
        """Settle the columns of words and tags in the files of every split."""
        found = {split: choose_columns(paths[0], self.wanted) for split, paths in self.files.items()}
        self.chosen: dict[str, Columns] = found
        self.text, self.label = found["train"]

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over the bytes of the files and all settings that decide what is in which split."""
        files = [self.files.get(split, ()) for split in SPLITS]
        return fingerprint(files, type(self).__name__, self.wanted, self.shares, self.split_seed)

    def read(self, paths: list[Path]) -> Sentences:
        """All sentences of the files of one split."""
        columns = next(self.chosen[split] for split, own in self.files.items() if own == paths)
        return collected(sentence for path in paths for sentence in sentences(path, columns))

    def encoder(self, tokenizer: Tokenizer, max_length: int, target: str | None) -> WordEncoder:
        return WordEncoder(tokenizer, max_length)

    def build(self, folder: Path, encoder: WordEncoder, target: str | None, labels: list[str] | None) -> dict[str, Any]:
        """Write the encoded sentences of all splits; return what is to be known about them."""
        tables = {split: table for split, table in self.tables.items() if len(table)}
        if "train" not in tables:
            raise DataError(f"{self.files['train'][0]}: no sentence with words is left to train on")
        notes: list[str] = []
        found: dict[str, Any] = {"target": target, "type": encoder.type, "notes": notes, "labels": None}
        if target == "tags":
            found["scheme"] = settle_scheme(tables, notes)
            found["labels"] = tag_names(tables, labels, notes)
        for split, table in tables.items():
            notes += [f"{split}: {note}" for note in write(folder, split, table, encoder, found["labels"])]
        notes += self.lacking(tables)
        return found | {"rows": {split: len(table) for split, table in tables.items()}}

    def rows(self, split: str) -> TaggedRows | None:
        """The encoded sentences of a split, or None where there is no such split."""
        facts = self.prepared or {"rows": {}}
        return TaggedRows(self.folder, split, facts["type"]) if split in facts["rows"] else None

    @property
    def columns(self) -> dict[str, Any]:
        """What a Reader needs to know, long after the training file is gone."""
        return super().columns | {"label": self.label}

    @classmethod
    def reader(cls, node: dict[str, Any], columns: dict[str, Any], inputs: None) -> Reader:
        """What reads sentences to predict on, their words where those of the training file stood."""
        return Reader(columns.get("text", 0), columns.get("label"))


def settle_scheme(tables: dict[str, Sentences], notes: list[str]) -> str:
    """What scheme the training tags follow; what breaks it is counted, and IOB1 becomes BIO."""
    scheme = scheme_of([row.tags for row in tables["train"].sentences])
    used = {tag for row in tables["train"].sentences for tag in row.tags if tag != NO_TAG}
    if used and all(map(str.isdecimal, used)):
        notes.append("the tags are numbers and not names such as B-PER: every word is scored by itself, there are no entities")
    stray = sorted(tag for tag in used if parse(tag)[0] == OUTSIDE)
    if scheme in SCHEMES and stray:
        notes.append(f"tags that are of no span count as outside of them: {shortened(stray)}")
    for split, table in tables.items():
        broken = [(row.where, count) for row in table.sentences if (count := breaks(row.tags, scheme))]
        if broken:
            total = sum(count for _, count in broken)
            notes.append(f"{split}: {total:,} tags cannot follow the one before in {SCHEMES[scheme]}, first at {broken[0][0]}")
        if scheme == "iob1":
            for row in table.sentences:
                row.tags = as_bio(row.tags)
    if scheme == "iob1":
        notes.append("the tags are IOB1 and are read as BIO, where each span begins with B")
    return scheme


def tag_names(tables: dict[str, Sentences], known: list[str] | None, notes: list[str]) -> list[str]:
    """The names of the tags: those of a trained model, or the sorted ones of all splits, so that every span is scored.

    Raises DataError for a tag that a trained model does not know, and for data with one tag only.
    """
    used = {split: {tag for row in table.sentences for tag in row.tags} for split, table in tables.items()}
    if known is not None:
        for table in tables.values():
            check_known(table, known)
        return known
    if len(used["train"]) < 2:
        first = tables["train"].sentences[0].where
        raise DataError(f"{first}: all training words have tag '{min(used['train'])}'; expected two tags or more")
    unlearned = sorted(set().union(*used.values()) - used["train"])
    if unlearned:
        notes.append(f"{len(unlearned)} tags do not occur in training: {shortened(unlearned)}")
    return sorted(set().union(*used.values()))


def check_known(table: Sentences, known: list[str]) -> None:
    """DataError for the first tag that is none of the known ones."""
    for row in table.sentences:
        strange = sorted(set(row.tags) - set(known))
        if strange:
            raise DataError(f"{row.where}: tag '{strange[0]}' is none of the {len(known)} known ones: {shortened(known)}")
