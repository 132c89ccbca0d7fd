"""GloVe: products of word vectors fit the logarithms of co-occurrence counts (Pennington et al. 2014)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from ptft import metrics
from ptft.errors import DataError
from ptft.nn.cooccurrence import Triples, count_pairs, running_words
from ptft.nn.neighbours import described
from ptft.nn.table_rows import Local, Lookup, Places
from ptft.nn.word_counts import count_words, occurring
from ptft.objective import Batch, Example, Objective, Output
from ptft.randomness import Draw

if TYPE_CHECKING:
    from torchmetrics import Metric

SHOWN_WORDS = 8
TRIPLES_IN_A_ROW, ROWS_AT_LEAST = 256, 64


def weighting(counts: Tensor, x_max: float, alpha: float) -> Tensor:
    """f(X) = (X / x_max) ** alpha below x_max, else 1 (equation 9)."""
    return (counts / x_max).clamp(max=1.0) ** alpha


@dataclass
class Collate:
    """Rows of counts as one batch: words are the different ones, first and second places among them, count how often."""

    vocabulary: int

    def __call__(self, examples: list[Example], draw: Draw) -> Batch:
        first, second, count = (
            np.concatenate([example[name] for example in examples]) for name in ("first", "second", "count")
        )
        local = Local.of(self.vocabulary, first, second)
        batch = {"words": local.words, "first": local.place[first], "second": local.place[second], "count": count}
        return {name: torch.from_numpy(value) for name, value in batch.items()}


class GloVe(Objective):
    """J = 1/2 sum of f(X) (w . c + b_w + b_c - ln X)^2 over words w and context words c that occur together X times.

    The model holds the sum w + c of a word's two vectors, which is what the paper hands on; the objective holds their
    difference, and the biases. That is a rotation of the paper's two tables: the vectors survive as they are, and other
    stages need not know. Words up to `window` apart count, by 1 / distance; x_max, alpha: see weighting. All train at one
    rate, the biases too. Raises DataError where there are no two words that occur together.
    """

    needs = frozenset({"text", "vectors"})
    fields = ("tokens",)
    summed = True
    score = "correlation"

    def __init__(self, model: nn.Module, tokenizer: Any, dataset: Any, window: int, x_max: float, alpha: float):
        super().__init__(model)
        if window < 1 or x_max <= 0:
            raise ValueError(f"window={window}, x_max={x_max}: expected at least 1, and more than 0")
        self.tokenizer, self.dataset = tokenizer, dataset
        self.window, self.x_max, self.alpha = window, x_max, alpha
        self.counts = occurring(dataset, tokenizer)
        self.difference = nn.Embedding(tokenizer.vocab_size, model.dim)
        self.biases = nn.Embedding(tokenizer.vocab_size, 2)
        for table in (self.difference, self.biases):
            nn.init.uniform_(table.weight, -0.5 / model.dim, 0.5 / model.dim)
        self.collate = Collate(tokenizer.vocab_size)

    def view(self, rows: Any) -> Triples:
        """The co-occurrences of the words of a split, counted once and kept in the cache of the dataset."""

        def build(folder: Path) -> dict[str, int]:
            words = running_words(rows, self.tokenizer.special_ids)
            return {"triples": count_pairs(words, self.window, self.tokenizer.vocab_size, folder)}

        of_these = hashlib.sha256(count_words(rows, self.tokenizer).tobytes()).hexdigest()[:16]
        folder, facts = self.dataset.derived(f"pairs-{self.window}-{of_these}", build)
        if not facts["triples"]:
            raise DataError("objective=glove: no two words that the tokenizer knows occur together in this text; give more")
        size = min(TRIPLES_IN_A_ROW, max(1, facts["triples"] // ROWS_AT_LEAST))
        return Triples(folder / "triples", facts["triples"], size)

    def forward(self, batch: Batch) -> Output:
        with torch.autocast(batch["count"].device.type, enabled=False):
            total, difference, biases = (
                Lookup.apply(table.weight, batch["words"])
                for table in (self.model.token_embedding, self.difference, self.biases)
            )
            words = torch.cat(((total + difference) / 2, biases[:, :1]), dim=1)
            contexts = torch.cat(((total - difference) / 2, biases[:, 1:]), dim=1)
            one, other = Places.apply(words, batch["first"]), Places.apply(contexts, batch["second"])
            fit = (one[:, :-1] * other[:, :-1]).sum(1) + one[:, -1] + other[:, -1]
            logarithms = batch["count"].log()
            errors = weighting(batch["count"], self.x_max, self.alpha) * (fit - logarithms).square()
        return Output(errors.sum() / 2, errors.new_tensor(len(errors)), fit.detach(), logarithms)

    def metrics(self) -> dict[str, Metric]:
        return {"correlation": metrics.correlation()}

    def samples(self, batch: Batch, output: Output) -> list[str]:
        """Some frequent words and their nearest neighbours."""
        return described(self.model.token_embedding.weight, self.counts, self.tokenizer, SHOWN_WORDS)
