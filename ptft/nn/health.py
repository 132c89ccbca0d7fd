"""Whether embeddings are alive: how much they vary, in how many directions, how well two views of an image agree."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

KEPT = 1024  # the first embeddings of an evaluation, which are always of the same images
COLLAPSED_STD, COLLAPSED_UNIFORMITY = 0.5, -0.25


def feature_std(first: Tensor, second: Tensor) -> Tensor:
    """sqrt(D) times the mean deviation of the features of unit vectors: about 1 where they spread, 0 where all are equal.

    first, second: [N, D]. Source: SimSiam, 2011.10566, §4.1.
    """
    return first.std(0, correction=0).mean() * first.size(1) ** 0.5


def effective_rank(first: Tensor, second: Tensor) -> Tensor:
    """exp of the entropy of the singular values' shares: between 1 and D (RankMe, 2210.02885, eq. 1)."""
    values = torch.linalg.svdvals(first)
    return torch.special.entr(values / values.sum()).sum().exp()


def alignment(first: Tensor, second: Tensor) -> Tensor:
    """The mean squared distance of the two views of an image: 0 is perfect (Wang & Isola 2020, 2005.10242, §4.1)."""
    return (first - second).square().sum(1).mean()


def uniformity(first: Tensor, second: Tensor) -> Tensor:
    """log of the mean of exp(-2 squared distance) over pairs of images: 0 where all are equal, -4 at the very best."""
    return F.pdist(first).square().mul(-2).exp().mean().log()


MEASURES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "feature_std": feature_std,
    "effective_rank": effective_rank,
    "alignment": alignment,
    "uniformity": uniformity,
}


class Health:
    """A measure of the first embeddings of an evaluation, L2-normalised, for a loop that updates metrics."""

    def __init__(self, measure: Callable[[Tensor, Tensor], Tensor]):
        self.measure = measure
        self.first: list[Tensor] = []
        self.second: list[Tensor] = []

    def to(self, device: torch.device) -> Health:
        """Embeddings stay on the device they come from."""
        return self

    def update(self, first: Tensor, second: Tensor) -> None:
        """Take in the embeddings of two views [B, D]; empty ones are ignored."""
        room = KEPT - sum(map(len, self.first))
        if len(first) and room > 0:
            self.first.append(F.normalize(first[:room].float(), dim=-1))
            self.second.append(F.normalize(second[:room].float(), dim=-1))

    def compute(self) -> Tensor:
        """Not a number for less than two embeddings, and where one is not finite: there are no singular values then."""
        if sum(map(len, self.first)) < 2:
            return torch.tensor(torch.nan)
        first, second = torch.cat(self.first), torch.cat(self.second)
        return self.measure(first, second) if first.isfinite().all() and second.isfinite().all() else torch.tensor(torch.nan)


def health() -> dict[str, Health]:
    """The measures above by name, to be updated with the embeddings of an evaluation."""
    return {name: Health(measure) for name, measure in MEASURES.items()}


def alarms(scores: dict[str, float]) -> list[str]:
    """What `health` found that must not go unnoticed, however good the loss looks: most embeddings being the same.

    Both bounds are needed: young features that point the same way, but each somewhere else, are spread evenly.
    """
    spread, uniform = scores["feature_std"], scores["uniformity"]
    if not (spread < COLLAPSED_STD and uniform > COLLAPSED_UNIFORMITY):
        return []
    return [
        f"the embeddings are collapsing (feature_std={spread:.2f}, alive near 1; uniformity={uniform:.2f}, dead near 0): "
        f"the loss, {scores['loss']:.4g}, says nothing then"
    ]
