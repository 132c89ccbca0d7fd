"""From examples to what a model reads, by the model's modality: texts in its layout, images transformed, tables as they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ptft.nn.text import Layout
from ptft.objective import Example
from ptft.randomness import Draw

Inputs = dict[str, Tensor]


@dataclass
class TextInputs:
    """Tokens of one or two texts."""

    layout: Layout

    def __call__(self, examples: list[Example], draw: Draw) -> Inputs:
        return self.layout.inputs(examples)


@dataclass
class ImageInputs:
    """Normalised pixels [B, C, h, w]: augmented where they are learned from."""

    transform: Any

    def __call__(self, examples: list[Example], draw: Draw) -> Inputs:
        return {"values": self.transform.one([example["image"] for example in examples], draw)}


class TableInputs:
    """Standardised features [B, F]."""

    def __call__(self, examples: list[Example], draw: Draw) -> Inputs:
        return {"values": torch.from_numpy(np.stack([example["features"] for example in examples]))}


def input_reader(model: nn.Module, tokenizer: Any = None, transform: Any = None) -> Callable[[list[Example], Draw], Inputs]:
    """What makes batch["inputs"] of examples: text where there is a tokenizer, images where there is a transform, or tables."""
    if tokenizer is not None:
        return TextInputs(Layout.of(model, tokenizer))
    return TableInputs() if transform is None else ImageInputs(transform)
