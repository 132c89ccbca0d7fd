"""Where a vision transformer looks, as a picture (DINO, 2104.14294, figure 1)."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ptft.canvas import tile

SHOWN = 8


def gaze(model: nn.Module, values: Tensor, transform: Any) -> dict[str, Tensor]:
    """The images of values [B, C, H, W], and what each head of the last layer takes from where; {} for models without heads.

    Brightness is a patch's share of the attention of CLS, the most looked at being white.
    """
    if not hasattr(model, "gaze"):
        return {}
    values = values[:SHOWN]
    shares = model.gaze(values).float().cpu()  # [B, heads, rows, columns]
    bright = F.interpolate(shares / shares.amax((2, 3), keepdim=True), values.shape[2:])
    images = transform.restore(values).cpu()
    heads = [head.unsqueeze(1).expand_as(images) for head in bright.unbind(1)]
    return {"attention": tile([images, *heads], titles=["image", *(f"head {number + 1}" for number in range(len(heads)))])}
