"""A causal transformer: every token sees itself and what came before (GPT-2, Radford et al. 2019)."""

from __future__ import annotations

from torch import Tensor, nn

from ptft.nn.cache import Cache
from ptft.nn.transformer import Activation, Embedding, Norm, Positions, Stack, check_cap, initialise, look_nearby


class GPT(nn.Module):
    """Tokens -> features of the text up to each of them.

    hidden: width of the feed-forward network. positions: see Embedding. norm: pre (GPT-2) or post.
    activation: gelu, gelu_tanh, relu, relu_squared, silu, swiglu. bias: in linear maps and norms. local_heads: see look_nearby.
    qk_norm, zero_init: see SelfAttention, initialise. logit_cap: of what heads over the vocabulary say, see capped.
    """

    traits = frozenset({"text", "causal"})

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
        local_heads: int | None,
        qk_norm: bool = False,
        zero_init: bool = False,
        logit_cap: float | None = None,
    ):
        super().__init__()
        self.dim, self.max_length, self.logit_cap = dim, max_length, check_cap(logit_cap)
        self.embedding = Embedding(vocab_size, dim, max_length, positions, 0, norm == "post", dropout, bias, eps)
        self.stack = Stack(dim, layers, heads, hidden, positions, norm, activation, dropout, bias, eps, qk_norm)
        initialise(self, init_std, scale_residuals=True, zero_init=zero_init)
        look_nearby(self.stack, local_heads, causal=True)

    @property
    def token_embedding(self) -> nn.Embedding:
        """What tied heads share."""
        return self.embedding.token

    @property
    def blocks(self) -> list[nn.Module]:
        """Shallow to deep; the stack's last norm goes with the last layer."""
        return [self.embedding, *self.stack.layers]

    def new_cache(self) -> Cache:
        """An empty cache for texts up to `max_length`."""
        return Cache(len(self.stack.layers), self.max_length)

    def forward(
        self,
        tokens: Tensor,
        mask: Tensor | None = None,
        positions: Tensor | None = None,
        documents: Tensor | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        """Features [B, T, dim] of tokens [B, T]; mask: True at real ones, documents: equal ids see each other.

        With a cache, `tokens` continue what it holds, and it takes them in.
        """
        x = self.embedding(tokens, positions, None, past=cache.length if cache else 0)
        return self.stack(x, causal=True, mask=mask, positions=positions, documents=documents, cache=cache)
