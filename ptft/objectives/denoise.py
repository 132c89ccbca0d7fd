"""Denoising: rebuild the clean input from a corrupted one (Vincent et al. 2008)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ptft.nn.probe import Protocol
from ptft.nn.reconstruction import PlainReconstruction
from ptft.objective import Batch, Example, Output
from ptft.randomness import Draw

EXTREME = 2.0  # standard deviations from the mean: the salt and pepper of a table


@dataclass
class Collate:
    """Corrupts values [B, F] or [B, C, H, W] and keeps the clean ones as "clean".

    In this order: `sigma` times normal noise is added to every value; each place is erased (0, the mean of standardised
    values) with probability mask_prob; each becomes lowest or highest with probability salt_pepper_prob. A place is a
    pixel with all its channels, or a cell of a table. darkest, brightest: the ends, float32 [C, 1, 1] or a number.
    """

    read: Callable[[list[Example], Draw], dict[str, Tensor]]
    mask_prob: float
    sigma: float
    salt_pepper_prob: float
    darkest: Tensor | float
    brightest: Tensor | float

    def __call__(self, examples: list[Example], draw: Draw) -> Batch:
        clean = self.read(examples, draw)["values"]
        return {"inputs": {"values": self._corrupt(clean, draw)}, "clean": clean}

    def _corrupt(self, values: Tensor, draw: Draw) -> Tensor:
        shape = tuple(values.shape[1:])
        places = (1, *shape[1:]) if len(shape) == 3 else shape
        if self.sigma:
            values = values + self.sigma * _normal(draw, "denoise.gaussian", shape)
        if self.mask_prob:
            values = values.masked_fill(_uniform(draw, "denoise.mask", places) < self.mask_prob, 0.0)
        if self.salt_pepper_prob:
            chance = _uniform(draw, "denoise.salt", places)
            ends = torch.where(chance < self.salt_pepper_prob / 2, self.darkest, self.brightest)
            values = torch.where(chance < self.salt_pepper_prob, ends, values)
        return values


def _uniform(draw: Draw, purpose: str, shape: tuple[int, ...]) -> Tensor:
    """Uniform numbers in [0, 1) with 24 random bits, float32 [B, *shape]; two come from each word drawn."""
    count = math.prod(shape)
    bits = draw.words(purpose, ((count + 1) // 2,)).view(np.uint32)[:, :count] >> np.uint32(8)
    return torch.from_numpy(bits.astype(np.float32)).mul_(2.0**-24).view(-1, *shape)


def _normal(draw: Draw, purpose: str, shape: tuple[int, ...]) -> Tensor:
    """Normal numbers, float32 [B, *shape] (Box & Muller 1958)."""
    radius, angle = _uniform(draw, purpose, (2, *shape)).unbind(1)
    return (-2 * torch.log1p(-radius)).sqrt_() * torch.cos(2 * math.pi * angle)


class Denoise(PlainReconstruction):
    """The mean squared error between the clean example and what the model decodes from a corrupted one.

    mask_prob: share of the places erased. sigma: of added normal noise, in standard deviations of the data.
    salt_pepper_prob: share of the places set to black or white. Evaluation corrupts too, always in the same way. Loss and
    scores are those of reconstruction, towards the clean values. probe: see `Reconstruction`. Raises ValueError.
    """

    def __init__(
        self,
        model: nn.Module,
        mask_prob: float,
        sigma: float,
        salt_pepper_prob: float,
        probe: Protocol | None,
        probe_rows: int,
        transform: Any = None,
        dataset: Any = None,
    ):
        super().__init__(model, probe, probe_rows, transform, dataset)
        for name, share in (("mask_prob", mask_prob), ("salt_pepper_prob", salt_pepper_prob)):
            if not 0 <= share < 1:
                raise ValueError(f"{name}={share} is no share below 1")
        if sigma < 0:
            raise ValueError(f"sigma={sigma}: expected 0 or more")
        self.collate = Collate(self.read, mask_prob, sigma, salt_pepper_prob, *_ends(transform))

    def forward(self, batch: Batch) -> Output:
        return self.compared(self.model.decode(self.model(**batch["inputs"])), batch["clean"])

    def pictures(self, batch: Batch, output: Output) -> dict[str, Tensor]:
        """Examples, what the model saw of them, and what it makes of that."""
        noisy = batch["inputs"]["values"]
        return self.shown({"original": output.target, "noisy": noisy, "reconstruction": output.prediction})


def _ends(transform: Any) -> tuple[Tensor | float, Tensor | float]:
    """Black and white as the model sees them, [C, 1, 1] each; for tables two values far out."""
    if transform is None:
        return -EXTREME, EXTREME
    shape = (transform.channels, *transform.size)
    black, white = (torch.full(shape, level, dtype=torch.uint8) for level in (0, 255))
    lowest, highest = transform.plain([black, white])[:, :, :1, :1]
    return lowest, highest
