"""Labelled text: rows of a table with a text, perhaps a second one, and a class, classes, a number or a text to learn."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ptft.data.cache import Derives, cached
from ptft.data.files import find_files, fingerprint
from ptft.data.label_sets import class_sets
from ptft.data.reading import TEXT_NAMES, choose_label, choose_text, existing, first_row, input_rows, named, row_id, text_cell
from ptft.data.rows import Example
from ptft.data.splits import draw, held_out, lacking
from ptft.data.table import SPLITS, Encoder, LabelledRows, Table, read_table
from ptft.data.targets import assigned, check_single, class_codes, numbers, of_numbers
from ptft.data.tokenizer import Tokenizer
from ptft.errors import DataError, UserError

APART = "likeness"  # the target of two texts that are read apart
NUMBERS = ("number", APART)
LAYOUT = 6  # of the files in the cache: raise it when they change


@dataclass(frozen=True)
class Reader:
    """Reads rows without labels: the column of the text, and that of a second one where the task takes two (apart: singly).

    setting: what names the column of the text. named: whether a user did; else one of the usual names may stand for it.
    """

    text: str
    text_pair: str | None
    apart: bool = False
    setting: str = "dataset.text"
    named: bool = True

    def read(self, source: str, tokenizer: Tokenizer, max_length: int) -> Iterator[tuple[Any, Example]]:
        """The rows of a file, or of standard input ("-"), as examples to predict on, each with its id."""
        encoder = Encoder(tokenizer, max_length, self.text_pair is not None, False, self.apart)
        columns = [name for name in (self.text, self.text_pair) if name]
        for number, (where, row) in enumerate(input_rows(source, columns)):
            column = self.column(row)
            for name, setting in {column: self.setting, self.text_pair: "dataset.text_pair"}.items():
                if name is not None and name not in row:
                    raise DataError(f"{where}: no field '{name}'; fields: {', '.join(row)}; {setting}=FIELD names another")
            text = text_cell(row, where, column)
            pair = text_cell(row, where, self.text_pair) if self.text_pair else None
            other = column != self.text and len(row) > 1
            told = {"told": [f"without '{self.text}': '{column}' is read instead"]} if other else {}
            yield row_id(row, number), encoder.example(text, pair) | {"row": number, "text": text} | told

    def column(self, row: dict[str, Any]) -> str:
        """Plain lines come as column "text", whatever the training file called it; so may a table have it by a usual name."""
        if list(row) == ["text"] and self.text_pair is None:
            return "text"
        usual = [] if self.named or self.text in row else named([name for name in row if name != self.text_pair], TEXT_NAMES)
        return usual[0] if usual else self.text


class LabelledText(Derives):
    """A table of texts with labels.

    Splits without a file of their own are held out of the training rows by `split_seed`, class by class; equal texts
    stay together, and the order of the file does not matter. `per_class` keeps that many training rows of each class.
    """

    modality = "text"
    targets = (None, "class", "classes", "number", "likeness", "text")
    text_setting = "dataset.text"
    label_setting = "dataset.label"
    by_class = True  # rows are held out by what is learned of them, which may be a class

    def __init__(
        self,
        path: str,
        text: str | None,
        text_pair: str | None,
        label: str | None,
        valid_path: str | None,
        test_path: str | None,
        valid_fraction: float,
        test_fraction: float,
        split_seed: int,
        per_class: int | None,
        max_length: int | None,
    ):
        self.shares = held_out(path, valid_path, test_path, valid_fraction, test_fraction)
        self.split_seed, self.per_class, self.max_length = split_seed, per_class, max_length
        self.short: list[str] = []  # what per_class asks of classes that have fewer rows
        given = {"train": (path, "path"), "valid": (valid_path, "valid_path"), "test": (test_path, "test_path")}
        self.files = {
            split: self.find(name, f"dataset.{setting}") for split, (name, setting) in given.items() if name is not None
        }
        self.text, self.text_pair, self.label = text, text_pair, label
        self.choose_columns()
        self.labels: list[str] | None = None
        self.prepared: dict[str, Any] | None = None

    def find(self, name: str, setting: str) -> list[Path]:
        """The files of one split."""
        return find_files(name, setting)

    def choose_columns(self) -> None:
        """Settle the columns of text, pair and label: named or obvious, and in the files of every split."""
        first = self.files["train"][0]
        if self.text is None and self.label is None:
            self.text = choose_text(first, self.text_setting, None, (self.text_pair,))
        self.text = choose_text(first, self.text_setting, self.text, (self.text_pair, self.label))
        self.label = choose_label(first, self.label_setting, self.label, (self.text, self.text_pair))
        wanted = {self.text_setting: self.text, "dataset.text_pair": self.text_pair, self.label_setting: self.label}
        for paths in self.files.values():
            columns = list(first_row(paths[0]))
            for setting, column in wanted.items():
                if column is not None:
                    existing(paths[0], setting, column, columns)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over the bytes of the files and all settings that decide what is in which split."""
        files = [self.files.get(split, ()) for split in SPLITS]
        columns = (self.text, self.text_pair, self.label)
        return fingerprint(files, "labelled", columns, self.shares, self.split_seed, self.per_class)

    @cached_property
    def tables(self) -> dict[str, Table]:
        """The rows of each split in file order, read and checked as a whole."""
        tables = {split: self.read(paths) for split, paths in self.files.items()}
        whole = tables["train"]
        names = assigned(whole.texts, whole.labels if self.by_class else [""] * len(whole), self.shares, self.split_seed)
        for split, share in zip(SPLITS, (1.0, *self.shares), strict=True):
            if share:
                tables[split] = whole.rows([row for row, name in enumerate(names) if name == split])
        if self.per_class is not None:
            train = tables["train"]
            self.short = lacking(train.labels, self.per_class)
            tables["train"] = train.rows(draw(train.texts, train.labels, self.per_class, self.split_seed))
        tables["train"].empty = whole.empty
        return tables

    def read(self, paths: list[Path]) -> Table:
        """All rows of the files of one split."""
        return read_table(paths, self.text, self.text_pair, self.label)

    def texts(self, split: str = "train") -> Iterator[str]:
        """The texts of a split, to train a tokenizer on."""
        table = self.tables[split]
        yield from table.texts
        yield from table.pairs or ()

    def prepare(
        self,
        tokenizer: Tokenizer,
        max_length: int,
        target: str | None = None,
        labels: list[str] | None = None,
        report: Any = None,
    ) -> None:
        """Encode all splits into the cache, or find them there.

        target: what is learned of the label column: "class", "classes" (any number of them, with | or ; between), "number",
        "likeness" (a number that says how alike two texts are), "text" (a completion) or None. labels: the class names of a
        trained model, in its order; without them, the sorted ones of the training rows.
        """
        self.check_target(target)
        encoder = self.encoder(tokenizer, max_length, target)

        def build(folder: Path) -> dict[str, Any]:
            return self.build(folder, encoder, target, labels)

        known = (self.fingerprint, tokenizer.hash, max_length, target, labels, LAYOUT)
        settings = hashlib.sha256(repr(known).encode()).hexdigest()
        self.folder, self.prepared = cached(f"labelled-{settings[:40]}", build, self.notes)
        self.labels = self.prepared["labels"]
        self.notes += self.prepared["notes"]
        self.__dict__.pop("tables", None)  # from here on rows are read from disk

    def check_target(self, target: str | None) -> None:
        """Refuse settings that mean nothing for what the task learns."""
        if self.per_class is not None and target != "class":
            raise UserError(f"dataset.per_class={self.per_class} is for tasks that learn classes; leave it out")
        if self.text_pair is not None and target == "text":
            raise UserError(f"dataset.text_pair={self.text_pair}: a task that learns to write takes one text")
        if self.text_pair is None and target == "likeness":
            raise UserError("dataset.text_pair must be given: the task compares two texts; dataset.text_pair=COLUMN")

    def encoder(self, tokenizer: Tokenizer, max_length: int, target: str | None) -> Encoder:
        """What turns rows into files of examples."""
        return Encoder(tokenizer, max_length, self.text_pair is not None, target == "text", target == APART)

    def build(self, folder: Path, encoder: Encoder, target: str | None, labels: list[str] | None) -> dict[str, Any]:
        """Write the encoded rows of all splits; return what is to be known about them."""
        notes: list[str] = []
        tables = self.completed(notes) if target == "text" else self.tables
        tables = {split: table for split, table in tables.items() if len(table)}
        if "train" not in tables:
            wanted = f"text and {self.label}" if target == "text" else "text"
            raise DataError(f"{self.files['train'][0]}: no row with {wanted} is left to train on")
        labels, answers = self.answers(tables, target, labels, notes)
        for split, table in tables.items():
            notes += [f"{split}: {note}" for note in encoder.write(folder, split, table)]
            if split in answers:
                answers[split].tofile(folder / f"{split}.labels")
        notes += [*self.short, *self.lacking(tables)]
        counts = {split: len(table) for split, table in tables.items()}
        train = answers["train"] if target in NUMBERS else None
        spread = {} if train is None else {"target_mean": float(train.mean()), "target_std": float(train.std())}
        found = {"rows": counts, "labels": labels, "target": target, "notes": notes, "type": encoder.type}
        if self.per_class is not None:
            found["few"] = tables["train"].places
        return found | {"spread": spread}

    def completed(self, notes: list[str]) -> dict[str, Table]:
        """The rows that say what to write; the others are left out and counted."""
        found = {split: table.completed() for split, table in self.tables.items()}
        for split, table in found.items():
            lost = len(self.tables[split]) - len(table)
            notes += [f"{split}: {lost:,} rows without {self.label} dropped"] if lost else []
        return found

    def answers(
        self, tables: dict[str, Table], target: str | None, labels: list[str] | None, notes: list[str]
    ) -> tuple[list[str] | None, dict[str, np.ndarray]]:
        """The names of the classes, if classes are learned, and what is learned of each row as arrays per split."""
        if target == "classes":
            return class_sets(tables, self.label, labels, notes)
        if target is not None:
            check_single(tables, self.label)
        if target == "class":
            names, codes = class_codes(tables, self.label, labels)
            notes += [] if labels else of_numbers(names, f"dataset.label={self.label}")
            return names, codes
        return labels, {split: numbers(table, self.label) for split, table in tables.items() if target in NUMBERS}

    def lacking(self, tables: dict[str, Any]) -> list[str]:
        """Splits that were to be held out but got no row, in words."""
        shares = dict(zip(SPLITS[1:], self.shares, strict=True))
        lost = [split for split, share in shares.items() if share and split not in tables]
        return [f"too few different rows for dataset.{split}_fraction={shares[split]}: no {split} split" for split in lost]

    @property
    def few_labels(self) -> list[str] | None:
        """Which rows the few labels of `per_class` are of, as file:line; None without it."""
        return self.prepared.get("few") if self.prepared else None

    def rows(self, split: str) -> LabelledRows | None:
        """The encoded rows of a split, or None where there is no such split."""
        facts = self.prepared or {"rows": {}}
        if split not in facts["rows"]:
            return None
        return LabelledRows(self.folder, split, facts["type"], facts["target"], self.text_pair is not None)

    @classmethod
    def reader(cls, node: dict[str, Any], columns: dict[str, Any], inputs: None) -> Reader:
        """What reads rows to predict on: by the columns that `node` names, else those the model was trained on."""
        given = node.get("text") or node.get("source")
        pair, apart = node.get("text_pair") or columns.get("text_pair"), columns.get("apart", False)
        return Reader(given or columns.get("text") or "text", pair, apart, cls.text_setting, named=given is not None)

    @property
    def columns(self) -> dict[str, Any]:
        """What a Reader needs to know, long after the training file is gone."""
        return {"text": self.text, "text_pair": self.text_pair, "apart": (self.prepared or {}).get("target") == APART}

    @property
    def facts(self) -> dict[str, Any]:
        """What constructors may ask of this data, once it is prepared: its classes, or the spread of its numbers."""
        classes = {"num_classes": len(self.labels), "labels": self.labels} if self.labels else {}
        return classes | (self.prepared or {}).get("spread", {})

    def describe(self) -> dict[str, Any]:
        """What the run card says of this data."""
        files = {split: [str(path) for path in paths[:10]] for split, paths in self.files.items()}
        columns = {"text": self.text, "text_pair": self.text_pair, "label": self.label}
        return {"files": files, "columns": columns, "fingerprint": self.fingerprint} | (self.prepared or {})
