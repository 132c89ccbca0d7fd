"""Cutting windows out of images and bringing them to one size, a whole batch at once.

Resizing is a product with a matrix of weights for each axis and each image, in whole multiples of powers of two that are
small enough for every sum to be exact in float32. Exact sums do not depend on their order, so an image comes out the same to
the bit whatever batch, library or number of threads it is computed in.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

# Every sum must stay below 2**24 steps: 8 bits of grey levels by 15 of weights, then 8 + 3 by 12; half a bit is left
# for the negative weights of bicubic filters.
FIRST_BITS, BETWEEN_BITS, SECOND_BITS = 15, 3, 12
LARGEST_PRODUCT = 64  # pixels a side; above that torch's own resizing, image by image, beats dense matrices
LEVELS = 255.0

Size = tuple[int, int]


def quantized(values: Tensor, bits: int) -> Tensor:
    """Round float32 values in place to multiples of 2**-bits: beside this number there is no room for finer steps."""
    coarse = 1.5 * 2 ** (23 - bits)
    return values.add_(coarse).sub_(coarse)


def product(left: Tensor, right: Tensor) -> Tensor:
    """Matrices by matrices, by numpy, which no setting of torch for matrix products (such as bfloat16 inside) reaches."""
    return torch.from_numpy(left.numpy() @ right.numpy())


def triangle(distance: Tensor) -> Tensor:
    """The bilinear filter: 1 at distance 0, nothing from 1 on."""
    return distance.neg_().add_(1).clamp_(min=0)


def cubic(distance: Tensor) -> Tensor:
    """The bicubic filter with a = -1/2 (Keys 1981), as PIL and torch's antialiased resizing have it."""
    distance.clamp_(max=2)  # where it is 0
    near, far = distance.clamp(max=1), distance.clamp(min=1)
    near = near.mul(1.5).sub_(2.5).mul_(near).mul_(near).add_(1)  # 0 from 1 on
    return far.mul(-0.5).add_(2.5).mul_(far).sub_(4).mul_(far).add_(2).add_(near)


FILTERS: dict[str, Callable[[Tensor], Tensor]] = {"bilinear": triangle, "bicubic": cubic}


def weights(length: int, start: np.ndarray, extent: np.ndarray, out: int, filter: str, axis: int) -> Tensor:
    """What each pixel of a line contributes to each of `out` pixels that show its window, antialiased.

    start, extent: int arrays [B], where the window begins and how many pixels it has; others count nothing. The weights
    of a pixel shown sum to 1. Returns float32 [B, out, length] for axis=2, [B, length, out] for axis=1: that of `length`.
    """
    scale = (extent / out)[:, None]
    pixel = np.arange(length) + 0.5
    centre = start[:, None] + (np.arange(out) + 0.5) * scale
    distance = (_floats(pixel[None]).unsqueeze(3 - axis) - _floats(centre).unsqueeze(axis)).abs_()
    if (scale > 1).any():
        distance *= _floats(1 / np.maximum(scale, 1))[:, None]
    found = FILTERS[filter](distance)
    if extent.min() < length:
        found *= _floats((pixel > start[:, None]) & (pixel < (start + extent)[:, None])).unsqueeze(3 - axis)
    found = quantized(found, FIRST_BITS)  # so that the next sum is exact, too
    return found.div_(found.sum(axis, keepdim=True))


def _floats(values: np.ndarray) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))


def by_shape(images: list[Tensor]) -> list[np.ndarray]:
    """The positions of images of equal shape together."""
    found: dict[tuple, list[int]] = {}
    for position, image in enumerate(images):
        found.setdefault(tuple(image.shape), []).append(position)
    return [np.array(positions) for positions in found.values()]


def resample(images: list[Tensor], windows: np.ndarray, mirrored: np.ndarray, size: Size, filter: str) -> Tensor:
    """The windows of images at one size, in grey levels: float32 [B, C, *size] in 0..255.

    images: uint8 [C, H, W], of any sizes. windows: int [B, 4], top, left, height and width in pixels. mirrored: bool [B],
    left and right exchanged. filter: bilinear or bicubic, antialiased.
    """
    groups = by_shape(images)
    if len(groups) == 1:
        return _equal(torch.stack(list(images)), windows, mirrored, size, filter)
    found = torch.empty(len(images), images[0].shape[0], *size)
    for rows in groups:
        group = torch.stack([images[row] for row in rows])
        found[torch.from_numpy(rows)] = _equal(group, windows[rows], mirrored[rows], size, filter)
    return found


def _equal(images: Tensor, windows: np.ndarray, mirrored: np.ndarray, size: Size, filter: str) -> Tensor:
    """`resample` of images of one shape [B, C, H, W]; which way is taken depends on that shape alone."""
    height, width = images.shape[2:]
    if size == (height, width) and (windows == (0, 0, height, width)).all():
        return _mirror(images.float(), mirrored)
    if max(height, width, *size) > LARGEST_PRODUCT:
        return _mirror(_one_by_one(images, windows, size, filter), mirrored)
    top, left, tall, wide = windows.T
    columns = quantized(weights(width, left, wide, size[1], filter, axis=1), FIRST_BITS)
    rows = quantized(weights(height, top, tall, size[0], filter, axis=2), SECOND_BITS)
    columns[torch.from_numpy(mirrored)] = columns[torch.from_numpy(mirrored)].flip(2)
    lines = product(images.float().flatten(1, 2), columns)
    lines = quantized(lines.clamp_(0, LEVELS), BETWEEN_BITS)
    found = product(rows[:, None], lines.view(*images.shape[:3], size[1]))
    return found.clamp_(0, LEVELS)


def _one_by_one(images: Tensor, windows: np.ndarray, size: Size, filter: str) -> Tensor:
    """Each window resized by itself, in whole grey levels."""
    found = torch.empty(*images.shape[:2], *size)
    images = images.contiguous(memory_format=torch.channels_last)  # the fast way of torch's resizing
    for row, (top, left, tall, wide) in enumerate(windows.tolist()):
        cut = images[row : row + 1, :, top : top + tall, left : left + wide]
        found[row] = F.interpolate(cut, size=size, mode=filter, antialias=True)[0]
    return found


def _mirror(images: Tensor, mirrored: np.ndarray) -> Tensor:
    """Some of the images with left and right exchanged, in place."""
    levels = images.numpy()
    levels[mirrored] = levels[mirrored][..., ::-1]
    return images


def nearest(image: Tensor, window: tuple[int, int, int, int], mirrored: bool, size: Size) -> Tensor:
    """The window of a map of classes [H, W] at another size, each pixel the class at its centre."""
    top, left, tall, wide = window
    rows = top + ((torch.arange(size[0]) * 2 + 1) * tall) // (2 * size[0])
    columns = left + ((torch.arange(size[1]) * 2 + 1) * wide) // (2 * size[1])
    return image[rows][:, columns.flip(0) if mirrored else columns]


def whole(images: list[Tensor]) -> np.ndarray:
    """The windows that are all of each image: int [B, 4]."""
    return np.array([(0, 0, *image.shape[-2:]) for image in images])


def random_windows(
    images: list[Tensor], scale: tuple[float, float], ratio: tuple[float, float], numbers: np.ndarray
) -> np.ndarray:
    """Random windows of a share of the area in `scale` and of width over height in `ratio`: int [B, 4].

    numbers: uniform [B, ATTEMPTS, 4]. The first attempt that fits in the image counts; if none does, the largest window
    in its middle (torchvision's RandomResizedCrop).
    """
    height, width = whole(images)[:, 2:, None].transpose(1, 0, 2).astype(np.float64)
    tall, wide = rectangles(height * width, scale, ratio, numbers[..., 0], numbers[..., 1])
    fits = (tall > 0) & (tall <= height) & (wide > 0) & (wide <= width)
    tall, wide = first(tall, fits), first(wide, fits)
    height, width, missing = height[:, 0], width[:, 0], ~fits.any(1)
    middle_tall, middle_wide = np.minimum(height, np.rint(width / ratio[0])), np.minimum(width, np.rint(height * ratio[1]))
    tall, wide = np.where(missing, middle_tall, tall), np.where(missing, middle_wide, wide)
    places = first(numbers[..., 2], fits), first(numbers[..., 3], fits)
    top, left = (
        np.where(missing, (room - used) // 2, np.floor(place * (room - used + 1)))
        for place, room, used in zip(places, (height, width), (tall, wide), strict=True)
    )
    return np.stack([top, left, tall, wide], 1).astype(np.int64)


ATTEMPTS = 10


def rectangles(area: np.ndarray, scale: tuple, ratio: tuple, sizes: np.ndarray, shapes: np.ndarray) -> tuple:
    """Heights and widths of rectangles of a random share of an area and, evenly on a log scale, of a random ratio."""
    share = area * (scale[0] + (scale[1] - scale[0]) * sizes)
    low, high = np.log(ratio)
    aspect = np.exp(low + (high - low) * shapes)
    return np.rint(np.sqrt(share / aspect)), np.rint(np.sqrt(share * aspect))


def first(values: np.ndarray, fits: np.ndarray) -> np.ndarray:
    """The first of each row's values [B, ATTEMPTS] that fits, or the first of all."""
    return values[np.arange(len(values)), fits.argmax(1)]
