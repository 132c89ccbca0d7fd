"""Unlabelled text as a stream of documents in pieces of bounded size, and its division into splits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ptft.data.opening import guarded, kind, open_text
from ptft.data.reading import choose_text, rows, text_cell
from ptft.errors import DataError, UserError
from ptft.randomness import key, permute

SPLITS = ("train", "valid", "test")
MODES = ("auto", "file", "paragraph", "line")
BLOCK = 1 << 18  # characters read at a time
LINE_LIMIT = 1 << 25
WHOLE_DOCUMENTS = 100  # with fewer documents than this, splits are cut out of the running text

Part = tuple[str, bool]  # a piece of a document, and whether the document ends with it
Routed = tuple[str, str, bool]  # split, piece, document ends


@dataclass(frozen=True)
class Source:
    """The documents of some files.

    column: where tables hold the text. mode: what a document of a plain text file is (file, paragraph, line).
    """

    files: tuple[Path, ...]
    column: str | None
    mode: str

    def parts(self) -> Iterator[Part]:
        """The documents in file order; empty ones come as ("", True)."""
        for path in self.files:
            if kind(path) != "text":
                yield from self.cells(path)
            else:
                with guarded(path), open_text(path) as stream:
                    yield from PLAIN[self.mode](stream, path)

    def cells(self, path: Path) -> Iterator[Part]:
        """Rows of a table, each a document."""
        if self.mode not in ("auto", "file"):
            raise UserError(f"dataset.documents={self.mode} is for plain text; each row of {path} is a document")
        column = choose_text(path, "dataset.text", self.column)
        for where, row in rows(path):
            text = text_cell(row, where, column)
            yield text if not text.isspace() else "", True


def whole_file(stream, path: Path) -> Iterator[Part]:
    """One document, in blocks that end with a line where they can."""
    rest = ""
    while block := stream.read(BLOCK):
        text = rest + block
        cut = text.rfind("\n") + 1 or len(text)
        rest = text[cut:]
        yield text[:cut], False
    yield rest, True


def paragraphs(stream, path: Path) -> Iterator[Part]:
    """Documents between blank lines."""
    lines: list[str] = []
    for line in bounded_lines(stream, path):
        if line.strip():
            lines.append(line)
        elif lines:
            yield "".join(lines).rstrip("\r\n"), True
            lines = []
    if lines:
        yield "".join(lines).rstrip("\r\n"), True


def single_lines(stream, path: Path) -> Iterator[Part]:
    """Each line that is not blank is a document."""
    for line in bounded_lines(stream, path):
        if line.strip():
            yield line.rstrip("\r\n"), True


def bounded_lines(stream, path: Path) -> Iterator[str]:
    """The lines of a file; DataError for one that is too long to be held in memory."""
    number = 0
    while line := stream.readline(LINE_LIMIT):
        number += 1
        if len(line) >= LINE_LIMIT:
            raise DataError(f"{path}:{number}: longer than {LINE_LIMIT >> 20} MB; dataset.documents=file has no limit")
        yield line


PLAIN = {"auto": whole_file, "file": whole_file, "paragraph": paragraphs, "line": single_lines}


@dataclass(frozen=True)
class Census:
    """What a source holds: documents and characters that count, and documents that are empty."""

    documents: int
    characters: int
    empty: int


def count(source: Source) -> Census:
    """Read a source once; DataError for the first thing wrong with it, or if it holds nothing."""
    documents = characters = empty = length = 0
    blank = True
    for text, ends in source.parts():
        length += len(text)
        blank = blank and (not text or text.isspace())
        if ends:
            documents, empty = (documents + 1, empty) if length else (documents, empty + 1)
            characters, length = characters + length, 0
    if blank:
        names = ", ".join(map(str, source.files[:3]))
        raise DataError(f"{names}: empty; expected text to train on")
    return Census(documents, characters, empty)


@dataclass(frozen=True)
class Division:
    """How one source is divided: some documents drawn by seed, or, where they are few, the end of the text.

    valid, test: how many units, of `census.documents` or `census.characters`, are held out.
    """

    census: Census
    valid_fraction: float
    test_fraction: float
    seed: int

    @property
    def by_documents(self) -> bool:
        """Whether there are enough documents to hold whole ones out; else the ends of the text are."""
        return self.census.documents >= WHOLE_DOCUMENTS

    def route(self, parts: Iterator[Part]) -> Iterator[Routed]:
        """Each piece with the split it belongs to; every character goes to exactly one."""
        return without_empty(self.route_documents(parts) if self.by_documents else self.route_text(parts))

    def route_documents(self, parts: Iterator[Part]) -> Iterator[Routed]:
        """Whole documents, drawn for one split each."""
        names = self.document_splits()
        split, length = next(names), 0
        for text, ends in parts:
            yield split, text, ends
            length += len(text)
            if ends and length:
                split, length = next(names, SPLITS[0]), 0

    def document_splits(self) -> Iterator[str]:
        """The split of each document in turn: test and valid get the first places of a seeded permutation."""
        total = self.census.documents
        test = round(self.test_fraction * total)
        valid = round(self.valid_fraction * total)
        for start in range(0, total, 1 << 16):
            places = permute(np.arange(start, min(start + (1 << 16), total)), total, key(self.seed, "split"))
            codes = np.where(places < test, 2, np.where(places < test + valid, 1, 0))
            yield from (SPLITS[code] for code in codes)

    def route_text(self, parts: Iterator[Part]) -> Iterator[Routed]:
        """Train first, then valid, then test; see cut_near for where the cuts are."""
        total = self.census.characters
        test = total - round(self.test_fraction * total)
        valid = test - round(self.valid_fraction * total)
        bounds = ((valid, test, "valid"), (test, total, "test"))
        targets = [(start, split) for start, stop, split in bounds if start < stop]
        split, done = SPLITS[0], 0
        for text, ends in parts:
            while targets and done + len(text) > targets[0][0]:
                place, following = targets.pop(0)
                cut = cut_near(text, max(place - done, 0), (total - place) // 4, ends)
                yield split, text[:cut], True
                split, text, done = following, text[cut:], done + cut
            done += len(text)
            yield split, text, ends


def cut_near(text: str, place: int, patience: int, ends: bool) -> int:
    """The first end of a line at or after `place` and not much later, else of the document or a word; else `place`."""
    stop = place + patience
    line = text.find("\n", max(place - 1, 0), stop) + 1
    if line:
        return line
    if ends and len(text) <= stop:
        return len(text)
    return text.find(" ", max(place - 1, 0), stop) + 1 or place


def without_empty(parts: Iterator[Routed]) -> Iterator[Routed]:
    """The parts without documents of no character."""
    begun = False
    for split, text, ends in parts:
        if text or begun:
            yield split, text, ends
        begun = not ends and (begun or bool(text))
