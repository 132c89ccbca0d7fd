"""Any number of classes for each row of a table, named in one cell."""

from __future__ import annotations

import numpy as np

from ptft.data.image_labels import classes_of
from ptft.data.table import Table
from ptft.data.targets import shortened
from ptft.errors import DataError


def class_sets(
    tables: dict[str, Table], column: str, known: list[str] | None, notes: list[str]
) -> tuple[list[str], dict[str, np.ndarray]]:
    """The class names, and for each row which of them it has: uint8 [rows, classes] per split.

    known: the names of a trained model; else the sorted ones of all splits, since a rare class may be in one split only.
    Raises DataError for a class that a trained model does not know, and where there are fewer than two.
    """
    sets = {split: [classes_of(label) for label in table.labels] for split, table in tables.items()}
    used = {split: {name for names in rows for name in names} for split, rows in sets.items()}
    names = known or sorted(set().union(*used.values()))
    if len(names) < 2:
        raise DataError(f"dataset.label={column}: {len(names)} classes; expected two, with '|' or ';' between those of a row")
    for split, table in tables.items():
        check_known(table, sets[split], names)
    if known is None and used["train"] != set(names):
        unlearned = sorted(set(names) - used["train"])
        notes.append(f"{len(unlearned)} classes do not occur in training: {shortened(unlearned)}")
    return names, {split: indicators(rows, names) for split, rows in sets.items()}


def check_known(table: Table, sets: list[list[str]], names: list[str]) -> None:
    """DataError for the first label that is none of the names."""
    for where, members in zip(table.places, sets, strict=True):
        for name in members:
            if name not in names:
                raise DataError(f"{where}: label '{name}' is none of the {len(names)} known ones: {shortened(names)}")


def indicators(sets: list[list[str]], names: list[str]) -> np.ndarray:
    """Ones for the classes that each row has, zeros for the others, uint8 [rows, classes]."""
    code = {name: index for index, name in enumerate(names)}
    values = np.zeros((len(sets), len(names)), dtype=np.uint8)
    for row, members in enumerate(sets):
        values[row, [code[name] for name in members]] = 1
    return values
