"""The small networks between features and a loss: projectors and predictors, thrown away with the objective."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from ptft.nn.pooling import vector


def mlp(
    widths: Sequence[int],
    norm: bool = False,
    last_norm: bool = False,
    affine: bool = True,
    bias: bool = True,
    activation: type[nn.Module] = nn.ReLU,
) -> nn.Sequential:
    """Linear maps of these widths [in, ..., out] with an activation between them.

    norm: batch norm after every map but the last. last_norm: after the last too; affine: whether that one scales and
    shifts. bias: of maps that no batch norm follows.
    """
    layers: list[nn.Module] = []
    last = len(widths) - 2
    for place, (width, following) in enumerate(zip(widths[:-1], widths[1:], strict=True)):
        normed = last_norm if place == last else norm
        layers.append(nn.Linear(width, following, bias=bias and not normed))
        if normed:
            layers.append(nn.BatchNorm1d(following, affine=affine or place != last))
        if place != last:
            layers.append(activation())
    return nn.Sequential(*layers)


class Encoder(nn.Module):
    """A model, its features pooled to one vector, and a projection: values -> [B, width]."""

    def __init__(self, model: nn.Module, projection: nn.Module, pooling: str):
        super().__init__()
        self.model, self.projection, self.pooling = model, projection, pooling

    def features(self, values: Tensor) -> Tensor:
        """What the model alone makes of values: [B, dim]."""
        return vector(self.model(values), pooling=self.pooling)

    def forward(self, values: Tensor) -> Tensor:
        return self.projection(self.features(values))


class Prototypes(nn.Module):
    """The cosine of each embedding [..., width] with each of `count` learned directions: [..., count].

    DINO's last layer: a linear map whose rows are kept at length 1 (2104.14294, weight norm with its scale held at 1).
    """

    def __init__(self, width: int, count: int):
        super().__init__()
        self.weight = nn.Parameter(nn.Linear(width, count, bias=False).weight.detach())

    def forward(self, embeddings: Tensor, still: bool = False) -> Tensor:
        """still: the directions get no gradient, and so no update and no decay."""
        weight = self.weight.detach() if still else self.weight
        return F.linear(F.normalize(embeddings, dim=-1), F.normalize(weight, dim=-1))
