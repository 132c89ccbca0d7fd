"""From a backbone's feature maps to a class for each pixel."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

IGNORED = 255  # pixels of a mask that are neither learned nor scored
GROUPS = 8


def convolution(inputs: int, outputs: int) -> nn.Sequential:
    """A 3x3 convolution, normalised over groups of channels so that small batches do as well as large ones."""
    norm = nn.GroupNorm(math.gcd(GROUPS, outputs), outputs)
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), norm, nn.ReLU(inplace=True))


def resized(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Maps [B, C, h, w] at another size, bilinear."""
    same = tuple(maps.shape[-2:]) == tuple(size)
    return maps if same else F.interpolate(maps, size=tuple(size), mode="bilinear", align_corners=False)


class FullyConvolutional(nn.Module):
    """Convolutions over the last, coarsest map (Long et al., 1411.4038): scores [B, classes, h, w] are of its size."""

    def __init__(self, dims: Sequence[int], channels: int, width: int, num_classes: int, dropout: float):
        super().__init__()
        self.hidden = convolution(dims[-1], width)
        self.scores = nn.Sequential(nn.Dropout2d(dropout), nn.Conv2d(width, num_classes, 1))

    def forward(self, maps: Sequence[Tensor], images: Tensor) -> Tensor:
        return self.scores(self.hidden(maps[-1]))


class UNet(nn.Module):
    """From the coarsest map up, joined by each finer one on the way (Ronneberger et al., 1505.04597), last by the image.

    The image, of `channels`, brings back the outlines that a backbone loses which starts with a stride. width: channels of
    the finest map's step; each coarser one has twice as many, up to 8 times. Scores are as large as the image,
    [B, classes, H, W].
    """

    def __init__(self, dims: Sequence[int], channels: int, width: int, num_classes: int, dropout: float):
        super().__init__()
        widths = [width * min(8, 2**depth) for depth in range(len(dims))]
        self.bottom = convolution(dims[-1], widths[-1])
        below = widths[1:]
        finer = list(zip(dims[:-1], widths[:-1], below, strict=True))
        self.steps = nn.ModuleList(
            nn.Sequential(convolution(dim + coarse, fine), convolution(fine, fine)) for dim, fine, coarse in finer
        )
        self.outlines = convolution(widths[0] + channels, width)
        self.scores = nn.Sequential(nn.Dropout2d(dropout), nn.Conv2d(width, num_classes, 1))

    def forward(self, maps: Sequence[Tensor], images: Tensor) -> Tensor:
        up = self.bottom(maps[-1])
        for step, finer in zip(reversed(self.steps), reversed(maps[:-1]), strict=True):
            up = step(torch.cat((resized(up, finer.shape[-2:]), finer), dim=1))
        up = resized(up, images.shape[-2:])
        return self.scores(self.outlines(torch.cat((up, images.to(up.dtype)), dim=1)))


HEADS = {"fcn": FullyConvolutional, "unet": UNet}
