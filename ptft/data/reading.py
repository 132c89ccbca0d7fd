"""Rows and their cells: which column holds the text, which the label, and what a cell may be."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ptft.data.formats import READERS, Row, parse_json, type_name
from ptft.data.opening import guarded, kind, open_text
from ptft.errors import DataError, nearest

TEXT_NAMES = ("text", "sentence", "content", "document", "review", "comment", "message", "body", "article", "question")
ID_NAMES = ("id", "row_id", "uid", "guid")
LABEL_NAMES = ("label", "class", "target", "category", "sentiment", "score", "rating", "stars", "y")


def rows(path: Path) -> Iterator[Row]:
    """The rows of a table, each with the place an error message should name ("file:line")."""
    found = kind(path, table=True)
    if found == "text":
        raise DataError(f"{path}: plain text without columns; expected csv, tsv, jsonl, json, parquet or arrow")
    with guarded(path):
        yield from READERS[found](path)


def first_row(path: Path) -> dict[str, Any]:
    """The cells of a table's first row by column; DataError for a table without rows."""
    found = next(rows(path), None)
    if found is None:
        raise DataError(f"{path}: empty; expected a header and at least one row")
    return found[1]


def choose_text(path: Path, setting: str, wanted: str | None, taken: Sequence[str | None] = ()) -> str:
    """The column that holds the text: the wanted one, the one named so, or the only one of strings."""
    first = first_row(path)
    if wanted is not None:
        return existing(path, setting, wanted, list(first))
    free = [name for name in first if name not in taken]
    words = [name for name in free if is_words(first[name])]
    return only_choice(path, setting, list(first), named(free, TEXT_NAMES) or words)


def choose_label(path: Path, setting: str, wanted: str | None, taken: Sequence[str | None]) -> str:
    """The column that holds the label: the wanted one, the one named so, or the only other one."""
    first = first_row(path)
    if wanted is not None:
        return existing(path, setting, wanted, list(first))
    free = [name for name in first if name not in taken]
    return only_choice(path, setting, list(first), named(free, LABEL_NAMES) or free)


def existing(path: Path, setting: str, wanted: str, columns: list[str]) -> str:
    """The wanted column, or a DataError with the columns there are."""
    if wanted in columns:
        return wanted
    close = nearest(wanted, columns)
    hint = f"; did you mean '{close}'?" if close else ";"
    raise DataError(f"{setting}={wanted}: {path} has no such column{hint} columns: {', '.join(columns)}")


def named(columns: list[str], names: Sequence[str]) -> list[str]:
    """The first column that goes by one of the usual names."""
    by_name = {column.lower(): column for column in reversed(columns)}
    return [by_name[name] for name in names if name in by_name][:1]


def only_choice(path: Path, setting: str, columns: list[str], candidates: list[str]) -> str:
    if len(candidates) == 1:
        return candidates[0]
    raise DataError(f"{setting} is not set and {path} leaves it open; choose from: {', '.join(columns)}")


def is_words(cell: Any) -> bool:
    """Whether a cell holds text rather than a number."""
    if not isinstance(cell, str):
        return False
    try:
        float(cell)
    except ValueError:
        return True
    return False


def text_cell(row: dict[str, Any], where: str, column: str) -> str:
    """A cell of text; nothing counts as empty text."""
    cell = field(row, where, column)
    if cell is None:
        return ""
    if not isinstance(cell, str):
        raise DataError(f"{where}: column '{column}' holds {type_name(cell)}, expected a string")
    try:
        cell.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{where}: column '{column}' holds half a character ({error.reason})") from error
    return cell


def label_cell(row: dict[str, Any], where: str, column: str) -> str:
    """A label as text: a string, a number or a truth value, or several of them in a list; empty where there is none."""
    cell = field(row, where, column)
    parts = cell if isinstance(cell, list) else [] if cell is None else [cell]
    strange = [part for part in parts if not isinstance(part, (str, int, float))]
    if strange:
        raise DataError(f"{where}: column '{column}' holds {type_name(strange[0])}, expected a string or a number")
    return "|".join(str(part).strip() for part in parts)


def field(row: dict[str, Any], where: str, column: str) -> Any:
    if column not in row:
        raise DataError(f"{where}: no field '{column}'; fields: {', '.join(row)}")
    return row[column]


def row_id(row: dict[str, Any], number: int) -> Any:
    """What a row is called: by a column of that kind, else by its number, from 0."""
    return next((row[name] for name in ID_NAMES if row.get(name) is not None), number)


def input_rows(source: str) -> Iterator[Row]:
    """Rows to predict on: a table, or plain lines (as column "text"), from a file or standard input ("-")."""
    if source == "-":
        yield from lines(io.TextIOWrapper(sys.stdin.buffer, "utf-8-sig"), "standard input")
        return
    path = Path(source).expanduser()
    if kind(path, table=True) != "text":
        yield from rows(path)
        return
    with guarded(path), open_text(path) as stream:
        yield from lines(stream, str(path))


def lines(stream: io.TextIOBase, name: str) -> Iterator[Row]:
    """One row a line: a JSON object, or text."""
    for number, line in enumerate(stream, 1):
        where = f"{name}:{number}"
        if line.startswith("{"):
            yield where, parse_json(line, where)
        elif line.strip():
            yield where, {"text": line.rstrip("\r\n")}
