"""The cells of a table in memory, column by column, while its features are learned and encoded."""

from __future__ import annotations

import hashlib
import re
import sys
from array import array
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ptft.data.columns import KINDS, READ, Category, Cells, Features, Number, category_cell, is_number, number_cell, odd
from ptft.data.reading import field, rows
from ptft.errors import DataError

MOST_CATEGORIES = 1000
CALLED_ID = re.compile(r"(^|[^A-Za-z])(id|Id|ID)$|[a-z](Id|ID)$|^(index|u?uid|guid)$")
FEW_ROWS = 20  # of so few rows nobody can tell whether a column names each of them


@dataclass
class Frame:
    """Rows as columns. labels: the cells to learn, of several columns with commas between; "" where one is missing.

    places: what an error message names ("file:line"). keys: equal for rows with equal features.
    """

    cells: dict[str, Cells]
    labels: list[str]
    places: list[str]
    keys: list[str]

    def __len__(self) -> int:
        return len(self.keys)

    def rows(self, chosen: Sequence[int]) -> Frame:
        """Some of the rows."""
        cells = {name: _pick(column, chosen) for name, column in self.cells.items()}
        labels, places, keys = (_pick(values, chosen) for values in (self.labels, self.places, self.keys))
        return Frame(cells, labels, places, keys)


def _pick(values: Any, chosen: Sequence[int]) -> Any:
    return values[list(chosen)] if isinstance(values, np.ndarray) else [values[row] for row in chosen]


def column_kinds(paths: Sequence[Path], names: Sequence[str], categorical: Collection[str]) -> dict[str, str]:
    """Which columns hold numbers and which categories: those named so, and all that are not numbers throughout."""
    wordy = set(categorical)
    undecided = [name for name in names if name not in wordy]
    for path in paths:
        for where, row in rows(path):
            found = {name for name in undecided if not is_number(field(row, where, name))}
            wordy |= found
            undecided = [name for name in undecided if name not in found] if found else undecided
    return {name: "category" if name in wordy else "number" for name in names}


def names_of_rows(paths: Sequence[Path], names: Sequence[str]) -> list[str]:
    """Those of some columns that are called an id and differ from row to row: they tell rows apart, and nothing of them."""
    seen: dict[str, set[Any]] = {name: set() for name in names if CALLED_ID.search(name)}
    total = 0
    for path in paths:
        for where, row in rows(path):
            if not seen:
                return []
            total += 1
            for name, cells in list(seen.items()):
                cell = category_cell(field(row, where, name), where, name)
                if cell in cells:
                    del seen[name]
                cells.add(cell)
    return list(seen) if total >= FEW_ROWS else []


def read_frame(paths: Sequence[Path], kinds: dict[str, str], targets: Sequence[str]) -> Frame:
    """All rows of some files. Raises DataError for cells that are not what their column holds."""
    columns: dict[str, Any] = {name: array("d") if kind == "number" else [] for name, kind in kinds.items()}
    frame = Frame({}, [], [], [])
    for path in paths:
        for where, row in rows(path):
            raw = [field(row, where, name) for name in kinds]
            for (name, kind), cell in zip(kinds.items(), raw, strict=True):
                value = READ[kind](cell, where, name)
                columns[name].append(value if kind == "number" else sys.intern(value))
            frame.labels.append(",".join(category_cell(field(row, where, name), where, name) for name in targets))
            frame.places.append(where)
            frame.keys.append(hashlib.blake2b("\x1f".join(map(str, raw)).encode(), digest_size=12).hexdigest())
    frame.cells = {name: np.array(cells) if isinstance(cells, array) else cells for name, cells in columns.items()}
    return frame


def learn(
    frames: dict[str, Frame], kinds: dict[str, str], wanted: Collection[str], categorical: Collection[str]
) -> tuple[Features, list[str]]:
    """Features by the training rows, and notes on columns that are not what they seem, and on those left out: constant ones,
    and words that name single rows.

    wanted: columns the user named, which stay unless they are constant; categorical: those named as categories. Raises
    DataError where none is left.
    """
    columns, notes = [], []
    train = frames["train"]
    for name, kind in kinds.items():
        column, look = KINDS[kind].learn(name, train.cells[name]), None
        if column is not None and column.kind == "category" and name not in categorical:
            check_strays(frames, name, many=column.width > len(train) / 2)
            look = odd(train.cells[name])
        reason = "is the same in all training rows" if column is None else too_many(column, len(train), name in wanted)
        outcome = "" if reason is None else ": left out"
        if reason is None:
            columns.append(column)
        if look:
            reason = f"holds {look}, which count as words, not as numbers"
        if reason is not None:
            notes.append(f"column '{name}' {reason}{outcome}")
    if not columns:
        raise DataError(f"no column is left to learn from: {'; '.join(notes) or 'the table has none but dataset.target'}")
    kept = {column.name for column in columns}
    return Features(tuple(columns), tuple(name for name in kinds if name in wanted and name not in kept)), notes


def too_many(column: Number | Category, total: int, wanted: bool) -> str | None:
    """Why a column is of no use, if it has too many categories; DataError where the user insists on a hopeless one."""
    if column.width > MOST_CATEGORIES:
        reason = f"holds {column.width:,} different texts, more than {MOST_CATEGORIES:,}"
        if wanted:
            raise DataError(f"dataset.features: column '{column.name}' {reason}; leave it out")
        return reason
    if not wanted and total >= FEW_ROWS and column.width > total / 2:
        return f"holds {column.width:,} different texts in {total:,} rows, as names do (dataset.categorical keeps it)"
    return None


def check_strays(frames: dict[str, Frame], name: str, many: bool) -> None:
    """Refuse to take a column of numbers for one of words because of a single cell; DataError with its place.

    many: it has as many different cells as numbers have, and several words in it are strays as well.
    """
    cells = [(cell, where) for frame in frames.values() for cell, where in zip(frame.cells[name], frame.places, strict=True)]
    strays = [(cell, where) for cell, where in cells if not is_number(cell)]
    if 0 < len(strays) < len(cells) / 2 and (many or len(strays) == 1):
        number_cell(*strays[0], name)
