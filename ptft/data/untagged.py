"""Sentences to predict tags for: columns, tables with lists of words, or plain lines."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

from ptft.data.conll import (
    REMARK,
    TOKEN_NAMES,
    Column,
    Sentence,
    blocks,
    cells_of,
    delimiter_of,
    is_table,
    listed,
    of_columns,
    of_piped,
    shape,
)
from ptft.data.files import inner_suffix, resolve
from ptft.data.formats import Row
from ptft.data.opening import guarded, open_text
from ptft.data.reading import PACKED, input_rows, named, piped, row_id
from ptft.nn.spans import CHUNK, NO_TAG
from ptft.nn.words import words_of

COLUMNS = (".conll", ".conllu", ".conllup", ".conll2003", ".bio", ".iob", ".iob2", ".bioes", ".bmes")
LOOKED_AT = 500  # lines
SHORT = 4  # cells: so few words of a piped line may be a word and what is known of it


def new_sentences(source: str, token: Column, tag: Column | None = None) -> Iterator[Sentence]:
    """The sentences of a file, or of standard input ("-"), without tags.

    token, tag: where words and tags of the training file stood; other files have words in a field of a usual name, or as text
    that is split at white space, Chinese and Japanese into characters.
    """
    if source != "-":
        yield from sentences_of(resolve(source, "input"), token, tag)
        return
    first, lines = piped()
    if isinstance(token, int) and not sys.stdin.isatty() and may_be_columns(first):
        yield from of_piped(lines, partial(sentences_of, token=token, tag=tag))
    else:
        yield from sentences_in(input_rows(source, given=(first, lines)), token)


def sentences_of(path: Path, token: Column, tag: Column | None) -> Iterator[Sentence]:
    """The sentences of a file."""
    if is_columns(path, isinstance(token, int)):
        yield from of_columns(path, word_column(path, token, tag), None)
    else:
        yield from sentences_in(input_rows(str(path)), token)


def sentences_in(rows: Iterable[Row], token: Column) -> Iterator[Sentence]:
    """Rows as sentences."""
    for where, row in rows:
        name = column_of(row, token)
        cell = row.get(name, [])
        text = "" if cell is None else cell if isinstance(cell, str) else None
        words = listed(row, where, name) if text is None else words_of(text)
        yield Sentence(words, None, where, row_id(row, None), text=text)


def word_column(path: Path, token: Column, tag: Column | None) -> int:
    """The column of words: as in the training file, or the first of a narrower one, which may be of words and tags alone.

    The first column of CoNLL-U holds numbers: there it is FORM.
    """
    width, known = shape(path)
    if not isinstance(token, int) or token >= width:
        token = 0
    if token == 0 and "form" in known:
        return known.index("form")
    if isinstance(tag, int) and tag >= width and token == width - 1:
        _, lines = next(blocks(path), ({}, []))
        return token if all(cells[0].isdecimal() for _, cells in lines) else 0
    return token


def may_be_columns(first: bytes) -> bool:
    """Whether a first line leaves it open that a word a line follows, so that more must be seen than it."""
    line = first.decode("utf-8-sig", errors="replace").strip("\r\n")
    cells = cells_of(line, delimiter_of(line))
    odd = len(cells) <= SHORT or "\t" in line or REMARK.fullmatch(line) or is_tag(cells[-1])
    return first.startswith(PACKED) or (first != b"" and line[:1] not in ("{", "[") and bool(odd))


def is_tag(cell: str) -> bool:
    """Whether a cell is the tag of a span, or of none."""
    return cell == NO_TAG or CHUNK.fullmatch(cell) is not None


def is_columns(path: Path, trained: bool) -> bool:
    """Whether a file has a word a line: its name says so, or the last of several columns holds nothing but tags of spans.

    trained: the training file was of that kind, so that this one is too where blank lines divide lines of equally many cells.
    """
    if inner_suffix(path) in COLUMNS:
        return True
    if is_table(path):
        return False
    with guarded(path), open_text(path) as stream:
        looked = (line for line in islice(stream, LOOKED_AT) if not REMARK.fullmatch(line.strip()))
        lines = [line.strip() and line for line in looked]
    rows = [cells_of(line, delimiter_of(line)) for line in lines if line]
    widths = {len(cells) for cells in rows}
    if len(widths) != 1:
        return False
    tags_last = widths != {1} and all(is_tag(cells[-1]) for cells in rows)
    return tags_last or (trained and in_blocks(lines))


def in_blocks(lines: list[str]) -> bool:
    """Whether blank lines stand between others, of which some follow one another."""
    pairs = list(pairwise(map(bool, lines)))
    return (True, True) in pairs and (True, False) in pairs and (False, True) in pairs


def column_of(row: dict[str, Any], token: Column) -> str:
    """The field of a row that its words are in: the training file's, or one of a usual name."""
    return token if token in row else next(iter(named(list(row), TOKEN_NAMES)), str(token))
