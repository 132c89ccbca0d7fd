"""GoogLeNet: modules that look at several scales at once (Szegedy et al. 2015, 1409.4842), under torchvision's names."""

from __future__ import annotations

import torchvision
from torch import nn

from ptft.nn.trunk import Stem, Trunk, pool, reading


class GoogLeNet(Trunk):
    """Nine inception modules with batch norm, without the auxiliary classifiers.

    stem: imagenet, or small for a 3x3 convolution and no pools before the first module.
    """

    first = "conv1.conv"
    smallest_by_stem = {"imagenet": 15, "small": 2}

    def __init__(self, input_shape: list[int], stem: Stem):
        super().__init__(input_shape, stem)
        self.adopt(torchvision.models.GoogLeNet(num_classes=1, aux_logits=False, init_weights=False))
        self.conv1.conv = reading(self.conv1.conv, self.channels, stem)
        self.maxpool1, self.maxpool2 = pool(self.maxpool1, stem), pool(self.maxpool2, stem)
        begin = nn.Sequential(self.conv1, self.maxpool1, self.conv2, self.conv3, self.maxpool2)
        stages = [
            [self.inception3a, self.inception3b],
            [nn.Sequential(self.maxpool3, self.inception4a)]
            + [self.inception4b, self.inception4c, self.inception4d, self.inception4e],
            [nn.Sequential(self.maxpool4, self.inception5a), self.inception5b],
        ]
        strides = [1, 2, 4] if stem == "small" else [8, 16, 32]
        self.arrange([[begin], *stages], [480, 832, 1024], strides)
