"""Sentences of words with a tag each, from CoNLL columns or from tables with lists."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ptft.data.files import inner_suffix
from ptft.data.formats import type_name
from ptft.data.opening import guarded, kind, open_text
from ptft.data.reading import PIPED, existing, field, filed, first_row, named, row_id, rows
from ptft.errors import DataError, UserError

Column = int | str
Columns = tuple[Column, Column]  # where the words stand, and where their tags
Line = tuple[int, list[str]]  # its number, its cells
Block = tuple[dict[str, str], list[Line]]  # comments such as "# sent_id = 3", and the lines of a sentence

TOKEN_NAMES = ("token", "tokens", "word", "words", "form", "text")
TAG_NAMES = ("tag", "tags", "ner", "ner_tags", "label", "labels")
TABLES = ("jsonl", "json", "parquet", "arrow")
CONLLU = ("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")
NOT_WORDS = re.compile(r"\d+[-.]\d+")  # ids of multiword tokens and of empty nodes in CoNLL-U
COMMENT = re.compile(r"#\s*([\w.]+)\s*=\s*(.*)")
# what is no line of data however many cells it has: "# sent_id = 3" and "# newpar", and the marker of a document
REMARK = re.compile(r"# +([\w.:]+ +=( .*)?|new(doc|par)( .*)?)|-DOCSTART-.*")


@dataclass
class Sentence:
    """Words and their tags. where: what an error message names. name: its id, if it has one.

    marked: the number of the word that the tags are about, such as the predicate of its arguments. text: what the words were
    found in, if that was running text.
    """

    words: list[str]
    tags: list[str] | None
    where: str
    name: Any = None
    marked: int | None = None
    text: str | None = None


def is_table(path: Path) -> bool:
    """Whether a file has named fields, with a list of words in one of them, rather than a word a line."""
    return inner_suffix(path) == ".csv" or kind(path, table=True) in TABLES


def choose_columns(path: Path, wanted: Sequence[Column] | None) -> Columns:
    """Where words and tags stand: names of fields, or numbers of columns from 0, negative ones from the end.

    wanted: these two, or the names of all columns. Without it: the usual names, FORM and UPOS of CoNLL-U, else the first
    and the last column. Raises DataError, UserError.
    """
    setting = f"dataset.columns={'' if wanted is None else '[' + ','.join(map(str, wanted)) + ']'}"
    if wanted is not None and len(wanted) < 2:
        raise UserError(f"{setting}: expected two, of the words and of their tags")
    if is_table(path):
        return fields_of(path, setting, wanted)
    width, known = shape(path)
    if wanted is None:
        return (known.index("form"), known.index("upos")) if known else (0, -1)
    found = [int(name) if is_number(name) else name for name in wanted]
    if any(isinstance(name, str) for name in found):
        found = by_name(path, setting, [str(name) for name in found], width, known)
    elif len(found) > 2:
        raise UserError(f"{setting}: expected two numbers, of the words and of their tags")
    for number in found:
        if not -width <= number < width:
            raise DataError(f"{setting}: {path} has columns 0 to {width - 1}")
    return found[0], found[1]


def is_number(name: Column) -> bool:
    """Whether a column is chosen by its place, from 0 or, negative, from the end."""
    return isinstance(name, int) or name.lstrip("-").isdigit()


def fields_of(path: Path, setting: str, wanted: Sequence[Column] | None) -> Columns:
    """The fields of a table that hold words and tags."""
    fields = list(first_row(path))
    if wanted is not None:
        token, tag = (existing(path, setting, str(name), fields) for name in wanted[:2])
        return token, tag
    found = [*named(fields, TOKEN_NAMES), *named(fields, TAG_NAMES)]
    if len(found) < 2:
        raise DataError(f"dataset.columns is not set and {path} leaves it open; choose two of: {', '.join(fields)}")
    return found[0], found[1]


def by_name(path: Path, setting: str, wanted: list[str], width: int, known: Sequence[str]) -> list[int]:
    """The numbers of named columns: names that the file knows, or a name for each of its columns, word and tag among them."""
    names = [name.lower() for name in wanted]
    if known and len(names) == 2:
        return [list(known).index(existing(path, setting, name, list(known))) for name in names]
    chosen = [*named(names, TOKEN_NAMES), *named(names, TAG_NAMES)]
    if len(names) != width or len(chosen) < 2:
        raise DataError(
            f"{setting}: {path} has {width} columns without names; give the numbers of two, or name all, "
            f"one of them token and one tag"
        )
    return [names.index(name) for name in chosen]


def shape(path: Path) -> tuple[int, tuple[str, ...]]:
    """How many columns a file has, and their names where it is CoNLL-U or names them itself (CoNLL-U Plus)."""
    comments, lines = next(blocks(path), ({}, []))
    if not lines:
        raise DataError(f"{path}: empty; expected lines with a word and its tag")
    width = len(lines[0][1])
    if "global.columns" in comments:
        return width, tuple(name.lower().rpartition(":")[2] for name in comments["global.columns"].split())
    return width, CONLLU if width >= len(CONLLU) and inner_suffix(path) in (".conllu", ".conllup") else ()


def blocks(path: Path) -> Iterator[Block]:
    """The sentences of a file of columns, which blank lines divide; without -DOCSTART- lines.

    A line that begins with # is a comment if it reads "# name = value", else unless it has as many columns as the first line
    that begins otherwise.
    """
    delimiter, width = layout(path)
    comments: dict[str, str] = {}
    lines: list[Line] = []
    with guarded(path), open_text(path) as stream:
        for number, line in enumerate(stream, 1):
            cells = cells_of(line, delimiter)
            if not line.strip():
                if lines:
                    yield comments, lines
                    comments, lines = {}, []
            elif REMARK.fullmatch(line.strip()) or (line.startswith("#") and len(cells) != width):
                comments |= dict(COMMENT.findall(line.strip()))
            else:
                lines.append((number, cells))
    if lines:
        yield comments, lines


def layout(path: Path) -> tuple[str, int]:
    """What divides the columns of a file, tabs or blanks, and how many columns there are."""
    with guarded(path), open_text(path) as stream:
        head = next((line for line in stream if line.strip() and not line.startswith(("#", "-DOCSTART-"))), "")
    return delimiter_of(head), len(cells_of(head, delimiter_of(head)))


def delimiter_of(line: str) -> str:
    """What divides the cells of a line."""
    return "\t" if "\t" in line else " "


def cells_of(line: str, delimiter: str) -> list[str]:
    """The cells of a line; several blanks divide like one, several tabs have empty cells between them."""
    cells = line.rstrip("\r\n").split(delimiter)
    return cells if delimiter == "\t" else [cell for cell in cells if cell]


def sentences(path: Path, columns: Columns) -> Iterator[Sentence]:
    """The sentences of a file with their tags."""
    return of_table(path, *columns) if is_table(path) else of_columns(path, *columns)


def of_piped(lines: Iterable[bytes], read: Callable[[Path], Iterator[Sentence]]) -> Iterator[Sentence]:
    """The sentences that `read` finds in a file, here one made of what was piped."""
    with filed(lines) as path:
        for sentence in read(path):
            yield replace(sentence, where=sentence.where.replace(str(path), PIPED))


def of_table(path: Path, token: Column, tag: Column | None) -> Iterator[Sentence]:
    """Rows with a list of words and one of tags; a text in their place is split at its blanks. tag None: only words."""
    for where, row in rows(path):
        words = listed(row, where, str(token))
        tags = None if tag is None else listed(row, where, str(tag), numbers=True)
        if tags is not None and len(tags) != len(words):
            raise DataError(f"{where}: {len(words)} words and {len(tags)} tags; expected a tag for each word")
        yield Sentence(words, tags, where, row_id(row, None))


def listed(row: dict[str, Any], where: str, name: str, numbers: bool = False) -> list[str]:
    """A cell that holds several texts. numbers: whole numbers count as their digits, as where tags have no names."""
    cell = field(row, where, name)
    if isinstance(cell, str):
        return cell.split()
    if not isinstance(cell, list):
        raise DataError(f"{where}: column '{name}' holds {type_name(cell)}, expected a list")
    parts = [str(part) if numbers and type(part) is int else part for part in cell]
    for part in parts:
        if not isinstance(part, str):
            raise DataError(f"{where}: column '{name}' lists {type_name(part)}, expected only strings (words, names of tags)")
    return parts


def of_columns(path: Path, token: int, tag: int | None) -> Iterator[Sentence]:
    """A word a line, with the columns that `token` and `tag` number. tag None: only words.

    All lines must have as many columns as the first, unless none is counted from the end.
    """
    width = layout(path)[1]
    numbers = [number for number in (token, tag) if number is not None]
    least, most = (width, width) if min(numbers) < 0 else (max(numbers) + 1, math.inf)
    for comments, lines in blocks(path):
        lines = [line for line in lines if token == 0 or not NOT_WORDS.fullmatch(line[1][0])]
        for number, cells in lines:
            if not least <= len(cells) <= most:
                raise DataError(f"{path}:{number}: {counted(cells)}, expected {least} as in the first line")
        if lines:
            words = [cells[token].strip(" ") or cells[token] for _, cells in lines]
            tags = None if tag is None else [cells[tag].strip() for _, cells in lines]
            yield Sentence(words, tags, f"{path}:{lines[0][0]}", comments.get("sent_id"))


def counted(cells: list[str]) -> str:
    """How many columns a line has; told of one that is divided otherwise than the first line."""
    if len(cells) == 1 and "\t" in cells[0].strip():
        return "columns divided by tabs, not by blanks as in the first line"
    if len(cells) == 1 and " " in cells[0].strip():
        return "columns divided by blanks, not by tabs as in the first line"
    return f"{len(cells)} columns"
