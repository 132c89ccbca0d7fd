"""Low-rank adaptation (LoRA, Hu et al. 2021): a layer trains as weight + scale * up @ down, with the weight frozen.

A parametrisation of the weight, not a wrapped layer: whoever reads `layer.weight`, on any path, gets the adapted one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ptft.randomness import key

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.LSTM)


class LowRank(nn.Module):
    """weight [out, ...] -> weight + alpha / rank * up [out, rank] @ down [rank, rest]; exactly the weight at first."""

    def __init__(self, weight: Tensor, rank: int, alpha: float, generator: torch.Generator):
        super().__init__()
        rows, columns = weight.flatten(1).shape
        bound = 1 / math.sqrt(columns)
        down = torch.empty(rank, columns).uniform_(-bound, bound, generator=generator)
        self.down = nn.Parameter(down.to(weight))
        self.up = nn.Parameter(weight.new_zeros(rows, rank))
        self.scale = alpha / rank

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.scale * (self.up @ self.down).view_as(weight)


def inject(model: nn.Module, targets: list[str], rank: int, alpha: float, seed: int) -> list[str]:
    """Adapt the layers whose names match one of the `targets` patterns; returns their names, none where none match.

    Each weight draws its start from (seed, name). Layers with a parametrisation of their own are left alone.
    """
    found = {
        name: layer
        for name, layer in model.named_modules()
        if isinstance(layer, LAYERS)
        and not parametrize.is_parametrized(layer)
        and any(fnmatchcase(name, target) for target in targets)
    }
    for name, layer in found.items():
        for part in _weights(layer):
            weight = getattr(layer, part)
            drawn = name if part == "weight" else f"{name}.{part}"
            generator = torch.Generator().manual_seed(key(seed, "lora", drawn) >> 1)
            parametrize.register_parametrization(layer, part, LowRank(weight, rank, alpha, generator))
    return list(found)


def _weights(layer: nn.Module) -> list[str]:
    """The names of a layer's matrices: one, but for an LSTM, which has those of inputs, outputs and projections."""
    if isinstance(layer, nn.LSTM):
        return [name for name, _ in layer.named_parameters() if name.startswith("weight_")]
    return ["weight"]


def adapted(model: nn.Module) -> dict[str, LowRank]:
    """The adaptations, by the name of the weight in the plain model."""
    return {
        f"{name}.{part}": adaptation[0]
        for name, layer in model.named_modules()
        if parametrize.is_parametrized(layer)
        for part, adaptation in layer.parametrizations.items()
        if isinstance(adaptation[0], LowRank)
    }


def merged_state(model: nn.Module) -> dict[str, Tensor]:
    """The plain state of the model, as if never adapted and then trained; the model itself is only read."""
    names = adapted(model)
    inner = _inner(names)
    state = {name: value for name, value in model.state_dict().items() if not name.startswith(inner)}
    for name in names:
        layer, _, part = name.rpartition(".")
        state[name] = getattr(model.get_submodule(layer), part).detach()
    return state


def raw_state(model: nn.Module) -> dict[str, Tensor]:
    """What the plain state no longer tells apart, shared with the model: frozen weights and their factors."""
    inner = _inner(adapted(model))
    return {name: value for name, value in model.state_dict().items() if name.startswith(inner)}


def merged_tensors(raw: Mapping[str, Tensor], alpha: float) -> dict[str, Tensor]:
    """The plain weights that `raw_state` makes together."""
    ending, found = ".original", {}
    for begin in (name.removesuffix(ending) for name in raw if name.endswith(ending)):
        original, up, down = (raw[f"{begin}.{part}"] for part in ("original", "0.up", "0.down"))
        update = alpha / len(down) * (up @ down)
        found[begin.replace(".parametrizations.", ".")] = original + update.view_as(original)
    return found


def _inner(names: Iterable[str]) -> tuple[str, ...]:
    """How the names of factors and frozen weights begin, in the state of an adapted model, for the weights `names`."""
    parts = (name.rpartition(".") for name in names)
    return tuple(f"{layer}.parametrizations.{part}." for layer, _, part in parts)
