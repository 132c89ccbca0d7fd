"""Predicting the next token: what causal language modelling and generation tasks share."""

from __future__ import annotations

import math
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ptft.nn.cache import Cache
from ptft.objective import Batch, Objective, Output

IGNORED = -1  # a target that carries no loss


def perplexity(loss: float) -> float:
    """exp(loss), the number of tokens a model hesitates between; infinite beyond what a float holds."""
    return math.exp(loss) if not loss > 700 else math.inf


def token_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy summed over all targets but IGNORED ones; in fp32, whatever the logits are in."""
    return F.cross_entropy(logits.float(), targets, ignore_index=IGNORED, reduction="sum")


class NextToken(Objective):
    """A causal model with a head over the vocabulary.

    tie: the head is the model's token embedding and survives with it; otherwise it is a matrix of its own and is thrown
    away. Batches hold `targets`: the token that follows each position, or IGNORED; where only some positions count,
    `index` names them in the flattened batch and `targets` are theirs.
    """

    needs = frozenset({"text", "causal"})

    def __init__(self, model: nn.Module, tokenizer: Any, tie: bool):
        super().__init__(model)
        self.tokenizer = tokenizer
        self.head = None if tie else nn.Linear(model.dim, tokenizer.vocab_size, bias=False)
        if self.head is not None:
            nn.init.normal_(self.head.weight, std=0.02)

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

    def logits(self, tokens: Tensor, cache: Cache | None = None) -> Tensor:
        """Scores [B, vocabulary] of the token that follows `tokens` [B, T], which continue what the cache holds."""
        return F.linear(self.model(tokens, cache=cache)[:, -1], self.output_weight)

    def answer(self, inputs: dict[str, Tensor]) -> Tensor:
        """The logits [B, T, vocabulary] of what follows each token."""
        return F.linear(self.model(**inputs), self.output_weight)

    def forward(self, batch: Batch) -> Output:
        features = self.model(**batch["inputs"]).flatten(0, 1)
        if "index" in batch:
            features = features[batch["index"]]
        logits, targets = F.linear(features, self.output_weight), batch["targets"].flatten()
        count = (targets != IGNORED).sum()
        output = Output(token_loss(logits, targets), count)
        if not self.training:
            output.means["accuracy"] = (logits.argmax(-1) == targets).sum(), count
        return output

    def scores(self, means: dict[str, float]) -> dict[str, float]:
        return {"perplexity": perplexity(means["loss"])}
