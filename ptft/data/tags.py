"""Schemes of tags: which one some data follows, what breaks it, and IOB1 brought to BIO."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

from ptft.nn.spans import BEGIN, END, INSIDE, NO_TAG, SINGLE, chunked, parse

Tags = Sequence[str]


def scheme_of(rows: Sequence[Tags]) -> str:
    """What the tags of some sentences follow: bio, iob1, bioes, or words where they are not of spans.

    In IOB1 (Ramshaw & Marcus 1995) spans begin with I, and with B only right after another of their type.
    """
    labels = {tag for tags in rows for tag in tags}
    if not chunked(sorted(labels)):
        return "words"
    if {parse(tag)[0] for tag in labels} & {END, SINGLE}:
        return "bioes"
    pairs = [pair for tags in rows for pair in neighbours(tags)]
    apart = [(before, after) for before, after in pairs if after[0] and not (before[0] and before[1] == after[1])]
    begun_inside = any(after[0] == INSIDE for _, after in apart)
    return "iob1" if begun_inside and all(after[0] == INSIDE for _, after in apart) else "bio"


def neighbours(tags: Tags) -> Iterable[tuple[tuple[int, str], tuple[int, str]]]:
    """Each tag with the one before it, as place in a span and type; outside words stand at both ends."""
    return pairwise(map(parse, (NO_TAG, *tags, NO_TAG)))


def as_bio(tags: Tags) -> list[str]:
    """IOB1 tags as BIO: the same spans, each with a B at its beginning."""
    found = []
    for tag, ((before, kind), (place, own)) in zip(tags, neighbours(tags), strict=False):
        begins = place == INSIDE and not (before and kind == own)
        found.append(f"B{tag[1:]}" if begins else tag)
    return found


def breaks(tags: Tags, scheme: str) -> int:
    """How many tags cannot follow the one before them: an inside without a beginning, in BIOES also a span without an end."""
    if scheme == "words":
        return 0
    return sum(not follows(before, after, scheme) for before, after in neighbours(tags))


def follows(before: tuple[int, str], after: tuple[int, str], scheme: str) -> bool:
    """Whether one tag, as place and type, may stand after another."""
    is_open, goes_on = before[0] in (BEGIN, INSIDE), after[0] in (INSIDE, END)
    if scheme == "iob1":
        return after[0] != BEGIN or (is_open and before[1] == after[1])
    if goes_on:
        return is_open and before[1] == after[1]
    return scheme == "bio" or not is_open
