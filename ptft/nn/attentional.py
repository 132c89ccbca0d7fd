"""Recurrent reading and writing: a bidirectional LSTM, and an LSTM decoder with attention to what was read.

As in CoVe (1708.00107, 3), which follows Luong et al. (1508.04025). Shapes: B batch, S source tokens, T written ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from ptft.nn.dropout import Dropout
from ptft.nn.recurrent import turned
from ptft.nn.stepwise import read_stepwise

State = tuple[Tensor, Tensor]  # hidden and cell [1, B, dim]


class BiLSTM(nn.Module):
    """Layers of LSTMs in both directions: width -> dim, half of it for each direction."""

    def __init__(self, width: int, dim: int, layers: int, dropout: float):
        super().__init__()
        if dim % 2:
            raise ValueError(f"dim={dim}: half of it is for each direction, so it must be even")
        widths = [width, *[dim] * (layers - 1)]
        self.layers = nn.ModuleList(nn.LSTM(w, dim // 2, bidirectional=True, batch_first=True) for w in widths)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None) -> tuple[Tensor, list[State]]:
        """Features [B, S, dim] of x [B, S, width], 0 at padding, and each layer's last states, both directions side by side.

        mask [B, S]: True at real tokens, none of which comes after padding.
        """
        states = []
        for layer in self.layers:
            x, last = _read(layer, self.dropout(x), mask)
            states.append(tuple(part.transpose(0, 1).flatten(1).unsqueeze(0) for part in last))
        return self.dropout(x), states


def _read(lstm: nn.LSTM, x: Tensor, mask: Tensor | None) -> tuple[Tensor, State]:
    """One layer in both directions, none of which sees padding; its last states are [2, B, dim]."""
    if torch.compiler.is_exporting():
        ahead, last = read_stepwise(lstm, x, mask=mask)
        back, first = read_stepwise(lstm, turned(x, mask), mask=mask, direction="_reverse")
        read = torch.cat((ahead, turned(back, mask)), dim=-1)
        return read if mask is None else read * mask.unsqueeze(-1), tuple(map(torch.stack, zip(last, first, strict=True)))
    if mask is None:
        return lstm(x)
    lengths = mask.sum(1).cpu()
    packed, last = lstm(pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False))
    return pad_packed_sequence(packed, batch_first=True, total_length=x.shape[1])[0], last


@dataclass
class Memory:
    """What a decoder knows: the source [B, S, dim] with its mask [B, S], each layer's state, the last h~ [B, 1, dim]."""

    source: Tensor
    mask: Tensor | None
    states: list[State]
    fed: Tensor

    def select(self, rows: Tensor) -> None:
        """Keep these rows [R] of the batch, in their order; one may come several times."""
        self.source, self.fed = self.source[rows], self.fed[rows]
        self.mask = None if self.mask is None else self.mask[rows]
        self.states = [(hidden[:, rows], cell[:, rows]) for hidden, cell in self.states]


class Attention(nn.Module):
    """softmax(H (W1 h + b1)) over the source H, then h~ = tanh(W2 [context; h] + b2)."""

    def __init__(self, dim: int):
        super().__init__()
        self.query = nn.Linear(dim, dim)
        self.mix = nn.Linear(2 * dim, dim)

    def weights(self, hidden: Tensor, source: Tensor, mask: Tensor | None) -> Tensor:
        """How much each of hidden [B, T, dim] looks at each token of the source: [B, T, S], rows sum to 1."""
        scores = self.query(hidden) @ source.transpose(1, 2)
        if mask is not None:
            scores = scores.masked_fill(~mask[:, None], torch.finfo(scores.dtype).min)
        return F.softmax(scores, dim=-1)

    def forward(self, hidden: Tensor, source: Tensor, mask: Tensor | None) -> Tensor:
        """h~ [B, T, dim]."""
        context = self.weights(hidden, source, mask) @ source
        return torch.tanh(self.mix(torch.cat((context, hidden), dim=-1)))


class Decoder(nn.Module):
    """LSTM layers that read the written tokens [B, T, width], and attention over the source for each of them.

    input_feeding: each step reads the h~ of the one before as well (1508.04025, 3.3), so that steps follow one another.
    """

    def __init__(self, width: int, dim: int, layers: int, dropout: float, input_feeding: bool):
        super().__init__()
        self.input_feeding = input_feeding
        widths = [width + dim * input_feeding, *[dim] * (layers - 1)]
        self.layers = nn.ModuleList(nn.LSTM(w, dim, batch_first=True) for w in widths)
        self.attention = Attention(dim)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, memory: Memory) -> Tensor:
        """h~ [B, T, dim]; the memory then holds the states after the last token."""
        if not self.input_feeding:
            return self.dropout(self.step(x, memory))
        return torch.cat([self.dropout(self.step(part, memory)) for part in x.split(1, dim=1)], dim=1)

    def step(self, x: Tensor, memory: Memory) -> Tensor:
        """h~ of tokens that do not need each other's."""
        if self.input_feeding:
            x = torch.cat((x, memory.fed), dim=-1)
        for index, layer in enumerate(self.layers):
            x, memory.states[index] = layer(self.dropout(x), memory.states[index])
        memory.fed = self.attention(x, memory.source, memory.mask)
        return memory.fed
