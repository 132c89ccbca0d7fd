"""Strided convolutions down to a small map and back up, and the residual blocks of VQ-VAE."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from ptft.nn.dense import ACTIVATIONS, Activation


def downsampling(channels: int, widths: Sequence[int], activation: Activation, open_end: bool = False) -> nn.Sequential:
    """Layers [B, channels, H, W] -> ... -> [B, widths[-1], h, w], each one module that halves both sides, rounding up.

    open_end: no activation after the last.
    """
    sizes = zip((channels, *widths[:-1]), widths, strict=True)
    layers = [nn.Sequential(nn.Conv2d(*size, 3, stride=2, padding=1), ACTIVATIONS[activation]()) for size in sizes]
    if open_end:
        layers[-1] = nn.Sequential(layers[-1][0])
    return nn.Sequential(*layers)


def upsampling(widths: Sequence[int], channels: int, activation: Activation) -> nn.Sequential:
    """The way back up: layers [B, widths[-1], h, w] -> [B, channels, h * 2^n, w * 2^n], no activation after the last."""
    down = (*widths[::-1], channels)
    sizes = list(zip(down[:-1], down[1:], strict=True))
    layers = [nn.Sequential(nn.ConvTranspose2d(*size, 4, stride=2, padding=1), ACTIVATIONS[activation]()) for size in sizes]
    layers[-1] = nn.Sequential(layers[-1][0])
    return nn.Sequential(*layers)


def halved(side: int, times: int) -> int:
    """A side of an image after so many halvings that round up."""
    return -(-side // 2**times)


class Crop(nn.Module):
    """The top left [height, width] of maps: what was rounded up on the way down is cut off."""

    def __init__(self, height: int, width: int):
        super().__init__()
        self.height, self.width = height, width

    def forward(self, maps: Tensor) -> Tensor:
        return maps[..., : self.height, : self.width]


class Residual(nn.Module):
    """x + conv1x1(relu(conv3x3(relu(x)))) (VQ-VAE, 1711.00937, 4.1)."""

    def __init__(self, dim: int, hidden: int):
        super().__init__()
        self.inner = nn.Conv2d(dim, hidden, 3, padding=1)
        self.outer = nn.Conv2d(hidden, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.outer(F.relu(self.inner(F.relu(x))))


def residuals(dim: int, hidden: int, count: int) -> nn.Sequential:
    """So many residual blocks, and the ReLU that ends them."""
    return nn.Sequential(*(Residual(dim, hidden) for _ in range(count)), nn.ReLU())
