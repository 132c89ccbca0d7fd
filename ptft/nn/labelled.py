"""Labelled examples as a batch, and pictures of those that a model gets most wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ptft.canvas import tile
from ptft.nn.mixing import Mixing
from ptft.objective import Batch, Example
from ptft.randomness import Draw

SHOWN_EXAMPLES, SHOWN_TOKENS = 4, 48  # in words
SHOWN = 16  # in pictures
COLUMNS = 4


@dataclass
class LabelledCollate:
    """What the model reads; labels as targets only where the examples have some.

    read: examples and their draw -> the model's inputs. mixing: of images or features with one another, which makes
    targets shares of all num_classes classes.
    """

    read: Callable[[list[Example], Draw], dict[str, Tensor]]
    dtype: torch.dtype
    mixing: Mixing | None = None
    num_classes: int = 0

    def __call__(self, examples: list[Example], draw: Draw) -> Batch:
        batch: Batch = {"inputs": self.read(examples, draw)}
        if "label" not in examples[0]:
            return batch
        batch["target"] = torch.as_tensor(np.array([example["label"] for example in examples]), dtype=self.dtype)
        if self.mixing and self.mixing.applies(draw):
            inputs = batch["inputs"]
            inputs["values"], batch["target"] = self.mixing(inputs["values"], batch["target"], self.num_classes, draw)
        return batch


def sample_lines(batch: Batch, tokenizer: Any, found: Iterable[tuple[str, str]]) -> list[str]:
    """The first examples as lines: what was found of each, what is true, and, where there is a tokenizer, its text."""
    said = [f"{guess} (true: {truth})" for guess, truth in islice(found, SHOWN_EXAMPLES)]
    if tokenizer is None:
        return said
    tokens = batch["inputs"]["tokens"][:SHOWN_EXAMPLES, :SHOWN_TOKENS].tolist()
    return [f"{words}: {tokenizer.decode(row)}" for row, words in zip(tokens, said, strict=True)]


def worst(batch: Batch, transform: Any, badness: Tensor, captions: Sequence[str], title: str) -> dict[str, Tensor]:
    """The images of a batch with the highest badness [B], worst first, with their captions; nothing without a transform."""
    if transform is None:
        return {}
    chosen = badness.float().argsort(descending=True, stable=True)[:SHOWN].cpu()
    images = transform.restore(batch["inputs"]["values"][chosen.to(badness.device)]).cpu()
    words = [captions[index] for index in chosen.tolist()]
    rows = [words[start : start + COLUMNS] for start in range(0, len(words), COLUMNS)]
    titles = [title if start == 0 else "" for start in range(len(rows))]
    return {"worst": tile(list(images.split(COLUMNS)), rows, titles)}
