"""Sentences to predict tags for: columns, tables with lists of words, or plain lines."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from ptft.data.conll import TOKEN_NAMES, Column, Sentence, cells_of, delimiter_of, is_table, layout, listed, of_columns
from ptft.data.files import inner_suffix, resolve
from ptft.data.opening import guarded, open_text
from ptft.data.reading import input_rows, named, row_id
from ptft.nn.spans import CHUNK, NO_TAG
from ptft.nn.words import words_of

COLUMNS = (".conll", ".conllu", ".conllup", ".conll2003", ".bio", ".iob", ".iob2", ".bioes", ".bmes")
LOOKED_AT = 50  # lines


def new_sentences(source: str, token: Column) -> Iterator[Sentence]:
    """The sentences of a file, or of standard input ("-"), without tags.

    token: where the words of the training file stood; other files have them in a field of a usual name, or as text that
    is split at white space, Chinese and Japanese into characters.
    """
    path = Path(source) if source == "-" else resolve(source, "input")
    if source != "-" and is_columns(path):
        number = token if isinstance(token, int) and token < layout(path)[1] else 0
        yield from of_columns(path, number, None)
        return
    for where, row in input_rows(source):
        name = column_of(row, token)
        text = row[name] if isinstance(row.get(name), str) else None
        words = listed(row, where, name) if text is None else words_of(text)
        yield Sentence(words, None, where, row_id(row, None), text=text)


def is_columns(path: Path) -> bool:
    """Whether a file has a word a line: its name says so, or the last of several columns holds nothing but tags."""
    if inner_suffix(path) in COLUMNS:
        return True
    if is_table(path):
        return False
    with guarded(path), open_text(path) as stream:
        lines = [line for line in islice(stream, LOOKED_AT) if line.strip()]
    rows = [cells_of(line, delimiter_of(line)) for line in lines]
    widths = {len(cells) for cells in rows}
    return len(widths) == 1 and widths != {1} and all(cells[-1] == NO_TAG or CHUNK.fullmatch(cells[-1]) for cells in rows)


def column_of(row: dict[str, Any], token: Column) -> str:
    """The field of a row that its words are in: the training file's, or one of a usual name."""
    return token if token in row else next(iter(named(list(row), TOKEN_NAMES)), str(token))
