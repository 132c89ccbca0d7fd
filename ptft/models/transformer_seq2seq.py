"""The encoder-decoder transformer: reads a source, writes a target ("Attention Is All You Need", 1706.03762)."""

from __future__ import annotations

from torch import Tensor, nn

from ptft.nn.cache import Cache
from ptft.nn.cross_attention import Decoder, Memory
from ptft.nn.transformer import Activation, Embedding, Norm, Positions, Stack, check_cap, initialise, look_nearby


class TransformerSeq2Seq(nn.Module):
    """Tokens of a source and of what is written so far -> features of what comes next.

    One embedding serves both sides and, tied, the head (1706.03762, 3.4). layers: of the encoder, and as many of the decoder.
    hidden: width of the feed-forward networks. positions: see Embedding. norm: pre or post (the paper's).
    activation: gelu, gelu_tanh, relu, relu_squared, silu, swiglu. bias: in linear maps and norms. qk_norm, zero_init: see
    SelfAttention, initialise. logit_cap: of what heads over the vocabulary say, see capped. local_heads: see look_nearby.
    Raises ValueError.
    """

    traits = frozenset({"text", "seq2seq"})

    def __init__(
        self,
        vocab_size: int,
        dim: int,
        layers: int,
        heads: int,
        hidden: int,
        max_length: int,
        positions: Positions,
        norm: Norm,
        activation: Activation,
        dropout: float,
        bias: bool,
        eps: float,
        init_std: float,
        qk_norm: bool = False,
        zero_init: bool = False,
        logit_cap: float | None = None,
        local_heads: int | None = 0,
    ):
        super().__init__()
        self.dim, self.max_length, self.logit_cap = dim, max_length, check_cap(logit_cap)
        self.embedding = Embedding(vocab_size, dim, max_length, positions, 0, False, dropout, bias, eps)
        self.encoder = Stack(dim, layers, heads, hidden, positions, norm, activation, dropout, bias, eps, qk_norm)
        self.decoder = Decoder(dim, layers, heads, hidden, positions, norm, activation, dropout, bias, eps, qk_norm)
        initialise(self, init_std, zero_init=zero_init)
        look_nearby(self.encoder, local_heads, causal=False)
        look_nearby(self.decoder, local_heads, causal=True)

    @property
    def token_embedding(self) -> nn.Embedding:
        """What tied heads share."""
        return self.embedding.token

    @property
    def blocks(self) -> list[nn.Module]:
        """Shallow to deep, the encoder before the decoder."""
        return [self.embedding, *self.encoder.layers, *self.decoder.layers]

    def forward(self, tokens: Tensor, mask: Tensor | None = None, target: Tensor | None = None) -> Tensor:
        """Features [B, T, dim] of target [B, T], each of which sees itself, those before it and the source.

        tokens [B, S]: the source; mask: True at real ones. Without a target: the encoder's features [B, S, dim].
        """
        source = self.encode(tokens, mask)
        return source if target is None else self.write(target, self.decoder.remember(source, mask))

    def encode(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Features [B, S, dim] of sources."""
        return self.encoder(self.embedding(tokens, None, None), causal=False, mask=mask)

    def begin(self, tokens: Tensor, mask: Tensor | None = None) -> Memory:
        """What `write` needs of sources [B, S] to write token by token."""
        memory = self.decoder.remember(self.encode(tokens, mask), mask)
        memory.cache = Cache(len(self.decoder.layers), self.max_length)
        return memory

    def write(self, target: Tensor, memory: Memory) -> Tensor:
        """Features [B, T, dim] of target tokens that continue what the memory's cache holds."""
        past = memory.cache.length if memory.cache else 0
        return self.decoder(self.embedding(target, None, None, past), memory)
