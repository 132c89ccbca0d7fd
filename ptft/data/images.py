"""Images with or without labels: decoded once into the cache, divided by content, read from there."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ptft.data.cache import cached
from ptft.data.dataset import Dataset
from ptft.data.decoding import in_parallel
from ptft.data.files import digest
from ptft.data.image_labels import Labelled, encode
from ptft.data.image_reader import ImageReader
from ptft.data.image_splits import Part, divide, few, shuffled
from ptft.data.pixels import LAYOUT, ImageRows, Listing, Pixels, Report, Skipped, write
from ptft.data.splits import lacking
from ptft.data.table import SPLITS
from ptft.errors import DataError, UserError


class Images(Dataset):
    """What all sets of images do; a subclass lists which there are.

    Splits of their own stay whole; others are held out of the training images by `split_seed`, class by class. Equal
    images stay together, and neither order nor names matter: what is evaluated comes in an order of the seed's, except for
    arrays and marked images with splits of their own. `per_class` keeps that many training images of each class.
    decode_size: what longer shorter sides are scaled down to. channels: 1 or 3, None: 1 where all images are grey.
    inputs: what images were like for the model that is to read these, None for a fresh one.
    """

    modality = "image"
    targets: tuple[str | None, ...] = (None, "class", "number", "classes")
    on_error = "raise"
    error_budget = 0.0
    image: str | None = None  # the columns of a table that lists the images
    label: str | None = None
    where = "dataset"  # what messages about all images begin with
    unlabelled = "the images have no labels"

    def __init__(
        self,
        listed: dict[str, Listing],
        shares: tuple[float, float],
        split_seed: int,
        per_class: int | None,
        decode_size: int | None,
        channels: int | None,
        inputs: dict | None,
        notes: Sequence[str] = (),
    ):
        for name, value in (("decode_size", decode_size), ("per_class", per_class)):
            if value is not None and value < 1:
                raise UserError(f"dataset.{name}={value}: expected a number from 1 up, or null")
        self.listed, self.shares, self.split_seed, self.per_class = listed, shares, split_seed, per_class
        self.decode_size, self.wanted_channels, self.given = decode_size, channels, inputs
        self.notes = list(notes)
        self.report: Report | None = None
        self.skipped: list[str] = []
        self.wholes: dict[str, Part] = {}
        self.parts: dict[str, Part] = {}
        self.labels: dict[str, np.ndarray] = {}
        self.label_facts: dict[str, Any] = {}

    @cached_property
    def content(self) -> str:
        """sha256 over the bytes and the names of all images."""
        total = hashlib.sha256()
        sources = list(dict.fromkeys(source for listing in self.listed.values() for source in listing.sources))
        for done, found in enumerate(in_parallel(digest, sources), 1):
            total.update(found)
            if self.report and (done % 256 == 0 or done == len(sources)):
                self.report("reading", done, len(sources))
        names = {split: listing.names for split, listing in self.listed.items()}
        total.update(repr(names).encode(errors="surrogateescape"))
        return total.hexdigest()

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over images, labels, and all settings that decide what is in which split and how it looks."""
        labels = [listing.labels for listing in self.listed.values()]
        rules = (self.shares, self.split_seed, self.per_class, self.decode_size, self.wanted_channels, self.on_error)
        return hashlib.sha256(repr((self.content, labels, rules)).encode()).hexdigest()

    def prepare(self, target: str | None = None, labels: list[str] | None = None, report: Report | None = None) -> None:
        """Decode all images into the cache, or find them there; encode their labels and divide them into splits.

        target: what is learned of the labels: "class", "number", "classes" (any number of them) or None. labels: the
        class names of a trained model, in its order; without them, the sorted ones of the training images.
        """
        if self.per_class is not None and target != "class":
            raise UserError(f"dataset.per_class={self.per_class} is for tasks that learn classes; leave it out")
        if target is not None and self.listed["train"].labels is None:
            raise DataError(f"{self.where}: {self.unlabelled}; the task learns a {target} of each image")
        self.report = report
        usable = [split for split, listing in self.listed.items() if target is None or listing.labels is not None]
        for split in self.listed:
            if split not in usable:
                self.note(f"{split}: these images have no labels and were left out")
        self.encode(usable, target, labels)
        self.divide(usable)

    @cached_property
    def pixels(self) -> Pixels:
        """The decoded images of all listings, one after the other; `wholes` then says which could be decoded."""
        key = hashlib.sha256(repr((LAYOUT, self.content, self.decode_size)).encode()).hexdigest()

        def build(folder: Path) -> dict[str, Any]:
            skipped, transparent = write(folder, self.listed, self.decode_size, self.on_error == "raise", self.report)
            if self.on_error == "raise":
                self.refuse(skipped)
            return {"skipped": skipped, "transparent": transparent}

        folder, facts = cached(f"images-{key[:40]}", build, self.notes)
        self.skipped = self.refuse(facts["skipped"])
        if facts["transparent"]:
            total = sum(map(len, self.listed.values()))
            self.note(f"{facts['transparent']:,} of {total:,} images are transparent in parts, which count as white")
        start = 0
        for split, listing in self.listed.items():
            rows = np.setdiff1d(np.arange(len(listing)), [row for row, _ in facts["skipped"][split]])
            self.wholes[split] = Part(split, rows, np.arange(start, start := start + len(rows)))
            listing.raw = None  # and with it what it holds in memory
        return Pixels(folder)

    def refuse(self, skipped: Skipped) -> list[str]:
        """What is wrong with each image that was left out; DataError where that are more than may be."""
        faults = [f"{self.listed[split].places[row]}: {why}" for split, rows in skipped.items() for row, why in rows]
        if not faults:
            return []
        total = sum(map(len, self.listed.values()))
        if self.on_error == "raise":
            split, row = next((split, rows[0][0]) for split, rows in skipped.items() if rows)
            skip = "; dataset.on_error=skip leaves such images out" if "on_error" in vars(self) else ""
            raise DataError(f"{faults[0]} (image {row} of {split}){skip}")
        told = f"{len(faults):,} of {total:,} images cannot be decoded"
        if len(faults) > math.ceil(self.error_budget * total):
            raise DataError(f"{told}, dataset.error_budget={self.error_budget} allows fewer; the first: {faults[0]}")
        self.note(f"{told} and were left out; the first: {faults[0]}")
        return faults

    def encode(self, usable: Sequence[str], target: str | None, known: list[str] | None) -> None:
        """Number the labels of the usable listings."""
        self.labels, self.label_facts = {}, {}
        listings = {split: self.listed[split] for split in usable if self.listed[split].labels is not None}
        if not listings:
            return
        texts = [text for listing in listings.values() for text in listing.labels]
        places = [place for listing in listings.values() for place in listing.places]
        training = [split == "train" for split, listing in listings.items() for _ in listing.names]
        listed = next((listing.listed for listing in listings.values() if listing.listed), None)
        found = Labelled(texts, places, training, self.where, self.label, listed)
        values, self.label_facts = encode(found, target, known)
        if values is not None:
            ends = np.cumsum([len(listing) for listing in listings.values()])[:-1]
            self.labels = dict(zip(listings, np.split(np.asarray(values), ends), strict=True))

    def divide(self, usable: Sequence[str]) -> None:
        """Settle which images are in which split."""
        identities = np.array(self.pixels.identities(), dtype=object)
        wholes = {split: self.wholes[split] for split in usable}
        if not len(wholes["train"].rows):
            raise DataError(f"{self.where}: no image is left to train on")
        texts = self.listed["train"].labels
        labels = texts and [texts[row] for row in wholes["train"].rows]
        same = identities[wholes["train"].numbers].tolist()
        if labels:
            self.note_contradictions([self.listed["train"].places[row] for row in wholes["train"].rows], same, labels)
        self.parts = divide(wholes, same, labels, self.shares, self.split_seed)
        for split in self.parts.keys() - {"train"}:
            part, listing = self.parts[split], self.listed[self.parts[split].origin]
            if part.origin == "train" or (listing.labels and len(listing.sources) == len(listing)):  # files come class by class
                self.parts[split] = shuffled(part, identities[part.numbers].tolist(), self.split_seed)
        if self.per_class is not None:
            train = self.parts["train"]
            of_train, classes = identities[train.numbers].tolist(), [texts[row] for row in train.rows]
            self.parts["train"] = few(train, of_train, classes, self.per_class, self.split_seed)
            for note in lacking(classes, self.per_class):
                self.note(note)
        self.note_division(identities)

    def note_contradictions(self, places: Sequence[str], identities: Sequence[str], labels: Sequence[Any]) -> None:
        """Say which equal images have different labels: one of them is wrong."""
        held: dict[str, dict[Any, str]] = {}
        for place, identity, label in zip(places, identities, labels, strict=True):
            held.setdefault(identity, {}).setdefault(label, place)
        several = [found for found in held.values() if len(found) > 1]
        if several:
            (one, first), (other, second) = list(several[0].items())[:2]
            told = f"{first} is '{one}' and {second} is '{other}'"
            self.note(f"{len(several):,} images occur more than once, with different labels; the first: {told}")

    def note_division(self, identities: np.ndarray) -> None:
        """Say which splits came out empty, and which of the user's own share images with the training split."""
        different = len(set(identities[self.wholes["train"].numbers]))
        equal = (
            f" (only {different:,} differ, and equal ones stay together)" if different < len(self.wholes["train"].rows) else ""
        )
        for split, share in zip(SPLITS[1:], self.shares, strict=True):
            if share and split not in self.parts:
                self.note(f"too few images for dataset.{split}_fraction={share}{equal}: no {split} split")
        seen = set(identities[self.parts["train"].numbers])
        for split in SPLITS[1:]:
            shared = sum(identity in seen for identity in identities[self.parts[split].numbers]) if split in self.parts else 0
            if shared:
                self.note(f"{shared:,} images of {split} are training images as well")

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    @property
    def channels(self) -> int:
        """1 or 3: as the model that reads these images knows them, else as asked for, else what the images have."""
        if self.given is not None:
            return self.given["channels"]
        return self.wanted_channels or int(self.pixels.shapes[:, 0].max())

    def rows(self, split: str) -> ImageRows | None:
        """The images of a split, or None where there is no such split."""
        if split not in self.parts:
            return None
        part = self.parts[split]
        names = self.listed[part.origin].names
        labels = self.labels.get(part.origin)
        of_rows = None if labels is None else labels[part.rows]
        return ImageRows(self.pixels, part.numbers, self.channels, [names[row] for row in part.rows], of_rows)

    @cached_property
    def inputs(self) -> dict[str, Any]:
        """What these images are like: pixel_mean and pixel_std of each channel over the training split, in 0..1.

        image_size: [H, W], None where images differ. A model that was trained on others keeps theirs.
        """
        if self.given is not None:
            return dict(self.given)
        sizes = np.unique(self.pixels.shapes[:, 1:], axis=0).tolist()
        mean, std = self.pixels.spread(self.parts["train"].numbers, self.channels)
        size = sizes[0] if len(sizes) == 1 else None
        return {"channels": self.channels, "image_size": size, "pixel_mean": mean, "pixel_std": std}

    @property
    def facts(self) -> dict[str, Any]:
        """What constructors may ask of these images, once they are prepared."""
        return {**self.inputs, **self.label_facts}

    @property
    def columns(self) -> dict[str, Any]:
        """What a reader needs to know, long after the training images are gone."""
        return {"image": self.image}

    @classmethod
    def reader(cls, node: dict[str, Any], columns: dict[str, Any], inputs: dict[str, Any] | None) -> ImageReader:
        """What reads images to predict on, as the model that was trained on others knows them."""
        channels = (inputs or {}).get("channels") or node.get("channels")
        return ImageReader(node.get("image") or columns.get("image"), node.get("decode_size"), channels)

    def describe(self) -> dict[str, Any]:
        """What the run card says of these images."""
        found = {"images": self.where, "fingerprint": self.fingerprint}
        if not self.parts:
            return found
        found |= {"rows": {split: len(part.rows) for split, part in self.parts.items()}, **self.facts}
        if self.skipped:
            found["skipped"] = self.skipped
        return found

    @property
    def few_labels(self) -> list[str] | None:
        """Which images the few labels of `per_class` are of; None without it."""
        if self.per_class is None or not self.parts:
            return None
        return [self.listed["train"].names[row] for row in self.parts["train"].rows]
