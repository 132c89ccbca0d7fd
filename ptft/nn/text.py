"""From rows of token ids to batches: padding, where documents begin, and the layout of one or two texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTHS = 8  # texts of any lengths come in batches so many tokens wide, or a multiple: a CPU keeps compiled kernels for each


def wide(rows: Sequence[np.ndarray], most: int) -> int:
    """The width of a batch of rows of any lengths: one of few, at most `most` where the rows are not longer."""
    longest = max(map(len, rows))
    return max(longest, min(most, -(-longest // WIDTHS) * WIDTHS))


def pad(rows: Sequence[np.ndarray], value: int, dtype=np.int64, width: int = 0) -> np.ndarray:
    """Rows of unequal length as one array [B, longest, at least width], filled up with `value` at the end."""
    padded = np.full((len(rows), max(width, *map(len, rows))), value, dtype=dtype)
    for target, row in zip(padded, rows, strict=True):
        target[: len(row)] = row
    return padded


def real(rows: Sequence[np.ndarray], width: int = 0) -> np.ndarray:
    """True where `pad` puts a token and not padding: [B, longest, at least width]."""
    lengths = np.array([len(row) for row in rows])
    return np.arange(max(width, lengths.max())) < lengths[:, None]


def text_inputs(rows: Sequence[np.ndarray], pad_id: int, width: int = 0) -> dict[str, Tensor]:
    """What a model reads: tokens, and a mask only where there is padding, since models are faster without."""
    inputs = {"tokens": torch.from_numpy(pad(rows, pad_id, width=width))}
    present = real(rows, width)
    if not present.all():
        inputs["mask"] = torch.from_numpy(present)
    return inputs


def restarting_positions(documents: np.ndarray) -> np.ndarray:
    """Positions that begin at 0 with each document of a packed block: ids [B, T] -> [B, T]."""
    positions = np.broadcast_to(np.arange(documents.shape[1]), documents.shape)
    begins = np.ones(documents.shape, dtype=bool)
    begins[:, 1:] = documents[:, 1:] != documents[:, :-1]
    return positions - np.maximum.accumulate(np.where(begins, positions, 0), axis=1)


def in_pieces(values: Tensor, pieces: int, fill: int | bool) -> Tensor:
    """Rows [B, T] cut into so many pieces each, [B * pieces, T / pieces]; what is missing at the end is `fill`."""
    length = -(-values.shape[1] // pieces)
    return F.pad(values, (0, pieces * length - values.shape[1]), value=fill).reshape(-1, length)


def truncate_pair(first: int, second: int, room: int) -> tuple[int, int]:
    """How many tokens of two texts to keep in `room`, cutting the longer one first, as BERT does token by token."""
    second_kept = min(second, max(room - first, room // 2))
    return min(first, room - second_kept), second_kept


@dataclass(frozen=True)
class Layout:
    """How one or two texts become one input, and the room there is for it.

    Bidirectional models read `[CLS] a [SEP]` and `[CLS] a [SEP] b [SEP]` (BERT, 1810.04805, 3), with RoBERTa's vocabulary
    two [SEP] between texts. Causal ones read `a [EOS]` and `a [SEP] b [EOS]`: only their last token sees everything, and
    pretraining taught them [EOS] as the end of a text. With GPT-2's vocabulary two texts follow one another as other programs
    put them, with nothing in between.
    """

    before: tuple[int, ...]
    between: tuple[int, ...]
    end: int
    pad_id: int
    max_length: int
    segments: bool  # whether the model tells the first text from the second

    @classmethod
    def of(cls, model: nn.Module, tokenizer) -> Layout:
        """The layout that `model` reads."""
        causal = "causal" in model.traits
        return cls(
            before=() if causal else (tokenizer.cls_id,),
            between=tokenizer.between,
            end=tokenizer.eos_id if causal else tokenizer.sep_id,
            pad_id=tokenizer.pad_id,
            max_length=model.max_length,
            segments=getattr(model, "segments", 0) > 1,
        )

    @property
    def added_tokens(self) -> int:
        """How many tokens one text gets around it; a pair gets what stands between as well."""
        return len(self.before) + 1

    def arrange(self, first: np.ndarray, second: np.ndarray | None = None) -> tuple[np.ndarray, int]:
        """The input of one example and where its second segment begins (its length where there is none)."""
        room = self.max_length - self.added_tokens
        if second is None:
            row = np.concatenate((self.before, first[:room], (self.end,)))
            return row, len(row)
        kept, second_kept = truncate_pair(len(first), len(second), room - len(self.between))
        begin = np.concatenate((self.before, first[:kept], self.between))
        return np.concatenate((begin, second[:second_kept], (self.end,))), len(begin)

    def inputs(self, examples: Sequence[dict]) -> dict[str, Tensor]:
        """A batch of examples {"tokens", maybe "pair"} as a model's inputs, in one of few widths."""
        arranged = [self.arrange(example["tokens"], example.get("pair")) for example in examples]
        rows = [row for row, _ in arranged]
        inputs = text_inputs(rows, self.pad_id, wide(rows, self.max_length))
        if self.segments:
            begins = torch.tensor([[begin] for _, begin in arranged])
            inputs["segments"] = (torch.arange(inputs["tokens"].shape[1]) >= begins).long()
        return inputs
