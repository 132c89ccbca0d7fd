"""The decoder of an encoder-decoder transformer: layers that look at the source as well (1706.03762, 3.1).

Shapes: B batch, T written tokens, S source tokens, H heads, size = dim / H.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from ptft.nn.attention import Visibility, attend, normalise, visibility
from ptft.nn.cache import Cache
from ptft.nn.transformer import Activation, Layer, Norm, Stack

Pair = tuple[Tensor, Tensor]


@dataclass
class Memory:
    """What a decoder knows of its sources.

    layers: for each of its layers the keys and values of the source [B, H, S, size], worked out once. mask [B, S]: True at
    real tokens. cache: keys and values of what it has written, where it writes token by token.
    """

    layers: list[Pair]
    mask: Tensor | None
    cache: Cache | None = None

    def select(self, rows: Tensor) -> None:
        """Keep these rows [R] of the batch, in their order; one may come several times."""
        self.layers = [(keys[rows], values[rows]) for keys, values in self.layers]
        self.mask = None if self.mask is None else self.mask[rows]
        if self.cache:
            self.cache.select(rows)


class CrossAttention(nn.Module):
    """Multi-head attention whose queries are the decoder's and whose keys and values are the source's (3.2.3).

    qk_norm: as in SelfAttention.
    """

    def __init__(self, dim: int, heads: int, dropout: float, bias: bool, qk_norm: bool = False):
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.qk_norm = qk_norm
        self.query = nn.Linear(dim, dim, bias=bias)
        self.key_value = nn.Linear(dim, 2 * dim, bias=bias)
        self.out = nn.Linear(dim, dim, bias=bias)

    def remember(self, source: Tensor) -> Pair:
        """Keys and values [B, H, S, size] of encoded sources [B, S, dim]."""
        keys, values = self.key_value(source).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return normalise(keys) if self.qk_norm else keys, values

    def forward(self, x: Tensor, remembered: Pair, visible: Visibility) -> Tensor:
        """x [B, T, dim] -> the same shape."""
        queries = self.query(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        queries = normalise(queries) if self.qk_norm else queries
        seen = attend(queries, *remembered, visible, self.dropout if self.training else 0.0)
        return self.out(seen.transpose(1, 2).flatten(2))


class DecoderLayer(Layer):
    """Attention to what is written, attention to the source, then the feed-forward network."""

    def __init__(
        self,
        dim: int,
        heads: int,
        hidden: int,
        norm: Norm,
        activation: Activation,
        dropout: float,
        bias: bool,
        eps: float,
        qk_norm: bool = False,
    ):
        super().__init__(dim, heads, hidden, norm, activation, dropout, bias, eps, qk_norm)
        self.cross = CrossAttention(dim, heads, dropout, bias, qk_norm)
        self.cross_norm = nn.LayerNorm(dim, eps=eps, bias=bias)

    @property
    def outward(self) -> list[nn.Linear]:
        return [*super().outward, self.cross.out]

    def forward(self, x: Tensor, remembered: Pair, across: Visibility, *seen) -> Tensor:
        """x [B, T, dim] -> the same shape; `across` says which tokens of the source are seen, `seen` is of the written ones."""
        if self.pre:
            x = x + self.dropout(self.attention(self.attention_norm(x), *seen))
            x = x + self.dropout(self.cross(self.cross_norm(x), remembered, across))
            return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))
        x = self.attention_norm(x + self.dropout(self.attention(x, *seen)))
        x = self.cross_norm(x + self.dropout(self.cross(x, remembered, across)))
        return self.feed_forward_norm(x + self.dropout(self.feed_forward(x)))


class Decoder(Stack):
    """Decoder layers one upon another."""

    layer = DecoderLayer

    def remember(self, source: Tensor, mask: Tensor | None) -> Memory:
        """What the layers need of encoded sources [B, S, dim]."""
        return Memory([layer.cross.remember(source) for layer in self.layers], mask)

    def forward(self, x: Tensor, memory: Memory) -> Tensor:
        """Features [B, T, dim] of written tokens -> [B, T, dim]; they continue what the memory's cache holds."""
        cache = memory.cache
        past = cache.length if cache else 0
        rate = self.dropout if self.training else 0.0
        visible = visibility(x, self.heads, rate, True, None, None, past)
        keys, _ = memory.layers[0]
        across = visibility(keys[:, 0], self.heads, rate, False, memory.mask, None)
        rotation = self._rotation(x, None, past)
        for index, (layer, remembered) in enumerate(zip(self.layers, memory.layers, strict=True)):
            x = layer(x, remembered, across, visible, rotation, cache, index)
        if cache:
            cache.length += x.shape[1]
        return x if self.norm is None else self.norm(x)
