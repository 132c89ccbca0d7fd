"""Where a token stands: sinusoids added to embeddings, or rotations of queries and keys."""

from __future__ import annotations

import torch
from torch import Tensor

BASE = 10000.0
NEARNESS, NEAR_WAVES = 2.8, 6  # length of each pair of `toward`, and how many pairs: only the fast ones tell neighbours apart


def angles(positions: Tensor, size: int) -> Tensor:
    """Angle of each position at size/2 frequencies, from 1 down to 1/10000: [..., T] -> [..., T, size / 2]."""
    steps = torch.arange(0, size, 2, device=positions.device, dtype=torch.float32) / size
    return positions.float().unsqueeze(-1) * BASE**-steps


def sinusoids(length: int, dim: int) -> Tensor:
    """The position table [length, dim] of 1706.03762, 3.5: sine in even columns, cosine in odd ones."""
    waves = angles(torch.arange(length), dim)
    return torch.stack((waves.sin(), waves.cos()), dim=-1).flatten(1)[:, :dim]


def rotations(positions: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Cosine and sine for `rotate`: [T, size / 2], or [B, 1, T, size / 2] for positions that differ by row."""
    waves = angles(positions, size)
    waves = waves.unsqueeze(1) if positions.dim() == 2 else waves
    return waves.cos(), waves.sin()


def rotate(x: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """Turn pair (i, i + size/2) of x [..., T, size] by its position's angle (RoFormer, 2104.09864, 3.2.2).

    Scores of rotated queries and keys depend on the distance between them only.
    """
    cos, sin = (part.to(x.dtype) for part in rotation)
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


def toward(offset: int, size: int) -> tuple[Tensor, Tensor]:
    """Constant parts [size] of a query and a key whose product, once rotated, is highest for the key `offset` tokens on.

    The product is 7.84 times the sum of cos(frequency x (distance - offset)) over the six fastest frequencies.
    """
    waves = angles(torch.tensor(float(-offset)), size)[:NEAR_WAVES]
    query, key = torch.zeros(2, 2, size // 2)
    query[0, : len(waves)] = NEARNESS
    key[:, : len(waves)] = NEARNESS * torch.stack((waves.cos(), waves.sin()))
    return query.flatten(), key.flatten()


def local_offsets(count: int | None, heads: int, able: bool, needs: str, causal: bool) -> list[int]:
    """Where `count` of the heads of a fresh layer are to look: one token back, one on, two back, ... (causal: back only).

    count: None for two, or half the heads where there are fewer than four, if they are able to. needs: what that takes, in
    words. Raises ValueError.
    """
    if count is None:
        count = min(2, heads // 2) if able else 0
    if count and not (able and 0 < count <= heads):
        raise ValueError(f"local_heads={count}: needs {needs} and at most heads={heads}; 0 for none")
    reach = range(1, count + 1)
    return [-step for step in reach] if causal else [sign * step for step in reach for sign in (-1, 1)][:count]
