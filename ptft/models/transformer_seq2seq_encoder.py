"""The encoder of an encoder-decoder transformer, as a model of its own."""

from __future__ import annotations

from torch import Tensor, nn

from ptft.nn.transformer import Activation, Embedding, Norm, Positions, Stack, initialise, look_nearby


class TransformerSeq2SeqEncoder(nn.Module):
    """Tokens -> features of both sides, by the weights that a translation model calls `embedding` and `encoder`.

    The settings are those of that model, but for that of its head.
    """

    traits = frozenset({"text", "bidirectional"})

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
        local_heads: int | None = 0,
    ):
        super().__init__()
        self.dim, self.max_length = dim, max_length
        self.embedding = Embedding(vocab_size, dim, max_length, positions, 0, False, dropout, bias, eps)
        self.encoder = Stack(dim, layers, heads, hidden, positions, norm, activation, dropout, bias, eps, qk_norm)
        initialise(self, init_std, zero_init=zero_init)
        look_nearby(self.encoder, local_heads, causal=False)

    @property
    def token_embedding(self) -> nn.Embedding:
        """What tied heads share."""
        return self.embedding.token

    @property
    def blocks(self) -> list[nn.Module]:
        """Shallow to deep."""
        return [self.embedding, *self.encoder.layers]

    def forward(
        self,
        tokens: Tensor,
        mask: Tensor | None = None,
        positions: Tensor | None = None,
        documents: Tensor | None = None,
    ) -> Tensor:
        """Features [B, T, dim] of tokens [B, T]; mask: True at real ones, documents: equal ids see each other."""
        x = self.embedding(tokens, positions, None)
        return self.encoder(x, causal=False, mask=mask, positions=positions, documents=documents)
