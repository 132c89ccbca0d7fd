"""Parallel text: a source and the target to write for it, from two columns or from two files line by line."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

from ptft.data.files import find_files, resolve
from ptft.data.labelled import LabelledText
from ptft.data.opening import guarded, open_text
from ptft.data.reading import field, rows, text_cell
from ptft.data.table import Table
from ptft.errors import DataError, UserError

Pair = tuple[str, str, list[str]]  # where it stands, source, targets


class ParallelText(LabelledText):
    """Source and target texts for tasks that write: translation, summarisation, replies.

    path, valid_path, test_path: a table with the columns `source` and `target`, or a list of two text files, the first
    with a source and the second with its target on each line. A cell may list several targets: the first is learned, and all
    are right.
    """

    targets = (None, "text")
    text_setting = "dataset.source"
    label_setting = "dataset.target"
    by_class = False

    def __init__(
        self,
        path: str | list,
        source: str,
        target: str,
        valid_path: str | list | None,
        test_path: str | list | None,
        valid_fraction: float,
        test_fraction: float,
        split_seed: int,
        max_length: int | None,
    ):
        self.aligned = not isinstance(path, str)
        super().__init__(
            path=path,
            text=source,
            text_pair=None,
            label=target,
            valid_path=valid_path,
            test_path=test_path,
            valid_fraction=valid_fraction,
            test_fraction=test_fraction,
            split_seed=split_seed,
            per_class=None,
            max_length=max_length,
        )

    def find(self, name: str | list, setting: str) -> list[Path]:
        """The files of one split: tables, or one file of sources and one of targets."""
        if self.aligned == isinstance(name, str):
            raise UserError(f"{setting}={name}: all splits must be tables, or all lists of two text files")
        if not self.aligned:
            return find_files(name, setting)
        if len(name) != 2:
            raise UserError(f"{setting} lists {len(name)} files, expected two: sources and targets")
        return [resolve(str(part), setting) for part in name]

    def choose_columns(self) -> None:
        """Tables must have both columns; lines have none."""
        if not self.aligned:
            super().choose_columns()

    def read(self, paths: list[Path]) -> Table:
        """All pairs of the files of one split; those that are empty on either side are left out and counted."""
        table = Table([], None, [], [], others=[])
        for where, source, targets in aligned(*paths) if self.aligned else self.cells(paths):
            if source.strip() and targets:
                table.texts.append(source)
                table.labels.append(targets[0])
                table.others.append(targets[1:])
                table.places.append(where)
            else:
                table.empty += 1
        return table

    def cells(self, paths: list[Path]) -> Iterator[Pair]:
        for path in paths:
            for where, row in rows(path):
                yield where, text_cell(row, where, self.text), target_cell(row, where, self.label)

    def texts(self, split: str = "train") -> Iterator[str]:
        """Sources and targets, to train one tokenizer on both."""
        yield from self.tables[split].texts
        yield from self.tables[split].labels

    def check_target(self, target: str | None) -> None:
        if target in ("class", "number"):
            raise UserError(f"this dataset pairs texts with texts, but the task learns a {target}; use labelled_text")


def aligned(source: Path, target: Path) -> Iterator[Pair]:
    """Line n of one file with line n of the other."""
    with guarded(source), open_text(source) as sources, guarded(target), open_text(target) as targets:
        for number, (text, written) in enumerate(zip_longest(sources, targets), 1):
            if text is None or written is None:
                shorter = source if text is None else target
                raise DataError(f"{shorter}:{number}: ends before the other file; expected as many lines in both")
            written = written.rstrip("\r\n")
            yield f"{source}:{number}", text.rstrip("\r\n"), [written] if written.strip() else []


def target_cell(row: dict[str, Any], where: str, column: str) -> list[str]:
    """The texts of a cell, which holds one or a list of them; those that are empty do not count."""
    cell = field(row, where, column)
    texts = [text_cell({column: part}, where, column) for part in (cell if isinstance(cell, list) else [cell])]
    return [text for text in texts if text.strip()]
