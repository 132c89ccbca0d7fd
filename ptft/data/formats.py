"""One reader for each table format: rows as dicts, each with the place an error message should name."""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from ptft.data.files import inner_suffix
from ptft.data.opening import DELIMITERS, import_pyarrow, open_seekable, open_text
from ptft.errors import DataError

Row = tuple[str, dict[str, Any]]
ROW_LIMIT = 1 << 25  # characters of one row; longer ones are a broken file
ARROW_BATCH = 4096
csv.field_size_limit(ROW_LIMIT)


def read_jsonl(path: Path) -> Iterator[Row]:
    """One JSON object a line; blank lines are skipped."""
    with open_text(path) as stream:
        for number in itertools.count(1):
            line, where = stream.readline(ROW_LIMIT), f"{path}:{number}"
            if not line:
                return
            if len(line) >= ROW_LIMIT:
                raise DataError(f"{where}: longer than {ROW_LIMIT >> 20} MB; expected one JSON object a line")
            if line.strip():
                yield where, parse_json(line, where)


def parse_json(line: str, where: str) -> dict[str, Any]:
    """One JSON object; DataError with the place otherwise."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not JSON ({error})") from error
    if not isinstance(value, dict):
        raise DataError(f"{where}: holds {type_name(value)}, expected an object with named fields")
    return value


def read_json(path: Path) -> Iterator[Row]:
    """A list of objects, or an object that holds one such list (as in {"data": [...]})."""
    with open_text(path) as stream:
        text = stream.read()
    yield from json_rows(text, str(path))


def json_rows(text: str, name: str) -> Iterator[Row]:
    """The rows of JSON that is one value as a whole; name: what an error message calls it."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{name}: not JSON ({error})") from error
    if isinstance(value, dict):
        lists = [item for item in value.values() if isinstance(item, list)]
        value = lists[0] if len(lists) == 1 else [value]
    for number, row in enumerate(value, 1):
        if not isinstance(row, dict):
            raise DataError(f"{name}: row {number} holds {type_name(row)}, expected an object with named fields")
        yield f"{name}: row {number}", row


def type_name(value: Any) -> str:
    """How a message names a value."""
    names = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "nothing"}
    return names.get(type(value), "a number" if isinstance(value, (int, float)) else f"a {type(value).__name__}")


def read_delimited(path: Path) -> Iterator[Row]:
    """csv and tsv: cells may be quoted and then hold line ends; the delimiter is the commonest one of the header."""
    with open_text(path) as stream:
        header = stream.readline()
    delimiter = "\t" if inner_suffix(path) == ".tsv" else max(DELIMITERS, key=header.count)
    quoted = True
    if delimiter == "\t":
        with open_text(path) as stream:
            quoted = well_quoted(stream)
    with open_text(path) as stream:
        yield from delimited_rows(stream, str(path), delimiter, quoted)


def delimited_rows(lines: Iterable[str], name: str, delimiter: str, quoted: bool) -> Iterator[Row]:
    """The rows of a table's lines; quoted: quote marks wrap cells. name: what an error message calls the table."""
    quoting = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    yield from named_cells(name, csv.reader(lines, delimiter=delimiter, quoting=quoting, strict=quoted))


def well_quoted(lines: Iterable[str]) -> bool:
    """Whether the quote marks of a table with tabs wrap cells, or are just letters of its text."""
    try:
        return len({len(cells) for cells in csv.reader(lines, delimiter="\t", strict=True) if cells}) == 1
    except csv.Error:
        return False


def header_delimiter(line: str, columns: Collection[str]) -> str | None:
    """What stands between the cells of a line that names these columns among others; None where it is no such header."""
    for delimiter in DELIMITERS if columns else "":
        try:
            cells = [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter), [])]
        except csv.Error:
            return None
        if len(cells) > 1 and set(columns) <= set(cells):
            return delimiter
    return None


def named_cells(name: str, reader: Any) -> Iterator[Row]:
    """The rows under a header; every row must have as many cells as the header."""
    names: list[str] = []
    line = 0
    try:
        for cells in reader:
            where, line = f"{name}:{line + 1}", reader.line_num
            if not names:
                names = header_names(where, cells)
            elif cells:
                check_width(where, cells, names)
                yield where, dict(zip(names, cells, strict=True))
    except csv.Error as error:
        raise DataError(f"{name}:{line + 1}: not a table ({error})") from error


def check_width(where: str, cells: list[str], names: list[str]) -> None:
    """DataError where a row has more or fewer cells than the header."""
    if len(cells) != len(names):
        raise DataError(f"{where}: {len(cells)} cells, expected {len(names)} as in the header ({', '.join(names)})")


def header_names(where: str, cells: list[str]) -> list[str]:
    """The names of the columns; DataError where two are called the same."""
    names = [cell.strip() for cell in cells]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"{where}: column '{twice[0]}' appears twice in the header")
    return names


def read_parquet(path: Path) -> Iterator[Row]:
    """Parquet, a batch of rows at a time."""
    arrow = import_pyarrow()
    from pyarrow import parquet

    try:
        with open_seekable(path) as source:
            yield from numbered(path, parquet.ParquetFile(source).iter_batches(ARROW_BATCH))
    except arrow.ArrowException as error:
        raise DataError(f"{path}: damaged or unreadable ({str(error).splitlines()[0]})") from error


def read_arrow(path: Path) -> Iterator[Row]:
    """Arrow, in the file format or the stream format."""
    arrow = import_pyarrow()
    try:
        with open_seekable(path) as source:
            magic = source.read(6)
            source.seek(0)
            if magic == b"ARROW1":
                reader = arrow.ipc.open_file(source)
                batches = map(reader.get_batch, range(reader.num_record_batches))
            else:
                batches = arrow.ipc.open_stream(source)
            yield from numbered(path, batches)
    except arrow.ArrowException as error:
        raise DataError(f"{path}: damaged or unreadable ({str(error).splitlines()[0]})") from error


def numbered(path: Path, batches: Any) -> Iterator[Row]:
    """The rows of record batches, counted from 1, with classes by their names where the file has these."""
    counter = itertools.count(1)
    for batch in batches:
        classes = class_names(batch.schema.metadata or {})
        for row in batch.to_pylist():
            named = {column: by_name(row.get(column), names) for column, names in classes.items() if column in row}
            yield f"{path}: row {next(counter)}", row | named


def class_names(metadata: dict[bytes, bytes]) -> dict[str, list[str]]:
    """The names of the classes that columns hold the numbers of, by column: Hugging Face's datasets leave them in a file."""
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}")).get("info", {}).get("features", {})
        of_cells = {column: feature.get("feature", feature) for column, feature in features.items()}  # or of their parts
        return {column: feature["names"] for column, feature in of_cells.items() if feature.get("_type") == "ClassLabel"}
    except (ValueError, AttributeError, KeyError):
        return {}


def by_name(cell: Any, names: list[str]) -> Any:
    """A class, or a list of them, by name; -1 stands for none."""
    if isinstance(cell, list):
        return [by_name(part, names) for part in cell]
    if cell == -1:
        return None
    return names[cell] if isinstance(cell, int) and 0 <= cell < len(names) else cell


READERS = {
    "jsonl": read_jsonl,
    "json": read_json,
    "delimited": read_delimited,
    "parquet": read_parquet,
    "arrow": read_arrow,
}
