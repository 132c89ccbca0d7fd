"""Spans of words from their tags, as seqeval reads them, and how many of them are right."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ptft.metrics import parts

OUTSIDE, BEGIN, INSIDE, END, SINGLE = range(5)
# M, L and U are what BMES and BILOU call the inside, the end and a single word
PREFIXES = {"B": BEGIN, "I": INSIDE, "M": INSIDE, "E": END, "L": END, "S": SINGLE, "U": SINGLE}
CHUNK = re.compile(r"([BIMELSU])(?:[-_](.+))?")
NO_TAG = "O"
PADDING = -100  # the tag of what is no word
NONE = -1  # the prediction for a word that the model did not see


def chunked(labels: Sequence[str]) -> bool:
    """Whether tags are of spans, such as B-PER and O; others, such as parts of speech, say something of each word.

    A stray tag among those of spans, such as X, is outside of them.
    """
    found = [CHUNK.fullmatch(label) for label in labels if label != NO_TAG]
    return bool(found) and (all(found) or any(match and match[2] for match in found))


def parse(label: str) -> tuple[int, str]:
    """What a tag of spans says: where in a span the word stands, and the type of the span ("_" where it has no name)."""
    found = CHUNK.fullmatch(label)
    return (PREFIXES[found[1]], found[2] or "_") if found else (OUTSIDE, "")


@dataclass
class Spans:
    """All spans of a batch: row, first word, word after the last, type, and whether it is whole by its scheme; each [N]."""

    row: Tensor
    start: Tensor
    end: Tensor
    kind: Tensor
    whole: Tensor

    def keys(self, width: int, types: int) -> Tensor:
        """One number for each span, int64 [N]; equal for equal spans of batches of so many words."""
        return ((self.row * (width + 1) + self.start) * (width + 1) + self.end) * types + self.kind


class Scheme:
    """What the tags of a model mean: spans in BIO or BIOES, or, of other tags than these, words one by one.

    types: the names of spans, sorted.
    """

    def __init__(self, labels: Sequence[str]):
        words = not chunked(labels)
        parsed = [(SINGLE, label) if words and label != NO_TAG else parse(label) for label in labels]
        self.labels = list(labels)
        self.types = sorted({kind for prefix, kind in parsed if prefix != OUTSIDE})
        self.prefixes = torch.tensor([*(prefix for prefix, _ in parsed), OUTSIDE])  # the last is for no tag at all
        self.kinds = torch.tensor([*(self.types.index(kind) if prefix else -1 for prefix, kind in parsed), -1])
        found = {prefix for prefix, _ in parsed}
        self.ended = bool(found & {END, SINGLE})
        self.marks_spans = NO_TAG in labels or not words

    def spans(self, tags: Tensor) -> Spans:
        """The spans of tags [B, W], those below 0 being none, by the rules of seqeval's default mode (and conlleval's).

        A span goes on as long as inside or end tags of its type follow; one that begins inside begins all the same.
        """
        known = F.pad(tags.clamp(min=-1), (1, 1), value=-1)
        prefix, kind = self.prefixes.to(tags.device)[known], self.kinds.to(tags.device)[known]
        before, after = prefix[:, :-1], prefix[:, 1:]
        fresh = (after == BEGIN) | (after == SINGLE) | (before == OUTSIDE) | (before == END) | (before == SINGLE)
        begins = (after != OUTSIDE) & (fresh | (kind[:, :-1] != kind[:, 1:]))
        ends = (before != OUTSIDE) & ((after == OUTSIDE) | begins)
        row, start = begins.nonzero(as_tuple=True)
        end = ends.nonzero(as_tuple=True)[1]
        first, last = prefix[row, start + 1], prefix[row, end]
        whole = (first == SINGLE) | ((first == BEGIN) & (last == END if self.ended else True))
        return Spans(row, start, end, kind[row, start + 1], whole)

    def counts(self, prediction: Tensor, target: Tensor) -> Tensor:
        """How many spans of each type are right, predicted and true, int64 [2, 3, types].

        The second set is strict: it knows only spans that are whole by the scheme, as seqeval's strict mode does.
        """
        width, types = target.shape[1], len(self.types)
        pair = self.spans(prediction), self.spans(target)
        keys = [spans.keys(width, types) for spans in pair]
        sets = []
        for chosen in ([torch.ones_like(spans.whole) for spans in pair], [spans.whole for spans in pair]):
            guessed, true = (key[mask] for key, mask in zip(keys, chosen, strict=True))
            right = guessed[torch.isin(guessed, true)]
            sets.append(torch.stack([torch.bincount(found % types, minlength=types) for found in (right, guessed, true)]))
        return torch.stack(sets)

    def named(self, tags: Tensor) -> list[list[tuple[str, int, int]]]:
        """The spans of each row of tags [B, W]: type, first word, word after the last."""
        found = self.spans(tags)
        rows: list[list[tuple[str, int, int]]] = [[] for _ in tags]
        columns = (part.tolist() for part in (found.row, found.kind, found.start, found.end))
        for row, kind, start, end in zip(*columns, strict=True):
            rows[row].append((self.types[kind], start, end))
        return rows


def span_scores(scheme: Scheme) -> dict[str, Any]:
    """Metrics of spans, updated with predicted and true tags [B, W], all from one set of counts over the data.

    precision, recall, f1: over all spans (micro), 0 where there is nothing to divide by, as in seqeval. f1_strict: only
    spans that are whole by the scheme. f1_macro: the mean over the types that occur. type_f1, type_precision,
    type_recall: tables by type (`names`), not a number for types that do not occur.
    """
    from torchmetrics import Metric

    class SpanCounts(Metric):
        """Right, predicted and true spans of each type."""

        full_state_update = False

        def __init__(self):
            super().__init__()
            self.add_state("counts", torch.zeros(2, 3, len(scheme.types), dtype=torch.int64), dist_reduce_fx="sum")

        def update(self, prediction: Tensor, target: Tensor) -> None:
            self.counts += scheme.counts(prediction, target)

        def compute(self) -> Tensor:
            return self.counts.double()

    strict = {"f1_strict": lambda counts: _f1(*counts[1].sum(1))} if chunked(scheme.labels) else {}
    scores = parts(
        SpanCounts(),
        f1=lambda counts: _f1(*counts[0].sum(1)),
        precision=lambda counts: _ratio(counts[0, 0].sum(), counts[0, 1].sum()),
        recall=lambda counts: _ratio(counts[0, 0].sum(), counts[0, 2].sum()),
        **strict,
        f1_macro=lambda counts: torch.nan_to_num(_of_types(counts, _f1).nanmean()),
        type_f1=lambda counts: _of_types(counts, _f1),
        type_precision=lambda counts: _of_types(counts, lambda right, guessed, true: _ratio(right, guessed)),
        type_recall=lambda counts: _of_types(counts, lambda right, guessed, true: _ratio(right, true)),
    )
    for name in ("type_f1", "type_precision", "type_recall"):
        scores[name].names = scheme.types
    return scores


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    """part / whole, and 0 where whole is 0."""
    return part / whole.clamp(min=1)


def _f1(right: Tensor, guessed: Tensor, true: Tensor) -> Tensor:
    return _ratio(2 * right, guessed + true)


def _of_types(counts: Tensor, score: Any) -> Tensor:
    """A score of each type [types], not a number where it occurs as neither prediction nor target."""
    right, guessed, true = counts[0]
    return torch.where(guessed + true > 0, score(right, guessed, true), math.nan)
