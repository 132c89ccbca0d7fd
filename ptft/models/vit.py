"""A vision transformer: an image as a row of patches that all see each other (Dosovitskiy et al. 2021, 2010.11929)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ptft.nn.drop_path import DropPath, rising
from ptft.nn.patches import GridPositions, PatchEmbedding, glorot, grid_of, resize_positions
from ptft.nn.transformer import Stack
from ptft.nn.trunk import adapt_channels

EPS = 1e-6


class ViT(nn.Module):
    """values [B, C, H, W] -> features [B, 1 + T, dim]: CLS, then the patches row by row.

    patch: its side in pixels. hidden: width of the feed-forward network. positions: learned, or sincos (fixed). drop_path:
    of the last layer; earlier ones have less. Linear maps start xavier-uniform (MAE, 2111.06377).
    """

    traits = frozenset({"image", "patches"})

    def __init__(
        self,
        input_shape: list[int],
        patch: int,
        dim: int,
        layers: int,
        heads: int,
        hidden: int,
        positions: GridPositions,
        dropout: float,
        drop_path: float,
    ):
        super().__init__()
        channels, height, width = input_shape
        self.dim, self.patch, self.channels, self.grid = dim, patch, channels, grid_of(height, width, patch)
        self.embedding = PatchEmbedding(channels, self.grid, patch, dim, positions, dropout)
        self.stack = Stack(dim, layers, heads, hidden, positions, "pre", "gelu", dropout, True, EPS)
        for layer, rate in zip(self.stack.layers, rising(drop_path, layers), strict=True):
            layer.dropout = nn.Sequential(layer.dropout, DropPath(rate)) if drop_path else layer.dropout
        glorot(self)

    @property
    def blocks(self) -> list[nn.Module]:
        """Shallow to deep; the stack's last norm goes with the last layer."""
        return [self.embedding, *self.stack.layers]

    def forward(self, values: Tensor, kept: Tensor | None = None) -> Tensor:
        """kept: indices [B, K] of the patches to look at, K of T features then; None: all."""
        return self.stack(self.embedding(values, kept), causal=False)

    @torch.no_grad()
    def gaze(self, values: Tensor) -> Tensor:
        """Where CLS looks in the last layer, by head: shares [B, heads, rows, columns] of its attention."""
        attention, seen = self.stack.layers[-1].attention, []
        hook = attention.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
        try:
            self(values)
        finally:
            hook.remove()
        return attention.shares(seen[0])[:, :, 0, 1:].unflatten(-1, grid_of(*values.shape[2:], self.patch))

    def adapt(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Weights trained on images of other sizes or channels, made to fit these."""
        adapted = dict(tensors)
        position, grid, project = (f"embedding.{name}" for name in ("position", "grid", "project.weight"))
        if self.embedding.learned and {position, grid} <= tensors.keys():
            adapted[position] = resize_positions(tensors[position], tuple(tensors[grid].tolist()), self.grid)
            adapted[grid] = self.embedding.grid
        if project in tensors and tensors[project].shape[1] % self.patch**2 == 0:
            planes = tensors[project].unflatten(1, (-1, self.patch**2))
            adapted[project] = adapt_channels(planes, self.channels).flatten(1)
        return adapted
