"""The labels of images as numbers: one class, any number of classes, or a value."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ptft.data.table import Table
from ptft.data.targets import check_classes, class_codes, numbers
from ptft.errors import DataError

SEPARATORS = re.compile(r"[|;]")  # between the classes of one cell


# a label for each image (int, float or uint8 [num_classes]) or None, and what constructors may ask about them
Encoded = tuple[Any, dict[str, Any]]


@dataclass
class Labelled:
    """Labels as text. training: whether each image may be trained on. where: the setting a message names.

    column: the column they are from, None where they are no column. listed: the place of the first that is a list, or None.
    """

    texts: list[str]
    places: list[str]
    training: list[bool]
    where: str
    column: str | None
    listed: str | None = None

    def of_training(self) -> list[str]:
        """The labels that training sees."""
        return [text for text, training in zip(self.texts, self.training, strict=True) if training]

    def table(self, training_only: bool = False) -> Table:
        """As a table of texts is looked at."""
        chosen = [row for row, training in enumerate(self.training) if training or not training_only]
        places = [self.places[row] for row in chosen]
        return Table([], None, [self.texts[row] for row in chosen], places, listed=self.listed)


def encode(found: Labelled, target: str | None, known: list[str] | None) -> Encoded:
    """Labels for what is learned of them: "class", "classes", "number", or None, which takes classes where there are any.

    known: the classes of a trained model, in its order. Raises DataError.
    """
    if target == "number":
        return as_numbers(found)
    if target == "classes":
        return as_sets(found, known)
    if target == "class":
        return as_classes(found, known)
    return as_hints(found, known)


def as_numbers(found: Labelled) -> Encoded:
    """Labels as numbers, with the mean and the spread of the training images."""
    refuse_listed(found)
    values = numbers(found.table(), found.column or "label")
    spread = values[np.array(found.training)]
    return (values.tolist(), {"target_mean": float(spread.mean()), "target_std": float(spread.std())})


def as_classes(found: Labelled, known: list[str] | None) -> Encoded:
    """Labels as codes of classes, one for each image."""
    refuse_listed(found)
    refuse_empty(found)
    if known is None:
        refuse_no_classes(found)
    names = known or in_order(found.of_training())
    codes = class_codes({"all": found.table()}, found.column, names)[1]["all"]
    return (codes.tolist(), {"num_classes": len(names), "labels": names})


def as_sets(found: Labelled, known: list[str] | None) -> Encoded:
    """Labels as zeros and ones, uint8 [images, classes], where an image may have several classes or none."""
    sets = [classes_of(text) for text in found.texts]
    training = [name for names, used in zip(sets, found.training, strict=True) if used for name in names]
    names = known or in_order(training)
    if not names:
        raise DataError(f"{found.where}: no image has a label; expected classes, several separated by '|' or ';'")
    code = {name: index for index, name in enumerate(names)}
    values = np.zeros((len(sets), len(names)), dtype=np.uint8)
    for row, (members, place) in enumerate(zip(sets, found.places, strict=True)):
        for name in members:
            if name not in code:
                raise DataError(f"{place}: label '{name}' is none of the {len(names)} known ones: {', '.join(names[:12])}")
            values[row, code[name]] = 1
    return (values, {"num_classes": len(names), "labels": names})


def as_hints(found: Labelled, known: list[str] | None) -> Encoded:
    """Classes that nothing is trained on, but that probes may ask for: none rather than an error."""
    names = in_order(found.texts)
    if not 2 <= len(names) <= len(found.texts) / 2 or "" in names or any(SEPARATORS.search(name) for name in names):
        return (None, {})
    if known and set(names) <= set(known):
        names = known
    code = {name: index for index, name in enumerate(names)}
    return ([code[text] for text in found.texts], {"num_classes": len(names), "labels": names})


def classes_of(text: str) -> list[str]:
    """The classes that one cell names."""
    return [name.strip() for name in SEPARATORS.split(text) if name.strip()]


def in_order(labels: Sequence[str]) -> list[str]:
    """Distinct labels sorted; numbers by their value."""
    distinct = sorted(set(labels))
    return sorted(distinct, key=int) if all(label.isdecimal() for label in distinct) else distinct


def refuse_empty(found: Labelled) -> None:
    """DataError for the first image without a label."""
    for text, place in zip(found.texts, found.places, strict=True):
        if not text:
            raise DataError(f"{place}: the label is empty, expected a class")


def refuse_listed(found: Labelled) -> None:
    """DataError for a list of classes where an image has one."""
    if found.listed:
        raise DataError(f"{found.listed}: column '{found.column}' holds a list, expected a string or a number")


def refuse_no_classes(found: Labelled) -> None:
    """Refuse labels that no classifier can learn from."""
    if found.column is not None:
        check_classes(found.table(training_only=True), found.column)
    labels = found.of_training()
    if len(set(labels)) < 2:
        raise DataError(f"{found.where}: all {len(labels):,} training images are of class '{labels[0]}'; expected two classes")
