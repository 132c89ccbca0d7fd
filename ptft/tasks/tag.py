"""Tagging: a tag for each word of a sentence, such as named entities, parts of speech or the roles of a predicate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ptft.nn.dropout import Dropout
from ptft.nn.spans import NO_TAG, NONE, PADDING, Scheme, span_scores
from ptft.nn.text import Layout, pad
from ptft.nn.words import part_of, text_of
from ptft.objective import Batch, Example, Objective, Output
from ptft.randomness import Draw

SHOWN_SENTENCES = 4
SHOWN_WORDS = 40


@dataclass
class Collate:
    """Sentences in the model's layout.

    places [B, W]: the token that stands for each word, -1 where none does: its first one, or its last one in models that
    read from left to right, since only that has seen the whole word. target [B, W]: tags, where the examples have some.
    Around a word that is `marked` stand `mark` tokens, as around the entities of 1906.03158 (3.2): they say where it is. (The
    word itself once more behind the sentence, as in 1904.05255, could be any word of that form.)
    """

    layout: Layout
    last: bool
    mark: int

    def __call__(self, examples: list[Example], draw: Draw) -> Batch:
        ready = [self.marked(example) for example in examples]
        begin = len(self.layout.before)
        places = [np.where(places >= 0, places + begin, NONE)[:, int(self.last)] for _, places in ready]
        batch: Batch = {
            "inputs": self.layout.inputs([{"tokens": tokens} for tokens, _ in ready]),
            "places": torch.from_numpy(pad(places, NONE)),
        }
        if "label" in examples[0]:
            batch["target"] = torch.from_numpy(pad([example["label"] for example in examples], PADDING))
        if not draw.training:
            batch["words"] = [example["words"] for example in examples]
            batch["marked"] = [example.get("marked") for example in examples]
            batch["texts"] = [example.get("text") for example in examples]
        return batch

    def marked(self, example: Example) -> tuple[np.ndarray, np.ndarray]:
        """The tokens of an example and the places of its words, with marks where there is a word to mark."""
        tokens, places = example["tokens"], example["places"]
        first, last = places[example["marked"]] if "marked" in example else (NONE, NONE)
        if first == NONE:
            return tokens, places
        tokens = np.insert(tokens, [first, last + 1], self.mark)
        return tokens, places + (places >= first) + (places > last)


class Tag(Objective):
    """Dropout and a linear map on the features of the token that stands for each word.

    The loss is the cross-entropy of each word's tag. A word that a long sentence lost when it was cut counts as outside of
    all spans.
    """

    needs = frozenset({"text"})
    fields = ("tokens", "places", "label")
    target = "tags"
    score = "f1"
    added_tokens = 2  # what stands around a text at the most

    def __init__(self, model: nn.Module, tokenizer: Any, num_classes: int, labels: list[str], dropout: float):
        super().__init__(model)
        self.scheme = Scheme(labels)
        self.dropout = Dropout(dropout)
        self.linear = nn.Linear(model.dim, num_classes)
        nn.init.normal_(self.linear.weight, std=0.02)
        nn.init.zeros_(self.linear.bias)
        self.collate = Collate(Layout.of(model, tokenizer), "causal" in model.traits, tokenizer.sep_id)

    def answer(self, inputs: dict[str, Tensor]) -> Tensor:
        """The logits [B, T, tags] of every token, were it the one that stands for its word."""
        return self.linear(self.dropout(self.model(**inputs))).float()

    def forward(self, batch: Batch) -> Output:
        places, seen = batch["places"], batch["places"] != NONE
        rows = torch.arange(len(places), device=places.device)[:, None].expand_as(places)[seen]
        features = self.model(**batch["inputs"])[rows, places[seen]]
        logits = self.linear(self.dropout(features)).float()  # [words that are seen, tags]
        prediction = torch.full_like(places, NONE)
        prediction[seen] = logits.detach().argmax(-1)
        if "target" not in batch:
            return Output(logits.sum() * 0, logits.new_zeros(()), prediction)
        target = batch["target"].long()
        loss = F.cross_entropy(logits, target[seen], reduction="sum")
        right = self.outside(prediction) == target
        words = (target != PADDING).sum()
        return Output(loss, seen.sum(), prediction, target, {"accuracy": (right.sum(), words)})

    def outside(self, tags: Tensor) -> Tensor:
        """Tags with those of words that were not seen as what is outside of spans, if there is such a tag."""
        labels = self.scheme.labels
        return tags.masked_fill(tags == NONE, labels.index(NO_TAG)) if NO_TAG in labels else tags

    def metrics(self) -> dict[str, Any]:
        return span_scores(self.scheme)

    def predict(self, output: Output, batch: Batch) -> list[dict[str, Any]]:
        """The tag of each word, and the spans they make: words start to end (not included), numbered from 0.

        The text of a span is the part of the line that was read, or, where words were read, these as running text.
        """
        answers = []
        rows = zip(*self.by_row(output.prediction, batch), batch["marked"], batch["texts"], strict=True)
        for words, tags, spans, marked, text in rows:
            answer: dict[str, Any] = {"tokens": words, "tags": tags}
            if marked is not None:
                answer["predicate"] = marked
            if self.scheme.marks_spans:
                answer["entities"] = [
                    {"type": kind, "start": start, "end": end, "text": quoted(words, text, start, end)}
                    for kind, start, end in spans
                ]
            answers.append(answer)
        return answers

    def by_row(self, tags: Tensor, batch: Batch) -> tuple[list, list, list]:
        """The words, the names of their tags and the spans of each row; words that were not seen are outside."""
        names = [*self.scheme.labels, NO_TAG]  # -1 is the last
        words = batch["words"]
        named = [[names[tag] for tag in row[: len(own)]] for row, own in zip(tags.tolist(), words, strict=True)]
        return words, named, self.scheme.named(tags)

    def samples(self, batch: Batch, output: Output) -> list[str]:
        """Sentences with their predicted spans, and the true ones where they differ; those that have any, if there are."""
        guesses, truths = self.scheme.named(output.prediction), self.scheme.named(output.target)
        rows = sorted(range(len(guesses)), key=lambda row: not (guesses[row] or truths[row]))[:SHOWN_SENTENCES]
        return [self.shown(batch["words"][row], batch["marked"][row], guesses[row], truths[row]) for row in rows]

    def shown(self, words: list[str], marked: int | None, guess: list, truth: list) -> str:
        """A sentence with spans in brackets, and in asterisks the word they are about."""
        words = [f"*{word}*" if place == marked else word for place, word in enumerate(words)]
        said = bracketed(words, guess)
        return f"{said} (right)" if guess == truth else f"{said} (true: {bracketed(words, truth)})"


def quoted(words: list[str], text: str | None, start: int, end: int) -> str:
    """Some words of a sentence as they stand in its text, if that is known."""
    return text_of(words[start:end]) if text is None else part_of(text, start, end)


def bracketed(words: list[str], spans: list[tuple[str, int, int]]) -> str:
    """Running text with each span in brackets, its type behind it."""
    parts, end = [], 0
    for kind, start, stop in spans:
        parts += [*words[end:start], f"[{text_of(words[start:stop])}]{kind}"]
        end = stop
    return text_of([*parts, *words[end:]][:SHOWN_WORDS])
