"""Hiding tokens of a text, and the head that guesses them: what masked language modelling and BERT share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ptft.nn.language import perplexity
from ptft.nn.transformer import ACTIVATIONS
from ptft.objective import Batch, Objective, Output
from ptft.randomness import Draw

NEVER = 2.0  # beyond every uniform number
SHOWN_TEXTS = 4
SHOWN_TOKENS = 48


@dataclass
class Masking:
    """Hides max(1, round(mask_prob * n)) of the n ordinary tokens of each text, and never a special one (1810.04805, 3.1).

    Of these `mask_share` become [MASK], `random_share` a random ordinary token, the others stay; anew each epoch.
    whole_word: all pieces of a word or none, in random order as far as they fit the number.
    """

    mask_prob: float
    mask_share: float
    random_share: float
    whole_word: bool
    mask_id: int
    ordinary: np.ndarray  # bool [vocabulary]: what may be hidden and what may stand in
    starts_word: np.ndarray  # bool [vocabulary]

    @classmethod
    def of(cls, tokenizer: Any, mask_prob: float, mask_share: float, random_share: float, whole_word: bool) -> Masking:
        """Masking with the tokens of `tokenizer`. Raises ValueError for shares that are none."""
        if not 0 < mask_prob < 1:
            raise ValueError(f"mask_prob={mask_prob} is no share between 0 and 1")
        if min(mask_share, random_share) < 0 or mask_share + random_share > 1:
            raise ValueError(f"mask_share={mask_share} and random_share={random_share} do not fit into 1")
        ordinary = np.ones(tokenizer.vocab_size, dtype=bool)
        ordinary[list(tokenizer.special_ids)] = False
        starts_word = np.asarray(tokenizer.starts_word)
        return cls(mask_prob, mask_share, random_share, whole_word, tokenizer.mask_id, ordinary, starts_word)

    def __call__(self, tokens: np.ndarray, draw: Draw) -> tuple[Tensor, dict[str, Tensor]]:
        """What the model gets to see of tokens [B, T]; and the hidden ones: `index` in the flattened batch, and `targets`."""
        hidden = self._choose(tokens, draw)
        index = np.flatnonzero(hidden)
        seen = torch.from_numpy(self._corrupt(tokens, hidden, draw))
        return seen, {"index": torch.from_numpy(index), "targets": torch.from_numpy(tokens.ravel()[index])}

    def _choose(self, tokens: np.ndarray, draw: Draw) -> np.ndarray:
        """Where to hide: bool [B, T]."""
        maskable = self.ordinary[tokens]
        wanted = np.maximum(1, np.rint(self.mask_prob * maskable.sum(1)).astype(np.int64))
        if self.whole_word:
            return self._choose_words(tokens, maskable, wanted, draw)
        order = np.where(maskable, draw.uniform("mlm.choose", tokens.shape[1:]), NEVER)
        ranks = order.argsort(axis=1).argsort(axis=1)
        return (ranks < wanted[:, None]) & maskable

    def _choose_words(self, tokens: np.ndarray, maskable: np.ndarray, wanted: np.ndarray, draw: Draw) -> np.ndarray:
        """Words in random order, each unless it would exceed the number; the first of all if none fits."""
        rows = np.arange(len(tokens))
        begins = self.starts_word[tokens] | ~maskable
        begins[:, 1:] |= ~maskable[:, :-1]
        words = begins.cumsum(1) - begins[:, :1]  # [B, T]: which word of its row a token belongs to
        sizes = np.zeros_like(words)
        np.add.at(sizes, (rows[:, None], words), maskable)
        order = np.where(sizes > 0, draw.uniform("mlm.choose", tokens.shape[1:]), NEVER).argsort(axis=1)
        taken, used = np.zeros(words.shape, dtype=bool), np.zeros(len(tokens), dtype=np.int64)
        for word in order.T:
            size = sizes[rows, word]
            fits = used + size <= wanted
            taken[rows, word] = fits
            used += size * fits
        taken[rows[used == 0], order[used == 0, 0]] = True
        return taken[rows[:, None], words] & maskable

    def _corrupt(self, tokens: np.ndarray, hidden: np.ndarray, draw: Draw) -> np.ndarray:
        """What the model gets to see: int64 [B, T]."""
        choice = draw.uniform("mlm.corrupt", tokens.shape[1:])
        vocabulary = np.flatnonzero(self.ordinary)
        strangers = vocabulary[draw.integers("mlm.stranger", len(vocabulary), tokens.shape[1:])]
        seen = np.where(hidden & (choice < self.mask_share), self.mask_id, tokens)
        swapped = hidden & (choice >= self.mask_share) & (choice < self.mask_share + self.random_share)
        return np.where(swapped, strangers, seen)


class MaskedToken(Objective):
    """A bidirectional model with BERT's head for hidden tokens, which shares its matrix with the token embedding.

    The head has the model's activation, as BERT's has, and a GELU where that is gated. A published one may bring a matrix of
    its own (`decoder`). Batches hold `index`, where tokens are hidden in the flattened batch, and `targets`, what they were.
    """

    needs = frozenset({"text", "bidirectional"})
    fields = ("tokens",)

    def __init__(self, model: nn.Module, tokenizer: Any):
        super().__init__(model)
        self.tokenizer = tokenizer
        width = model.token_embedding.weight.size(1)  # of what the logits are products with
        self.dense = nn.Linear(model.dim, width)
        self.norm = nn.LayerNorm(width, eps=getattr(model, "eps", 1e-12))
        self.bias = nn.Parameter(torch.zeros(tokenizer.vocab_size))
        self.decoder: nn.Linear | None = None
        self._activate = {**ACTIVATIONS, "swiglu": F.gelu}.get(getattr(model, "activation", None), F.gelu)
        nn.init.normal_(self.dense.weight, std=0.02)
        nn.init.zeros_(self.dense.bias)

    def logits(self, features: Tensor) -> Tensor:
        """Scores over the vocabulary of features [..., dim]."""
        transformed = self.norm(self._activate(self.dense(features)))
        matrix = self.model.token_embedding if self.decoder is None else self.decoder
        return F.linear(transformed, matrix.weight, self.bias)

    def make_room(self, tensors: Mapping[str, Tensor]) -> None:
        if "decoder.weight" in tensors and self.decoder is None:
            self.decoder = nn.Linear(self.dense.out_features, len(self.bias), bias=False)

    def hidden_logits(self, features: Tensor, batch: Batch) -> Tensor:
        """Scores of the hidden tokens [hidden tokens, vocabulary] from features [B, T, dim]."""
        return self.logits(features.flatten(0, 1)[batch["index"]])

    def answer(self, inputs: dict[str, Tensor]) -> Tensor:
        """The logits [B, T, vocabulary]."""
        return self.logits(self.model(**inputs))

    def compare(self, output: Output, logits: Tensor, targets: Tensor) -> None:
        """Note what was guessed, and how much of it is right; in evaluation only."""
        output.prediction, output.target = logits.argmax(-1), targets
        output.means["accuracy"] = (output.prediction == targets).sum(), targets.new_tensor(len(targets))

    def scores(self, means: dict[str, float]) -> dict[str, float]:
        return {"perplexity": perplexity(means["loss"])}

    def samples(self, batch: Batch, output: Output) -> list[str]:
        return guessed_texts(self.tokenizer, batch["inputs"]["tokens"], batch["index"], output)


def guessed_texts(tokenizer: Any, tokens: Tensor, index: Tensor, output: Output) -> list[str]:
    """Beginnings of texts [B, T] with what was guessed in brackets: [guess] where it is right, else [guess/truth].

    index: where the predictions of `output` stand in the flattened texts.
    """
    width = tokens.shape[1]
    guesses: list[dict[int, tuple[int, int]]] = [{} for _ in tokens]
    for place, guess, truth in zip(index.tolist(), output.prediction.tolist(), output.target.tolist(), strict=True):
        guesses[place // width][place % width] = guess, truth
    rows = tokens[:SHOWN_TEXTS, :SHOWN_TOKENS].tolist()
    return [filled(tokenizer, row, places) for row, places in zip(rows, guesses, strict=False)]


def filled(tokenizer: Any, tokens: list[int], guesses: dict[int, tuple[int, int]]) -> str:
    """The text of `tokens` with (guess, truth) shown where `guesses` has them, by position."""
    true = [guesses[place][1] if place in guesses else token for place, token in enumerate(tokens)]
    text = ""
    # each hidden token is a run of its own, the others go together
    for place, run in groupby(range(len(tokens)), key=lambda place: place if place in guesses else None):
        places = list(run)
        shown = tokenizer.decode(true[places[0] : places[-1] + 1]) if place is None else _bracket(tokenizer, *guesses[place])
        text += (_gap(tokenizer, *true[places[0] - 1 : places[0] + 1]) if places[0] else "") + shown
    return text


def _bracket(tokenizer: Any, guess: int, truth: int) -> str:
    wrong, word = (tokenizer.decode([token], False) for token in (guess, truth))
    before = word[: len(word) - len(word.lstrip())] if word.strip() else ""
    return f"{before}[{_visible(word)}]" if guess == truth else f"{before}[{_visible(wrong)}/{_visible(word)}]"


def _visible(word: str) -> str:
    """A word without the blanks around it; blanks alone as they are written in code."""
    return word.strip() or word.encode("unicode_escape").decode()


def _gap(tokenizer: Any, left: int, right: int) -> str:
    """What decoding puts between two tokens: a space where the tokenizer keeps none of its own."""
    return " " * (tokenizer.decode([left, right]) == f"{tokenizer.decode([left])} {tokenizer.decode([right])}")
