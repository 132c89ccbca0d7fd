"""A transformer that learns from any order of its tokens, with two streams and a memory (XLNet, 1906.08237)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ptft.nn.dropout import Dropout
from ptft.nn.positions import local_offsets
from ptft.nn.relative import RelativeAttention, Sight, distances, in_order
from ptft.nn.transformer import Activation, FeedForward, initialise


class Tokens(nn.Module):
    """Token vectors, and the one vector `blank` that stands for a token which is to be guessed."""

    def __init__(self, vocab_size: int, dim: int, init_std: float):
        super().__init__()
        self.token = nn.Embedding(vocab_size, dim)
        self.blank = nn.Parameter(torch.randn(dim) * init_std)


class Layer(nn.Module):
    """Attention and a feed-forward network with the norms after the sums; both streams go through the same weights."""

    def __init__(self, dim: int, heads: int, hidden: int, activation: Activation, dropout: float, segments: bool, eps: float):
        super().__init__()
        self.attention = RelativeAttention(dim, heads, dropout, segments)
        self.attention_norm = nn.LayerNorm(dim, eps=eps)
        self.feed_forward = FeedForward(dim, hidden, activation, bias=True)
        self.feed_forward_norm = nn.LayerNorm(dim, eps=eps)
        self.dropout = Dropout(dropout)

    def forward(self, streams: list[tuple[Tensor, Sight]], memory: Tensor | None, waves: Tensor) -> list[Tensor]:
        """Streams [B, Q, dim], of which the first is what all of them look at, behind the memory [B, M, dim]."""
        content = streams[0][0]
        seen = self.attention.seen(content if memory is None else torch.cat((memory, content), dim=1), waves)
        return [self._rest(x, self.attention(x, seen, sight)) for x, sight in streams]

    def _rest(self, x: Tensor, found: Tensor) -> Tensor:
        x = self.attention_norm(x + self.dropout(found))
        return self.feed_forward_norm(x + self.dropout(self.feed_forward(x)))


class XLNet(nn.Module):
    """Tokens -> contextual features of both sides; positions count only by their distance.

    hidden: width of the feed-forward network. segments: 2 tells two texts in one input apart, by whether query and key are
    in the same one; 0 for none. activation: gelu, gelu_tanh, relu, relu_squared, silu, swiglu. local_heads: see
    ptft.nn.positions.local_offsets. Raises ValueError.
    """

    traits = frozenset({"text", "bidirectional", "two_stream"})

    def __init__(
        self,
        vocab_size: int,
        dim: int,
        layers: int,
        heads: int,
        hidden: int,
        max_length: int,
        segments: int,
        activation: Activation,
        dropout: float,
        eps: float,
        init_std: float,
        local_heads: int | None = 0,
    ):
        super().__init__()
        if dim % 2 or segments not in (0, 2):
            raise ValueError(f"dim={dim} must be even, and segments={segments} 0 or 2")
        self.dim, self.max_length, self.segments, self.eps = dim, max_length, segments, eps
        self.embedding = Tokens(vocab_size, dim, init_std)
        self.layers = nn.ModuleList(Layer(dim, heads, hidden, activation, dropout, segments > 0, eps) for _ in range(layers))
        self.dropout = Dropout(dropout)
        initialise(self, init_std)
        for name, parameter in self.named_parameters():
            if name.endswith(("_bias", ".segment")):  # of the attention, which are no linear map's
                nn.init.normal_(parameter, std=init_std)
        able = dim // heads % 2 == 0
        for head, offset in enumerate(local_offsets(local_heads, heads, able, "an even dim / heads", causal=False)):
            for layer in self.layers:
                layer.attention.look(head, offset)

    @property
    def token_embedding(self) -> nn.Embedding:
        """What tied heads share."""
        return self.embedding.token

    @property
    def blocks(self) -> list[nn.Module]:
        """Shallow to deep."""
        return [self.embedding, *self.layers]

    def forward(self, tokens: Tensor, mask: Tensor | None = None, segments: Tensor | None = None) -> Tensor:
        """Features [B, T, dim] of tokens [B, T] that all see each other; mask: True at real ones."""
        x = self.dropout(self.embedding.token(tokens))
        other = None if segments is None else segments[:, :, None] != segments[:, None, :]
        sight = Sight.of(None if mask is None else mask[:, None, :], other, dtype=x.dtype)
        waves = self.dropout(distances(0, tokens.shape[1], self.dim, x))
        for layer in self.layers:
            (x,) = layer([(x, sight)], None, waves)
        return self.dropout(x)

    def two_streams(
        self,
        tokens: Tensor,
        order: Tensor,
        places: Tensor,
        mask: Tensor | None = None,
        memory: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What is to be known of the tokens at `places` [B, Q] from those before them in `order`, but not from themselves.

        order: int [B, T], when each token comes; equal ones see each other. mask: True at real tokens. memory: what the
        layers read of the tokens before these [B, layers, M, dim], and where it holds something, bool [B, M]. Returns the
        query stream [B, Q, dim], the content stream [B, T, dim], and what the layers read now [B, layers, T, dim].
        """
        content = self.dropout(self.embedding.token(tokens))
        query = self.dropout(self.embedding.blank.expand(*places.shape, -1))
        past, remembered = memory or (None, None)
        asked = order.gather(1, places)
        looks = Sight.of(in_order(order, order, False, mask, remembered), None, dtype=content.dtype)
        asks = Sight.of(in_order(order, asked, True, mask, remembered), None, places, content.dtype)
        waves = self.dropout(distances(0 if past is None else past.shape[2], tokens.shape[1], self.dim, content))
        read = []
        for index, layer in enumerate(self.layers):
            read.append(content)
            before = None if past is None else past[:, index].to(content.dtype)
            content, query = layer([(content, looks), (query, asks)], before, waves)
        return self.dropout(query), self.dropout(content), torch.stack(read, dim=1)
