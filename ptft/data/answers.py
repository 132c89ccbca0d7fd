"""What a table's rows are to teach: a class, a number, or several yes-or-no answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ptft.data.columns import GAPS
from ptft.data.frame import Frame
from ptft.data.targets import class_codes, is_number, numbers, strata
from ptft.errors import DataError, UserError

SUSPICIOUS_ROWS = 20
YES_OR_NO = {"0": 0, "1": 1, "false": 0, "true": 1, "0.0": 0, "1.0": 1}
TYPES = {"class": np.int64, "number": np.float64, "classes": np.uint8}


@dataclass
class Answers:
    """The answers of each split as arrays: classes int64 [rows], numbers float64 [rows], yes or no uint8 [rows, classes].

    kind: class, number, classes, or None where there are none. labels: names of the classes.
    """

    kind: str | None
    values: dict[str, np.ndarray] = field(default_factory=dict)
    labels: list[str] | None = None

    @property
    def spread(self) -> dict[str, float]:
        """Mean and deviation of the numbers of the training rows."""
        if self.kind != "number":
            return {}
        train = self.values["train"]
        return {"target_mean": float(train.mean()), "target_std": float(train.std())}


def check_target(target: str | None, columns: Sequence[str], per_class: int | None) -> None:
    """Refuse settings that mean nothing for what the task learns. Raises UserError."""
    if per_class is not None and target != "class":
        raise UserError(f"dataset.per_class={per_class} is for tasks that learn classes; leave it out")
    if target and not columns:
        raise UserError("dataset.target must name the column to learn: dataset.target=COLUMN")
    if target in ("class", "number") and len(columns) > 1:
        shown = ",".join(columns)
        raise UserError(f"dataset.target=[{shown}]: this task learns one column; several are for task=multilabel")


def answered(frame: Frame, column: str, target: str, notes: list[str]) -> Frame:
    """The rows that have an answer in the target column; the others are left out, counted in notes, as classes called NA are.

    Raises DataError where they are more than half.
    """
    gaps = GAPS if target == "number" else {""}  # a class may well be called none
    named = Counter(label for label in frame.labels if label.lower() in GAPS - gaps)
    notes += [f"dataset.target={column}: {count:,} rows are '{name}', a class like any other" for name, count in named.items()]
    kept = [row for row, label in enumerate(frame.labels) if label.lower() not in gaps]
    if len(kept) == len(frame):
        return frame
    first = next(where for label, where in zip(frame.labels, frame.places, strict=True) if label.lower() in gaps)
    told = f"{len(frame) - len(kept):,} of {len(frame):,} rows have nothing in it"
    if len(kept) * 2 < len(frame):
        raise DataError(f"dataset.target={column}: {told}, the first is {first}; expected at least half to have a value")
    notes.append(f"dataset.target={column}: {told} and were left out; the first is {first}")
    return frame.rows(kept)


def answers(frames: dict[str, Frame], columns: Sequence[str], target: str | None, known: list[str] | None) -> Answers:
    """What is learned of the target columns, or None of it; without a target, what could be, where no row lacks it.

    known: the classes of a trained model, in its order. Raises DataError.
    """
    kind = target or obvious(frames, columns)
    if kind is None:
        return Answers(None)
    check_complete(frames, columns)
    if kind == "number":
        return Answers(kind, {split: numbers(frame, columns[0]) for split, frame in frames.items()})
    if kind == "classes":
        return Answers(kind, {split: yes_or_no(frame, columns) for split, frame in frames.items()}, list(columns))
    names = known if target and known else class_names(frames["train"], columns[0])
    return Answers(kind, class_codes(frames, columns[0], names)[1], names)


def obvious(frames: dict[str, Frame], columns: Sequence[str]) -> str | None:
    """What target columns hold, by their look: nothing that is certain where a cell is empty."""
    labels = [label for frame in frames.values() for label in frame.labels]
    if not columns or any("" in label.split(",") for label in labels):
        return None
    if len(columns) > 1:
        return "classes" if all(part.lower() in YES_OR_NO for label in labels for part in label.split(",")) else None
    few = set(labels) == set(frames["train"].labels) and any(strata(labels)) and len(set(labels)) > 1
    return "class" if few else "number" if all(map(is_number, labels)) else None


def check_complete(frames: dict[str, Frame], columns: Sequence[str]) -> None:
    """DataError for the first row without an answer."""
    for frame in frames.values():
        for label, where in zip(frame.labels, frame.places, strict=True):
            if not label:
                raise DataError(f"{where}: column '{columns[0]}' is empty, expected a value")


def class_names(frame: Frame, column: str) -> list[str]:
    """The sorted classes of the training rows; DataError for columns that no classifier can learn from."""
    names, total = sorted(set(frame.labels)), len(frame)
    if len(names) < 2:
        raise DataError(f"dataset.target={column}: all {total} training rows are '{names[0]}'; expected two classes")
    if total >= SUSPICIOUS_ROWS and len(names) > total / 2:
        hint = "these are numbers: use task=regress" if all(map(is_number, names)) else "choose another column"
        raise DataError(f"dataset.target={column}: {len(names)} different labels in {total} training rows; {hint}")
    return names


def yes_or_no(frame: Frame, columns: Sequence[str]) -> np.ndarray:
    """Zeros and ones, uint8 [rows, columns]; DataError for anything else."""
    found = np.empty((len(frame), len(columns)), dtype=np.uint8)
    for row, (label, where) in enumerate(zip(frame.labels, frame.places, strict=True)):
        for place, (cell, column) in enumerate(zip(label.split(","), columns, strict=True)):
            if cell.lower() not in YES_OR_NO:
                raise DataError(f"{where}: column '{column}' is '{cell[:40]}', expected 0 or 1")
            found[row, place] = YES_OR_NO[cell.lower()]
    return found
