"""A bidirectional transformer: every token sees every other (BERT, 1810.04805)."""

from __future__ import annotations

from torch import Tensor, nn

from ptft.nn.transformer import Activation, Embedding, Norm, Positions, Stack, initialise, look_nearby


class Transformer(nn.Module):
    """Tokens -> contextual features of both sides.

    hidden: width of the feed-forward network. positions: see Embedding. norm: pre or post (BERT).
    activation: gelu, gelu_tanh, relu, relu_squared, silu, swiglu. bias: in linear maps and norms. segments: kinds of text in
    one input (BERT: 2), 0 for none. local_heads: see look_nearby. qk_norm, zero_init: see SelfAttention, initialise.
    """

    traits = frozenset({"text", "bidirectional", "segments"})

    def __init__(
        self,
        vocab_size: int,
        dim: int,
        layers: int,
        heads: int,
        hidden: int,
        max_length: int,
        positions: Positions,
        segments: int,
        norm: Norm,
        activation: Activation,
        dropout: float,
        bias: bool,
        eps: float,
        init_std: float,
        local_heads: int | None,
        qk_norm: bool = False,
        zero_init: bool = False,
    ):
        super().__init__()
        self.dim, self.max_length, self.segments, self.eps = dim, max_length, segments, eps
        self.activation = activation
        self.embedding = Embedding(vocab_size, dim, max_length, positions, segments, norm == "post", dropout, bias, eps)
        self.stack = Stack(dim, layers, heads, hidden, positions, norm, activation, dropout, bias, eps, qk_norm)
        initialise(self, init_std, zero_init=zero_init)
        look_nearby(self.stack, local_heads, causal=False)

    @property
    def token_embedding(self) -> nn.Embedding:
        """What tied heads share."""
        return self.embedding.token

    @property
    def blocks(self) -> list[nn.Module]:
        """Shallow to deep; the stack's last norm goes with the last layer."""
        return [self.embedding, *self.stack.layers]

    def forward(
        self,
        tokens: Tensor,
        mask: Tensor | None = None,
        positions: Tensor | None = None,
        documents: Tensor | None = None,
        segments: Tensor | None = None,
    ) -> Tensor:
        """Features [B, T, dim] of tokens [B, T]; mask: True at real ones, documents: equal ids see each other."""
        x = self.embedding(tokens, positions, segments)
        return self.stack(x, causal=False, mask=mask, positions=positions, documents=documents)
