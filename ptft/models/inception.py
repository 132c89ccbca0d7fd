"""Inception v3: factorised convolutions (Szegedy et al. 2016, 1512.00567), under torchvision's names."""

from __future__ import annotations

import torchvision
from torch import nn

from ptft.nn.trunk import Stem, Trunk, pool, reading


class Inception(Trunk):
    """Eleven inception modules, without the auxiliary classifier.

    stem: imagenet, or small for one that keeps the resolution: the same convolutions padded, without strides and pools.
    """

    first = "Conv2d_1a_3x3.conv"
    smallest_by_stem = {"imagenet": 75, "small": 7}

    def __init__(self, input_shape: list[int], stem: Stem):
        super().__init__(input_shape, stem)
        self.adopt(torchvision.models.Inception3(num_classes=1, aux_logits=False, init_weights=False))
        self.Conv2d_1a_3x3.conv = reading(self.Conv2d_1a_3x3.conv, self.channels, stem)
        for layer in (self.Conv2d_2a_3x3, self.Conv2d_4a_3x3):
            layer.conv = reading(layer.conv, layer.conv.in_channels, stem)
        self.maxpool1, self.maxpool2 = pool(self.maxpool1, stem), pool(self.maxpool2, stem)
        begin = (self.Conv2d_1a_3x3, self.Conv2d_2a_3x3, self.Conv2d_2b_3x3, self.maxpool1)
        begin += (self.Conv2d_3b_1x1, self.Conv2d_4a_3x3, self.maxpool2)
        stages = [
            [self.Mixed_5b, self.Mixed_5c, self.Mixed_5d],
            [self.Mixed_6a, self.Mixed_6b, self.Mixed_6c, self.Mixed_6d, self.Mixed_6e],
            [self.Mixed_7a, self.Mixed_7b, self.Mixed_7c],
        ]
        strides = [1, 2, 4] if stem == "small" else [8, 16, 32]
        self.arrange([[nn.Sequential(*begin)], *stages], [288, 768, 2048], strides)
