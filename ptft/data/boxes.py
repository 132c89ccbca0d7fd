"""Boxes around objects, moved with the image they mark."""

from __future__ import annotations

import torch
from torch import Tensor


def cut_boxes(boxes: Tensor, window: list[int], mirrored: bool, size: tuple[int, int]) -> Tensor:
    """Boxes [n, 4] (x, y, x, y in pixels) in a window of the image (top, left, height, width) shown at another size.

    They are clipped to the window: one that lies outside it is left without width or height.
    """
    top, left, tall, wide = window
    height, width = size
    boxes = boxes.float().view(-1, 4) - torch.tensor([left, top, left, top])
    boxes = boxes * torch.tensor([width / wide, height / tall] * 2)
    boxes = boxes.clamp_(min=0).minimum(torch.tensor([width, height] * 2))
    if mirrored:
        x1, y1, x2, y2 = boxes.unbind(1)
        boxes = torch.stack([width - x2, y1, width - x1, y2], 1)
    return boxes
