"""Masked language modelling: guess the hidden tokens of a text from both sides (BERT, 1810.04805, 3.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from ptft.nn.language import token_loss
from ptft.nn.masking import MaskedToken, Masking
from ptft.nn.text import pad, text_inputs
from ptft.objective import Batch, Example, Output
from ptft.randomness import Draw


@dataclass
class Collate:
    """Texts between [CLS] and [SEP], with some of their tokens hidden."""

    masking: Masking
    max_length: int
    cls_id: int
    sep_id: int
    pad_id: int

    def __call__(self, examples: list[Example], draw: Draw) -> Batch:
        rows = [self._frame(example["tokens"]) for example in examples]
        inputs = text_inputs(rows, self.pad_id)
        inputs["tokens"], hidden = self.masking(pad(rows, self.pad_id), draw)
        return {"inputs": inputs, **hidden}

    def _frame(self, tokens: np.ndarray) -> np.ndarray:
        if len(tokens) + 2 > self.max_length:
            raise ValueError(f"{len(tokens)} tokens with [CLS] and [SEP] do not fit model.max_length={self.max_length}")
        return np.concatenate(((self.cls_id,), tokens, (self.sep_id,)))


class MLM(MaskedToken):
    """Cross-entropy at the hidden tokens; the head shares its matrix with the token embedding.

    mask_prob: the share of tokens hidden. mask_share, random_share: of these, shown as [MASK] and as a random token.
    whole_word: hide words, not pieces. Raises ValueError for shares that are none.
    """

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
        super().__init__(model, tokenizer)
        masking = Masking.of(tokenizer, mask_prob, mask_share, random_share, whole_word)
        self.collate = Collate(masking, model.max_length, tokenizer.cls_id, tokenizer.sep_id, tokenizer.pad_id)

    def forward(self, batch: Batch) -> Output:
        logits, targets = self.hidden_logits(self.model(**batch["inputs"]), batch), batch["targets"]
        output = Output(token_loss(logits, targets), targets.new_tensor(len(targets)))
        if not self.training:
            self.compare(output, logits, targets)
        return output
