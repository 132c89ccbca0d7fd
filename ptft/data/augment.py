"""Changes of colour and sharpness, each over a whole batch with numbers of its own for every image.

Images are float32 [B, C, H, W] in grey levels 0..255 with one channel or three. Only operations that are exact, or rounded
once for each pixel, are used: an image comes out the same to the bit in whatever batch it is.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ptft.data.resample import BETWEEN_BITS, LEVELS, SECOND_BITS, first, product, quantized, rectangles

RED, GREEN, BLUE = 0.299, 0.587, 0.114  # ITU-R BT.601
ERASED_SCALE, ERASED_RATIO = (0.02, 0.33), (0.3, 3.3)


def on_rows(images: Tensor, chosen: np.ndarray, change: Callable[..., Tensor], *numbers: np.ndarray) -> Tensor:
    """Change the chosen images in place. chosen: bool [B]. numbers: arrays [B], handed on for those images."""
    rows = np.flatnonzero(chosen)
    if len(rows):
        levels = images.numpy()  # numpy gathers and scatters whole images several times as fast as torch
        changed = change(torch.from_numpy(levels[rows]), *(values[rows] for values in numbers))
        levels[rows] = changed.numpy()
    return images


def column(values: np.ndarray) -> Tensor:
    """A number for each image, [B], that broadcasts over its pixels."""
    return torch.from_numpy(np.asarray(values, dtype=np.float32)).view(-1, 1, 1, 1)


def luma(images: Tensor) -> Tensor:
    """Brightness as the eye weighs colours: [B, 1, H, W]."""
    if images.shape[1] == 1:
        return images
    red, green, blue = images.split(1, dim=1)
    return (red * RED).add_(green * GREEN).add_(blue * BLUE)


def grayscale(images: Tensor) -> Tensor:
    """Colours taken out, channels kept."""
    return luma(images).expand_as(images)


def brightness(images: Tensor, factor: np.ndarray) -> Tensor:
    """All channels times the factor, in place."""
    return images.mul_(column(factor)).clamp_(max=LEVELS)


def contrast(images: Tensor, factor: np.ndarray) -> Tensor:
    """Away from, or towards, the mean brightness of the image, in place."""
    factor = column(factor)
    mean = _mean(luma(images))
    return images.mul_(factor).add_(mean.mul_(1 - factor)).clamp_(0, LEVELS)


def _mean(gray: Tensor) -> Tensor:
    """The mean of each image [B, 1, H, W], exact in any order: from LEVELS + 1 on, float32 has steps of 2**-15 only."""
    return ((gray + (LEVELS + 1)).sum((2, 3), keepdim=True, dtype=torch.float64) / gray[0].numel() - (LEVELS + 1)).float()


def saturation(images: Tensor, factor: np.ndarray) -> Tensor:
    """Away from, or towards, gray, in place."""
    factor = column(factor)
    gray = luma(images).mul_(1 - factor)
    return images.mul_(factor).add_(gray).clamp_(0, LEVELS)


def hue(images: Tensor, turn: np.ndarray) -> Tensor:
    """Turn the colour wheel by a share of its circle, -0.5 to 0.5; brightest and darkest channel keep their values.

    In units of the range between those two, a colour lies 1 + green + blue - red sixths of the circle away from red, on the
    side of the larger of green and blue: the usual case by case formulas in one.
    """
    red, green, blue = images.split(1, dim=1)
    low = torch.minimum(red, green).clamp_(max=blue)
    sixths = torch.maximum(red, green).clamp_(min=blue).sub_(low).mul_(6)
    angle = (green + blue).sub_(red).sub_(low).div_(sixths.clamp(min=1e-6)).add_(1 / 6).copysign_(green - blue)
    # a channel is a trapezium over the angle: high around its own colour, low on the other side of the wheel
    shift = column(turn) + torch.tensor([2, 5 / 3, 4 / 3]).view(1, 3, 1, 1)
    wave = (angle + shift).frac_().sub_(0.5).abs_().clamp_(1 / 6, 1 / 3)
    return wave.mul_(sixths).add_(low.sub_(sixths.div_(6)))


JITTERS = (brightness, contrast, saturation, hue)


def jitter(images: Tensor, chosen: np.ndarray, order: np.ndarray, factors: np.ndarray, ranges: tuple[float, ...]) -> Tensor:
    """Brightness, contrast, saturation and hue, each image in an order of its own, in place (torchvision's ColorJitter).

    chosen: bool [B]. order: int [B, 4], what is done first to last. factors: [B, 4] in the order of JITTERS. ranges: how
    far each factor may go; what cannot move, and colours of gray images, are left out.
    """
    active = [index for index in range(4 if images.shape[1] == 3 else 2) if ranges[index]]
    for turn in range(4 if active else 0):
        for index in active:
            on_rows(images, chosen & (order[:, turn] == index), JITTERS[index], factors[:, index])
    return images


def solarize(images: Tensor, threshold: float = 128.0) -> Tensor:
    """Levels from the threshold on inverted."""
    return torch.where(images >= threshold, LEVELS - images, images)


def blur(images: Tensor, sigma: np.ndarray, width: int) -> Tensor:
    """A Gaussian filter of `width` pixels (odd), mirrored at the border without repeating it. sigma: [B], in pixels."""
    offsets = np.arange(width) - width // 2
    kernel = np.exp(-0.5 * (offsets / np.asarray(sigma, dtype=np.float64)[:, None]) ** 2)
    kernel = quantized(torch.from_numpy(kernel / kernel.sum(1, keepdims=True)).float(), SECOND_BITS)
    kernel[:, width // 2] += 1 - kernel.sum(1)  # a plain image stays as it is
    rows, columns = (_bands(kernel, length) for length in images.shape[2:])
    lines = product(quantized(images.clone(), BETWEEN_BITS).flatten(1, 2), columns.transpose(1, 2).contiguous())
    return product(rows[:, None], quantized(lines, BETWEEN_BITS).view_as(images))


def _bands(kernel: Tensor, length: int) -> Tensor:
    """The filter of a line of pixels as a matrix: [B, length, length]."""
    width = kernel.shape[1]
    bands = torch.zeros(len(kernel), length, length)
    pixels = torch.arange(length)
    for tap in range(width):
        source = (pixels + tap - width // 2).abs()
        bands[:, pixels, torch.minimum(source, 2 * (length - 1) - source)] += kernel[:, tap, None]
    return bands


def erase(images: Tensor, chosen: np.ndarray, numbers: np.ndarray) -> Tensor:
    """Set a random rectangle of the chosen images to 0, in place (torchvision's RandomErasing, after normalising).

    chosen: bool [B]. numbers: uniform [B, ATTEMPTS, 4]. An image in which no attempt fits stays whole.
    """
    height, width = images.shape[2:]
    wide, tall = rectangles(np.float64(height * width), ERASED_SCALE, ERASED_RATIO, numbers[..., 0], numbers[..., 1])
    fits = (tall > 0) & (tall < height) & (wide > 0) & (wide < width)
    tall, wide = (np.where(fits.any(1) & chosen, first(values, fits), 0) for values in (tall, wide))
    top = np.floor(first(numbers[..., 2], fits) * (height - tall + 1))
    left = np.floor(first(numbers[..., 3], fits) * (width - wide + 1))
    rows, columns = _between(height, top, tall), _between(width, left, wide)
    return images.masked_fill_(rows[:, None, :, None] & columns[:, None, None, :], 0.0)


def _between(length: int, start: np.ndarray, extent: np.ndarray) -> Tensor:
    """Which pixels of a line lie in a stretch of it: bool [B, length]."""
    pixels = np.arange(length)
    return torch.from_numpy((pixels >= start[:, None]) & (pixels < (start + extent)[:, None]))
