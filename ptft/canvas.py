"""Images side by side in one picture, with captions; and pictures as PNG files."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ptft.durable import refusals, replace
from ptft.lettering import readable, width_of, wrapped, write

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

WANTED, WIDEST = 96, 2400  # pixels: a cell's longer side at least, as far as the whole picture stays this narrow
GAP, MARGIN, TEXT = 4, 8, 12  # pixels
LINES = 6  # of a caption or a title at most
TITLE = 120  # pixels, beyond which a title takes further lines
INK, PAPER = (51, 51, 51), 240  # not white, as images often are


def tile(rows: Sequence[Tensor], captions: list[list[str]] | None = None, titles: list[str] | None = None) -> Tensor:
    """A grid of images as one picture, uint8 [3, H, W]; small images are enlarged by a whole factor.

    rows: float [N, C, h, w] in 0..1 each, with one channel or three; sizes may differ between rows, and are brought to
    much the same one; rows of as many images stand in columns. captions: a text under each image, row by row, in as many
    lines as it takes. titles: one to the left of each row.
    """
    shown = iter(readable([text for line in [*(captions or ()), titles or ()] for text in line]))
    below = [[next(shown) for _ in line] for line in captions or [[] for _ in rows]]
    beside = [wrapped(title, TITLE, LINES) for title in shown]
    factors = _factors(rows)
    cells = [_enlarged(row, factor) for row, factor in zip(rows, factors, strict=True)]
    lines = [[wrapped(text, row.shape[3], LINES) for text in texts] for row, texts in zip(cells, below, strict=True)]
    shelves = [TEXT * most + GAP if (most := max(map(len, row), default=0)) else 0 for row in lines]
    edge = MARGIN + max((width_of(line) + MARGIN for title in beside for line in title), default=0)
    pitch = {len(row): GAP + max(other.shape[3] for other in cells if len(other) == len(row)) for row in cells}
    width = edge + MARGIN + max(len(row) * pitch[len(row)] for row in cells) - GAP
    height = 2 * MARGIN - GAP + sum(row.shape[2] + GAP for row in cells) + sum(shelves)
    picture = torch.full((3, height, width), PAPER, dtype=torch.uint8)
    texts: list[tuple[int, int, int, str]] = []  # left, top, room to the right, text
    top = MARGIN
    for number, row in enumerate(cells):
        high, wide = row.shape[2:]
        for column, cell in enumerate(row):
            left = edge + column * pitch[len(row)]
            picture[:, top : top + high, left : left + wide] = cell
            for line, text in enumerate(lines[number][column] if column < len(lines[number]) else ()):
                texts.append((left, top + high + 1 + line * TEXT, wide, text))
        for line, text in enumerate(beside[number] if titles else ()):
            above = max(0, (high - TEXT * len(beside[number])) // 2)
            texts.append((MARGIN, top + above + line * TEXT, edge, text))
        top += high + GAP + shelves[number]
    return _written(picture, texts) if texts else picture


def png_bytes(image: Tensor) -> bytes:
    """A picture [3, H, W] or [1, H, W], uint8 or float in 0..1, as the bytes of a PNG file."""
    from PIL import Image

    levels = _levels(image.detach().cpu()).permute(1, 2, 0).squeeze(-1).contiguous().numpy()
    written = io.BytesIO()
    Image.fromarray(levels).save(written, format="png")
    return written.getvalue()


def write_png(path: str | Path, image: Tensor) -> Path:
    """Write a picture as a PNG file, under another name first so that a reader never sees half of it."""
    path = Path(path)
    content = png_bytes(image)
    with refusals(path):
        replace(path, content)
    return path


def _levels(images: Tensor) -> Tensor:
    """Pixels as uint8."""
    return images if images.dtype == torch.uint8 else images.float().nan_to_num(0).clamp(0, 1).mul(255).round().byte()


def _factors(rows: Sequence[Tensor]) -> list[int]:
    """By how much each row is enlarged: so that cells can be seen, and fit into a picture of reasonable width."""
    tallest = max(max(row.shape[2:]) for row in rows)
    room = min((WIDEST - GAP * len(row)) / max(len(row) * row.shape[3] / max(row.shape[2:]) * tallest, 1) for row in rows)
    factor = max(1, min(math.ceil(WANTED / tallest), int(room)))
    return [max(1, round(factor * tallest / max(row.shape[2:]))) for row in rows]


def _enlarged(images: Tensor, factor: int) -> Tensor:
    """Pixels as squares: uint8 [N, 3, h * factor, w * factor]."""
    levels = _levels(images.detach().cpu())
    levels = levels.expand(-1, 3, -1, -1) if levels.shape[1] == 1 else levels[:, :3]
    return levels.repeat_interleave(factor, 2).repeat_interleave(factor, 3)


def _written(picture: Tensor, texts: Sequence[tuple[int, int, int, str]]) -> Tensor:
    """The picture with texts in it."""
    import numpy as np
    from PIL import Image, ImageDraw

    drawn = Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy())
    pen: ImageDraw = ImageDraw.Draw(drawn)
    for left, top, room, text in texts:
        write(pen, (left, top), text, INK, room)
    return torch.from_numpy(np.array(drawn)).permute(2, 0, 1).contiguous()
