"""RandAugment (Cubuk et al., 1909.13719): two of fourteen changes for each image, drawn at random, all of one strength.

What each of them does at which magnitude is torchvision's RandAugment; images are as in augment.py.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ptft.data.augment import brightness, column, contrast, on_rows, saturation, solarize
from ptft.data.resample import LEVELS
from ptft.randomness import Draw

ROUNDS = 2
HIGHEST = 30  # the largest magnitude
SHEAR, SHIFT, TURN, BLEND = 0.3, 150 / 331, 30.0, 0.9  # at the largest magnitude: slope, share of the side, degrees, factor


def randaugment(images: Tensor, magnitude: float, draw: Draw, name: str) -> Tensor:
    """Change images [B, C, H, W] in place. magnitude: 0 to 30. name: addresses the random numbers."""
    strength = magnitude / HIGHEST
    chosen = draw.integers(f"{name} randaugment", len(CHANGES), (ROUNDS,))
    signs = draw.integers(f"{name} randaugment sign", 2, (ROUNDS,)) * 2 - 1
    for turn in range(ROUNDS):
        images.round_()
        for index, change in enumerate(CHANGES):
            amounts = strength * signs[:, turn]
            on_rows(images, chosen[:, turn] == index, change, amounts)
    return images


def warp(images: Tensor, matrix: np.ndarray) -> Tensor:
    """Each pixel from the place that a matrix [B, 2, 3] sends its centre to, counted from the middle; black outside."""
    height, width = images.shape[2:]
    across, down = np.arange(width) + 0.5 - width / 2, np.arange(height)[:, None] + 0.5 - height / 2
    x, y = (
        np.floor(line[0] * across + line[1] * down + line[2] + side / 2).astype(np.int64)
        for line, side in zip(matrix.transpose(1, 2, 0)[..., None, None], (width, height), strict=True)
    )
    inside = torch.from_numpy((x >= 0) & (x < width) & (y >= 0) & (y < height))[:, None]
    flat = torch.from_numpy((y.clip(0, height - 1) * width + x.clip(0, width - 1)).reshape(len(images), 1, -1))
    found = images.flatten(2).gather(2, flat.expand(-1, images.shape[1], -1)).view_as(images)
    return found.mul_(inside)


def _matrix(xx=1.0, xy=0.0, x=0.0, yx=0.0, yy=1.0, y=0.0) -> np.ndarray:
    """Two lines of a map for each image, from arrays [B] or numbers that hold for all: [B, 2, 3]."""
    return np.stack(np.broadcast_arrays(xx, xy, x, yx, yy, y), -1).reshape(-1, 2, 3)


def keep(images: Tensor, amount: np.ndarray) -> Tensor:
    """No change."""
    return images


def shear_x(images: Tensor, amount: np.ndarray) -> Tensor:
    """Shear along the width."""
    slope = SHEAR * amount
    return warp(images, _matrix(xy=slope, x=slope * images.shape[2] / 2))


def shear_y(images: Tensor, amount: np.ndarray) -> Tensor:
    """Shear along the height."""
    slope = SHEAR * amount
    return warp(images, _matrix(yx=slope, y=slope * images.shape[3] / 2))


def shift_x(images: Tensor, amount: np.ndarray) -> Tensor:
    """Shift along the width, by a share of it."""
    return warp(images, _matrix(x=-np.trunc(SHIFT * images.shape[3] * amount)))


def shift_y(images: Tensor, amount: np.ndarray) -> Tensor:
    """Shift along the height, by a share of it."""
    return warp(images, _matrix(y=-np.trunc(SHIFT * images.shape[2] * amount)))


def rotate(images: Tensor, amount: np.ndarray) -> Tensor:
    """Turn around the middle."""
    angle = np.radians(TURN * amount)
    return warp(images, _matrix(xx=np.cos(angle), xy=-np.sin(angle), yx=np.sin(angle), yy=np.cos(angle)))


def sharpness(images: Tensor, factor: np.ndarray) -> Tensor:
    """Away from, or towards, the image smoothed by a 3 x 3 filter; the border stays."""
    if min(images.shape[2:]) < 3:
        return images
    lines = images[:, :, :-2] + images[:, :, 1:-1] + images[:, :, 2:]
    around = lines[..., :-2] + lines[..., 1:-1] + lines[..., 2:]
    inner = images[:, :, 1:-1, 1:-1]
    factor = column(factor)
    smooth = around.add_(inner * 4).div_(13).round_().mul_(1 - factor)
    inner.mul_(factor).add_(smooth).clamp_(0, LEVELS)
    return images


def posterize(images: Tensor, strength: np.ndarray) -> Tensor:
    """Only the highest bits kept: four at full strength."""
    step = column(2.0 ** np.rint(4 * np.abs(strength)))
    return (images / step).floor_().mul_(step)


def auto_contrast(images: Tensor) -> Tensor:
    """Each channel stretched to the full range."""
    low, high = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
    flat = low == high
    scale = LEVELS / torch.where(flat, LEVELS, high - low)
    return (images - torch.where(flat, 0.0, low)).mul_(scale)


def equalize(images: Tensor) -> Tensor:
    """Levels of each channel [B, C, H, W] spread so that all are about as frequent (PIL's ImageOps.equalize)."""
    levels = images.flatten(2).flatten(0, 1).numpy().astype(np.int64)
    lines = np.arange(len(levels))[:, None]
    counts = np.bincount((levels + lines * 256).ravel(), minlength=len(levels) * 256).reshape(-1, 256)
    brightest = counts[lines[:, 0], levels.max(1)]
    step = (levels.shape[1] - brightest[:, None]) // 255
    before = np.cumsum(counts, 1) - counts
    table = np.minimum((before + step // 2) // np.maximum(step, 1), 255)
    table = np.where(step == 0, np.arange(256), table).astype(np.float32)
    return torch.from_numpy(table[lines, levels]).view_as(images)


# each takes images and signed shares of the largest magnitude
CHANGES: tuple[Callable[[Tensor, np.ndarray], Tensor], ...] = (
    keep,
    shear_x,
    shear_y,
    shift_x,
    shift_y,
    rotate,
    lambda images, amount: brightness(images, 1 + BLEND * amount),
    lambda images, amount: saturation(images, 1 + BLEND * amount),
    lambda images, amount: contrast(images, 1 + BLEND * amount),
    lambda images, amount: sharpness(images, 1 + BLEND * amount),
    posterize,
    lambda images, amount: solarize(images, LEVELS * (1 - abs(amount[0]))),
    lambda images, amount: auto_contrast(images),
    lambda images, amount: equalize(images),
)
