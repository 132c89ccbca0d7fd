"""VQ-VAE's networks: a convolutional encoder, a codebook and a decoder (van den Oord et al. 2017, 1711.00937, 4.1)."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from ptft.nn.convolution import Crop, residuals
from ptft.nn.quantizer import Quantizer


class VQVAE(nn.Module):
    """Images -> a map of `dim` channels at a quarter of each side, before its vectors are replaced by codes.

    input_shape: [C, H, W] of one image; any size will do. dim: width of a code. codes: how many. hidden: channels inside.
    residual_hidden, residual_layers: of the residual blocks at the bottom. `quantizer` holds the codes and their use;
    `decode` leads back, from codes or from features.
    """

    traits = frozenset({"image", "decodes", "codebook"})

    def __init__(
        self, input_shape: Sequence[int], dim: int, codes: int, hidden: int, residual_hidden: int, residual_layers: int
    ):
        super().__init__()
        channels, height, width = input_shape
        half = hidden // 2
        self.dim = dim
        self.encoder = nn.Sequential(
            nn.Sequential(nn.Conv2d(channels, half, 4, stride=2, padding=1), nn.ReLU()),
            nn.Sequential(nn.Conv2d(half, hidden, 4, stride=2, padding=1), nn.ReLU()),
            nn.Sequential(nn.Conv2d(hidden, hidden, 3, padding=1), residuals(hidden, residual_hidden, residual_layers)),
            nn.Conv2d(hidden, dim, 1),
        )
        self.quantizer = Quantizer(codes, dim)
        self.decoder = nn.Sequential(
            nn.Conv2d(dim, hidden, 3, padding=1),
            residuals(hidden, residual_hidden, residual_layers),
            nn.ConvTranspose2d(hidden, half, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(half, channels, 4, stride=2, padding=1),
            Crop(height, width),
        )

    @property
    def blocks(self) -> list[nn.Module]:
        """The encoder's layers, shallow to deep; codebook and decoder count with the last."""
        return list(self.encoder)

    def forward(self, values: Tensor) -> Tensor:
        """Features [B, dim, h, w] of images [B, C, H, W]."""
        bottom, right = (-side % 4 for side in values.shape[2:])
        return self.encoder(F.pad(values, (0, right, 0, bottom)))

    def decode(self, features: Tensor) -> Tensor:
        """Images [B, C, H, W] of codes or features [B, dim, h, w]."""
        return self.decoder(features)
