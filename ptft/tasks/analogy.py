"""Whether differences of vectors are relations, "a is to b as c is to d", as `ptft evaluate protocol=analogy` asks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ptft.errors import DataError
from ptft.nn.neighbours import unit
from ptft.nn.word_vectors import table
from ptft.objective import Objective

ASKED_AT_ONCE = 256


class Analogy(Objective):
    """The share of questions whose fourth word is nearest to b - a + c (3CosAdd: Mikolov et al. 2013, 1301.3781, 4).

    All vectors have length 1; a, b and c are no answers, nor are special tokens. Counted are questions whose four words are
    tokens; coverage: their share. analogy_accuracy/NAME: of each section.
    """

    needs = frozenset({"text"})
    fields = ("tokens", "section")
    target = "analogy"
    score = "analogy_accuracy"

    def __init__(self, model: nn.Module, tokenizer: Any):
        super().__init__(model)
        self.tokenizer = tokenizer

    def measure(self, rows: Sequence[dict[str, Any]]) -> dict[str, float]:
        """The scores on questions. Raises DataError where the vocabulary has the words of none."""
        known = [example for example in rows if (example["tokens"] >= 0).all()]
        if not known:
            raise DataError(f"protocol=analogy: the vocabulary has all four words of none of the {len(rows)} questions")
        right = self.answered(torch.tensor([example["tokens"].tolist() for example in known]))
        sections: dict[str, list[bool]] = defaultdict(list)
        for example, hit in zip(known, right, strict=True):
            sections[example["section"]].append(hit)
        by_section = {f"analogy_accuracy/{name}": sum(hits) / len(hits) for name, hits in sections.items()}
        return {"analogy_accuracy": sum(right) / len(right), "coverage": len(known) / len(rows), **by_section}

    def answered(self, questions: Tensor) -> list[bool]:
        """Which questions [N, 4] are answered right."""
        vectors = unit(table(self.model))
        right: list[bool] = []
        for a, b, c, d in (chunk.T for chunk in questions.to(vectors.device).split(ASKED_AT_ONCE)):
            scores = (vectors[b] - vectors[a] + vectors[c]) @ vectors.mT
            scores[:, list(set(self.tokenizer.special_ids))] = -torch.inf
            scores.scatter_(1, torch.stack((a, b, c), dim=1), -torch.inf)
            right += (scores.argmax(1) == d).tolist()
        return right
