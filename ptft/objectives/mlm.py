"""Masked language modelling: guess the hidden tokens of a text from both sides (BERT, 1810.04805, 3.1)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ptft.nn.language import perplexity, token_loss
from ptft.nn.text import pad, text_inputs
from ptft.objective import Batch, Example, Objective, Output
from ptft.randomness import Draw

NEVER = 2.0  # beyond every uniform number
SHOWN_TEXTS = 4
SHOWN_TOKENS = 48


@dataclass
class Collate:
    """Hides max(1, round(mask_prob * n)) of the n ordinary tokens of each text, and never a special one.

    Of these `mask_share` become [MASK], `random_share` a random ordinary token, the others stay; anew each epoch.
    whole_word: all pieces of a word or none, in random order as far as they fit the number.
    """

    mask_prob: float
    mask_share: float
    random_share: float
    whole_word: bool
    max_length: int
    cls_id: int
    sep_id: int
    pad_id: int
    mask_id: int
    ordinary: np.ndarray  # bool [vocabulary]: what may be hidden and what may stand in
    starts_word: np.ndarray  # bool [vocabulary]

    def __call__(self, examples: list[Example], draw: Draw) -> Batch:
        rows = [self._frame(example["tokens"]) for example in examples]
        tokens = pad(rows, self.pad_id)
        hidden = self._choose(tokens, draw)
        inputs = text_inputs(rows, self.pad_id)
        inputs["tokens"] = torch.from_numpy(self._corrupt(tokens, hidden, draw))
        index = np.flatnonzero(hidden)
        return {"inputs": inputs, "index": torch.from_numpy(index), "targets": torch.from_numpy(tokens.ravel()[index])}

    def _frame(self, tokens: np.ndarray) -> np.ndarray:
        if len(tokens) + 2 > self.max_length:
            raise ValueError(f"{len(tokens)} tokens with [CLS] and [SEP] do not fit model.max_length={self.max_length}")
        return np.concatenate(((self.cls_id,), tokens, (self.sep_id,)))

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


class MLM(Objective):
    """Cross-entropy at the hidden tokens; the head shares its matrix with the token embedding.

    mask_prob: the share of tokens hidden. mask_share, random_share: of these, shown as [MASK] and as a random token.
    whole_word: hide words, not pieces. Raises ValueError for shares that are none.
    """

    needs = frozenset({"text", "bidirectional"})
    fields = ("tokens",)
    added_tokens = 2  # [CLS] and [SEP] around each text

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,
        mask_prob: float,
        mask_share: float,
        random_share: float,
        whole_word: bool,
    ):
        super().__init__(model)
        if not 0 < mask_prob < 1:
            raise ValueError(f"mask_prob={mask_prob} is no share between 0 and 1")
        if min(mask_share, random_share) < 0 or mask_share + random_share > 1:
            raise ValueError(f"mask_share={mask_share} and random_share={random_share} do not fit into 1")
        self.tokenizer = tokenizer
        self.dense = nn.Linear(model.dim, model.dim)
        self.norm = nn.LayerNorm(model.dim, eps=getattr(model, "eps", 1e-12))
        self.bias = nn.Parameter(torch.zeros(tokenizer.vocab_size))
        nn.init.normal_(self.dense.weight, std=0.02)
        nn.init.zeros_(self.dense.bias)
        ordinary = np.ones(tokenizer.vocab_size, dtype=bool)
        ordinary[list(tokenizer.special_ids)] = False
        self.collate = Collate(
            mask_prob=mask_prob,
            mask_share=mask_share,
            random_share=random_share,
            whole_word=whole_word,
            max_length=model.max_length,
            cls_id=tokenizer.cls_id,
            sep_id=tokenizer.sep_id,
            pad_id=tokenizer.pad_id,
            mask_id=tokenizer.mask_id,
            ordinary=ordinary,
            starts_word=np.asarray(tokenizer.starts_word),
        )

    def logits(self, features: Tensor) -> Tensor:
        """Scores over the vocabulary of features [..., dim]."""
        transformed = self.norm(F.gelu(self.dense(features)))
        return F.linear(transformed, self.model.token_embedding.weight, self.bias)

    def answer(self, inputs: dict[str, Tensor]) -> Tensor:
        """The logits [B, T, vocabulary]."""
        return self.logits(self.model(**inputs))

    def forward(self, batch: Batch) -> Output:
        features = self.model(**batch["inputs"]).flatten(0, 1)
        logits = self.logits(features[batch["index"]])  # [hidden tokens, vocabulary]
        targets = batch["targets"]
        output = Output(token_loss(logits, targets), targets.new_tensor(len(targets)))
        if not self.training:
            output.prediction, output.target = logits.argmax(-1), targets
            output.means["accuracy"] = (output.prediction == targets).sum(), output.count
        return output

    def scores(self, means: dict[str, float]) -> dict[str, float]:
        return {"perplexity": perplexity(means["loss"])}

    def samples(self, batch: Batch, output: Output) -> list[str]:
        """Beginnings of texts with the hidden tokens in brackets: [guess] where it is right, else [guess/truth]."""
        tokens = batch["inputs"]["tokens"]
        width = tokens.shape[1]
        hidden: list[dict[int, tuple[int, int]]] = [{} for _ in tokens]
        guessed = (batch["index"].tolist(), output.prediction.tolist(), output.target.tolist())
        for index, guess, truth in zip(*guessed, strict=True):
            hidden[index // width][index % width] = guess, truth
        rows = tokens[:SHOWN_TEXTS, :SHOWN_TOKENS].tolist()
        return [filled(self.tokenizer, row, guesses) for row, guesses in zip(rows, hidden, strict=False)]


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
