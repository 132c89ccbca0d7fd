"""Jigsaw: tell in which order the tiles of an image were laid out (Noroozi & Favaro 2016, 1603.09246)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import permutations
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ptft.nn.pooling import vector
from ptft.nn.pretext import Pretext
from ptft.nn.probe import Protocol
from ptft.objective import Batch, Example, Output
from ptft.randomness import Draw

SHOWN = 8
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
FLAT = 1 / 255  # tiles that vary less than this are as good as blank


@dataclass
class Collate:
    """Cuts each image into grid x grid cells, takes a tile at random from each, and lays them out by one permutation.

    Tiles are `gap` pixels smaller than cells, so that edges do not tell what continues where, and each is normalised by its
    own mean and deviation, so that brightness does not. Values are [B * tiles, C, h, w]; target says which permutation:
    place i holds tile permutation[i]. gray_prob: share of colour images seen gray, in training.
    """

    transform: Any
    grid: int
    gap: int
    gray_prob: float
    orders: np.ndarray  # [permutations, tiles]

    def __call__(self, examples: list[Example], draw: Draw) -> Batch:
        pixels = self.transform.restore(self.transform.one([example["image"] for example in examples], draw))
        if draw.training and pixels.shape[1] == len(LUMA):
            pixels = gray(pixels, torch.from_numpy(draw.uniform("jigsaw.gray") < self.gray_prob))
        target = draw.integers("jigsaw.order", len(self.orders))
        tiles = normalised(self.tiles(pixels, draw))
        shuffled = tiles[torch.arange(len(tiles))[:, None], torch.from_numpy(self.orders[target])]
        return {"inputs": {"values": shuffled.flatten(0, 1)}, "target": torch.from_numpy(target)}

    def tiles(self, pixels: Tensor, draw: Draw) -> Tensor:
        """A tile of each cell of images [B, C, H, W], row by row: [B, tiles, C, h, w]."""
        cells = [side // self.grid for side in pixels.shape[2:]]
        corners = draw.integers("jigsaw.corner", self.gap + 1, (self.grid**2, 2))  # [B, tiles, 2], inside each cell
        places = np.stack(np.divmod(np.arange(self.grid**2), self.grid), axis=-1)
        starts = torch.from_numpy(corners + places * cells)
        spans = [starts[..., axis, None] + torch.arange(cell - self.gap) for axis, cell in enumerate(cells)]
        rows, columns = spans[0][..., None], spans[1][..., None, :]  # [B, tiles, h, 1], [B, tiles, 1, w]
        image = torch.arange(len(pixels))[:, None, None, None]
        return pixels.permute(0, 2, 3, 1)[image, rows, columns].movedim(-1, 2)


def gray(pixels: Tensor, chosen: Tensor) -> Tensor:
    """The chosen ones of colour images [B, 3, H, W] without their colours."""
    luma = (pixels * pixels.new_tensor(LUMA).view(-1, 1, 1)).sum(1, keepdim=True)
    return torch.where(chosen[:, None, None, None], luma, pixels)


def normalised(tiles: Tensor) -> Tensor:
    """Each channel of each tile [..., h, w] with mean 0 and deviation 1; blank ones 0."""
    deviation, mean = torch.std_mean(tiles, dim=(-2, -1), keepdim=True)
    return (tiles - mean) / deviation.clamp(min=FLAT)


def far_permutations(tiles: int, count: int) -> np.ndarray:
    """Permutations [count, tiles], each as far as can be (Hamming) from those before it; the first changes nothing."""
    every = np.array(list(permutations(range(tiles))), dtype=np.int8)
    nearest = np.full(len(every), tiles + 1, dtype=np.int8)
    chosen = [0]
    while len(chosen) < count:
        nearest = np.minimum(nearest, (every != every[chosen[-1]]).sum(1, dtype=np.int8))
        chosen.append(int(nearest.argmax()))
    return every[chosen].astype(np.int64)


def least_distance(orders: np.ndarray) -> int:
    """The smallest number of places at which two of the permutations [count, tiles] differ."""
    apart = (orders[:, None] != orders[None]).sum(-1)
    return int(apart[~np.eye(len(orders), dtype=bool)].min())


class Jigsaw(Pretext):
    """Cross-entropy over permutations, by two linear maps on the features of all tiles; the tiles share the model.

    grid: tiles along each side. permutations: how many are told apart, far from each other. hidden: between the maps. For gap
    and gray_prob see `Collate`, for probe `Pretext`. Raises ValueError.
    """

    needs = frozenset({"image", "pyramid"})  # tiles are smaller than images, which other models would not read

    def __init__(
        self,
        model: nn.Module,
        transform: Any,
        dataset: Any,
        grid: Literal[2, 3],
        gap: int,
        permutations: int,
        gray_prob: float,
        hidden: int,
        probe: Protocol | None,
        probe_rows: int,
    ):
        super().__init__(model, transform, dataset, probe, probe_rows)
        tiles, most = grid**2, math.factorial(grid**2)
        if not 2 <= permutations <= most:
            raise ValueError(f"permutations={permutations}: expected 2 to {most}, all there are of {tiles} tiles")
        if not 0 <= gray_prob <= 1:
            raise ValueError(f"gray_prob={gray_prob} is no probability between 0 and 1")
        least, side = getattr(model, "smallest", 1), min(transform.size) // grid - gap
        if gap < 0 or side < least:
            raise ValueError(f"gap={gap} leaves tiles of {side} pixels, expected at least {least}; or raise transform.size")
        self.grid = grid
        orders = far_permutations(tiles, permutations)
        self.least_distance = least_distance(orders)
        self.register_buffer("orders", torch.from_numpy(orders))
        self.head = nn.Sequential(nn.Linear(tiles * model.dim, hidden), nn.ReLU(), nn.Linear(hidden, permutations))
        self.collate = Collate(transform, grid, gap, gray_prob, orders)

    def forward(self, batch: Batch) -> Output:
        features = vector(self.model(**batch["inputs"])).unflatten(0, (-1, self.grid**2))  # [B, tiles, dim]
        logits, target = self.head(features.flatten(1)).float(), batch["target"]
        count, guesses = target.new_tensor(len(target)), logits.argmax(-1)
        means = {"accuracy": ((guesses == target).sum(), count)}
        means["collapsed_loss"] = count * math.log(len(self.orders)), count
        return Output(F.cross_entropy(logits, target, reduction="sum"), count, guesses, target, means)

    def samples(self, batch: Batch, output: Output) -> list[str]:
        count, tiles = self.orders.shape
        return [f"{count} permutations of {tiles} tiles, each at least {self.least_distance} places from every other"]

    def pictures(self, batch: Batch, output: Output) -> dict[str, Tensor]:
        """Tiles as the model sees them, then put back by its guess and by the truth."""
        from ptft.canvas import tile

        seen = (batch["inputs"]["values"].unflatten(0, (-1, self.grid**2))[:SHOWN] / 4 + 0.5).clamp(0, 1)
        guesses, truth = output.prediction[:SHOWN], output.target[:SHOWN]
        rows = [seen, *(put_back(seen, self.orders[found]) for found in (guesses, truth))]
        right = ["right" if same else "wrong" for same in (guesses == truth).tolist()]
        blank = [""] * len(right)
        titles = ["as seen", "as guessed", "true"]
        return {"tiles": tile([self._assembled(row).cpu() for row in rows], [blank, right, blank], titles)}

    def _assembled(self, tiles: Tensor) -> Tensor:
        """Tiles [B, tiles, C, h, w] side by side, with a white line between: [B, C, H, W]."""
        framed = F.pad(tiles, (1, 1, 1, 1), value=1.0).unflatten(1, (self.grid, self.grid))
        return framed.permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)


def put_back(tiles: Tensor, orders: Tensor) -> Tensor:
    """Undo permutations [B, tiles] of tiles [B, tiles, ...]."""
    return tiles[torch.arange(len(tiles), device=tiles.device)[:, None], orders.argsort(1)]
