"""The parts of a network that reads word by word: its layers, their dropouts (AWD-LSTM, 1708.02182), what it remembers."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ptft.nn.dropout import dropout
from ptft.nn.stepwise import read_stepwise

State = tuple[Tensor, ...]  # tensors [B, ...]


class Memory:
    """What a model with a fixed memory has read so far: the state of each of its parts, None before the first token.

    length: how many tokens it has read; the model adds to it after each forward.
    """

    def __init__(self, parts: int):
        self.length = 0
        self.states: list[State | None] = [None] * parts

    def select(self, rows: Tensor) -> None:
        """Keep these rows [R] of the batch, in their order; one may come several times."""
        self.states = [state and tuple(part[rows] for part in state) for state in self.states]


class LSTMLayer(nn.LSTM):
    """One layer that reads from left to right: [B, T, inputs] -> [B, T, outputs].

    weight_drop: the share of hidden-to-hidden weights that is dropped, the same for a whole batch (1708.02182, 2).
    """

    def __init__(self, inputs: int, outputs: int, weight_drop: float):
        super().__init__(inputs, outputs, batch_first=True)
        self.weight_drop = weight_drop

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """What is read, and the state behind the last token: output and cell [B, outputs]."""
        if torch.compiler.is_exporting():
            return read_stepwise(self, x, state)
        start = None if state is None else tuple(part.unsqueeze(0) for part in state)
        if self.training and self.weight_drop:
            read, output, cell = self._dropped(x, start)
        else:
            read, (output, cell) = super().forward(x, start)
        return read, (output[0], cell[0])

    def _dropped(self, x: Tensor, start: State | None) -> tuple[Tensor, Tensor, Tensor]:
        """As nn.LSTM computes it, with other weights in the place of its own."""
        start = start or (x.new_zeros(1, len(x), self.hidden_size),) * 2
        recurrent = dropout(self.weight_hh_l0, self.weight_drop)
        weights = [self.weight_ih_l0, recurrent, self.bias_ih_l0, self.bias_hh_l0]
        return torch.lstm(x, start, weights, True, 1, 0.0, True, False, True)


class WordEmbedding(nn.Module):
    """Tokens -> vectors [..., dim]; dropout takes words away, everywhere in the batch (1512.05287; 1708.02182, 4.3)."""

    def __init__(self, vocab_size: int, dim: int, dropout: float, std: float):
        super().__init__()
        self.token = nn.Embedding(vocab_size, dim)
        self.dropout = dropout
        nn.init.normal_(self.token.weight, std=std)

    def forward(self, tokens: Tensor) -> Tensor:
        vectors = self.token(tokens)
        if not self.training or not self.dropout:
            return vectors
        return vectors * dropout(self.token.weight.new_ones(len(self.token.weight), 1), self.dropout)[tokens]


def locked_dropout(x: Tensor, rate: float, training: bool) -> Tensor:
    """Drop features of x [B, T, dim], the same ones at every step of a text (1512.05287; 1708.02182, 4.2)."""
    return x * dropout(torch.ones_like(x[:, :1]), rate) if training and rate else x


def read_apart(read: Callable[[Tensor], Tensor], x: Tensor, documents: Tensor) -> Tensor:
    """What `read` makes of x [B, T, dim] where each run of equal ids in documents [B, T] is a text of its own."""
    begins = torch.ones_like(documents, dtype=torch.bool)
    begins[:, 1:] = documents[:, 1:] != documents[:, :-1]
    text = begins.flatten().cumsum(0) - 1  # [B * T]: which text a token belongs to
    firsts = begins.flatten().nonzero()[:, 0]
    place = torch.arange(len(text), device=x.device) - firsts[text]
    texts = x.new_zeros(len(firsts), int(place.max()) + 1, x.shape[-1])
    texts[text, place] = x.flatten(0, 1)
    return read(texts)[text, place].view(*x.shape[:2], -1)


def turned(x: Tensor, mask: Tensor | None) -> Tensor:
    """x [B, T, ...] with the real tokens of each text in reverse, padding after them as before."""
    if mask is None:
        return x.flip(1)
    places = torch.arange(x.shape[1], device=x.device)
    last = mask.sum(1, keepdim=True) - 1
    places = torch.where(places <= last, last - places, places)
    return x.gather(1, places.unsqueeze(-1).expand(-1, -1, x.shape[2]))
