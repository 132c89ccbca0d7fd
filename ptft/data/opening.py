"""Opening files: decompression, UTF-8 and the format, all known by content before the name is asked."""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from ptft.data.files import SUFFIXES, inner_suffix
from ptft.errors import DataError, MachineError

HEAD = 1 << 16
DELIMITERS = ",\t;|"
GZIP, ZSTANDARD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def open_bytes(path: Path) -> BinaryIO:
    """The content of a file, decompressed if it is gzip or zstandard, whatever its name."""
    try:
        raw = path.open("rb")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    magic = raw.read(4)
    raw.seek(0)
    if magic[:2] != GZIP and magic != ZSTANDARD:
        return raw
    raw.close()
    if magic == ZSTANDARD:
        return io.BufferedReader(import_pyarrow().input_stream(str(path), compression="zstd"))
    return io.BufferedReader(gzip.GzipFile(path))


def open_text(path: Path) -> io.TextIOWrapper:
    """Decoded text with its line ends as they are; a byte-order mark is skipped."""
    return io.TextIOWrapper(open_bytes(path), encoding="utf-8-sig", newline="")


def open_seekable(path: Path) -> Any:
    """The content for readers that jump about; a compressed file is held in memory."""
    stream = open_bytes(path)
    if isinstance(stream.raw, io.FileIO):
        return stream
    with stream:
        return io.BytesIO(stream.read())


def import_pyarrow() -> Any:
    """The pyarrow library, imported only for files that need it."""
    try:
        import pyarrow
    except ImportError as error:
        raise MachineError("parquet, arrow and zstandard files need pyarrow: pip install pyarrow") from error
    return pyarrow


@contextlib.contextmanager
def guarded(path: Path) -> Iterator[None]:
    """Turn what damaged files raise into a DataError that names file and line."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise DataError(bad_utf8(path)) from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: damaged or unreadable ({error})") from error


def bad_utf8(path: Path) -> str:
    """Where a file stops being UTF-8."""
    with open_bytes(path) as stream:
        for number, line in enumerate(stream, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                hint = "; it looks like UTF-16" if line[:2] in (b"\xff\xfe", b"\xfe\xff") else ""
                return f"{path}:{number}: not UTF-8 (byte 0x{line[error.start]:02x}, column {error.start + 1}){hint}"
    return f"{path}: not UTF-8"


def kind(path: Path, table: bool = False) -> str:
    """What a file holds: text, jsonl, json, delimited, parquet or arrow.

    table: columns are wanted, so that even a .txt file may be looked at as a table.
    """
    with guarded(path), open_bytes(path) as stream:
        head = stream.read(HEAD)
    if head[:4] == b"PAR1":
        return "parquet"
    if head[:6] == b"ARROW1":
        return "arrow"
    head = head.removeprefix(BYTE_ORDER_MARK).lstrip()
    named = SUFFIXES.get(inner_suffix(path), "unknown")
    if named in ("jsonl", "json"):
        return json_kind(head)
    if named == "unknown" or (named == "text" and table):
        found = guess(head)
        return "delimited" if found == "text" and table and is_table(head) else found
    return named


def is_table(head: bytes) -> bool:
    """Whether the lines of a file that should be a table have equally many cells, more than one."""
    lines = head.decode("utf-8", errors="replace").splitlines()
    lines = [line for line in (lines[:-1] if len(head) == HEAD else lines)[:20] if line]
    for delimiter in DELIMITERS:
        with contextlib.suppress(csv.Error):
            widths = {len(cells) for cells in csv.reader(lines, delimiter=delimiter, strict=True)}
            if len(lines) > 1 and len(widths) == 1 and widths != {1}:
                return True
    return False


def json_kind(head: bytes) -> str:
    """Whether JSON is one value for the whole file, or one a line."""
    first, newline, _ = head.partition(b"\n")
    return "json" if head[:1] == b"[" or (newline and first.strip() == b"{") else "jsonl"


def guess(head: bytes) -> str:
    """The kind of a file whose name says nothing."""
    if head[:2] in (b'{"', b"{\n", b"[{", b"[\n"):
        return json_kind(head)
    lines = [line for line in head.splitlines()[:20] if line]
    widths = {line.count(b"\t") for line in lines}
    return "delimited" if len(lines) > 1 and len(widths) == 1 and widths != {0} else "text"
