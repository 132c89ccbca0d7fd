"""Images mixed with one another, and their labels with them: mixup (1710.09412) and CutMix (1905.04899)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ptft.randomness import Draw


@dataclass(frozen=True)
class Mixing:
    """Each batch with a permutation of itself; where both kinds are on, a coin decides for each batch.

    mixup, cutmix: alpha of the Beta distribution the mixing share comes from; 0 is off. epochs: how many of the first
    epochs are mixed; None: all.
    """

    mixup: float
    cutmix: float
    epochs: int | None = None

    def __post_init__(self) -> None:
        for name in ("mixup", "cutmix"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)}: expected an alpha above 0, or 0 for none")

    def __bool__(self) -> bool:
        return self.mixup > 0 or self.cutmix > 0

    def applies(self, draw: Draw) -> bool:
        """Whether a batch is one to mix."""
        return bool(self) and draw.training and (self.epochs is None or int(draw.epoch[0]) < self.epochs)

    def __call__(self, values: Tensor, target: Tensor, num_classes: int, draw: Draw) -> tuple[Tensor, Tensor]:
        """New values [B, ...] and soft targets [B, classes] from values and classes [B], which stay as they are."""
        random = np.random.default_rng(int(draw.words("mixing")[0]))
        partner = torch.from_numpy(random.permutation(len(values)))
        cuts = random.random() < 0.5 if self.mixup and self.cutmix else self.cutmix > 0
        share = float(random.beta(*[self.cutmix if cuts else self.mixup] * 2))
        if cuts:
            values, share = paste(values, partner, share, random)
        else:
            values = share * values + (1 - share) * values[partner]
        hard = F.one_hot(target, num_classes).to(values.dtype)
        return values, share * hard + (1 - share) * hard[partner]


def paste(values: Tensor, partner: Tensor, share: float, random: np.random.Generator) -> tuple[Tensor, float]:
    """Paste a box of each image's partner over it; returns the images and the share of each that is left.

    The box has 1 - share of the area, less what the border cuts off.
    """
    height, width = values.shape[-2:]
    side = math.sqrt(1 - share)
    top, bottom = _extent(height, side, random)
    left, right = _extent(width, side, random)
    pasted = values.clone()
    pasted[..., top:bottom, left:right] = values[partner, ..., top:bottom, left:right]
    return pasted, 1 - (bottom - top) * (right - left) / (height * width)


def _extent(length: int, side: float, random: np.random.Generator) -> tuple[int, int]:
    """Where a box around a random centre begins and ends."""
    centre, half = random.integers(length), int(length * side) // 2
    return max(0, int(centre) - half), min(length, int(centre) + half)
