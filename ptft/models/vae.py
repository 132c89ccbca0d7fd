"""A variational autoencoder: the code of an example is a normal distribution (Kingma & Welling, 1312.6114)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from ptft.nn.convolution import Crop, downsampling, halved, upsampling
from ptft.nn.dense import ACTIVATIONS, Activation, check_widths, dense_layers

LEAST_LOG_VARIANCE, MOST_LOG_VARIANCE = -30.0, 20.0  # exp stays finite in 32 bits


class Latents(nn.Module):
    """Mean and logarithm of the variance of each latent number, [B, dim] both, of [B, ...]."""

    def __init__(self, inputs: int, dim: int):
        super().__init__()
        self.mean = nn.Linear(inputs, dim)
        self.log_variance = nn.Linear(inputs, dim)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = x.flatten(1)
        return self.mean(x), self.log_variance(x).clamp(LEAST_LOG_VARIANCE, MOST_LOG_VARIANCE)


class VAE(nn.Module):
    """Values -> the means of their `dim` latent numbers; `encode` gives the variances too, `decode` leads back.

    input_shape: of one example, [C, H, W] or [F]. encoder: dense or convolutional (each layer halves both sides). widths: of
    its layers. Raises ValueError for a convolutional encoder of what is no image.
    """

    traits = frozenset({"image", "table", "decodes", "variational"})

    def __init__(
        self,
        input_shape: Sequence[int],
        encoder: Literal["dense", "convolutional"],
        widths: Sequence[int],
        dim: int,
        activation: Activation,
    ):
        super().__init__()
        check_widths(widths)
        if encoder == "convolutional" and len(input_shape) != 3:
            raise ValueError("encoder=convolutional reads images; for tables use encoder=dense")
        self.dim = dim
        build = _dense if encoder == "dense" else _convolutional
        self.encoder, inner, self.decoder = build(input_shape, widths, dim, activation)
        self.latents = Latents(inner, dim)

    @property
    def blocks(self) -> list[nn.Module]:
        """The encoder's layers and the latents, shallow to deep; the decoder counts with the last."""
        layers = [layer for layer in self.encoder if not isinstance(layer, nn.Flatten)]
        return [*layers, self.latents]

    def encode(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and logarithm of the variance of the latent numbers, [B, dim] both, of values [B, ...]."""
        return self.latents(self.encoder(values))

    def forward(self, values: Tensor) -> Tensor:
        """The means [B, dim] of the latent numbers of values [B, ...]."""
        return self.encode(values)[0]

    def decode(self, features: Tensor) -> Tensor:
        """Values [B, ...] of latent numbers [B, dim]."""
        return self.decoder(features)


def _dense(shape: Sequence[int], widths: Sequence[int], dim: int, activation: Activation):
    """Encoder, width of what it gives, decoder."""
    size = math.prod(shape)
    encoder = nn.Sequential(nn.Flatten(), *dense_layers([size, *widths], activation))
    decoder = dense_layers([dim, *widths[::-1], size], activation, open_end=True)
    return encoder, widths[-1], nn.Sequential(*decoder, nn.Unflatten(1, tuple(shape)))


def _convolutional(shape: Sequence[int], widths: Sequence[int], dim: int, activation: Activation):
    """Encoder, width of what it gives, decoder."""
    channels, height, width = shape
    inner = (widths[-1], halved(height, len(widths)), halved(width, len(widths)))
    first = [nn.Linear(dim, math.prod(inner)), ACTIVATIONS[activation](), nn.Unflatten(1, inner)]
    decoder = nn.Sequential(*first, *upsampling(widths, channels, activation), Crop(height, width))
    return downsampling(channels, widths, activation), math.prod(inner), decoder
