"""Sources and targets as a batch for an encoder-decoder model, which learns each token after the true ones before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from ptft.nn.language import IGNORED
from ptft.nn.text import Layout, pad, text_inputs, wide
from ptft.objective import Batch

Rows = Sequence[np.ndarray]


@dataclass
class Teaching:
    """The encoder reads `[CLS] source [SEP]`, the decoder `[CLS] target` and learns `target [EOS]`.

    A target that is too long is cut at its end, which then is none.
    """

    layout: Layout
    start: int
    end: int

    @classmethod
    def of(cls, model: nn.Module, tokenizer: Any) -> Teaching:
        """What `model` reads and learns to write."""
        return cls(Layout.of(model, tokenizer), tokenizer.cls_id, tokenizer.eos_id)

    def source(self, tokens: np.ndarray) -> np.ndarray:
        """What the encoder reads of one text."""
        return self.layout.arrange(tokens)[0]

    def __call__(self, sources: Rows, targets: Rows | None) -> Batch:
        """A batch; one without targets is only read."""
        room, read = self.layout.max_length, [self.source(tokens) for tokens in sources]
        batch: Batch = {"inputs": text_inputs(read, self.layout.pad_id, wide(read, room))}
        if targets is None:
            return batch
        written = [np.append(tokens, self.end)[:room] for tokens in targets]
        begun = [np.append(self.start, tokens[:-1]) for tokens in written]
        width = wide(written, room)
        batch["inputs"]["target"] = torch.from_numpy(pad(begun, self.layout.pad_id, width=width))
        return batch | learned(pad(written, IGNORED, width=width))


def learned(targets: np.ndarray) -> Batch:
    """The targets [B, T] that are not IGNORED, and where they stand in the flattened batch."""
    index = np.flatnonzero(targets != IGNORED)
    return {"index": torch.from_numpy(index), "targets": torch.from_numpy(targets.ravel()[index])}
