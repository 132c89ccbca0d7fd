"""Boxes and classes drawn over images."""

from __future__ import annotations

import colorsys
import operator
from collections.abc import Sequence

import torch
from torch import Tensor

from ptft.lettering import legible, write

GOLDEN = 0.618034  # hues that stay apart however many classes there are
STRENGTH = 0.5
LUMINANCE, MIDDLE = (0.299, 0.587, 0.114), 128  # of red, green and blue (ITU-R 601)
SHARP = 320  # pixels of the longer side below which boxes are drawn on an enlarged image


def colours(count: int) -> Tensor:
    """Bright colours that are easy to tell apart, float [count, 3] in 0..1."""
    return torch.tensor([colorsys.hsv_to_rgb(index * GOLDEN % 1, 0.85, 1.0) for index in range(count)])


def coloured(images: Tensor) -> Tensor:
    """Images [..., C, H, W] in 0..1 with three channels."""
    if images.shape[-3] == 3:
        return images
    return images[..., :1, :, :].expand(*images.shape[:-3], 3, *images.shape[-2:])


def overlaid(images: Tensor, classes: Tensor, ignored: int) -> Tensor:
    """Images [N, C, H, W] in 0..1 with the class of each pixel [N, H, W] as colour.

    Class 0, as a rule the background, shows the image as it is; what is `ignored` is grey.
    """
    images, classes = coloured(images), classes.to(images.device)
    palette = colours(256).to(images.device)
    palette[ignored] = 0.5
    paint = palette[classes.long()].permute(0, 3, 1, 2)
    return torch.where((classes == 0).unsqueeze(1), images, (1 - STRENGTH) * images + STRENGTH * paint)


def outlined(image: Tensor, boxes: Sequence[Sequence[float]], classes: Sequence[int], names: Sequence[str]) -> Tensor:
    """An image [C, H, W] in 0..1 with boxes (x1, y1, x2, y2) in the colours of their classes, and names beside them.

    The result is enlarged by a whole factor where the image is small.
    """
    from PIL import Image, ImageDraw

    factor = max(1, SHARP // max(image.shape[-2:]))
    large = coloured(image).repeat_interleave(factor, -2).repeat_interleave(factor, -1)
    picture = Image.fromarray((large * 255).round().byte().permute(1, 2, 0).numpy())
    pen = ImageDraw.Draw(picture)
    palette = (colours(max(classes, default=0) + 1) * 255).round().int().tolist()
    captions, _ = legible(names, numbers=classes)
    for box, label, caption in zip(boxes, classes, captions, strict=True):
        colour = tuple(palette[label])
        left, top, right, bottom = (side * factor for side in box)
        pen.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), outline=colour, width=max(1, factor // 2))
        halo = "black" if sum(map(operator.mul, colour, LUMINANCE)) > MIDDLE else "white"
        write(pen, (left + factor, top), caption, colour, picture.width - left - factor, halo)
    return (
        torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
        .view(picture.height, picture.width, 3)
        .permute(2, 0, 1)
        / 255
    )
