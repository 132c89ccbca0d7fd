"""Rows and their cells: which column holds the text, which the label, and what a cell may be."""

from __future__ import annotations

import contextlib
import io
import itertools
import re
import sys
import tempfile
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ptft.data.columns import category_cell, parsed
from ptft.data.files import resolve
from ptft.data.formats import READERS, Row, delimited_rows, header_delimiter, json_rows, parse_json, type_name, well_quoted
from ptft.data.opening import GZIP, ZSTANDARD, guarded, kind, open_text
from ptft.errors import DataError, nearest

TEXT_NAMES = ("text", "sentence", "content", "document", "review", "comment", "message", "body", "article", "question")
ID_NAMES = ("id", "row_id", "uid", "guid")
LABEL_NAMES = ("label", "class", "target", "category", "sentiment", "score", "rating", "stars", "y")
PIPED = "standard input"
Piped = tuple[bytes, Iterator[bytes]]  # a first line, and all of them
PACKED = (GZIP, ZSTANDARD, b"PAR1\x15", b"ARROW1\0")  # how bytes begin that are no lines
WHOLE_JSON = re.compile(r"\[(\s*(\{.*|\]))?|\{")  # the first line of JSON that is one value, not one a line


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
    """The candidate where there is one; DataError with all columns where none or several could be meant."""
    if len(candidates) == 1:
        return candidates[0]
    raise DataError(f"{setting} is not set and {path} leaves it open; choose from: {', '.join(columns)}")


def is_words(cell: Any) -> bool:
    """Whether a cell holds text rather than a number."""
    return isinstance(cell, str) and parsed(cell) is None


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
    return "|".join(category_cell(part, where, column) for part in parts)


def field(row: dict[str, Any], where: str, column: str) -> Any:
    """A cell that every row must have; DataError where it is not there."""
    if column not in row:
        raise DataError(f"{where}: no field '{column}'; fields: {', '.join(row)}")
    return row[column]


def row_id(row: dict[str, Any], otherwise: int | str) -> Any:
    """What a row is called by a column of that kind, else otherwise: its number from 0, or the name of its file."""
    known = [name for name, cell in row.items() if cell is not None and cell == cell]  # nan is none
    return next((row[name] for name in named(known, ID_NAMES)), otherwise)


def input_rows(source: str, columns: Collection[str] = (), given: Piped | None = None) -> Iterator[Row]:
    """Rows to predict on: a table, JSON, or plain lines (as column "text"), from a file or standard input ("-").

    columns: those that are wanted; a first line that names them is the header of a table, whatever the file is called.
    given: standard input, where its first line was looked at.
    """
    found = None
    for found in piped_rows(given or piped(), columns) if source == "-" else file_rows(resolve(source, "input"), columns):
        yield found
    if found is None:
        raise DataError(f"input={source}: holds no rows")


def file_rows(path: Path, columns: Collection[str]) -> Iterator[Row]:
    """The rows of a file."""
    if kind(path, table=True) != "text":
        yield from rows(path)
        return
    with guarded(path), open_text(path) as stream:
        yield from line_rows(stream, str(path), columns)


def piped() -> Piped:
    """The first line of standard input, and all of them."""
    first = sys.stdin.buffer.readline()
    return first, itertools.chain([first], sys.stdin.buffer)


def piped_rows(given: Piped, columns: Collection[str]) -> Iterator[Row]:
    """The rows of standard input, each as soon as it is there, unless they are packed."""
    first, lines = given
    if first.startswith(PACKED):
        with filed(lines) as path:
            for where, row in file_rows(path, columns):
                yield where.replace(str(path), PIPED), row
    else:
        yield from line_rows(decoded(lines, PIPED), PIPED, columns)


@contextlib.contextmanager
def filed(pieces: Iterable[bytes]) -> Iterator[Path]:
    """A file made of what was piped and only a file can be read as; errors do not name it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, PIPED)
        with path.open("wb") as file:
            file.writelines(pieces)
        try:
            yield path
        except DataError as error:
            raise DataError(str(error).replace(str(path), PIPED)) from error


def decoded(lines: Iterable[bytes], name: str) -> Iterator[str]:
    """Lines as text without a byte-order mark; DataError with the place for what is not UTF-8."""
    for number, line in enumerate(lines, 1):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            place = f"byte 0x{line[error.start]:02x}, column {error.start + 1}"
            raise DataError(f"{name}:{number}: not UTF-8 ({place})") from error
        yield from io.StringIO(text, newline="")  # a lone carriage return ends a line, as it does in files


def line_rows(lines: Iterator[str], name: str, columns: Collection[str]) -> Iterator[Row]:
    """The rows of text: of JSON as a whole or of a table, where the first line says so, else one row a line."""
    before = []
    for line in lines:
        before.append(line)
        if line.strip():
            break
    first = "".join(before[-1:])
    lines = itertools.chain(before, lines)
    if WHOLE_JSON.fullmatch(first.strip()):
        yield from json_rows("".join(lines), name)
    elif delimiter := header_delimiter(first, columns):
        if delimiter == "\t":
            lines = list(lines)  # only all of them tell what quote marks are
        yield from delimited_rows(lines, name, delimiter, delimiter != "\t" or well_quoted(lines))
    else:
        yield from plain_rows(lines, name)


def plain_rows(lines: Iterable[str], name: str) -> Iterator[Row]:
    """One row a line: a JSON object, or text. A line of text without any is a row, too, if another follows: rows are lines."""
    blank: list[Row] = []
    for number, line in enumerate(lines, 1):
        where = f"{name}:{number}"
        if line.lstrip().startswith("{"):
            blank = []
            yield where, parse_json(line, where)
        elif line.strip():
            yield from blank
            blank = []
            yield where, {"text": line.rstrip("\r\n")}
        else:
            blank.append((where, {"text": ""}))
