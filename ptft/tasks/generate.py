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
from ptft.nn.words import joined
from ptft.objective import Batch, Example, Output
from ptft.randomness import Draw

SHOWN_TEXTS = 4
ADDED_TOKENS = 2  # [SEP] and [EOS], or what stands around a source


@dataclass
class Prompts:
    """`prompt [SEP] completion [EOS]` for a causal model, with targets on the completion and its end only.

    What is too long is cut from the longer part at its end, which of a completion then is none.
    """

    max_length: int
    pad_id: int
    sep_id: int
    eos_id: int

    def __call__(self, examples: list[Example]) -> Batch:
        if "completion" not in examples[0]:
            return self._inputs([self.prompt(example["tokens"], 0) for example in examples])
        pairs = [self._fit(example["tokens"], example["completion"]) for example in examples]
        # the last token is a target only: nothing follows it
        inputs = self._inputs([np.concatenate((prompt, completion[:-1])) for prompt, completion in pairs])
        ignored = [np.full(len(prompt) - 1, IGNORED) for prompt, _ in pairs]
        following = [np.append(before, completion) for before, (_, completion) in zip(ignored, pairs, strict=True)]
        return {**inputs, **learned(pad(following, IGNORED, width=inputs["inputs"]["tokens"].shape[1]))}

    def room_to_write(self, max_tokens: int) -> int:
        """The tokens that a prompt leaves free for so many: as in training, no more than half of all."""
        return min(max_tokens, (self.max_length - ADDED_TOKENS) // 2)

    def prompt(self, tokens: np.ndarray, max_tokens: int) -> np.ndarray:
        """The tokens that a completion of so many follows."""
        return np.append(tokens[: self.max_length - ADDED_TOKENS - self.room_to_write(max_tokens)], self.sep_id)

    def _inputs(self, rows: list[np.ndarray]) -> Batch:
        return {"inputs": text_inputs(rows, self.pad_id, wide(rows, self.max_length))}

    def _fit(self, prompt: np.ndarray, completion: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Prompt and completion with their ends."""
        kept, size = truncate_pair(len(prompt), len(completion), self.max_length - ADDED_TOKENS)
        return np.append(prompt[:kept], self.sep_id), np.append(completion, self.eos_id)[: size + (size == len(completion))]


@dataclass
class Sources:
    """Sources and targets for an encoder-decoder model."""

    teaching: Teaching

    def __call__(self, examples: list[Example]) -> Batch:
        targets = [example["completion"] for example in examples] if "completion" in examples[0] else None
        return self.teaching([example["tokens"] for example in examples], targets)

    def room_to_write(self, max_tokens: int) -> int:
        """None: what is written has a length of its own."""
        return 0

    def prompt(self, tokens: np.ndarray, max_tokens: int) -> np.ndarray:
        """The tokens of a source."""
        return self.teaching.source(tokens)


@dataclass
class Collate:
    """A batch to learn from; where nothing is learned also the texts to write for, and the references there are."""

    layout: Prompts | Sources

    def __call__(self, examples: list[Example], draw: Draw) -> Batch:
        batch = self.layout(examples)
        if draw.training:
            return batch
        texts, references = ([example.get(name, []) for example in examples] for name in ("text", "references"))
        return {**batch, "texts": texts, "references": references, "rows": draw.row.tolist()}


class Generate(NextToken):
    """Cross-entropy of the tokens to write, given the text they are written for.

    tie: see NextToken. max_tokens, temperature, num_beams, length_penalty: how texts are written, see Decoding. scored_rows:
    of so many rows of a split the texts are written and compared with their references while training goes on, of all at the
    end. bleu_tokenize: see overlap.
    """

    needs = frozenset({"text", "causal|seq2seq"})
    fields = ("tokens", "completion")
    target = "text"
    added_tokens = ADDED_TOKENS

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
        self.without_blanks = False  # the references of the last batch
        if not scored_rows:
            self.score = "loss"
        if "seq2seq" in model.traits:
            layout = Sources(Teaching.of(model, tokenizer))
        else:
            layout = Prompts(model.max_length, tokenizer.pad_id, tokenizer.sep_id, tokenizer.eos_id)
        self.collate = Collate(layout)

    @property
    def room_to_write(self) -> int:
        """The tokens that a prompt leaves free of a model's length."""
        return self.collate.layout.room_to_write(self.decoding.max_tokens)

    def prompt(self, text: str) -> list[int]:
        """The tokens that are read of a text, from its beginning, whatever is to be written for it."""
        return self.collate.layout.prompt(self.tokenizer.encode([text])[0], self.decoding.max_tokens).tolist()

    def shown(self, prompt: str, written: str) -> str:
        return written

    def write(self, texts: Sequence[str], rows: Sequence[int]) -> list[str]:
        """What is written for each text."""
        written = write(self, [*map(self.prompt, texts)], self.decoding, rows=rows, eos_id=self.tokenizer.eos_id)
        return [self.tokenizer.decode(tokens) for tokens in written]

    def forward(self, batch: Batch) -> Output:
        if "targets" not in batch:  # rows to predict on: there is nothing to learn
            nothing = self.output_weight.new_zeros(())
            return Output(nothing, nothing)
        output = super().forward(batch)
        if not self.training:
            chosen = [place for place, row in enumerate(batch["rows"]) if self._scores(row) and batch["references"][place]]
            texts, rows = ([batch[name][place] for place in chosen] for name in ("texts", "rows"))
            output.prediction = self.write(texts, rows)
            output.target = [batch["references"][place] for place in chosen]
            self.without_blanks = joined(text for texts in output.target for text in texts)
        return output

    def _scores(self, row: int) -> bool:
        return self.thorough or row < self.scored_rows

    def metrics(self) -> dict[str, Any]:
        return overlap(self.bleu_tokenize) if self.thorough or self.scored_rows else {}

    def warnings(self, scores: dict[str, float]) -> list[str]:
        """That BLEU takes whole sentences for words, where it looks for blanks and there are none."""
        if "bleu" not in scores or not self.without_blanks or self.bleu_tokenize not in ("13a", "intl", "none"):
            return []
        return [f"bleu_tokenize={self.bleu_tokenize} finds no words in references without blanks; zh and char do"]

    def predict(self, output: Output, batch: Batch) -> list[dict[str, Any]]:
        """The text written for each row."""
        return [{"text": text} for text in self.write(batch["texts"], batch["rows"])]

    def samples(self, batch: Batch, output: Output) -> list[str]:
        """Texts and what is written for them."""
        texts = batch["texts"][:SHOWN_TEXTS]
        written = self.write(texts, batch["rows"][:SHOWN_TEXTS])
        prompts = (self.tokenizer.decode(self.prompt(text)) for text in texts)
        return [f"{prompt} --> {text}" for prompt, text in zip(prompts, written, strict=True)]


class Translate(Generate):
    """Generation that keeps the weights which translate best, not the likeliest ones: these come long before.

    They are chosen by chrF, if texts are scored, which needs no words: BLEU of languages without blanks may be 0 throughout.
    """

    score = "chrf"
