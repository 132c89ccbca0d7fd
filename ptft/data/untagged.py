"""Sentences to predict tags for: columns, tables with lists of words, or plain lines."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

from ptft.data.conll import TOKEN_NAMES, Column, Sentence, blocks, cells_of, delimiter_of, is_table, listed, of_columns, shape
from ptft.data.files import inner_suffix, resolve
from ptft.data.opening import guarded, open_text
from ptft.data.reading import input_rows, named, row_id
from ptft.nn.spans import CHUNK, NO_TAG
from ptft.nn.words import words_of

COLUMNS = (".conll", ".conllu", ".conllup", ".conll2003", ".bio", ".iob", ".iob2", ".bioes", ".bmes")
LOOKED_AT = 500  # lines


def new_sentences(source: str, token: Column, tag: Column | None = None) -> Iterator[Sentence]:
    """The sentences of a file, or of standard input ("-"), without tags.

    token, tag: where words and tags of the training file stood; other files have words in a field of a usual name, or as text
    that is split at white space, Chinese and Japanese into characters.
    """
    path = Path(source) if source == "-" else resolve(source, "input")
    if source != "-" and is_columns(path, isinstance(token, int)):
        yield from of_columns(path, word_column(path, token, tag), None)
        return
    for where, row in input_rows(source):
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


def is_columns(path: Path, trained: bool) -> bool:
    """Whether a file has a word a line: its name says so, or the last of several columns holds nothing but tags of spans.

    trained: the training file was of that kind, so that this one is too where blank lines divide lines of equally many cells.
    """
    if inner_suffix(path) in COLUMNS:
        return True
    if is_table(path):
        return False
    with guarded(path), open_text(path) as stream:
        lines = [line.strip() and line for line in islice(stream, LOOKED_AT)]
    rows = [cells_of(line, delimiter_of(line)) for line in lines if line]
    widths = {len(cells) for cells in rows}
    if len(widths) != 1:
        return False
    tags_last = widths != {1} and all(cells[-1] == NO_TAG or CHUNK.fullmatch(cells[-1]) for cells in rows)
    return tags_last or (trained and in_blocks(lines))


def in_blocks(lines: list[str]) -> bool:
    """Whether blank lines stand between others, of which some follow one another."""
    pairs = list(pairwise(map(bool, lines)))
    return (True, True) in pairs and (True, False) in pairs and (False, True) in pairs


def column_of(row: dict[str, Any], token: Column) -> str:
    """The field of a row that its words are in: the training file's, or one of a usual name."""
    return token if token in row else next(iter(named(list(row), TOKEN_NAMES)), str(token))
