"""Images as rows of patches: cutting, positions on a grid of any shape, and the embedding of a vision transformer."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ptft.nn.dropout import Dropout
from ptft.nn.positions import angles

Grid = tuple[int, int]  # rows, columns
GridPositions = Literal["learned", "sincos"]
CLS = 1  # prefix rows of a position table


def grid_of(height: int, width: int, patch: int) -> Grid:
    """Rows and columns of patches. Raises ValueError where they do not fill the image."""
    if patch < 1 or height % patch or width % patch:
        raise ValueError(f"patch={patch} does not divide images of {height}x{width}; change it or transform.size")
    return height // patch, width // patch


def cut(values: Tensor, patch: int) -> Tensor:
    """Images [B, C, H, W] as patches [B, T, C * patch * patch], row by row."""
    rows, columns = grid_of(*values.shape[-2:], patch)
    cells = values.unflatten(3, (columns, patch)).unflatten(2, (rows, patch))  # [B, C, rows, p, columns, p]
    return cells.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


def join(patches: Tensor, grid: Grid, channels: int) -> Tensor:
    """The inverse of `cut`: [B, T, C * p * p] -> [B, C, H, W]."""
    size = round((patches.shape[-1] / channels) ** 0.5)
    cells = patches.unflatten(2, (channels, size, size)).unflatten(1, grid)  # [B, rows, columns, C, p, p]
    return cells.permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)


def pick(patches: Tensor, index: Tensor) -> Tensor:
    """Of patches [B, T, n] those at index [B, K]: [B, K, n]."""
    return patches.gather(1, index.unsqueeze(-1).expand(-1, -1, patches.shape[-1]))


def sincos(grid: Grid, dim: int) -> Tensor:
    """Fixed positions [rows * columns, dim]: half of the waves tell the column, half the row (MAE, 2111.06377)."""
    if dim % 4:
        raise ValueError(f"dim={dim}: positions=sincos needs a multiple of 4")
    rows, columns = torch.meshgrid(*(torch.arange(length) for length in grid), indexing="ij")
    waves = [angles(places.flatten(), dim // 2) for places in (columns, rows)]
    return torch.cat([half for wave in waves for half in (wave.sin(), wave.cos())], dim=-1)


def resize_positions(table: Tensor, old: Grid, new: Grid, prefix: int = CLS) -> Tensor:
    """A table [prefix + rows * columns, dim] for another grid; the prefix (CLS) stays as it is.

    Bicubic in float32 with antialiasing, which a smaller grid needs (timm; MAE and DINO go without).
    """
    if old == new:
        return table
    begin, places = table[:prefix], table[prefix:]
    plane = places.float().unflatten(0, old).permute(2, 0, 1).unsqueeze(0)  # [1, dim, rows, columns]
    plane = F.interpolate(plane, new, mode="bicubic", antialias=True, align_corners=False)
    return torch.cat((begin, plane[0].flatten(1).T.to(table.dtype)))


class PatchEmbedding(nn.Module):
    """Patches and where they stand as vectors, CLS before them: [B, C, H, W] -> [B, 1 + T, dim].

    positions: learned, or sincos (fixed). Images of another size get their positions by interpolation.
    """

    def __init__(self, channels: int, grid: Grid, patch: int, dim: int, positions: GridPositions, dropout: float):
        super().__init__()
        self.shape, self.patch, self.learned = grid, patch, positions == "learned"
        self.project = nn.Linear(channels * patch * patch, dim)
        self.cls = nn.Parameter(torch.empty(dim))
        self.dropout = Dropout(dropout)
        if self.learned:
            self.position = nn.Parameter(torch.empty(CLS + grid[0] * grid[1], dim))
            self.register_buffer("grid", torch.tensor(grid))  # so that the table can be read on its own
            nn.init.normal_(self.position, std=0.02)
        else:
            self.register_buffer("position", F.pad(sincos(grid, dim), (0, 0, CLS, 0)), persistent=False)
        nn.init.normal_(self.cls, std=0.02)

    def forward(self, values: Tensor, kept: Tensor | None = None) -> Tensor:
        """kept: indices [B, K] of the patches to embed; the others are not looked at."""
        patches, table = cut(values, self.patch), self.positions(grid_of(*values.shape[-2:], self.patch))
        first, places = table[:CLS], table[CLS:].expand(values.shape[0], -1, -1)
        if kept is not None:
            patches, places = pick(patches, kept), pick(places, kept)
        cls = (self.cls + first).expand(values.shape[0], -1, -1)
        return self.dropout(torch.cat((cls, self.project(patches) + places), dim=1))

    def positions(self, grid: Grid) -> Tensor:
        """The table [1 + rows * columns, dim] of a grid."""
        if grid == self.shape or self.learned:
            return resize_positions(self.position, self.shape, grid)
        return F.pad(sincos(grid, self.position.shape[1]), (0, 0, CLS, 0)).to(self.position)


def glorot(model: nn.Module) -> None:
    """Draw all linear maps uniformly as Glorot & Bengio 2010 do, and clear their biases."""
    for layer in model.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
