"""Text infilling: rebuild a text of which spans are hidden behind one [MASK] each (BART, 1910.13461, 2.2)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from ptft.nn.generation import Decoding, write
from ptft.nn.language import NextToken
from ptft.nn.teaching import Teaching
from ptft.objective import Batch, Example, Output
from ptft.randomness import Draw

SHOWN_TEXTS = 2
SHOWN_TOKENS = 48
LONGEST_MEAN = 50
SPARE = 8  # lengths drawn beyond one for each token, since some are 0
MASK = "[MASK]"


@dataclass
class Collate:
    """Hides round(mask_prob * n) of the n tokens of each text in spans, anew each epoch.

    Lengths of spans are drawn from a Poisson distribution, the last one cut to fit; one of length 0 adds a [MASK] that stands
    for nothing. No two touch, so that each [MASK] is one span. A special token is never hidden: a span ends before it.
    """

    teaching: Teaching
    mask_prob: float
    span_lengths: np.ndarray  # the chance that a span is at most so long: [0, 1, 2, ...]
    mask_id: int
    special_ids: tuple[int, ...]

    def __call__(self, examples: list[Example], draw: Draw) -> Batch:
        texts = [example["tokens"] for example in examples]
        longest = max(map(len, texts))
        lengths = np.searchsorted(self.span_lengths, draw.uniform("infill.length", (longest + SPARE,)), side="right")
        places = draw.uniform("infill.place", (longest + 1,))
        hidden = [self.hide(*row) for row in zip(texts, lengths, places, strict=True)]
        batch = self.teaching(hidden, texts)
        return batch if draw.training else {**batch, "prompts": [self.teaching.source(text).tolist() for text in hidden]}

    def hide(self, tokens: np.ndarray, lengths: np.ndarray, places: np.ndarray) -> np.ndarray:
        """A text with its spans hidden. lengths: drawn ones, as many as are needed. places: uniform numbers."""
        lengths = fitting(lengths, max(1, round(self.mask_prob * len(tokens))))
        gaps = len(tokens) - lengths.sum() + 1  # around the tokens that stay; each takes one span at the most
        if len(lengths) > gaps:  # of a very short text, or one of which hardly anything stays
            lengths = lengths[np.sort(np.argsort(-lengths, kind="stable")[:gaps])]
            gaps = len(tokens) - lengths.sum() + 1
        chosen = np.sort(places[:gaps].argsort()[: len(lengths)])
        return self.replace(tokens, chosen + np.cumsum(lengths) - lengths, lengths)

    def replace(self, tokens: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """One [MASK] in the place of each span."""
        special = np.isin(tokens, self.special_ids)
        pieces, position = [], 0
        for start, length in zip(starts, lengths, strict=True):
            pieces += [tokens[position:start], (self.mask_id,)]
            ends = np.flatnonzero(special[start : start + length])
            position = start + (ends[0] if len(ends) else length)
        return np.concatenate((*pieces, tokens[position:]))


def fitting(lengths: np.ndarray, wanted: int) -> np.ndarray:
    """The first of the lengths, so many that their sum is `wanted`, the last one cut for it."""
    sums = np.cumsum(lengths)
    count = int(np.searchsorted(sums, wanted)) + 1
    return np.diff(np.minimum(sums[:count], wanted), prepend=0)


class Infill(NextToken):
    """Cross-entropy of every token of the text, written by an encoder-decoder model that reads it with spans hidden.

    tie: the head is the token embedding and survives with the model. mask_prob: the share of the tokens hidden. span_length:
    how many tokens a span has on average. Raises ValueError for a share that is none.
    """

    needs = frozenset({"text", "seq2seq"})
    fields = ("tokens",)
    added_tokens = 2  # [CLS] and [SEP], or [EOS]

    def __init__(self, model: nn.Module, tokenizer: Any, tie: bool | None, mask_prob: float, span_length: float):
        super().__init__(model, tokenizer, tie)
        if not 0 < mask_prob < 1:
            raise ValueError(f"mask_prob={mask_prob} is no share between 0 and 1")
        if not 0 < span_length <= LONGEST_MEAN:
            raise ValueError(f"span_length={span_length}: expected more than 0, up to {LONGEST_MEAN}")
        self.decoding = Decoding(SHOWN_TOKENS, temperature=0.0)
        self.collate = Collate(
            teaching=Teaching.of(model, tokenizer),
            mask_prob=mask_prob,
            span_lengths=poisson(span_length),
            mask_id=tokenizer.mask_id,
            special_ids=tuple(tokenizer.special_ids),
        )

    def prompt(self, text: str) -> list[int]:
        """What the encoder reads of a text, in which "[MASK]" stands for a span to fill."""
        parts = self.tokenizer.encode(text.split(MASK))
        masked = [token for part in parts for token in (*part.tolist(), self.tokenizer.mask_id)][:-1]
        return self.collate.teaching.source(np.array(masked, dtype=np.int64)).tolist()

    def shown(self, prompt: str, written: str) -> str:
        return written

    def samples(self, batch: Batch, output: Output) -> list[str]:
        """Texts as the encoder reads them, and how the model rebuilds their beginning."""
        prompts = batch["prompts"][:SHOWN_TEXTS]
        written = write(self, prompts, self.decoding, eos_id=self.tokenizer.eos_id)
        shown = [self.tokenizer.decode(prompt[1:-1][:SHOWN_TOKENS], False) for prompt in prompts]
        return [f"{text} --> {self.tokenizer.decode(tokens)}" for text, tokens in zip(shown, written, strict=True)]


def poisson(mean: float) -> np.ndarray:
    """The chance of at most 0, 1, 2, ... by a Poisson distribution, up to where nothing is left."""
    chances = np.cumsum([math.exp(n * math.log(mean) - mean - math.lgamma(n + 1)) for n in range(4 * LONGEST_MEAN)])
    return chances[: int(np.searchsorted(chances, 1 - 1e-12)) + 1]
