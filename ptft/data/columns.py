"""Columns of a table as features: numbers standardised, categories one-hot, by what the training rows say."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date, time, timedelta
from decimal import Decimal
from functools import cached_property
from typing import Any

import numpy as np

from ptft.data.formats import type_name
from ptft.errors import DataError

GAPS = {"", "?", "na", "n/a", "<na>", "#n/a", "nan", "null", "none"}  # cells of a number column that say nothing
NAMES_SHOWN = 6
# cells that people read as numbers or as dates, and ptft as words
ODD = {
    "dates": r"\d{4}([-/.])\d\d?\1\d\d?([ T].*)?|\d\d?([-/.])\d\d?\3\d{2,4}([ T].*)?",
    "numbers with a percent sign": r"[+-]?[\d.,]+\s?%",
    "numbers with a sign of money": r"[+-]?[$€£¥]\s?[\d.,]+|[+-]?[\d.,]+\s?[$€£¥]",
    "numbers with commas": r"[+-]?\d+(,\d+)+(\.\d+)?|[+-]?\d{1,3}(\.\d{3})*,\d+",
}
TRUTHS = {"true": 1.0, "false": 0.0}  # as text files spell what other formats hold as truth values
LARGEST = float(np.finfo(np.float32).max)  # that the tensors to come can hold
Cells = Sequence[float] | Sequence[str]


@dataclass(frozen=True)
class Number:
    """A column of numbers: (x - mean) / std; a missing one counts as the mean."""

    name: str
    mean: float
    std: float
    kind: str = "number"

    @property
    def width(self) -> int:
        return 1

    @classmethod
    def learn(cls, name: str, cells: Sequence[float]) -> Number | None:
        """The statistics of the training rows; None where all are equal."""
        known = np.asarray(cells)
        known = known[~np.isnan(known)]
        if len(known) == 0 or (known == known[0]).all():
            return None
        mean = math.fsum(known) / len(known)  # exact sums: the order of the rows must not matter
        std = math.sqrt(math.fsum((known - mean) ** 2) / len(known))
        return cls(name, mean, std) if std > 0 else None

    def encode(self, cells: Sequence[float]) -> np.ndarray:
        """Standardised values [rows, 1]."""
        values = (np.asarray(cells, dtype=np.float64) - self.mean) / self.std
        return np.nan_to_num(values)[:, None]

    def missing(self, cells: Sequence[float]) -> int:
        return int(np.isnan(np.asarray(cells)).sum())

    def unseen(self, cells: Sequence[float]) -> int:
        return 0


@dataclass(frozen=True)
class Category:
    """A column of categories, one feature for each; "" stands for a missing one. One never seen in training has only zeros."""

    name: str
    categories: tuple[str, ...]
    kind: str = "category"

    @property
    def width(self) -> int:
        return len(self.categories)

    @classmethod
    def learn(cls, name: str, cells: Sequence[str]) -> Category | None:
        """The categories of the training rows; None where there is only one."""
        found = tuple(sorted(set(cells)))
        return cls(name, found) if len(found) > 1 else None

    def encode(self, cells: Sequence[str]) -> np.ndarray:
        """Zeros and ones [rows, categories]."""
        place = self.places
        codes = np.array([place.get(cell, self.width) for cell in cells], dtype=np.int64)
        return np.eye(self.width + 1, self.width)[codes]

    @cached_property
    def places(self) -> dict[str, int]:
        """The feature of each category, and of its spellings in files of other formats where they are no category."""
        known = {category: index for index, category in enumerate(self.categories)}
        return {other: index for category, index in known.items() for other in spellings(category)} | known

    def missing(self, cells: Sequence[str]) -> int:
        return sum(cell == "" for cell in cells)

    def unseen(self, cells: Sequence[str]) -> int:
        return sum(cell not in self.places for cell in cells)


def spellings(category: str) -> tuple[str, ...]:
    """How files of other formats write the same: whole numbers with a decimal point or without, and truth values."""
    if re.fullmatch(r"-?\d+(\.0)?", category):
        return (category.removesuffix(".0"), category.removesuffix(".0") + ".0")
    lower = category.lower()
    return (lower, lower.capitalize(), lower.upper()) if lower in TRUTHS else ()


KINDS = {"number": Number, "category": Category}


@dataclass(frozen=True)
class Features:
    """The columns a model reads, in order. left_out: those that the user named in vain, as they teach nothing."""

    columns: tuple[Number | Category, ...]
    left_out: tuple[str, ...] = ()

    @classmethod
    def stored(cls, inputs: dict[str, Any]) -> Features:
        """What a checkpoint keeps of a table; DataError where that is something else."""
        try:
            nodes = [dict(node) for node in inputs["columns"]]
            built = [KINDS[node["kind"]](**node) for node in nodes]
            left_out = tuple(inputs.get("left_out", ()))
        except (KeyError, TypeError, ValueError) as error:
            raise DataError("the checkpoint was not trained on a table: it keeps no columns") from error
        columns = tuple(Category(c.name, tuple(c.categories)) if isinstance(c, Category) else c for c in built)
        return cls(columns, left_out)

    @property
    def inputs(self) -> dict[str, Any]:
        """Plain values that `stored` understands."""
        return {"columns": [asdict(column) for column in self.columns], "left_out": list(self.left_out)}

    @property
    def kinds(self) -> dict[str, str]:
        return {column.name: column.kind for column in self.columns}

    @property
    def width(self) -> int:
        """How many numbers an example has."""
        return sum(column.width for column in self.columns)

    def encode(self, cells: dict[str, Cells]) -> np.ndarray:
        """float32 [rows, width]."""
        return np.concatenate([column.encode(cells[column.name]) for column in self.columns], axis=1, dtype=np.float32)

    def oddities(self, cells: dict[str, Cells]) -> list[str]:
        """What is to be known of one row, in words that go on from "row 3"."""
        gaps = any(column.missing(cells[column.name]) for column in self.columns)
        strange = any(column.unseen(cells[column.name]) for column in self.columns)
        said = ["with empty cells: numbers become the training mean, categories one of their own"] * gaps
        return said + ["with a category that the training rows do not have: it counts as none of the known ones"] * strange

    def notes(self, cells: dict[str, Cells]) -> list[str]:
        """What was missing and what was never seen in training, in words."""
        gaps = {column.name: column.missing(cells[column.name]) for column in self.columns}
        strangers = {column.name: column.unseen(cells[column.name]) for column in self.columns}
        said = []
        if any(gaps.values()):
            said.append(f"{counted(gaps)} missing: numbers become the training mean, categories one of their own")
        if any(strangers.values()):
            said.append(f"{counted(strangers)} in a category that the training rows do not have: none of the known ones")
        return said


def counted(numbers: dict[str, int]) -> str:
    """ "3 cells (2 in 'age', 1 in 'city')", the largest first."""
    found = sorted(((count, name) for name, count in numbers.items() if count), key=lambda pair: -pair[0])
    named = [f"{count:,} in '{name}'" for count, name in found]
    more = ["..."] if len(named) > NAMES_SHOWN else []
    return f"{sum(numbers.values()):,} cells ({', '.join(named[:NAMES_SHOWN] + more)})"


def number_cell(cell: Any, where: str, column: str) -> float:
    """A cell of a number column; not a number where it is missing. DataError for infinite values and for words."""
    if cell is None or (isinstance(cell, str) and cell.strip().lower() in GAPS):
        return math.nan
    value = parsed(cell)
    if value is None:
        hint = f"dataset.categorical=[{column}] reads it as categories"
        found = f"'{cell[:40]}'" if isinstance(cell, str) else type_name(cell)
        raise DataError(f"{where}: column '{column}' is {found}, expected a number; {hint}")
    if abs(value) > LARGEST:
        raise DataError(f"{where}: column '{column}' is {value:g}, expected a number of at most {LARGEST:.1e} or nothing")
    return value


def number_or_truth(cell: Any, where: str, column: str) -> float:
    """A cell of a number column of which a truth value counts as 0 or 1, whatever the file's format."""
    truth = TRUTHS.get(cell.strip().lower()) if isinstance(cell, str) else None
    return number_cell(cell, where, column) if truth is None else truth


def parsed(cell: Any) -> float | None:
    """A cell as a number, or None where it is none."""
    if not isinstance(cell, (str, int, float, Decimal)):
        return None
    if isinstance(cell, str) and "_" in cell:  # Python reads 1_1 as eleven; no table means that
        return None
    try:
        return float(cell)
    except (ValueError, OverflowError):
        return None


def category_cell(cell: Any, where: str, column: str) -> str:
    """A cell of a category column; "" where it is missing. A whole number has no decimal point, whatever the file's
    format; a date is as str writes it, as in 2020-01-31."""
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return ""
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    if not isinstance(cell, (str, int, float, Decimal, date, time, timedelta)):
        raise DataError(f"{where}: column '{column}' holds {type_name(cell)}, expected a number or a string")
    return str(cell).strip()


def odd(cells: Sequence[str]) -> str | None:
    """What all cells of a column of words look like that are neither plain numbers nor empty: "dates, as '2020-01-31'"."""
    words = [cell for cell in cells if not is_number(cell)]
    for name, pattern in ODD.items():
        if words and all(re.fullmatch(pattern, cell) for cell in words):
            return f"{name}, as '{min(words)[:40]}'"
    return None


READ = {"number": number_or_truth, "category": category_cell}


def is_number(cell: Any) -> bool:
    """Whether a cell could stand in a number column: a number, or nothing."""
    if cell is None or (isinstance(cell, str) and cell.strip().lower() in GAPS):
        return True
    return parsed(cell) is not None
