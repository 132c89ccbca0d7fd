"""Generation: continue a prompt with its completion, by a causal language model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from ptft.nn.generation import generate
from ptft.nn.language import IGNORED, NextToken
from ptft.nn.text import pad, text_inputs, truncate_pair
from ptft.objective import Batch, Example, Output
from ptft.randomness import Draw

SHOWN_TEXTS = 4


@dataclass
class Collate:
    """`prompt [SEP] completion [EOS]`, with targets on the completion and its end only.

    What is too long is cut from the longer part: prompts at their beginning, completions at their end, which then is
    none.
    """

    max_length: int
    pad_id: int
    sep_id: int
    eos_id: int

    def __call__(self, examples: list[Example], draw: Draw) -> Batch:
        pairs = [self._fit(example) for example in examples]
        # the last token is a target only: nothing follows it
        inputs = text_inputs([np.concatenate((prompt, completion[:-1])) for prompt, completion in pairs], self.pad_id)
        ignored = [np.full(len(prompt) - 1, IGNORED) for prompt, _ in pairs]
        following = [np.append(before, completion) for before, (_, completion) in zip(ignored, pairs, strict=True)]
        targets = np.full(inputs["tokens"].shape, IGNORED)
        filled = pad(following, IGNORED)
        targets[:, : filled.shape[1]] = filled
        index = np.flatnonzero(targets != IGNORED)
        return {
            "inputs": inputs,
            "index": torch.from_numpy(index),
            "targets": torch.from_numpy(targets.ravel()[index]),
            "prompt_lengths": torch.tensor([len(prompt) for prompt, _ in pairs]),
        }

    def _fit(self, example: Example) -> tuple[np.ndarray, np.ndarray]:
        """Prompt and completion with their ends; an example to predict has an empty completion."""
        prompt, completion = example["tokens"], example.get("completion")
        size = 0 if completion is None else len(completion)
        kept, size_kept = truncate_pair(len(prompt), size, self.max_length - 2)
        prompt = np.append(prompt[len(prompt) - kept :], self.sep_id)
        if completion is None:
            return prompt, np.zeros(0, dtype=np.int64)
        return prompt, np.append(completion, self.eos_id)[: size_kept + (size_kept == size)]


class Generate(NextToken):
    """Cross-entropy of the completion's tokens, given the prompt.

    tie: the head is the token embedding and survives with the model. max_tokens, temperature: how predictions and
    samples are written; 0 takes the likeliest token each time.
    """

    fields = ("tokens", "completion")
    target = "text"
    added_tokens = 2  # [SEP] and [EOS]

    def __init__(self, model: nn.Module, tokenizer: Any, tie: bool, max_tokens: int, temperature: float):
        super().__init__(model, tokenizer, tie)
        self.max_tokens, self.temperature = max_tokens, temperature
        self.collate = Collate(model.max_length, tokenizer.pad_id, tokenizer.sep_id, tokenizer.eos_id)

    def prompt(self, text: str) -> list[int]:
        room = self.collate.max_length - 2
        return [*self.tokenizer.encode([text])[0].tolist()[-room:], self.tokenizer.sep_id]

    def shown(self, prompt: str, written: str) -> str:
        return written

    def complete(self, prompt: list[int]) -> str:
        """The completion written for a prompt that ends in [SEP]."""
        eos = self.tokenizer.eos_id
        return self.tokenizer.decode(generate(self, prompt, self.max_tokens, self.temperature, eos_id=eos)[0])

    def predict(self, output: Output, batch: Batch) -> list[dict[str, Any]]:
        """The text written for each prompt."""
        return [{"text": self.complete(prompt)} for prompt in _prompts(batch)]

    def samples(self, batch: Batch, output: Output) -> list[str]:
        """Prompts and what is written after them."""
        prompts = _prompts(batch)[:SHOWN_TEXTS]
        return [f"{self.tokenizer.decode(prompt)} --> {self.complete(prompt)}" for prompt in prompts]


def _prompts(batch: Batch) -> list[list[int]]:
    lengths = batch["prompt_lengths"].tolist()
    return [row[:length] for row, length in zip(batch["inputs"]["tokens"].tolist(), lengths, strict=True)]
