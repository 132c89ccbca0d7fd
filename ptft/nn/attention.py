"""Self-attention: who may see whom, and the kernel that is fastest for it.

Shapes: B batch, T queries, S keys, H heads, size = dim / H.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ptft.nn.cache import Cache
from ptft.nn.dropout import dropout
from ptft.nn.positions import rotate

# The longest text for which two batched matmuls and a softmax beat torch's flash kernel on a CPU. Forward and backward,
# 2 cores: fp32 1.0-1.5x up to 128, 0.75-0.85x from 256; bf16 1.3-1.5x up to 256.
EXPLICIT_UP_TO = {torch.float32: 128, torch.bfloat16: 256}
NORM_EPS = 1e-6  # of queries and keys; torch's own would be 0.008 in bf16


def prefers_flash(device: torch.device, dtype: torch.dtype, length: int, rate: float) -> bool:
    """Whether scaled_dot_product_attention is the faster way, as measured; an exported graph has it for every length."""
    if device.type != "cpu" or torch.compiler.is_exporting():
        return True
    if rate:  # the CPU's flash kernel knows no dropout and torch falls back to a slow path
        return False
    return length > EXPLICIT_UP_TO.get(dtype, 0)


@dataclass(frozen=True)
class Visibility:
    """What the queries of one forward may see, the same in every layer.

    bias: [B * H or 1, T or 1, S], added to the scores; None where everything is seen. causal: it hides the future and
    nothing else, which flash kernels do by themselves.
    """

    bias: Tensor | None
    causal: bool
    flash: bool


def visibility(
    x: Tensor, heads: int, rate: float, causal: bool, mask: Tensor | None, documents: Tensor | None, past: int = 0
) -> Visibility:
    """Join padding, the future and other documents into one bias for features x [B, T, dim].

    mask: [B, S], True at real tokens. documents: [B, T] ids; only equal ones see each other. past: cached tokens before
    x.
    """
    device, length = x.device, x.shape[1]
    dtype = torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else x.dtype
    flash = prefers_flash(device, dtype, past + length, rate)
    future_only = causal and mask is None and documents is None and past == 0
    hidden = []
    if causal and length > 1 and not (flash and future_only):
        hidden.append(torch.ones(1, length, past + length, dtype=torch.bool, device=device).triu(past + 1))
    if documents is not None:
        hidden.append((documents[:, :, None] != documents[:, None, :]).repeat_interleave(heads, 0))
    if mask is not None:
        hidden.append(~mask[:, None, :].repeat_interleave(heads, 0))
    return Visibility(_bias(hidden, dtype), future_only and length > 1, flash)


def _bias(hidden: list[Tensor], dtype: torch.dtype) -> Tensor | None:
    """Zero where all agree to look, else half the lowest number: a row that sees nothing stays finite."""
    if not hidden:
        return None
    joined = hidden[0]
    for other in hidden[1:]:
        joined = joined | other
    return torch.zeros(joined.shape, dtype=dtype, device=joined.device).masked_fill(joined, torch.finfo(dtype).min / 2)


def attend(q: Tensor, k: Tensor, v: Tensor, visible: Visibility, rate: float) -> Tensor:
    """softmax(q k^T / sqrt(size) + bias) v: [B, H, T, size], with dropout on the weights at `rate`."""
    if visible.flash:
        bias = None if visible.causal else _by_head(visible.bias, q.shape[1])
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=rate, is_causal=visible.causal)
    batch, heads, length, size = q.shape
    q, k, v = (x.reshape(batch * heads, -1, size) for x in (q, k, v))
    if visible.bias is None:
        scores = torch.bmm(q * size**-0.5, k.transpose(1, 2))
    else:
        scores = torch.baddbmm(visible.bias, q, k.transpose(1, 2), alpha=size**-0.5)
    weights = dropout(F.softmax(scores, dim=-1), rate)
    return torch.bmm(weights, v).view(batch, heads, length, size)


def _by_head(bias: Tensor | None, heads: int) -> Tensor | None:
    """[B * H or 1, T, S] -> [B or 1, H or 1, T, S]."""
    if bias is None:
        return None
    return bias.unsqueeze(0) if bias.shape[0] == 1 else bias.unflatten(0, (-1, heads))


def normalise(x: Tensor) -> Tensor:
    """Queries or keys [..., size] with a mean square of 1, so that no score exceeds sqrt(size) (after 2010.04245).

    There is no learned scale: weights and their names stay those of a model without.
    """
    return F.rms_norm(x, x.shape[-1:], eps=NORM_EPS).to(x.dtype)


class SelfAttention(nn.Module):
    """Multi-head self-attention (1706.03762, 3.2.2) with queries, keys and values from one matrix.

    qk_norm: queries and keys of each head are normalised, before they are rotated.
    """

    def __init__(self, dim: int, heads: int, dropout: float, bias: bool, qk_norm: bool = False):
        super().__init__()
        if dim % heads:
            raise ValueError(f"dim={dim} cannot be split over heads={heads}")
        self.heads = heads
        self.dropout = dropout
        self.qk_norm = qk_norm
        self.qkv = nn.Linear(dim, 3 * dim, bias=bias)
        self.out = nn.Linear(dim, dim, bias=bias)

    def forward(
        self,
        x: Tensor,
        visible: Visibility,
        rotation: tuple[Tensor, Tensor] | None = None,
        cache: Cache | None = None,
        layer: int = 0,
    ) -> Tensor:
        batch, length, dim = x.shape
        qkv = self._split(x)
        if not visible.flash:
            qkv = qkv.contiguous()  # one copy here saves three in the matmuls
        q, k, v = qkv.unbind(0)
        if rotation is not None:
            q, k = rotate(qkv[:2], rotation).unbind(0)
        if cache is not None:
            k, v = cache.extend(layer, k, v)
        seen = attend(q, k, v, visible, self.dropout if self.training else 0.0)
        return self.out(seen.transpose(1, 2).reshape(batch, length, dim))

    def _split(self, x: Tensor) -> Tensor:
        """Queries, keys and values [3, B, H, T, size]."""
        qkv = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return torch.cat((normalise(qkv[:2]), qkv[2:])) if self.qk_norm else qkv

    def shares(self, x: Tensor) -> Tensor:
        """How much of each token every token takes in, [B, H, T, S], where all of them are seen and none is rotated."""
        q, k = self._split(x)[:2]  # [B, H, T, size] each
        return (q @ k.mT * q.shape[-1] ** -0.5).softmax(-1)
