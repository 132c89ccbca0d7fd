"""A dense autoencoder: down to a short code and back (Hinton & Salakhutdinov 2006)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

from ptft.nn.dense import Activation, check_widths, dense_layers


class Autoencoder(nn.Module):
    """Values -> a code of widths[-1] numbers; `decode` leads back, through the same widths in reverse.

    input_shape: of one example, [C, H, W] or [F]. widths: of the encoder's layers. Code and reconstruction are linear:
    they may take any value, as the standardised data do.
    """

    traits = frozenset({"image", "table", "decodes"})

    def __init__(self, input_shape: Sequence[int], widths: Sequence[int], activation: Activation):
        super().__init__()
        check_widths(widths)
        self.dim, self.shape = widths[-1], tuple(input_shape)
        sizes = [math.prod(input_shape), *widths]
        self.encoder = dense_layers(sizes, activation, open_end=True)
        self.decoder = dense_layers(sizes[::-1], activation, open_end=True)

    @property
    def blocks(self) -> list[nn.Module]:
        """The encoder's layers, shallow to deep; the decoder counts with the last."""
        return list(self.encoder)

    def forward(self, values: Tensor) -> Tensor:
        """Codes [B, dim] of values [B, ...]."""
        return self.encoder(values.flatten(1))

    def decode(self, features: Tensor) -> Tensor:
        """Values [B, ...] of codes [B, dim]."""
        return self.decoder(features).unflatten(1, self.shape)
