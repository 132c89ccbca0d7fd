"""Permutation language modelling: guess each token from those before it in a random order (XLNet, 1906.08237, 2.2-2.4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ptft.nn.carried import Carried, follow
from ptft.nn.language import IGNORED, perplexity, token_loss
from ptft.nn.masking import guessed_texts
from ptft.nn.text import pad, text_inputs
from ptft.objective import Batch, Example, Objective, Output
from ptft.randomness import Draw

FIRST = -1  # the place in the order of all that is not to be guessed


@dataclass
class Collate:
    """A random order of each text's tokens, in which those to guess come last and the others together first.

    The text is cut into windows of n * context words, n from 1 to longest_span with a probability that goes as 1/n, and of
    each window n words in a row are to be guessed: 1 / context of all. Special tokens have a random place in the order
    like those to guess, so that not every token sees them, but are none. whole_word: words as the tokenizer tells them.
    """

    context: int
    longest_span: int
    whole_word: bool
    pad_id: int
    ordinary: np.ndarray  # bool [vocabulary]: what may be guessed
    starts_word: np.ndarray  # bool [vocabulary]

    def __call__(self, examples: list[Example], draw: Draw) -> Batch:
        rows = [example["tokens"] for example in examples]
        tokens = pad(rows, self.pad_id)
        chosen = self._choose(rows, draw, tokens.shape)
        rank = draw.uniform("plm.order", tokens.shape[1:]).argsort(axis=1).argsort(axis=1)
        order = np.where(chosen | ~self.ordinary[tokens], rank, FIRST)
        places = [np.flatnonzero(row) for row in chosen]
        batch = {"inputs": text_inputs(rows, self.pad_id), "order": torch.from_numpy(order)}
        batch["places"] = torch.from_numpy(pad(places, 0))
        batch["targets"] = torch.from_numpy(pad([row[where] for row, where in zip(tokens, places, strict=True)], IGNORED))
        batch["rows"], batch["follows"] = follow(examples)
        return batch

    def _choose(self, rows: list[np.ndarray], draw: Draw, shape: tuple[int, int]) -> np.ndarray:
        """What is to be guessed: bool [B, T]."""
        lengths, offsets = draw.uniform("plm.length", shape[1:]), draw.uniform("plm.offset", shape[1:])
        chosen = np.zeros(shape, dtype=bool)
        for target, tokens, *numbers in zip(chosen, rows, lengths, offsets, strict=True):
            words = self.starts_word[tokens].cumsum() if self.whole_word else np.arange(1, len(tokens) + 1)
            words -= words[0]
            target[: len(tokens)] = self._spans(words[-1] + 1, *numbers)[words] & self.ordinary[tokens]
        return chosen

    def _spans(self, count: int, lengths: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        """Which of `count` words are to be guessed, by uniform numbers for each window: bool [count]."""
        chosen, begin = np.zeros(count, dtype=bool), 0
        shares = np.cumsum(1 / np.arange(1, self.longest_span + 1))
        for length, offset in zip(lengths, offsets, strict=True):
            size = 1 + int(np.searchsorted(shares, length * shares[-1], side="right"))
            first = begin + int(offset * (size * (self.context - 1) + 1))
            chosen[first : first + size] = True
            begin += size * self.context
            if begin >= count:
                break
        if not chosen.any():  # a text shorter than its only window
            chosen[int(offsets[0] * count)] = True
        return chosen


class PLM(Objective):
    """Cross-entropy of the tokens that come last in the order, from the query stream; the head is the token embedding.

    context, longest_span, whole_word: see Collate. mem_len: so many tokens before each block are remembered, in training
    where batches continue each other; evaluations score each block by itself. With trainer.accumulate each micro-batch
    remembers the one before it, which makes a step another than that of one large batch; with mem_len=0 it is the same.
    Raises ValueError.
    """

    needs = frozenset({"text", "two_stream"})
    fields = ("tokens",)

    def __init__(self, model: nn.Module, tokenizer: Any, context: int, longest_span: int, whole_word: bool, mem_len: int):
        super().__init__(model)
        if context < 2 or longest_span < 1 or mem_len < 0:
            raise ValueError(f"expected context={context} of at least 2, longest_span={longest_span} 1, mem_len={mem_len} 0")
        self.tokenizer, self.mem_len = tokenizer, mem_len
        self.lanes = mem_len > 0
        self.bias = nn.Parameter(torch.zeros(tokenizer.vocab_size))
        self.carried = Carried("memory", "remembered") if self.lanes else None
        ordinary = np.ones(tokenizer.vocab_size, dtype=bool)
        ordinary[list(tokenizer.special_ids)] = False
        starts_word = np.asarray(tokenizer.starts_word)
        self.collate = Collate(context, longest_span, whole_word, tokenizer.pad_id, ordinary, starts_word)

    def make_room(self, tensors: Mapping[str, Tensor]) -> None:
        if self.carried is not None:
            self.carried.make_room(tensors, "carried.")

    def logits(self, features: Tensor) -> Tensor:
        """Scores over the vocabulary of features [..., dim]."""
        return F.linear(features, self.model.token_embedding.weight, self.bias)

    def forward(self, batch: Batch) -> Output:
        carry = self.carried if self.training else None
        memory = self._remember(batch["rows"]) if carry else None
        inputs = batch["inputs"]
        query, _, read = self.model.two_streams(inputs["tokens"], batch["order"], batch["places"], inputs.get("mask"), memory)
        if carry:
            self._memorise(batch["follows"], read, memory)
        wanted = batch["targets"] != IGNORED
        logits, targets = self.logits(query[wanted]), batch["targets"][wanted]
        output = Output(token_loss(logits, targets), wanted.sum())
        if not self.training:
            output.prediction, output.target = logits.argmax(-1), targets
            output.means["accuracy"] = (output.prediction == targets).sum(), output.count
        return output

    def _remember(self, rows: Tensor) -> tuple[Tensor, Tensor] | None:
        """The memory of the batch before, and where it holds something."""
        kept = self.carried.take(rows)
        return kept and (kept["memory"], kept["remembered"] > 0)

    def _memorise(self, follows: Tensor, read: Tensor, memory: tuple[Tensor, Tensor] | None) -> None:
        """Keep the last mem_len tokens of what the layers read [B, layers, T, dim] and of the memory before it."""
        known = read.new_ones(read.shape[0], read.shape[2])
        if memory:
            read, known = torch.cat((memory[0], read), dim=2), torch.cat((memory[1].to(known), known), dim=1)
        self.carried.leave(follows, memory=read[:, :, -self.mem_len :], remembered=known[:, -self.mem_len :])

    def scores(self, means: dict[str, float]) -> dict[str, float]:
        return {"perplexity": perplexity(means["loss"])}

    def samples(self, batch: Batch, output: Output) -> list[str]:
        tokens, places = batch["inputs"]["tokens"], batch["places"]
        flat = torch.arange(len(tokens), device=tokens.device)[:, None] * tokens.shape[1] + places
        return guessed_texts(self.tokenizer, tokens, flat[batch["targets"] != IGNORED], output)
