"""Residual networks (He et al. 2016, 1512.03385), under torchvision's names."""

from __future__ import annotations

from torch import Tensor, nn

from ptft.nn.drop_path import DropPath, rising
from ptft.nn.squeeze_excitation import SqueezeExcitation
from ptft.nn.trunk import Stem, Trunk, pool, reading


def conv(inner: int, outer: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    """A convolution that keeps the size but for its stride."""
    return nn.Conv2d(inner, outer, kernel, stride, kernel // 2, bias=False)


class Residual(nn.Module):
    """What comes in, plus a branch that a subclass defines: [B, inner, h, w] -> [B, width * expansion, h', w']."""

    expansion: int
    last_norm: str

    def __init__(self, inner: int, width: int, stride: int, squeeze_excitation: bool, drop_path: float):
        super().__init__()
        outer = width * self.expansion
        self.downsample = None
        if stride > 1 or inner != outer:
            self.downsample = nn.Sequential(conv(inner, outer, 1, stride), nn.BatchNorm2d(outer))
        self.relu = nn.ReLU(inplace=True)
        self.excitation = SqueezeExcitation(outer) if squeeze_excitation else nn.Identity()
        self.drop_path = DropPath(drop_path)

    def branch(self, x: Tensor) -> Tensor:
        """What is learnt beside the identity."""
        raise TypeError(f"{type(self).__name__} defines no branch")

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        return self.relu(self.drop_path(self.excitation(self.branch(x))) + identity)


class Basic(Residual):
    """Two 3x3 convolutions."""

    expansion = 1
    last_norm = "bn2"

    def __init__(self, inner: int, width: int, stride: int, squeeze_excitation: bool, drop_path: float):
        super().__init__(inner, width, stride, squeeze_excitation, drop_path)
        self.conv1, self.bn1 = conv(inner, width, 3, stride), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = conv(width, width, 3), nn.BatchNorm2d(width)

    def branch(self, x: Tensor) -> Tensor:
        return self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))


class Bottleneck(Residual):
    """A 3x3 convolution between two 1x1 ones; the 3x3 has the stride, as in torchvision and unlike the paper."""

    expansion = 4
    last_norm = "bn3"

    def __init__(self, inner: int, width: int, stride: int, squeeze_excitation: bool, drop_path: float):
        super().__init__(inner, width, stride, squeeze_excitation, drop_path)
        outer = width * self.expansion
        self.conv1, self.bn1 = conv(inner, width, 1), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = conv(width, width, 3, stride), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = conv(width, outer, 1), nn.BatchNorm2d(outer)

    def branch(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        return self.bn3(self.conv3(self.relu(self.bn2(self.conv2(x)))))


class ResNet(Trunk):
    """Four stages of residual units, each stage at half the resolution of the one before and twice its width.

    layers: units in each stage. bottleneck: units of three convolutions, four times as wide at their ends. width: of the
    first stage. stem: imagenet (7x7, stride 2, pool) or small (3x3 at full resolution). zero_init_residual: the last
    norm of each branch starts at 0, so that every unit starts as the identity (Goyal et al. 2017, 1706.02677, 5.1).
    """

    first = "conv1"
    smallest_by_stem = {"imagenet": 1, "small": 1}

    def __init__(
        self,
        input_shape: list[int],
        layers: list[int],
        bottleneck: bool,
        width: int,
        stem: Stem,
        zero_init_residual: bool,
        squeeze_excitation: bool,
        drop_path: float,
    ):
        super().__init__(input_shape, stem)
        if len(layers) != 4 or min(layers) < 1:
            raise ValueError(f"layers={layers}: give the units of each of the four stages, such as [2, 2, 2, 2]")
        self.conv1 = reading(nn.Conv2d(3, width, 7, 2, 3, bias=False), self.channels, stem)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = pool(nn.MaxPool2d(3, 2, 1), stem)
        kind, widths = Bottleneck if bottleneck else Basic, [width * 2**stage for stage in range(4)]
        rates, inner = iter(rising(drop_path, sum(layers))), width
        for stage, (outer, count) in enumerate(zip(widths, layers, strict=True)):
            units = []
            for place in range(count):
                stride = 2 if stage and not place else 1
                units.append(kind(inner, outer, stride, squeeze_excitation, next(rates)))
                inner = outer * kind.expansion
            self.add_module(f"layer{stage + 1}", nn.Sequential(*units))
        begin = nn.Sequential(self.conv1, self.bn1, self.relu, self.maxpool)
        stages = [list(layer) for layer in (self.layer1, self.layer2, self.layer3, self.layer4)]
        strides = [2**stage * (1 if stem == "small" else 4) for stage in range(4)]
        self.arrange([[begin], *stages], [each * kind.expansion for each in widths], strides)
        if zero_init_residual:
            for unit in self.blocks[1:]:
                nn.init.zeros_(unit.get_submodule(unit.last_norm).weight)
