"""Whether words that people find similar have similar vectors, as `ptft evaluate protocol=wordsim` asks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from ptft.errors import DataError, UserError
from ptft.nn.word_vectors import mean_vector, table
from ptft.objective import Objective


class WordSimilarity(Objective):
    """Spearman's correlation of cosines with human judgements, over the pairs whose words the tokenizer knows.

    coverage: the share of the pairs that these are. A word of several tokens has the mean of their vectors.
    """

    needs = frozenset({"text"})
    fields = ("tokens", "pair", "label")
    target = "number"
    score = "spearman"

    def __init__(self, model: nn.Module, tokenizer: Any):
        super().__init__(model)
        self.tokenizer = tokenizer

    def measure(self, rows: Sequence[dict[str, Any]]) -> dict[str, float]:
        """The scores on pairs of words. Raises UserError, DataError where they are no pairs, or hardly any is known."""
        from scipy.stats import spearmanr

        vectors, unknown = table(self.model), self.tokenizer.unk_id
        found = []
        for example in rows:
            if "pair" not in example:
                raise UserError("protocol=wordsim compares two words: name the column of the second, dataset.text_pair=COLUMN")
            pair = [mean_vector(vectors, example[name], unknown) for name in ("tokens", "pair")]
            if all(vector is not None for vector in pair):
                found.append((float(pair[0] @ pair[1]), float(example["label"])))
        if len(found) < 2:
            raise DataError(
                f"protocol=wordsim: the vocabulary has both words of {len(found)} of {len(rows)} pairs; 2 are needed"
            )
        cosines, judgements = zip(*found, strict=True)
        return {"spearman": float(spearmanr(cosines, judgements).statistic), "coverage": len(found) / len(rows)}
