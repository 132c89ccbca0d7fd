"""DenseNet: every layer sees all before it in its stage (Huang et al. 2017, 1608.06993), under torchvision's names."""

from __future__ import annotations

import torchvision
from torch import nn

from ptft.nn.trunk import Stem, Trunk, pool, reading


class DenseNet(Trunk):
    """Four dense stages with transitions between them that halve width and resolution.

    layers: in each stage. growth: channels each layer adds. width: channels of the stem. dropout: after each layer.
    stem: imagenet, or small for a 3x3 convolution and no pool.
    """

    first = "features.conv0"
    smallest_by_stem = {"imagenet": 29, "small": 8}

    def __init__(self, input_shape: list[int], layers: list[int], growth: int, width: int, dropout: float, stem: Stem):
        super().__init__(input_shape, stem)
        if len(layers) != 4 or min(layers) < 1:
            raise ValueError(f"layers={layers}: give the layers of each of the four stages, such as [6, 12, 24, 16]")
        self.features = torchvision.models.DenseNet(growth, layers, width, drop_rate=dropout, num_classes=1).features
        part = self.features
        part.conv0, part.pool0 = reading(part.conv0, self.channels, stem), pool(part.pool0, stem)
        stages = [
            [part.denseblock1],
            [nn.Sequential(part.transition1, part.denseblock2)],
            [nn.Sequential(part.transition2, part.denseblock3)],
            [nn.Sequential(part.transition3, part.denseblock4, part.norm5, nn.ReLU(inplace=True))],
        ]
        dims = []
        for count in layers:
            width += count * growth
            dims.append(width)
            width //= 2
        strides = [2**stage * (1 if stem == "small" else 4) for stage in range(4)]
        self.arrange([[part[:4]], *stages], dims, strides)
