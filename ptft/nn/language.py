"""Predicting the next token: what causal language modelling and generation tasks share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ptft.nn.cache import Cache
from ptft.nn.generation import Decoding
from ptft.nn.writers import Continuation, Translation
from ptft.objective import Batch, Objective, Output

IGNORED = -1  # a target that carries no loss


def perplexity(loss: float) -> float:
    """exp(loss), the number of tokens a model hesitates between; infinite beyond what a float holds."""
    return math.exp(loss) if not loss > 700 else math.inf


def token_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy summed over all targets but IGNORED ones; in fp32, whatever the logits are in."""
    return F.cross_entropy(logits.float(), targets, ignore_index=IGNORED, reduction="sum")


def capped(logits: Tensor, cap: float | None) -> Tensor:
    """cap * tanh(logits / cap) in fp32: all below `cap` in size, small ones nearly as they were (Gemma 2, 2408.00118, 2).

    cap: None leaves them as they are.
    """
    return logits if cap is None else cap * torch.tanh(logits.float() / cap)


class NextToken(Objective):
    """A model that writes, causal or encoder-decoder, with a head over the vocabulary.

    tie: the head is the model's token embedding and survives with it; otherwise it is a matrix of its own, maybe with a
    bias, and is thrown away; None: tied where that is possible. decoding: how it writes where nothing else is said. Raises
    ValueError for a tied head with a bias, or of another width than the features. Batches hold `targets`: the token that
    follows each position, or IGNORED; where only some positions count, `index` names them in the flattened batch and
    `targets` are theirs.
    """

    needs = frozenset({"text", "causal"})
    decoding = Decoding(max_tokens=200)

    def __init__(self, model: nn.Module, tokenizer: Any, tie: bool | None, bias: bool = False):
        super().__init__(model)
        width = model.token_embedding.embedding_dim
        if tie and bias:
            raise ValueError("bias=true: only a head of its own has one; give tie=false as well")
        if tie and width != model.dim:
            raise ValueError(f"tie=true: the token embedding is {width} wide and the features are {model.dim}; give tie=false")
        self.tokenizer, self._open = tokenizer, tie is None
        tied = tie or (tie is None and width == model.dim and not bias)
        self.head = None if tied else self._own_head(bias)

    def _own_head(self, bias: bool) -> nn.Linear:
        head = nn.Linear(self.model.dim, self.tokenizer.vocab_size, bias)
        nn.init.normal_(head.weight, std=0.02)
        if bias:
            nn.init.zeros_(head.bias)
        return head

    def make_room(self, tensors: Mapping[str, Tensor]) -> None:
        """A head of its own where the saved weights have one, and nobody asked for a tied one."""
        if self._open and self.head is None and "head.weight" in tensors:
            self.head = self._own_head("head.bias" in tensors)

    def prompt(self, text: str) -> list[int]:
        """The ids that a text to continue begins with; an empty one begins like a new document."""
        return self.tokenizer.encode([text])[0].tolist() or [self.tokenizer.eos_id]

    def shown(self, prompt: str, written: str) -> str:
        """What to print of a prompt and its continuation."""
        return prompt + written

    @property
    def output_weight(self) -> Tensor:
        """The head's matrix [vocabulary, dim]."""
        return self.model.token_embedding.weight if self.head is None else self.head.weight

    def over_vocabulary(self, features: Tensor) -> Tensor:
        """Scores over the vocabulary of features [..., dim], capped where the model has a `logit_cap`."""
        logits = F.linear(features, self.output_weight, None if self.head is None else self.head.bias)
        return capped(logits, getattr(self.model, "logit_cap", None))

    def logits(self, tokens: Tensor, cache: Cache | None = None, **places: Tensor) -> Tensor:
        """Scores [B, vocabulary] of the token that follows `tokens` [B, T], which continue what the cache holds.

        places: mask and positions, where texts are padded.
        """
        return self.over_vocabulary(self.model(tokens, cache=cache, **places)[:, -1])

    def writer(self, prompts: Sequence[Sequence[int]], cache: bool = True) -> Continuation | Translation:
        """What says, token by token, how prompts may go on; an encoder-decoder model reads them as sources."""
        if "seq2seq" in self.model.traits:
            return Translation(self, prompts, self.tokenizer.pad_id, self.tokenizer.cls_id)
        return Continuation(self, prompts, cache)

    def answer(self, inputs: dict[str, Tensor]) -> Tensor:
        """The logits [B, T, vocabulary] of what follows each token; an encoder-decoder's features where it has no target."""
        features = self.model(**inputs)
        reads = "seq2seq" in self.model.traits and "target" not in inputs
        return features if reads else self.over_vocabulary(features)

    def forward(self, batch: Batch) -> Output:
        features = self.model(**batch["inputs"]).flatten(0, 1)
        if "index" in batch:
            features = features[batch["index"]]
        logits, targets = self.over_vocabulary(features), batch["targets"].flatten()
        count = (targets != IGNORED).sum()
        output = Output(token_loss(logits, targets), count)
        if not self.training:
            output.means["accuracy"] = (logits.argmax(-1) == targets).sum(), count
        return output

    def scores(self, means: dict[str, float]) -> dict[str, float]:
        return {"perplexity": perplexity(means["loss"])}
