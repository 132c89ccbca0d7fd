"""Which image is in which split: a function of what it shows and a seed, never of names or order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ptft.data.splits import assign, draw, place
from ptft.data.table import SPLITS
from ptft.data.targets import strata


@dataclass
class Part:
    """The images of one split: the listing they are from, their rows there, their numbers among all decoded images."""

    origin: str
    rows: np.ndarray
    numbers: np.ndarray

    def chosen(self, places: Sequence[int] | np.ndarray) -> Part:
        return Part(self.origin, self.rows[places], self.numbers[places])


def divide(
    wholes: Mapping[str, Part], same: Sequence[str], labels: list[str] | None, shares: tuple[float, float], seed: int
) -> dict[str, Part]:
    """The splits of the user's own with what is held out of the training images.

    same: of each training image a text that equal images share. labels: their classes, by which to hold out. An image
    that is there under several classes stays in one split.
    """
    first: dict[str, str] = {}
    for identity, label in zip(same, labels or [""] * len(same), strict=True):
        first[identity] = min(label, first.get(identity, label))
    names = np.array(assign(same, strata([first[identity] for identity in same]), shares, seed))
    held_out = [split for split, share in zip(SPLITS, (1.0, *shares), strict=True) if share]
    parts = dict(wholes) | {split: wholes["train"].chosen(names == split) for split in held_out}
    return {split: parts[split] for split in SPLITS if split in parts and len(parts[split].rows)}


def shuffled(part: Part, same: Sequence[str], seed: int) -> Part:
    """A part in an order that the seed decides: its first images, which pictures show, are then of all classes."""
    return part.chosen(sorted(range(len(same)), key=lambda row: (place(same[row], "order", seed), row)))


def few(part: Part, same: Sequence[str], labels: Sequence[str], per_class: int, seed: int) -> Part:
    """`per_class` images of each class; same, labels: of each image of the part."""
    return part.chosen(draw(same, labels, per_class, seed))
