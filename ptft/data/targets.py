"""Label columns: which classes there are, which numbers, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ptft.data.columns import LARGEST
from ptft.data.splits import assign
from ptft.data.table import Table
from ptft.errors import DataError

SUSPICIOUS_ROWS = 20
NAMES_SHOWN = 12
MANY_NUMBERS = 20  # more classes than that are rarely called by numbers
ROWS_PER_CLASS = 10
ROWS_OF_A_RARE_CLASS = 5  # numbers that recur less often on average are no classes


def strata(labels: Sequence[str]) -> list[str]:
    """What held-out rows are balanced by: the labels, unless they are too many to be classes."""
    return list(labels) if len(set(labels)) * ROWS_PER_CLASS <= len(labels) else [""] * len(labels)


def assigned(texts: Sequence[str], labels: Sequence[str], shares: tuple[float, float], seed: int) -> list[str]:
    """The split of each row, balanced by its label where there are many of each; a class is never held out whole."""
    names = assign(texts, strata(labels), shares, seed)
    distinct = set(labels)
    if len(distinct) * ROWS_OF_A_RARE_CLASS > len(labels) and all(map(is_number, distinct)):
        return names
    trained = {label for label, name in zip(labels, names, strict=True) if name == "train"}
    if len(distinct) * 2 > len(labels):  # no classes
        return names
    return [name if label in trained else "train" for label, name in zip(labels, names, strict=True)]


def class_codes(tables: dict[str, Table], column: str, known: list[str] | None) -> tuple[list[str], dict[str, np.ndarray]]:
    """The class names, and the class of each row as int64 per split.

    known: the names of a trained model; else the sorted labels of the training rows. Any other label is a DataError.
    """
    if known is None:
        check_classes(tables["train"], column)
    names = known or sorted(set(tables["train"].labels))
    code = {name: index for index, name in enumerate(names)}
    for table in tables.values():
        for label, where in zip(table.labels, table.places, strict=True):
            if label not in code:
                raise DataError(f"{where}: label '{label}' is none of the {len(names)} known ones: {shortened(names)}")
    return names, {split: np.array([code[label] for label in table.labels]) for split, table in tables.items()}


def check_single(tables: dict[str, Table], column: str) -> None:
    """Refuse rows that have no label, or a list of them, where there must be one."""
    for table in tables.values():
        if table.listed:
            raise DataError(f"{table.listed}: column '{column}' holds a list, expected a string or a number")
        for label, where in zip(table.labels, table.places, strict=True):
            if not label:
                raise DataError(f"{where}: column '{column}' is empty, expected a value")


def check_classes(table: Table, column: str) -> None:
    """Refuse columns that no classifier can learn from."""
    distinct, total = len(set(table.labels)), len(table)
    if distinct < 2:
        raise DataError(f"dataset.label={column}: all {total} training rows are '{table.labels[0]}'; expected two")
    if total >= SUSPICIOUS_ROWS and distinct > total / 2:
        numeric = all(is_number(label) for label in table.labels)
        hint = "these are numbers: use task=regress" if numeric else "choose another column with dataset.label="
        raise DataError(f"dataset.label={column}: {distinct} different labels in {total} training rows; {hint}")


def of_numbers(names: Sequence[str], setting: str) -> list[str]:
    """What is to be said where classes are so many numbers that they may be meant as such."""
    if len(names) <= MANY_NUMBERS or not all(map(is_number, names)):
        return []
    return [f"{setting}: {len(names)} classes, all of them numbers: if one is more than another, use task=regress"]


def shortened(names: Sequence[str]) -> str:
    """The names, or the first of them."""
    return ", ".join(names[:NAMES_SHOWN]) + (", ..." if len(names) > NAMES_SHOWN else "")


def is_number(label: str) -> bool:
    """Whether a label is a number that fp32 holds; Python reads 1_1 as eleven, and no table means that."""
    try:
        return "_" not in label and abs(float(label)) <= LARGEST
    except ValueError:
        return False


def numbers(table: Table, column: str) -> np.ndarray:
    """The labels as float64; DataError for what is not a finite number."""
    for label, where in zip(table.labels, table.places, strict=True):
        if not is_number(label):
            raise DataError(f"{where}: column '{column}' is '{label[:40]}', expected a finite number")
    return np.array([float(label) for label in table.labels])
