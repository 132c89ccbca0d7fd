"""What all convolutional backbones share: stages in order, a stem for large or small images, any number of channels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from torch import Tensor, nn

Stem = Literal["imagenet", "small"]
HEAD = {"avgpool", "dropout", "fc"}


class Trunk(nn.Module):
    """A convolutional network without its classifier: values [B, C, H, W] -> features [B, dim, h, w].

    A subclass keeps torchvision's names for its layers, so that published weights fit, names the convolution that reads
    the image (`first`) and the smallest image for each stem, and calls `arrange` at the end of its constructor.
    """

    traits = frozenset({"image", "pyramid"})
    first: str
    smallest_by_stem: Mapping[str, int]

    def __init__(self, input_shape: list[int], stem: Stem):
        super().__init__()
        self.channels, self.smallest = input_shape[0], self.smallest_by_stem[stem]
        height, width = input_shape[1:]
        if min(height, width) < self.smallest:
            small = "" if stem == "small" else ", or model.stem=small"
            raise ValueError(
                f"images of {height}x{width} are too small, expected at least {self.smallest}x{self.smallest}: "
                f"give transform.size={self.smallest}{small}"
            )

    def adopt(self, network: nn.Module) -> None:
        """Take over the layers of one of torchvision's networks under their names, but for its head."""
        for name, layer in network.named_children():
            if name not in HEAD:
                self.add_module(name, layer)

    def arrange(self, stages: list[list[nn.Module]], dims: list[int], strides: list[int]) -> None:
        """Fix the order of the layers and draw their weights.

        stages: the units of each stage, shallow to deep; the first is the stem, a single unit. dims, strides: of the
        maps that the others give. A unit may be a view of layers that are named elsewhere: plain lists add no names.
        """
        self.stages, self.map_dims, self.map_strides, self.dim = stages, dims, strides, dims[-1]
        initialise(self)

    @property
    def blocks(self) -> list[nn.Module]:
        """The stem, then every unit, shallow to deep."""
        return [unit for stage in self.stages for unit in stage]

    def maps(self, values: Tensor) -> list[Tensor]:
        """The map [B, dim, h, w] each stage after the stem gives, high to low resolution."""
        x, found = values, []
        for stage in self.stages:
            for unit in stage:
                x = unit(x)
            found.append(x)
        return found[1:]

    def forward(self, values: Tensor) -> Tensor:
        return self.maps(values)[-1]

    def adapt(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Weights trained on images of other channels, made to fit these."""
        name = f"{self.first}.weight"
        return tensors | ({name: adapt_channels(tensors[name], self.channels)} if name in tensors else {})


def reading(conv: nn.Conv2d, channels: int, stem: Stem) -> nn.Conv2d:
    """A convolution like `conv` for images of so many channels; with the small stem 3x3, at full resolution."""
    kernel, stride, padding = (3, 1, 1) if stem == "small" else (conv.kernel_size, conv.stride, conv.padding)
    return nn.Conv2d(channels, conv.out_channels, kernel, stride, padding, bias=conv.bias is not None)


def pool(layer: nn.Module, stem: Stem) -> nn.Module:
    """A pool of the stem, which small images go without."""
    return nn.Identity() if stem == "small" else layer


def adapt_channels(weight: Tensor, channels: int) -> Tensor:
    """The weights [out, C, ...] of what reads an image, for other channels, so that a grey image gives what it gave.

    One channel: the sum over the old ones; several: the old ones in turn, scaled to the same sum.
    """
    known = weight.shape[1]
    if channels == known:
        return weight
    if channels == 1:
        return weight.sum(1, keepdim=True)
    turns = [index % known for index in range(channels)]
    return weight[:, turns] * (known / channels)


def initialise(trunk: nn.Module) -> None:
    """Draw convolutions as He et al. 2015 (1502.01852) do for the backward pass; norms start as the identity."""
    for layer in trunk.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.ones_(layer.weight)
            nn.init.zeros_(layer.bias)
