"""VGG: 3x3 convolutions and pools, nothing else (Simonyan & Zisserman 2015, 1409.1556), under torchvision's names."""

from __future__ import annotations

from itertools import islice

from torch import nn
from torchvision.models.vgg import make_layers

from ptft.nn.trunk import Stem, Trunk, pool, reading

WIDTHS = (64, 128, 256, 512, 512)


class VGG(Trunk):
    """Five stages of convolutions, each with a pool at its end; the first is the stem.

    layers: convolutions in each stage, [1, 1, 2, 2, 2] for VGG-11, [2, 2, 3, 3, 3] for VGG-16. batch_norm: after each
    convolution. stem: imagenet, or small for no pool after the first stage.
    """

    first = "features.0"
    smallest_by_stem = {"imagenet": 32, "small": 16}

    def __init__(self, input_shape: list[int], layers: list[int], batch_norm: bool, stem: Stem):
        super().__init__(input_shape, stem)
        if len(layers) != 5 or min(layers) < 1:
            raise ValueError(f"layers={layers}: give the convolutions of each of the five stages, such as [1, 1, 2, 2, 2]")
        plan = [step for width, count in zip(WIDTHS, layers, strict=True) for step in (*[width] * count, "M")]
        self.features = make_layers(plan, batch_norm)
        self.features[0] = reading(self.features[0], self.channels, stem)
        first_pool = next(place for place, layer in enumerate(self.features) if isinstance(layer, nn.MaxPool2d))
        self.features[first_pool] = pool(self.features[first_pool], stem)
        begins = [place for place, layer in enumerate(self.features) if isinstance(layer, nn.Conv2d)]
        units = iter([self.features[begin:end] for begin, end in zip(begins, [*begins[1:], None], strict=True)])
        begin, *stages = ([*islice(units, count)] for count in layers)
        strides = [2**stage * (2 if stem == "small" else 4) for stage in range(4)]
        self.arrange([[nn.Sequential(*begin)], *stages], list(WIDTHS[1:]), strides)
