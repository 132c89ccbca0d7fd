"""Dropout that a CPU can afford: sixteen random bits an element instead of a double."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LANES = 4  # 16-bit numbers in one 64-bit draw
RANGE = 1 << 16


def dropout(x: Tensor, rate: float, training: bool = True) -> Tensor:
    """Zero elements with probability `rate` (to 1/65536) and scale the others, as torch does but about 3x faster on a
    CPU.

    The numbers come from torch's default generator. Elsewhere, and inside torch.compile, it is torch's own dropout.
    """
    if not training or not rate:
        return x
    if x.device.type != "cpu" or torch.compiler.is_compiling() or not 0 < round(rate * RANGE) < RANGE:
        return F.dropout(x, rate)
    dropped = round(rate * RANGE)
    words = torch.empty(-(-x.numel() // LANES), dtype=torch.int64).random_(-(2**63), None)
    lanes = words.view(torch.int16)[: x.numel()].view(x.shape)  # uniform in [-32768, 32768)
    kept = (lanes >= dropped - RANGE // 2).to(x.dtype)
    return x * kept.mul_(RANGE / (RANGE - dropped))


class Dropout(nn.Module):
    """`dropout` as a module."""

    def __init__(self, rate: float):
        super().__init__()
        if not 0 <= rate < 1:
            raise ValueError(f"dropout={rate} is no probability below 1")
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        return dropout(x, self.rate, self.training)

    def extra_repr(self) -> str:
        return f"rate={self.rate}"
