"""Propositions: who did what to whom, an example for each predicate of a sentence."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ptft.data.conll import NOT_WORDS, TOKEN_NAMES, Sentence, blocks, is_table, listed, of_piped
from ptft.data.files import resolve
from ptft.data.formats import Row
from ptft.data.pieces import WordEncoder
from ptft.data.reading import field, input_rows, named, piped, row_id
from ptft.data.rows import Example
from ptft.data.sentences import Sentences, collected
from ptft.data.tagged import Reader, TaggedText
from ptft.data.tokenizer import Tokenizer
from ptft.errors import DataError
from ptft.nn.spans import NO_TAG

FORM, PREDICATE, ROLES = 1, 10, 11  # columns of words, of predicates, and the first one of roles
NOTHING = ("", "_", "*")
VERB = re.compile(r"(?:[BIES]-)?(?:C-)?V")  # what columns of roles call the predicate itself
NO_PREDICATE = "no predicate; expected CoNLL-U with predicates in column 11, roles from 12 on"
MARKS = 2  # tokens that a task puts around the predicate


class PropositionReader(Reader):
    """Reads sentences whose predicates are known: CoNLL-U, or rows with words and the number of a predicate."""

    def read(self, source: str, tokenizer: Tokenizer, max_length: int) -> Iterator[tuple[Any, Example]]:
        return self.examples(new_propositions(source), WordEncoder(tokenizer, max_length - MARKS))


class Propositions(TaggedText):
    """Semantic roles: CoNLL-U with the predicate in column 11 and, from column 12 on, the roles of one predicate each.

    Every predicate of a sentence is an example of its own: `marked` is the number of its word, the tags are the roles of
    the other words. (Universal PropBanks, Akbik et al. 2015; columns as in CoNLL-2009.)
    """

    def __init__(
        self,
        path: str,
        valid_path: str | None,
        test_path: str | None,
        valid_fraction: float,
        test_fraction: float,
        split_seed: int,
        max_length: int | None,
    ):
        super().__init__(
            path=path,
            columns=None,
            valid_path=valid_path,
            test_path=test_path,
            valid_fraction=valid_fraction,
            test_fraction=test_fraction,
            split_seed=split_seed,
            max_length=max_length,
        )

    def choose_columns(self) -> None:
        """The format fixes them; look whether the first sentence of each split has them."""
        for paths in self.files.values():
            if next(propositions(paths[0]), None) is None:
                raise DataError(f"{paths[0]}: {NO_PREDICATE}")

    def read(self, paths: list[Path]) -> Sentences:
        return collected(found for path in paths for found in propositions(path))

    def encoder(self, tokenizer: Tokenizer, max_length: int, target: str | None) -> WordEncoder:
        return WordEncoder(tokenizer, max_length - MARKS)

    @classmethod
    def reader(cls, node: dict[str, Any], columns: dict[str, Any], inputs: None) -> PropositionReader:
        return PropositionReader(FORM)


def propositions(path: Path) -> Iterator[Sentence]:
    """The predicates of a file with the roles of all words."""
    for comments, lines in blocks(path):
        rows = [cells for _, cells in lines if not NOT_WORDS.fullmatch(cells[0])]
        words = [cell(cells, FORM) for cells in rows]
        verbs = predicates(rows)
        for number, roles in enumerate(role_columns(rows)):
            marked = verb(roles)
            if marked is None and number < len(verbs):
                marked = verbs[number]
            if marked is not None:
                tags = [NO_TAG if role in NOTHING or VERB.fullmatch(role) else role for role in roles]
                yield Sentence(words, tags, f"{path}:{lines[0][0]}", comments.get("sent_id"), marked)


def predicates(rows: list[list[str]]) -> list[int]:
    """The numbers of the words that are predicates."""
    return [place for place, cells in enumerate(rows) if cell(cells, PREDICATE) not in NOTHING]


def role_columns(rows: list[list[str]]) -> list[list[str]]:
    """The columns of roles, each the roles of all words for one predicate."""
    columns = range(ROLES, max(map(len, rows), default=0))
    return [[cell(cells, column) for cells in rows] for column in columns]


def verb(roles: list[str]) -> int | None:
    """The number of the word that a column of roles calls its predicate; None where it calls none so."""
    return next((place for place, role in enumerate(roles) if VERB.fullmatch(role)), None)


def cell(cells: list[str], number: int) -> str:
    """A cell, where lines may be shorter than others."""
    return cells[number].strip() if number < len(cells) else ""


def new_propositions(source: str) -> Iterator[Sentence]:
    """The predicates of a file without the roles: of CoNLL-U, or of rows with tokens and the numbers of predicates."""
    if source != "-":
        yield from _in_file(resolve(source, "input"))
        return
    first, lines = piped()
    if first.lstrip()[:1] in (b"{", b"["):
        yield from _in_rows(input_rows(source, given=(first, lines)))
        return
    yield from of_piped(lines, _in_file)


def _in_file(path: Path) -> Iterator[Sentence]:
    if is_table(path):
        yield from _in_rows(input_rows(str(path)))
        return
    found = _in_conllu(path)
    first = next(found, None)
    if first is None:
        raise DataError(f"{path}: {NO_PREDICATE}")
    yield first
    yield from found


def _in_rows(rows: Iterable[Row]) -> Iterator[Sentence]:
    for where, row in rows:
        words = listed(row, where, next(iter(named(list(row), TOKEN_NAMES)), "tokens"))
        given = field(row, where, "predicate")
        for marked in given if isinstance(given, list) else [given]:
            if not isinstance(marked, int) or not 0 <= marked < len(words):
                raise DataError(f"{where}: predicate {marked}; expected the number of one of the {len(words)} words, from 0")
            yield Sentence(words, None, where, row_id(row, None), marked)


def _in_conllu(path: Path) -> Iterator[Sentence]:
    for comments, lines in blocks(path):
        rows = [cells for _, cells in lines if not NOT_WORDS.fullmatch(cells[0])]
        words, called = [cell(cells, FORM) for cells in rows], map(verb, role_columns(rows))
        for marked in predicates(rows) or [number for number in called if number is not None]:
            yield Sentence(words, None, str(path), comments.get("sent_id"), marked)
