"""A convolutional autoencoder: strided convolutions down to a small map and back (Masci et al. 2011)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ptft.nn.convolution import Crop, downsampling, upsampling
from ptft.nn.dense import Activation, check_widths


class ConvAutoencoder(nn.Module):
    """Images -> a map of widths[-1] channels, each side halved once a layer; `decode` leads back to the size that came in.

    input_shape: [C, H, W] of one image; any size will do. widths: channels after each layer.
    """

    traits = frozenset({"image", "decodes", "pyramid"})

    def __init__(self, input_shape: Sequence[int], widths: Sequence[int], activation: Activation):
        super().__init__()
        check_widths(widths)
        channels, height, width = input_shape
        self.dim, self.map_dims = widths[-1], list(widths)
        self.map_strides = [2 ** (layer + 1) for layer in range(len(widths))]
        self.encoder = downsampling(channels, widths, activation, open_end=True)
        self.decoder = nn.Sequential(*upsampling(widths, channels, activation), Crop(height, width))

    @property
    def blocks(self) -> list[nn.Module]:
        """The encoder's layers, shallow to deep; the decoder counts with the last."""
        return list(self.encoder)

    def maps(self, values: Tensor) -> list[Tensor]:
        """The map after each layer, high to low resolution: [B, map_dims[i], H / map_strides[i], W / map_strides[i]]."""
        found = []
        for layer in self.encoder:
            values = layer(values)
            found.append(values)
        return found

    def forward(self, values: Tensor) -> Tensor:
        """Features [B, dim, h, w] of images [B, C, H, W]."""
        return self.encoder(values)

    def decode(self, features: Tensor) -> Tensor:
        """Images [B, C, H, W] of features [B, dim, h, w]."""
        return self.decoder(features)
