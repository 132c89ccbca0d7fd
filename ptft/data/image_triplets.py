"""Triplets of images that a table names: an anchor, one that is like it, and one that is not."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ptft.data.files import resolve
from ptft.data.images import Images
from ptft.data.listings import Files, image_file, is_table
from ptft.data.pixels import ImageRows, Listing, Report
from ptft.data.reading import existing, field, first_row, rows
from ptft.data.rows import Example, Rows
from ptft.data.splits import assign, held_out
from ptft.data.table import SPLITS
from ptft.errors import DataError

PLACES = ("anchor", "positive", "negative")


class ImageTriplets(Images):
    """Rows of a table, each with the paths of an anchor, its positive and its negative, from the table's folder on.

    An image may be in many triplets and is decoded once. Triplets that share an image, in whatever place, stay in one split
    as far as that leaves enough to hold out.
    """

    targets = ("triplet",)

    def __init__(
        self,
        path: str,
        anchor: str,
        positive: str,
        negative: str,
        valid_path: str | None,
        test_path: str | None,
        valid_fraction: float,
        test_fraction: float,
        split_seed: int,
        decode_size: int | None,
        channels: Literal[1, 3] | None,
        inputs: dict | None = None,
    ):
        self.where = f"dataset.path={path}"
        names = {"train": path, "valid": valid_path, "test": test_path}
        tables = {split: _table(name, split) for split, name in names.items() if name is not None}
        own = {split: str(table) for split, table in tables.items()}
        shares = held_out(own["train"], own.get("valid"), own.get("test"), valid_fraction, test_fraction)
        listed: dict[str, Listing] = {}
        self.triplets: dict[str, np.ndarray] = {}  # of each table: rows of its listing, [triplets, 3]
        self.chosen: dict[str, np.ndarray] = {}  # those of each split
        for split, table in tables.items():
            listed[split], self.triplets[split] = _read(table, dict(zip(PLACES, (anchor, positive, negative), strict=True)))
        super().__init__(listed, shares, split_seed, None, decode_size, channels, inputs)

    @property
    def fingerprint(self) -> str:
        """sha256 over images, triplets, and all settings that decide what is in which split and how it looks."""
        triplets = {split: found.tolist() for split, found in self.triplets.items()}
        return hashlib.sha256(repr((super().fingerprint, triplets)).encode()).hexdigest()

    def prepare(self, target: str | None = None, labels: list[str] | None = None, report: Report | None = None) -> None:
        super().prepare(None, labels, report)

    def divide(self, usable: Sequence[str]) -> None:
        """Hold out whole groups of triplets that share images; where nearly all do, triplets of images that others have too."""
        identities = np.array(self.pixels.identities(), dtype=object)
        numbers = {split: self.wholes[split].numbers[self.triplets[split]] for split in usable}
        seen = [tuple(row) for row in identities[numbers["train"]].tolist()]
        groups = linked(seen)
        if max(Counter(groups).values()) > len(groups) * (1 - sum(self.shares)) and any(self.shares):
            groups = list(map(repr, seen))
            self.note("nearly all triplets are linked by images they share: those held out have images of the training split")
        names = np.array(assign(groups, [""] * len(groups), self.shares, self.split_seed))
        held = [split for split, share in zip(SPLITS, (1.0, *self.shares), strict=True) if share]
        self.chosen = {split: self.triplets[split] for split in usable}
        self.chosen |= {split: self.triplets["train"][names == split] for split in held}
        origins = {split: split if split in self.triplets else "train" for split in SPLITS}
        self.parts = {
            split: self.wholes[origins[split]].chosen(np.unique(self.chosen[split]))
            for split in SPLITS
            if len(self.chosen.get(split, ()))
        }
        self.note_division(identities)

    def rows(self, split: str) -> Rows | None:
        """The triplets of a split, or None where there is no such split."""
        images = super().rows(split)
        return images and TripletRows(images, np.searchsorted(self.parts[split].rows, self.chosen[split]))

    def describe(self) -> dict[str, Any]:
        return super().describe() | {"triplets": {split: len(self.chosen[split]) for split in self.parts}}


class TripletRows(Rows):
    """The triplets of one split: examples with image (the anchor), positive and negative, all uint8 [C, H, W]; row; file."""

    def __init__(self, images: ImageRows, triplets: np.ndarray):
        self.images, self.triplets = images, triplets

    def __len__(self) -> int:
        return len(self.triplets)

    def lengths(self) -> np.ndarray:
        return self.images.lengths()[self.triplets].sum(1)

    def take(self, indices: Sequence[int]) -> list[Example]:
        wanted = self.triplets[np.asarray(indices, dtype=np.int64)]
        found = iter(self.images.take(wanted.flatten().tolist()))
        return [
            {**anchor, "row": row, "positive": positive["image"], "negative": negative["image"]}
            for row, anchor, positive, negative in zip(indices, found, found, found, strict=True)
        ]


def linked(triplets: Sequence[tuple[str, ...]]) -> list[str]:
    """Of each triplet an image of the group that it is in; triplets of one group are linked by images they share."""
    leader = {image: image for triplet in triplets for image in triplet}

    def lead(image: str) -> str:
        while leader[image] != image:
            leader[image] = image = leader[leader[image]]
        return image

    for triplet in triplets:
        first, *others = sorted(set(map(lead, triplet)))
        leader.update(dict.fromkeys(others, first))
    return [lead(triplet[0]) for triplet in triplets]


def _table(name: str, split: str) -> Path:
    """The table of a split; DataError for anything else."""
    setting = f"dataset.{'path' if split == 'train' else f'{split}_path'}"
    path = resolve(name, setting)
    if not is_table(path):
        raise DataError(f"{setting}={name}: expected a table with the paths of triplets (csv, tsv, jsonl, parquet)")
    return path


def _read(table: Path, columns: dict[str, str]) -> tuple[Listing, np.ndarray]:
    """The images of a table, each once, and the triplets as rows of these [triplets, 3]."""
    for place, column in columns.items():
        existing(table, f"dataset.{place}", column, list(first_row(table)))
    rows_of: dict[str, int] = {}
    triplets, paths, places = [], [], []
    for where, row in rows(table):
        names = [str(field(row, where, column) or "") for column in columns.values()]
        for name, column in zip(names, columns.values(), strict=True):
            if name not in rows_of:
                paths.append(image_file(table, where, column, name))
                places.append(f"{where} ({name})")
                rows_of[name] = len(rows_of)
        triplets.append([rows_of[name] for name in names])
    return Listing(list(rows_of), None, Files(paths), paths, places), np.array(triplets)
