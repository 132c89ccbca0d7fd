"""Generation: write a text for each text, by a causal language model or by an encoder-decoder model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from torch import nn

from ptft.nn.generation import Decoding, write
from ptft.nn.language import IGNORED, NextToken
from ptft.nn.overlap import overlap
from ptft.nn.teaching import Teaching, learned
from ptft.nn.text import pad, text_inputs, truncate_pair, wide
from ptft.objective import Batch, Example, Output
from ptft.randomness import Draw

SHOWN_TEXTS = 4


@dataclass
class Prompts:
    """`prompt [SEP] completion [EOS]` for a causal model, with targets on the completion and its end only.

    What is too long is cut from the longer part: prompts at their beginning, completions at their end, which then is
    none.
    """

    max_length: int
    pad_id: int
    sep_id: int
    eos_id: int

    def __call__(self, examples: list[Example]) -> Batch:
        pairs = [self._fit(example["tokens"], example.get("completion")) for example in examples]
        # the last token is a target only: nothing follows it
        rows = [np.concatenate((prompt, completion[:-1])) for prompt, completion in pairs]
        inputs = text_inputs(rows, self.pad_id, wide(rows, self.max_length))
        if "completion" not in examples[0]:
            return {"inputs": inputs}
        ignored = [np.full(len(prompt) - 1, IGNORED) for prompt, _ in pairs]
        following = [np.append(before, completion) for before, (_, completion) in zip(ignored, pairs, strict=True)]
        return {"inputs": inputs, **learned(pad(following, IGNORED, width=inputs["tokens"].shape[1]))}

    def prompt(self, example: Example) -> np.ndarray:
        """The tokens that a completion follows."""
        return self._fit(example["tokens"], example.get("completion"))[0]

    def _fit(self, prompt: np.ndarray, completion: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Prompt and completion with their ends; an example to predict has an empty completion."""
        size = 0 if completion is None else len(completion)
        kept, size_kept = truncate_pair(len(prompt), size, self.max_length - 2)
        prompt = np.append(prompt[len(prompt) - kept :], self.sep_id)
        if completion is None:
            return prompt, np.zeros(0, dtype=np.int64)
        return prompt, np.append(completion, self.eos_id)[: size_kept + (size_kept == size)]


@dataclass
class Sources:
    """Sources and targets for an encoder-decoder model."""

    teaching: Teaching

    def __call__(self, examples: list[Example]) -> Batch:
        targets = [example["completion"] for example in examples] if "completion" in examples[0] else None
        return self.teaching([example["tokens"] for example in examples], targets)

    def prompt(self, example: Example) -> np.ndarray:
        """The tokens of a source."""
        return self.teaching.source(example["tokens"])


@dataclass
class Collate:
    """A batch to learn from; where nothing is learned also what to write from, and the references there are."""

    layout: Prompts | Sources

    def __call__(self, examples: list[Example], draw: Draw) -> Batch:
        batch = self.layout(examples)
        if draw.training:
            return batch
        written = {"prompts": [self.layout.prompt(example).tolist() for example in examples], "rows": draw.row.tolist()}
        references = [example.get("references", []) for example in examples]
        return {**batch, **written, "references": references}


class Generate(NextToken):
    """Cross-entropy of the tokens to write, given the text they are written for.

    tie: see NextToken. max_tokens, temperature, num_beams, length_penalty: how texts are written, see Decoding. scored_rows:
    of so many rows of a split the texts are written and compared with their references while training goes on, of all at the
    end. bleu_tokenize: see overlap.
    """

    needs = frozenset({"text", "causal|seq2seq"})
    fields = ("tokens", "completion")
    target = "text"
    added_tokens = 2  # [SEP] and [EOS], or what stands around a source

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,
        tie: bool | None,
        max_tokens: int,
        temperature: float,
        num_beams: int,
        length_penalty: float,
        scored_rows: int,
        bleu_tokenize: Literal["13a", "intl", "zh", "char", "none"],
    ):
        super().__init__(model, tokenizer, tie)
        self.decoding = Decoding(max_tokens, temperature, num_beams=num_beams, length_penalty=length_penalty)
        self.scored_rows, self.bleu_tokenize = scored_rows, bleu_tokenize
        if "seq2seq" in model.traits:
            layout = Sources(Teaching.of(model, tokenizer))
        else:
            layout = Prompts(model.max_length, tokenizer.pad_id, tokenizer.sep_id, tokenizer.eos_id)
        self.collate = Collate(layout)

    def prompt(self, text: str) -> list[int]:
        """The tokens that are read of a text: from its beginning, as of those it was trained on."""
        tokens = self.tokenizer.encode([text])[0][: self.model.max_length - self.added_tokens]
        return self.collate.layout.prompt({"tokens": tokens}).tolist()

    def shown(self, prompt: str, written: str) -> str:
        return written

    def write(self, prompts: Sequence[list[int]], rows: Sequence[int]) -> list[str]:
        """The text written for each prompt."""
        texts = write(self, prompts, self.decoding, rows=rows, eos_id=self.tokenizer.eos_id)
        return [self.tokenizer.decode(tokens) for tokens in texts]

    def forward(self, batch: Batch) -> Output:
        if "targets" not in batch:  # rows to predict on: there is nothing to learn
            nothing = self.output_weight.new_zeros(())
            return Output(nothing, nothing)
        output = super().forward(batch)
        if not self.training:
            chosen = [place for place, row in enumerate(batch["rows"]) if self._scores(row) and batch["references"][place]]
            prompts, rows = ([batch[name][place] for place in chosen] for name in ("prompts", "rows"))
            output.prediction = self.write(prompts, rows)
            output.target = [batch["references"][place] for place in chosen]
        return output

    def _scores(self, row: int) -> bool:
        return self.thorough or row < self.scored_rows

    def metrics(self) -> dict[str, Any]:
        return overlap(self.bleu_tokenize) if self.thorough or self.scored_rows else {}

    def predict(self, output: Output, batch: Batch) -> list[dict[str, Any]]:
        """The text written for each row."""
        return [{"text": text} for text in self.write(batch["prompts"], batch["rows"])]

    def samples(self, batch: Batch, output: Output) -> list[str]:
        """Texts and what is written for them."""
        prompts = batch["prompts"][:SHOWN_TEXTS]
        written = self.write(prompts, batch["rows"][:SHOWN_TEXTS])
        return [f"{self.tokenizer.decode(prompt)} --> {text}" for prompt, text in zip(prompts, written, strict=True)]
