"""Words to running text and back: blanks stand between words, but not beside Chinese or Japanese characters."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

# Chinese and Japanese letters and marks, and their full-width forms.
CHARACTER = "\u2e80-\u2fff\u3001-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff"
WITHOUT_BLANKS = re.compile(f"[{CHARACTER}]")
WORD = re.compile(rf"[{CHARACTER}]|[^\s{CHARACTER}]+")


def with_blanks(words: Sequence[str]) -> list[str]:
    """Each word with the blank that stands before it in running text.

    The first word gets one too, so that a tokenizer that sees blanks takes it for the word it is elsewhere.
    """
    found, before = [], ""
    for word in words:
        joined = WITHOUT_BLANKS.match(word) or WITHOUT_BLANKS.match(before)
        found.append(word if joined else f" {word}")
        before = word[-1:]
    return found


def joined(texts: Iterable[str]) -> bool:
    """Whether most characters are of scripts that put no blanks between words."""
    whole = "".join(texts)
    return 2 * len(WITHOUT_BLANKS.findall(whole)) > len(whole)


def text_of(words: Sequence[str]) -> str:
    """The running text of some words."""
    return "".join(with_blanks(words)).removeprefix(" ")


def part_of(text: str, start: int, end: int) -> str:
    """What a line has from its word number `start` up to that number `end`, which is not included."""
    places = [found.span() for found in WORD.finditer(text)][start:end]
    return text[places[0][0] : places[-1][1]]


def words_of(text: str) -> list[str]:
    """The words of a line: split at white space, each Chinese or Japanese character by itself."""
    return WORD.findall(text)
