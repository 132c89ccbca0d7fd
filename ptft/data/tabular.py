"""Tables: rows of numbers and categories, with a class, a number or several yes-or-no answers to learn."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ptft.data.answers import TYPES, answered, answers, check_target
from ptft.data.cache import cached
from ptft.data.columns import READ, Features
from ptft.data.dataset import Dataset
from ptft.data.files import find_files, fingerprint
from ptft.data.frame import Frame, column_kinds, learn, names_of_rows, read_frame
from ptft.data.reading import existing, field, first_row, input_rows, row_id
from ptft.data.rows import Example, Rows
from ptft.data.splits import draw, held_out, lacking
from ptft.data.targets import assigned, of_numbers
from ptft.errors import DataError, UserError

SPLITS = ("train", "valid", "test")
LAYOUT = 5  # raise it when what a table is prepared to changes: old folders of the cache are then left alone


class TableRows(Rows):
    """Rows of one split: features float32 [F]; label, where there is one: a class, a number or uint8 [classes]; row."""

    def __init__(self, folder: Path, split: str, width: int, target: str | None):
        self.features = np.fromfile(folder / f"{split}.features", dtype=np.float32).reshape(-1, width)
        self.labels: Sequence[Any] | None = None
        if target:
            labels = np.fromfile(folder / f"{split}.labels", dtype=TYPES[target])
            self.labels = labels.reshape(len(self), -1) if target == "classes" else labels.tolist()

    def __len__(self) -> int:
        return len(self.features)

    def lengths(self) -> np.ndarray:
        return np.full(len(self), self.features.shape[1], dtype=np.int64)

    def take(self, indices: Sequence[int]) -> list[Example]:
        examples: list[Example] = [{"features": self.features[row], "row": int(row)} for row in indices]
        if self.labels is not None:
            for example in examples:
                example["label"] = self.labels[example["row"]]
        return examples


@dataclass(frozen=True)
class TableReader:
    """Reads rows without labels, by what a checkpoint knows of its columns."""

    features: Features

    def read(self, source: str) -> Iterator[tuple[Any, Example]]:
        """The id (or number, from 0) and the example of each row of a table, with what is to be told of it.

        Raises DataError for a column that lacks.
        """
        for number, (where, row) in enumerate(input_rows(source, list(self.features.kinds))):
            kinds = self.features.kinds.items()
            cells = {name: [READ[kind](field(row, where, name), where, name)] for name, kind in kinds}
            others = {name: cell for name, cell in row.items() if name not in cells}
            example = {"features": self.features.encode(cells)[0], "row": number, "told": self.features.oddities(cells)}
            yield row_id(others, number), example


class Tabular(Dataset):
    """A table: each row is an example of numbers and categories.

    Numbers are standardised by the training rows (missing ones become their mean), categories one-hot (missing is one of its
    own, one never seen in training is none of them). Splits without a file of their own are held out by `split_seed`, class
    by class; equal rows stay together, and the order of the file does not matter. inputs: what a checkpoint knows of its
    columns, which then are read in just that way. Raises UserError, DataError.
    """

    modality = "table"
    targets = (None, "class", "number", "classes")

    def __init__(
        self,
        path: str,
        features: list[str] | None,
        categorical: list[str] | None,
        target: str | list[str] | None,
        valid_path: str | None,
        test_path: str | None,
        valid_fraction: float,
        test_fraction: float,
        split_seed: int,
        per_class: int | None,
        inputs: dict[str, Any] | None = None,
    ):
        self.shares = held_out(path, valid_path, test_path, valid_fraction, test_fraction)
        self.split_seed, self.per_class = split_seed, per_class
        named = {"train": (path, "path"), "valid": (valid_path, "valid_path"), "test": (test_path, "test_path")}
        self.files = {
            split: find_files(name, f"dataset.{setting}") for split, (name, setting) in named.items() if name is not None
        }
        self.target = [] if target is None else [target] if isinstance(target, str) else list(target)
        self.wanted, self.categorical = features, categorical
        self.stored = Features.stored(inputs) if inputs else None
        self.short: list[str] = []  # what per_class asks of classes that have fewer rows
        self.prepared: dict[str, Any] | None = None
        self.names = self.choose_columns()

    def choose_columns(self) -> list[str]:
        """The columns to read features from, after checking that all that are named exist, once, in every split."""
        first = self.files["train"][0]
        columns = list(first_row(first))
        for setting, names in (("target", self.target), ("features", self.wanted), ("categorical", self.categorical)):
            for name in self.read(names):
                existing(first, f"dataset.{setting}", name, columns)
                if names.count(name) > 1:
                    raise UserError(f"dataset.{setting} names '{name}' twice")
        others = [name for name in columns if name and name not in self.target]
        names = self.as_stored() if self.stored else self.wanted or others
        self.check_roles(names)
        for paths in self.files.values():
            present = list(first_row(paths[0]))
            for name in (*names, *self.target):
                if name not in present:
                    whose = "the checkpoint" if self.stored and name in names else "this run"
                    raise DataError(f"{paths[0]}: no column '{name}', which {whose} reads; columns: {', '.join(present)}")
        return names

    def read(self, names: Sequence[str] | None) -> list[str]:
        """Columns of a setting without those that the checkpoint was trained with in vain, and does not read."""
        left_out = self.stored.left_out if self.stored else ()
        return [name for name in names or () if name not in left_out]

    def as_stored(self) -> list[str]:
        """The checkpoint's columns; UserError where the user names others."""
        known = list(self.stored.kinds)
        if self.wanted and set(self.read(self.wanted)) != set(known):
            raise UserError(f"dataset.features: the checkpoint reads {', '.join(known)}; leave dataset.features out")
        return known

    def check_roles(self, names: Sequence[str]) -> None:
        """Refuse answers among the features, and categories that are none of them."""
        for name in self.target:
            if name in names:
                whose = "the features that the checkpoint reads" if self.stored else "dataset.features"
                raise UserError(f"dataset.target={name} is one of {whose}: a model that sees the answer learns nothing")
        for name in self.read(self.categorical):
            if name not in names:
                raise UserError(f"dataset.categorical: column '{name}' is not one of the features: {', '.join(names)}")

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over the bytes of the files and all settings that decide what is in which split."""
        files = [self.files.get(split, ()) for split in SPLITS]
        columns = (self.wanted, self.categorical, self.target)
        return fingerprint(files, "table", columns, self.shares, self.split_seed, self.per_class)

    def prepare(self, target: str | None = None, labels: list[str] | None = None, report: Any = None) -> None:
        """Encode all splits into the cache, or find them there.

        target: what is learned of the target column: "class", "number", "classes" (0 or 1 in several) or None. labels: the
        class names of a trained model, in its order; without them, the sorted ones of the training rows.
        """
        check_target(target, self.target, self.per_class)
        if target == "classes" and labels and labels != self.target:
            raise DataError(f"dataset.target: the checkpoint answers {', '.join(labels)}, in this order")
        stored = self.stored.inputs if self.stored else None
        settings = repr((LAYOUT, self.fingerprint, json.dumps(stored, sort_keys=True), target, labels))
        key = hashlib.sha256(settings.encode()).hexdigest()[:40]
        self.folder, self.prepared = cached(f"table-{key}", lambda folder: self.build(folder, target, labels), self.notes)
        self.notes += [note for note in self.prepared["notes"] if note not in self.notes]

    def build(self, folder: Path, target: str | None, labels: list[str] | None) -> dict[str, Any]:
        """Write the features and answers of all splits; return what is to be known about them."""
        kinds, notes = self.kinds()
        frames = {split: read_frame(paths, kinds, self.target) for split, paths in self.files.items()}
        if target in ("class", "number"):
            frames = {split: answered(frame, self.target[0], target, notes) for split, frame in frames.items()}
        frames = self.split(frames)
        features, said = (self.stored, []) if self.stored else self.learn(frames, kinds)
        notes += said
        found = answers(frames, self.target, target, labels)
        notes += of_numbers(found.labels, f"dataset.target={self.target[0]}") if target == "class" and not labels else []
        for split, frame in frames.items():
            notes += [f"{split}: {note}" for note in features.notes(frame.cells)]
            features.encode(frame.cells).tofile(folder / f"{split}.features")
            if found.kind:
                found.values[split].tofile(folder / f"{split}.labels")
        for split, share in zip(SPLITS[1:], self.shares, strict=True):
            if share and split not in frames:
                notes.append(f"too few rows for dataset.{split}_fraction={share}: no {split} split")
        rows = {split: len(frame) for split, frame in frames.items()}
        notes += self.short
        few = {"few": frames["train"].places} if self.per_class is not None else {}
        known = few | {"rows": rows, "inputs": features.inputs, "width": features.width, "target": found.kind}
        return known | {"labels": found.labels, "spread": found.spread, "notes": notes}

    def kinds(self) -> tuple[dict[str, str], list[str]]:
        """Which columns are read and how, and notes on those that name the rows: no feature unless the user names them."""
        if self.stored:
            return self.stored.kinds, []
        train, named = self.files["train"], {*(self.wanted or ()), *(self.categorical or ())}
        ids = names_of_rows(train, [name for name in self.names if name not in named])
        notes = [f"column '{name}' names the rows, each by another: left out (dataset.features keeps it)" for name in ids]
        return column_kinds(train, [name for name in self.names if name not in ids], self.categorical or ()), notes

    def learn(self, frames: dict[str, Frame], kinds: dict[str, str]) -> tuple[Features, list[str]]:
        """Features by the training rows, and notes on columns left out."""
        categorical = self.categorical or ()
        return learn(frames, kinds, {*(self.wanted or ()), *categorical}, categorical)

    def split(self, frames: dict[str, Frame]) -> dict[str, Frame]:
        """The rows of each split in file order; splits without a row are left out."""
        whole = frames["train"]
        names = assigned(whole.keys, whole.labels, self.shares, self.split_seed)
        for split, share in zip(SPLITS, (1.0, *self.shares), strict=True):
            if share:
                frames[split] = whole.rows([row for row, name in enumerate(names) if name == split])
        if self.per_class is not None:
            train = frames["train"]
            self.short = lacking(train.labels, self.per_class)
            frames["train"] = train.rows(draw(train.keys, train.labels, self.per_class, self.split_seed))
        return {split: frame for split, frame in frames.items() if len(frame)}

    @property
    def few_labels(self) -> list[str] | None:
        """Which rows the few labels of `per_class` are of, as file:line; None without it."""
        return self.prepared.get("few") if self.prepared else None

    def rows(self, split: str) -> TableRows | None:
        """The encoded rows of a split, or None where there is no such split."""
        if self.prepared is None or split not in self.prepared["rows"]:
            return None
        return TableRows(self.folder, split, self.prepared["width"], self.prepared["target"])

    @property
    def inputs(self) -> dict[str, Any] | None:
        """The columns and their statistics, for later stages and for prediction."""
        return self.prepared["inputs"] if self.prepared else None

    @property
    def columns(self) -> dict[str, Any]:
        """The columns by their roles."""
        return {"features": self.names, "target": self.target}

    @property
    def facts(self) -> dict[str, Any]:
        """What constructors may ask of this data, once it is prepared."""
        if self.prepared is None:
            return {}
        labels = self.prepared["labels"]
        classes = {"num_classes": len(labels), "labels": labels} if labels else {}
        return classes | self.prepared["spread"] | {"input_shape": [self.prepared["width"]]}

    def describe(self) -> dict[str, Any]:
        """What the run card says of this data."""
        files = {split: [str(path) for path in paths[:10]] for split, paths in self.files.items()}
        known = {name: value for name, value in (self.prepared or {}).items() if value and name != "inputs"}
        return {"files": files, "columns": self.columns, "fingerprint": self.fingerprint} | known

    @classmethod
    def reader(cls, node: dict[str, Any], columns: dict[str, Any], inputs: dict[str, Any] | None) -> TableReader:
        """What reads rows to predict on. inputs: what the checkpoint knows of its columns."""
        return TableReader(Features.stored(inputs or {}))
