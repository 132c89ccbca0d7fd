"""Word vectors by telling words that occur together from noise: what skip-gram and CBOW share (word2vec, 1310.4546)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ptft.nn.neighbours import described
from ptft.nn.table_rows import Local, Lookup, Places
from ptft.nn.text import pad
from ptft.nn.windows import STRETCH, Stretches, stretches
from ptft.nn.word_counts import Noise, Rule, keep_probabilities, occurring
from ptft.objective import Batch, Example, Objective, Output
from ptft.randomness import Draw

SHOWN_WORDS = 8


class NegativeLoss(torch.autograd.Function):
    """The weighted sum of -log sigmoid(+-input . output): + for the first `positives` outputs of each stretch, - for noise.

    inputs [S, C, dim], outputs [S, J, dim], weights [S, C, J] -> scalar. The backward pass is written out: sigmoids are
    computed once, and most weights are 0.
    """

    @staticmethod
    def forward(context: Any, inputs: Tensor, outputs: Tensor, weights: Tensor, positives: int) -> Tensor:
        scores = torch.bmm(inputs, outputs.mT)
        scores[:, :, :positives].neg_()
        loss = torch.dot(F.softplus(scores).flatten(), weights.flatten())
        slope = scores.sigmoid_().mul_(weights)
        slope[:, :, :positives].neg_()
        context.save_for_backward(inputs, outputs, slope)
        return loss

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        inputs, outputs, slope = context.saved_tensors
        slope = slope * gradient
        return torch.bmm(slope, outputs), torch.bmm(slope.mT, inputs), None, None


@dataclass
class Collate:
    """Pairs of a word and a word in its window, and noise for each pair.

    A batch has inner and outer, the different words of both tables; columns [S, J], places in outer; weights [S, C, J]; and
    inputs' places in inner. average: inputs are the means of windows (CBOW), else single words (skip-gram).
    negatives: how many for each pair. shared: instead of its own negatives, all words of a stretch get the same `shared` ones
    with weights that add up to as many: the expected loss is the same.
    """

    average: bool
    keep: np.ndarray
    noise: Noise
    window: int
    negatives: int
    shared: int | None

    def __call__(self, examples: list[Example], draw: Draw) -> Batch:
        found = stretches(examples, draw, self.keep, self.window)
        pairs = found.inside & (found.words >= 0)[:, None, :] & (found.centres >= 0)[:, :, None]
        filled = np.maximum(found.words, 0)
        middle = filled[:, self.window : self.window + STRETCH]
        if self.average:
            columns, targets = middle, np.eye(STRETCH, dtype=bool) & pairs.any(2)[:, :, None]
        else:
            columns, targets = filled, pairs
        chosen = None
        if self.shared is None:
            chosen, columns, weights = self._own(columns, targets, found, draw)
        else:
            columns, weights = self._common(columns, targets, found, draw)
        inner = Local.of(len(self.keep), filled if self.average else middle)
        outer = Local.of(len(self.keep), columns)
        batch = {
            "inputs": {"tokens": torch.from_numpy(pad([example["tokens"] for example in examples], 0))},
            "inner": torch.from_numpy(inner.words),
            "outer": torch.from_numpy(outer.words),
            "places": torch.from_numpy(inner.place[filled if self.average else middle]),
            "columns": torch.from_numpy(outer.place[columns]),
            "weights": torch.from_numpy(weights),
            "positives": 1 if self.shared is None else columns.shape[1] - self.shared,
            "count": torch.tensor(float(targets.sum())),
        }
        if self.average:
            batch["mixing"] = torch.from_numpy(pairs.astype(np.float32))
            batch["share"] = 1 / batch["mixing"].sum(2, keepdim=True).clamp(min=1)
        if chosen is not None:
            batch["chosen"] = torch.from_numpy(chosen)
        return batch

    def _common(self, columns: np.ndarray, targets: np.ndarray, found: Stretches, draw: Draw) -> tuple[np.ndarray, np.ndarray]:
        """Columns [S, J + shared] and weights [S, STRETCH, J + shared]: a pair skips noise that is its own target."""
        share, width = self.negatives / self.shared, columns.shape[1]
        numbers = int(found.number.max(initial=-1)) + 1
        noise = self.noise.draw(draw, "words.noise", (numbers, self.shared))[found.row, found.number]
        weights = np.empty((*targets.shape[:2], width + self.shared), dtype=np.float32)
        weights[:, :, :width] = targets
        weights[:, :, width:] = targets.sum(2, keepdims=True) * np.float32(share)
        stretch, column, drawn = np.nonzero(columns[:, :, None] == noise[:, None, :])
        np.subtract.at(weights, (stretch, slice(None), width + drawn), targets[stretch, :, column] * np.float32(share))
        return np.concatenate((columns, noise), axis=1), weights

    def _own(self, columns: np.ndarray, targets: np.ndarray, found: Stretches, draw: Draw) -> tuple[np.ndarray, ...]:
        """Each pair by itself: which input it has, [P]; its target and noise, [P, 1 + negatives]; and weights like these."""
        stretch, place, column = np.nonzero(targets)
        width = targets.shape[2]
        numbers = (int(found.number.max(initial=-1)) + 1) * STRETCH * width
        slots = (found.number[stretch] * STRETCH + place) * width + column
        noise = self.noise.draw(draw, "words.noise", (numbers, self.negatives))[found.row[stretch], slots]
        target = columns[stretch, column][:, None]
        weights = np.concatenate((np.ones_like(target), noise != target), axis=1).astype(np.float32)
        return stretch * STRETCH + place, np.concatenate((target, noise), axis=1), weights[:, None, :]


class NegativeSampling(Objective):
    """Vectors of words that tell the words around them from noise.

    window: words on either side, at most; each occurrence draws its own. negatives: noise words for each pair, with
    probability in proportion to count ** power; one that equals the target is skipped. subsample, rule: threshold and
    formula by which frequent words are left out (see keep_probabilities). shared: see Collate. The second table, of words as
    they are predicted, is thrown away. Raises ValueError, DataError.
    """

    needs = frozenset({"text", "vectors"})
    fields = ("tokens",)
    summed = True
    average = False

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,
        dataset: Any,
        window: int,
        negatives: int,
        shared: int | None,
        power: float,
        subsample: float | None,
        rule: Rule,
    ):
        super().__init__(model)
        for name, value in {"window": window, "negatives": negatives, "shared": 1 if shared is None else shared}.items():
            if value < 1:
                raise ValueError(f"{name}={value}: expected at least 1")
        self.tokenizer = tokenizer
        self.context = nn.Embedding(tokenizer.vocab_size, model.dim)
        nn.init.zeros_(self.context.weight)
        self.counts = occurring(dataset, tokenizer)
        keep = keep_probabilities(self.counts, subsample, rule)
        self.collate = Collate(self.average, keep, Noise.of(self.counts, power), window, negatives, shared)

    def forward(self, batch: Batch) -> Output:
        with torch.autocast(batch["weights"].device.type, enabled=False):
            inner = Lookup.apply(self.model.token_embedding.weight, batch["inner"])
            outer = Lookup.apply(self.context.weight, batch["outer"])
            inputs, outputs = Places.apply(inner, batch["places"]), Places.apply(outer, batch["columns"])
            if "mixing" in batch:
                total = torch.bmm(batch["mixing"], inputs)
                # as word2vec.c: the value is the mean, but each word of the window gets the error undivided
                inputs = total + (total.detach() * (batch["share"] - 1))
            if "chosen" in batch:
                inputs = Places.apply(inputs.flatten(0, 1), batch["chosen"][:, None])
            loss = NegativeLoss.apply(inputs, outputs, batch["weights"], batch["positives"])
        return Output(loss, batch["count"])

    def samples(self, batch: Batch, output: Output) -> list[str]:
        """Some frequent words and their nearest neighbours."""
        return described(self.model.token_embedding.weight, self.counts, self.tokenizer, SHOWN_WORDS)
