"""The parts of a transformer that see text: embeddings, layers, the stack of them."""

from __future__ import annotations

import math
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, arange, nn

from ptft.nn.attention import SelfAttention, visibility
from ptft.nn.cache import Cache
from ptft.nn.dropout import Dropout
from ptft.nn.positions import local_offsets, rotations, sinusoids, toward

Positions = Literal["learned", "sinusoidal", "rotary", "sinusoidal_rotary"]
Norm = Literal["pre", "post"]
Activation = Literal["gelu", "gelu_tanh", "relu", "relu_squared", "silu", "swiglu"]

ACTIVATIONS = {
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
    "silu": F.silu,
    "relu_squared": lambda x: F.relu(x).square(),  # 2109.08668
    "swiglu": lambda x: _gate(*x.chunk(2, dim=-1)),
}


def _gate(gate: Tensor, value: Tensor) -> Tensor:
    return F.silu(gate) * value


class Embedding(nn.Module):
    """Tokens, and where they stand, as vectors [B, T, dim].

    positions: learned, sinusoidal (added here), rotary (left to attention) or sinusoidal_rotary (both). segments: how many
    kinds of text (BERT: 2), 0 for none. norm: whether a LayerNorm follows, as in BERT.
    """

    def __init__(
        self,
        vocab_size: int,
        dim: int,
        max_length: int,
        positions: Positions,
        segments: int,
        norm: bool,
        dropout: float,
        bias: bool,
        eps: float,
    ):
        super().__init__()
        self.token = nn.Embedding(vocab_size, dim)
        self.position = nn.Embedding(max_length, dim) if positions == "learned" else None
        self.segment = nn.Embedding(segments, dim) if segments else None
        self.norm = nn.LayerNorm(dim, eps=eps, bias=bias) if norm else None
        self.dropout = Dropout(dropout)
        table = sinusoids(max_length, dim) if "sinusoidal" in positions else None
        self.register_buffer("table", table, persistent=False)

    def forward(self, tokens: Tensor, positions: Tensor | None, segments: Tensor | None, past: int = 0) -> Tensor:
        x = self.token(tokens)
        if self.table is not None:
            x = x * math.sqrt(x.shape[-1])  # 1706.03762, 3.4: else the sinusoids drown the tokens
        table = self.position.weight if self.position is not None else self.table
        if table is not None:
            x = x + (table[past : past + tokens.shape[1]] if positions is None else F.embedding(positions, table))
        if self.segment is not None:
            x = x + (self.segment.weight[0] if segments is None else self.segment(segments))
        if self.norm is not None:
            x = self.norm(x)
        return self.dropout(x)


class FeedForward(nn.Module):
    """Two linear maps around an activation, for each token alone; SwiGLU (2002.05202) has a third as its gate."""

    def __init__(self, dim: int, hidden: int, activation: Activation, bias: bool):
        super().__init__()
        self.activation = activation
        self.inner = nn.Linear(dim, 2 * hidden if activation == "swiglu" else hidden, bias=bias)
        self.outer = nn.Linear(hidden, dim, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.outer(ACTIVATIONS[self.activation](self.inner(x)))


class Layer(nn.Module):
    """Attention, then the feed-forward network, each added to what came in.

    norm: `post` normalises the sums (1706.03762, BERT), `pre` what enters the branches (GPT-2; 2002.04745). qk_norm: see
    SelfAttention.
    """

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
        super().__init__()
        self.pre = norm == "pre"
        self.attention = SelfAttention(dim, heads, dropout, bias, qk_norm)
        self.attention_norm = nn.LayerNorm(dim, eps=eps, bias=bias)
        self.feed_forward = FeedForward(dim, hidden, activation, bias)
        self.feed_forward_norm = nn.LayerNorm(dim, eps=eps, bias=bias)
        self.dropout = Dropout(dropout)

    @property
    def outward(self) -> list[nn.Linear]:
        """What adds to the residual stream."""
        return [self.attention.out, self.feed_forward.outer]

    def forward(self, x: Tensor, *seen) -> Tensor:
        """x [B, T, dim] -> the same shape; `seen` goes to the attention."""
        if self.pre:
            x = x + self.dropout(self.attention(self.attention_norm(x), *seen))
            return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))
        x = self.attention_norm(x + self.dropout(self.attention(x, *seen)))
        return self.feed_forward_norm(x + self.dropout(self.feed_forward(x)))


class Stack(nn.Module):
    """Layers one upon another, with the norm that a pre-norm stack needs at its end."""

    layer = Layer

    def __init__(
        self,
        dim: int,
        layers: int,
        heads: int,
        hidden: int,
        positions: Positions,
        norm: Norm,
        activation: Activation,
        dropout: float,
        bias: bool,
        eps: float,
        qk_norm: bool = False,
    ):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        shape = dim, heads, hidden, norm, activation, dropout, bias, eps, qk_norm
        self.layers = nn.ModuleList(self.layer(*shape) for _ in range(layers))
        self.norm = nn.LayerNorm(dim, eps=eps, bias=bias) if norm == "pre" else None
        self.rotary_size = dim // heads if "rotary" in positions else 0
        if self.rotary_size % 2:
            raise ValueError(f"positions={positions} needs heads of even size, not dim={dim} / heads={heads}")

    def forward(
        self,
        x: Tensor,
        causal: bool,
        mask: Tensor | None = None,
        positions: Tensor | None = None,
        documents: Tensor | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        """Features [B, T, dim] -> [B, T, dim]; visibility and rotations are worked out once for all layers."""
        past = cache.length if cache else 0
        rate = self.dropout if self.training else 0.0
        visible = visibility(x, self.heads, rate, causal, mask, documents, past)
        rotation = self._rotation(x, positions, past)
        for index, layer in enumerate(self.layers):
            x = layer(x, visible, rotation, cache, index)
        if cache:
            cache.length += x.shape[1]
        return x if self.norm is None else self.norm(x)

    def _rotation(self, x: Tensor, positions: Tensor | None, past: int) -> tuple[Tensor, Tensor] | None:
        if not self.rotary_size:
            return None
        if positions is None:
            positions = arange(past, past + x.shape[1], device=x.device)
        return rotations(positions, self.rotary_size)


def check_cap(cap: float | None) -> float | None:
    """A cap of logits, or None where nothing is capped. Raises ValueError for one that leaves no logits."""
    if cap is not None and cap <= 0:
        raise ValueError(f"logit_cap={cap}: expected a number above 0, such as 15; null caps nothing")
    return cap


def look_nearby(stack: Stack, count: int | None, causal: bool) -> None:
    """Let `count` heads of each fresh layer look at neighbours (see `local_offsets`).

    A model learns little from hidden words before its heads have found the words beside them, and from a uniform start that
    takes most of a short run; here the biases of queries and keys point there from the start. Raises ValueError.
    """
    able = bool(stack.rotary_size) and stack.layers[0].attention.qkv.bias is not None
    offsets = local_offsets(count, stack.heads, able, "positions=rotary, bias=true", causal)
    for layer in stack.layers:
        for head, offset in enumerate(offsets):
            biases = layer.attention.qkv.bias.data.view(3, stack.heads, stack.rotary_size)
            biases[0, head], biases[1, head] = toward(offset, stack.rotary_size)


def initialise(model: nn.Module, std: float, scale_residuals: bool = False, zero_init: bool = False) -> None:
    """Draw every matrix and embedding from N(0, std) and clear the biases, as BERT and GPT-2 do.

    scale_residuals: divide the std of what is added to the residual stream by sqrt(2 x layers) (GPT-2 report, 2.3).
    zero_init: nothing is added to it at first, so that a fresh stack passes its input through (1901.09321).
    """
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=std)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
    stacks = [module for module in model.modules() if isinstance(module, Stack)] if scale_residuals or zero_init else []
    for layers in (stack.layers for stack in stacks):
        for linear in (linear for layer in layers for linear in layer.outward):
            nn.init.normal_(linear.weight, std=0.0 if zero_init else std / math.sqrt(2 * len(layers)))
