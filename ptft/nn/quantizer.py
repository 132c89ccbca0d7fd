"""A codebook: vectors are replaced by the nearest of a few learned ones (VQ-VAE, 1711.00937)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Quantizer(nn.Module):
    """`codes` vectors of width `dim`, and what is known of their use.

    The codes learn by gradient, or move to the running means of the vectors that choose them. They start as vectors of the
    first batch, each with a running count of 1 and itself as running sum: counts that start at 0 beside sums that do not
    leave most codes out of reach for good.
    """

    used: Tensor  # [codes]: running count of the vectors that choose each code
    totals: Tensor  # [codes, dim]: running sum of these vectors
    idle: Tensor  # int64 [codes]: steps since each code was last chosen
    restarts: Tensor  # int64: how many codes were put elsewhere so far
    ready: Tensor  # bool: whether the codes have seen data

    def __init__(self, codes: int, dim: int):
        super().__init__()
        if codes < 2:
            raise ValueError(f"codes={codes}: give at least 2")
        self.codebook = nn.Parameter(torch.randn(codes, dim))
        self.register_buffer("used", torch.ones(codes))
        self.register_buffer("totals", self.codebook.detach().clone())
        self.register_buffer("idle", torch.zeros(codes, dtype=torch.int64))
        self.register_buffer("restarts", torch.zeros((), dtype=torch.int64))
        self.register_buffer("ready", torch.zeros((), dtype=torch.bool))

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """The nearest codes [B, dim, h, w] of maps of that shape, with gradient to the codebook; their numbers [B, h, w]."""
        indices = self.nearest(vectors(maps)).view(len(maps), *maps.shape[2:])
        return F.embedding(indices, self.codebook).permute(0, 3, 1, 2), indices

    @torch.no_grad()
    def nearest(self, points: Tensor) -> Tensor:
        """The code with the least Euclidean distance to each of points [N, dim], int64 [N]."""
        with torch.autocast(points.device.type, enabled=False):
            codebook = self.codebook.float()
            # |p - c|^2 but for |p|^2, which is the same for all codes
            return torch.addmm(codebook.square().sum(1), points.float(), codebook.T, alpha=-2).argmin(1)

    @torch.no_grad()
    def start(self, points: Tensor) -> None:
        """Codes become vectors of the data."""
        self._put(torch.ones_like(self.idle, dtype=torch.bool), points)
        self.ready.fill_(True)

    @torch.no_grad()
    def follow(self, counts: Tensor, sums: Tensor, decay: float) -> None:
        """Take one step's vectors into the running means: how many chose each code [codes], and their sums [codes, dim]."""
        self.used.lerp_(counts, 1 - decay)
        self.totals.lerp_(sums, 1 - decay)

    @torch.no_grad()
    def move(self, eps: float) -> None:
        """Put each code on the running mean of the vectors that choose it. eps: Laplace smoothing of their counts."""
        total = self.used.sum()
        smooth = (self.used + eps) / (total + len(self.used) * eps) * total
        self.codebook.copy_(self.totals / smooth.unsqueeze(1))

    @torch.no_grad()
    def restart(self, counts: Tensor, points: Tensor, after: int) -> None:
        """Put codes that nobody chose for `after` steps where some of points [N, dim] are. counts: of this step."""
        self.idle.add_(1).masked_fill_(counts > 0, 0)
        dead = self.idle >= after
        if dead.any():
            self._put(dead, points)
            self.restarts.add_(dead.sum())

    def _put(self, which: Tensor, points: Tensor) -> None:
        """Place codes (bool [codes]) on points chosen at random, each at most once where there are enough."""
        wanted = int(which.sum())
        enough = len(points) >= wanted
        order = torch.randperm(len(points)) if enough else torch.randint(len(points), (wanted,))
        chosen = points[order[:wanted].to(points.device)].to(self.codebook.dtype)
        self.codebook[which] = chosen
        self.totals[which] = chosen
        self.used[which] = 1.0
        self.idle[which] = 0


def vectors(maps: Tensor) -> Tensor:
    """Maps [B, dim, h, w] as one vector a place: [B * h * w, dim]."""
    return maps.permute(0, 2, 3, 1).flatten(0, 2)


def perplexity(counts: Tensor) -> Tensor:
    """How many equally used codes would be as unpredictable as these: exp of the entropy, from 1 to all of them."""
    shares = counts / counts.sum().clamp(min=1)
    return torch.special.entr(shares).sum().exp()
