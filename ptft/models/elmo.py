"""Features of a bidirectional language model: two LSTMs that read a text from its two ends (ELMo, 1802.05365)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ptft.nn.characters import Characters
from ptft.nn.dropout import Dropout
from ptft.nn.projected_lstm import ProjectedLSTM
from ptft.nn.recurrent import turned
from ptft.nn.stepwise import State

FORWARD, BACKWARD = 0, 1


class Tokens(nn.Module):
    """Tokens [B, T] -> vectors [B, T, dim] from a table."""

    def __init__(self, vocab_size: int, dim: int):
        super().__init__()
        self.token = nn.Embedding(vocab_size, dim)
        nn.init.normal_(self.token.weight, std=dim**-0.5)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.token(tokens)


class Mix(nn.Module):
    """gamma * sum of softmax(weight)_j * layer_j, which starts as the mean of the layers (1802.05365, 3.2).

    normalise: each layer first gets mean 0 and variance 1 over all real tokens and features of its text.
    """

    def __init__(self, layers: int, normalise: bool):
        super().__init__()
        self.weight, self.gamma = nn.Parameter(torch.zeros(layers)), nn.Parameter(torch.ones(()))
        self.normalise = normalise

    def forward(self, layers: list[Tensor], mask: Tensor | None) -> Tensor:
        shares = self.gamma * F.softmax(self.weight, dim=0)
        layers = [standardised(layer, mask) for layer in layers] if self.normalise else layers
        return sum(share * layer for share, layer in zip(shares, layers, strict=True))


def standardised(x: Tensor, mask: Tensor | None) -> Tensor:
    """x [B, T, dim] with mean 0 and variance 1 over the real tokens of each text; padding is 0."""
    real = torch.ones_like(x[..., :1]) if mask is None else mask.unsqueeze(-1).to(x.dtype)
    count = real.sum((1, 2), keepdim=True) * x.shape[-1]
    centred = (x - (x * real).sum((1, 2), keepdim=True) / count) * real
    return centred * torch.rsqrt(centred.square().sum((1, 2), keepdim=True) / count + 1e-12)


class ELMo(nn.Module):
    """Tokens -> a mixture of the token layer and each LSTM layer, half of every feature from each direction.

    input: characters (their spelling) or tokens (a table). dim: of the features, both directions together. hidden: cells of
    each LSTM, projected to dim / 2. From the second layer on, a layer's input is added to its output. clip: see
    ProjectedLSTM. normalise: see Mix. filters, character_dim, highways, max_characters: see Characters. Raises ValueError.
    """

    traits = frozenset({"text", "bilm"})
    always_trained = ("mix.",)  # each task has its own mixture of the layers (1802.05365, 3.2)

    def __init__(
        self,
        vocab_size: int,
        tokenizer: Any,
        input: Literal["characters", "tokens"],
        dim: int,
        layers: int,
        hidden: int,
        max_length: int,
        clip: float | None,
        dropout: float,
        normalise: bool,
        filters: Sequence[Sequence[int]],
        character_dim: int,
        highways: int,
        max_characters: int,
    ):
        super().__init__()
        if dim % 2:
            raise ValueError(f"dim={dim} must be even: half of it is from each direction")
        self.dim, self.max_length, self.width = dim, max_length, dim // 2
        if input == "tokens":
            self.embedding = Tokens(vocab_size, self.width)
        else:
            self.embedding = Characters(tokenizer, self.width, character_dim, filters, highways, max_characters)
        self.layers = nn.ModuleList(
            nn.ModuleList(ProjectedLSTM(self.width, hidden, self.width, clip) for _ in (FORWARD, BACKWARD))
            for _ in range(layers)
        )
        self.mix = Mix(layers + 1, normalise)
        self.dropout = Dropout(dropout)

    @property
    def blocks(self) -> list[nn.Module]:
        """Shallow to deep; the mixture is the top, so that it may learn where all below is frozen."""
        return [self.embedding, *self.layers, self.mix]

    @property
    def token_embedding(self) -> nn.Embedding | None:
        """The table of tokens, if there is one."""
        return getattr(self.embedding, "token", None)

    def read(self, x: Tensor, direction: int, state: State | None = None) -> tuple[list[Tensor], State]:
        """What one direction makes of token vectors [B, T, dim / 2] in the order it reads them.

        state: what it knew before, outputs [B, layers, dim / 2] and cells [B, layers, hidden]. Returns the output of each
        layer and the state behind the last token.
        """
        found, states = [], []
        for index, layer in enumerate(self.layers):
            before = None if state is None else (state[0][:, index], state[1][:, index])
            inputs = self.dropout(x)
            x, after = layer[direction](inputs, before)
            x = x + inputs if index else x
            found.append(x)
            states.append(after)
        outputs, cells = zip(*states, strict=True)
        return found, (torch.stack(outputs, dim=1), torch.stack(cells, dim=1))

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Features [B, T, dim] of tokens [B, T]; mask: True at real ones, which stand at the beginning of each row."""
        x = self.embedding(tokens)
        ahead, _ = self.read(x, FORWARD)
        back, _ = self.read(turned(x, mask), BACKWARD)
        pairs = [(x, x), *((one, turned(other, mask)) for one, other in zip(ahead, back, strict=True))]
        return self.mix([torch.cat(pair, dim=-1) for pair in pairs], mask)
