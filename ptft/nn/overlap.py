"""How far written texts agree with their references: BLEU, chrF and ROUGE."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor

from ptft.metrics import parts
from ptft.nn.words import CHARACTER

ROUGES = {"rouge1": 1, "rouge2": 2, "rougeL": None}
# Words as in the package rouge-score, which knows no letters but a to z; here words of other scripts count as well.
WORD = re.compile(rf"[a-z0-9]+|[{CHARACTER}]|[^\W_\u0000-\u024f{CHARACTER}]+")


def overlap(tokenize: str) -> dict[str, Any]:
    """Metrics updated with texts and the list of references of each: bleu and chrf in percent, ROUGE as shares.

    bleu, chrf: of all texts as one corpus, as sacrebleu has them (1804.08771). tokenize: how it finds words: 13a, intl, zh,
    char or none. rouge1, rouge2, rougeL: F-measures of the best reference, averaged over the texts, as in rouge-score.
    """
    names = "bleu", "chrf", *ROUGES
    return parts(Overlap(tokenize), **{name: lambda found, name=name: found[name] for name in names})


class Overlap:
    """All scores at once, of texts that are kept until then."""

    def __init__(self, tokenize: str):
        self.tokenize = tokenize
        self.texts: list[str] = []
        self.references: list[Sequence[str]] = []
        self.found: dict[str, Tensor] | None = None

    def to(self, device: torch.device) -> Overlap:
        return self

    def update(self, texts: Sequence[str], references: Sequence[Sequence[str]]) -> None:
        self.texts += texts
        self.references += references
        self.found = None

    def compute(self) -> dict[str, Tensor]:
        """Scores by name; not a number without any text."""
        if self.found is None:
            scores = {**self._corpus(), **self._rouge()} if self.texts else dict.fromkeys(("bleu", "chrf", *ROUGES), torch.nan)
            self.found = {name: torch.tensor(score, dtype=torch.float64) for name, score in scores.items()}
        return self.found

    def _corpus(self) -> dict[str, float]:
        from sacrebleu.metrics import BLEU, CHRF

        streams = list(zip_longest(*self.references))  # as many as one text has references at the most, with gaps
        bleu = BLEU(tokenize=self.tokenize, force=True)  # force: that texts look tokenised is no mistake
        return {"bleu": bleu.corpus_score(self.texts, streams).score, "chrf": CHRF().corpus_score(self.texts, streams).score}

    def _rouge(self) -> dict[str, float]:
        texts = [words(text) for text in self.texts]
        references = [[words(one) for one in several] for several in self.references]

        def mean(size: int | None) -> float:
            pairs = zip(texts, references, strict=True)
            return sum(max(rouge(text, one, size) for one in several) for text, several in pairs) / len(texts)

        return {name: mean(size) for name, size in ROUGES.items()}


def words(text: str) -> list[str]:
    """Lower-cased words without punctuation; each Chinese or Japanese character by itself."""
    return WORD.findall(text.lower())


def rouge(text: Sequence[str], reference: Sequence[str], size: int | None) -> float:
    """The F-measure of common n-grams of `size` words (Lin 2004), or of the longest common subsequence for None."""
    if size is None:
        common, lengths = longest_common(text, reference), (len(text), len(reference))
    else:
        grams = [Counter(ngrams(words, size)) for words in (text, reference)]
        common, lengths = (grams[0] & grams[1]).total(), (grams[0].total(), grams[1].total())
    return 2 * common / sum(lengths) if common else 0.0


def ngrams(words: Sequence[str], size: int) -> Iterable[tuple[str, ...]]:
    """All runs of `size` words."""
    return (tuple(words[start : start + size]) for start in range(len(words) - size + 1))


def longest_common(one: Sequence[str], other: Sequence[str]) -> int:
    """How many words the longest sequence has that both hold in this order."""
    lengths = [0] * (len(other) + 1)
    for word in one:
        before = lengths.copy()
        for place, candidate in enumerate(other, 1):
            lengths[place] = before[place - 1] + 1 if word == candidate else max(before[place], lengths[place - 1])
    return lengths[-1]
