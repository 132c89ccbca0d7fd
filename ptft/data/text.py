"""Unlabelled text: documents in files, packed into blocks of tokens."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from ptft.data.cache import Derives, cached
from ptft.data.documents import MODES, SPLITS, Census, Division, Routed, Source, count
from ptft.data.encoding import Report, encode_documents
from ptft.data.files import find_files, fingerprint
from ptft.data.opening import kind
from ptft.data.reading import choose_text
from ptft.data.rows import Blocks
from ptft.data.splits import held_out
from ptft.data.tokenizer import Tokenizer
from ptft.errors import UserError, did_you_mean


class Text(Derives):
    """Text to pretrain on, from a file or a folder; tables give one document a row.

    Held-out documents are drawn by `split_seed`; where they are few, the end of the text is held out, cut at a line.
    """

    modality = "text"
    targets = (None,)

    def __init__(
        self,
        path: str,
        text: str | None,
        documents: str,
        valid_path: str | None,
        test_path: str | None,
        valid_fraction: float,
        test_fraction: float,
        split_seed: int,
        max_length: int | None,
    ):
        if documents not in MODES:
            raise UserError(f"dataset.documents={documents} is not known{did_you_mean(documents, MODES)}")
        self.fractions = held_out(path, valid_path, test_path, valid_fraction, test_fraction)
        self.split_seed = split_seed
        self.max_length = max_length
        named = {"train": (path, "path"), "valid": (valid_path, "valid_path"), "test": (test_path, "test_path")}
        self.sources = {
            split: Source(tuple(find_files(name, f"dataset.{setting}")), text, documents)
            for split, (name, setting) in named.items()
            if name is not None
        }
        for source in self.sources.values():
            check_columns(source)
        self.prepared: dict[str, Any] | None = None

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over the bytes of the files and all settings that decide what is in which split."""
        source = self.sources["train"]
        files = [self.sources[split].files if split in self.sources else () for split in SPLITS]
        return fingerprint(files, source.column, source.mode, self.fractions, self.split_seed)

    @cached_property
    def census(self) -> dict[str, Census]:
        """Documents and characters of each source; reads, and so checks, all of it once."""
        return {split: count(source) for split, source in self.sources.items()}

    def routed(self) -> Iterator[Routed]:
        """All text, piece by piece, with the split it belongs to."""
        division = Division(self.census["train"], *self.fractions, self.split_seed)
        yield from division.route(self.sources["train"].parts())
        for split in SPLITS[1:]:
            if split in self.sources:
                whole = Division(self.census[split], 0.0, 0.0, 0)
                yield from ((split, text, ends) for _, text, ends in whole.route(self.sources[split].parts()))

    def texts(self, split: str = "train") -> Iterator[str]:
        """The text of a split in pieces of bounded size, to train a tokenizer on."""
        return (text for name, text, _ in self.routed() if name == split and text)

    def prepare(
        self,
        tokenizer: Tokenizer,
        max_length: int,
        target: str | None = None,
        labels: list[str] | None = None,
        report: Report | None = None,
    ) -> None:
        """Encode all splits into the cache, or find them there; text has no target and no labels."""
        if target is not None:
            raise UserError(f"this dataset is text without labels, but the task learns a {target}; use labelled_text")
        self.length = max_length
        self.tokenizer = tokenizer

        def build(folder: Path) -> dict[str, Any]:
            census = self.census
            characters = sum(source.characters for source in census.values())
            facts = encode_documents(self.routed(), tokenizer, folder, characters, report)
            return facts | {"characters": characters, "empty": sum(source.empty for source in census.values())}

        key = f"text-{self.fingerprint[:24]}-{tokenizer.hash[:24]}"
        self.folder, self.prepared = cached(key, build, self.notes)
        self.note_counts(self.prepared)

    def note_counts(self, facts: dict[str, Any]) -> None:
        """Say what was left out, and which split there is no room for."""
        if facts["empty"]:
            self.notes.append(f"{facts['empty']:,} documents without text were dropped")
        for split, fraction in zip(SPLITS[1:], self.fractions, strict=True):
            if fraction and not facts["tokens"][split]:
                self.notes.append(f"the text is too short for dataset.{split}_fraction={fraction}: no {split} split")

    def rows(self, split: str) -> Blocks | None:
        """The blocks of a split, or None where there is no such split."""
        facts = self.prepared or {"tokens": {}}
        if not facts["tokens"].get(split):
            return None
        ids, ends = self.folder / f"{split}.ids", self.folder / f"{split}.ends"
        return Blocks(ids, ends, facts["type"], self.length, self.tokenizer.eos_id)

    def describe(self) -> dict[str, Any]:
        """What the run card says of this data."""
        facts = self.prepared or {}
        files = {split: [str(path) for path in source.files[:10]] for split, source in self.sources.items()}
        return {"files": files, "fingerprint": self.fingerprint, **facts, "notes": list(self.notes)}


def check_columns(source: Source) -> None:
    """Refuse at once a text column that the first table does not have, or that plain text cannot have."""
    path = source.files[0]
    if kind(path) != "text":
        choose_text(path, "dataset.text", source.column)
    elif source.column is not None:
        raise UserError(f"dataset.text={source.column}: {path} is plain text without columns; leave dataset.text out")
