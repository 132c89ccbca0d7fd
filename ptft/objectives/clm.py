"""Causal language modelling: guess each token from those before it (GPT-2, Radford et al. 2019)."""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from ptft.nn.generation import generate
from ptft.nn.language import IGNORED, NextToken
from ptft.nn.text import pad, restarting_positions, text_inputs
from ptft.objective import Batch, Example, Output
from ptft.randomness import Draw

PROMPT_TOKENS = 16
SHOWN_TOKENS = 64


@dataclass
class Collate:
    """Targets are the tokens moved by one, the last from the example's `next` (-1 or absent: none).

    document_aware: positions restart with each document, attention stays inside it, and no document has to guess how
    the next one begins. placed: whether the model is to be told positions.
    """

    document_aware: bool
    placed: bool
    pad_id: int
    eos_id: int

    def __call__(self, examples: list[Example], draw: Draw) -> Batch:
        inputs = text_inputs([example["tokens"] for example in examples], self.pad_id)
        following = [np.append(example["tokens"][1:], example.get("next", IGNORED)) for example in examples]
        targets = torch.from_numpy(pad(following, IGNORED))
        if self.document_aware:
            targets[inputs["tokens"] == self.eos_id] = IGNORED
            inputs.update(self._documents(examples))
        return {"inputs": inputs, "targets": targets}

    def _documents(self, examples: list[Example]) -> dict[str, torch.Tensor]:
        """What keeps the documents of packed rows apart; nothing where each row is one document."""
        if "documents" not in examples[0]:
            return {}
        documents = pad([example["documents"] for example in examples], IGNORED)
        if (documents == documents[:, :1]).all():
            return {}
        positions = {"positions": torch.from_numpy(restarting_positions(documents))} if self.placed else {}
        return {"documents": torch.from_numpy(documents), **positions}


class CLM(NextToken):
    """Cross-entropy of every next token.

    tie: the head is the token embedding and survives with the model; a head of its own may have a bias. document_aware:
    packed documents do not see each other.
    """

    fields = ("tokens",)
    byte_lengths: torch.Tensor

    def __init__(self, model: nn.Module, tokenizer: Any, tie: bool | None, document_aware: bool, bias: bool = False):
        super().__init__(model, tokenizer, tie, bias)
        placed = "positions" in inspect.signature(model.forward).parameters
        self.collate = Collate(document_aware, placed, tokenizer.pad_id, tokenizer.eos_id)
        self.register_buffer("byte_lengths", torch.as_tensor(tokenizer.byte_lengths), persistent=False)

    def forward(self, batch: Batch) -> Output:
        output = super().forward(batch)
        if not self.training:
            targets = batch["targets"]
            sizes = self.byte_lengths[targets.clamp(min=0)] * (targets != IGNORED)
            output.means["bytes_per_token"] = sizes.sum(), output.count
        return output

    def scores(self, means: dict[str, float]) -> dict[str, float]:
        size = means["bytes_per_token"]
        bits = means["loss"] / math.log(2) / size if size else math.nan
        return {**super().scores(means), "bits_per_byte": bits}

    def samples(self, batch: Batch, output: Output) -> list[str]:
        """How the model continues the beginning of the first text."""
        prompt = batch["inputs"]["tokens"][0, :PROMPT_TOKENS].tolist()
        written = generate(self, prompt, SHOWN_TOKENS, temperature=0.8, eos_id=self.tokenizer.eos_id)[0]
        return [f"{self.tokenizer.decode(prompt)} --> {self.tokenizer.decode(written)}"]
