"""Tunings: which weights train, and how fast.

A model's `blocks` run from shallow to deep. Each parameter has a depth: 0 for the embeddings, 1 to n for the layers,
n + 1 for the objective's heads, which always train. What lies in no block, such as a final norm, counts with the last.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from ptft.duration import duration
from ptft.errors import CheckpointError, UserError, did_you_mean
from ptft.nn import lora
from ptft.objective import Objective


def depths(objective: Objective) -> dict[str, int]:
    """The depth of every parameter, by its name in the objective; a shared one counts where it is shallowest."""
    blocks = objective.model.blocks
    known: dict[int, int] = {}
    for depth, block in enumerate(blocks):
        for parameter in block.parameters():
            known.setdefault(id(parameter), depth)
    return {
        name: known.get(id(parameter), len(blocks) - 1 if name.startswith("model.") else len(blocks))
        for name, parameter in objective.named_parameters()
    }


def top_names(model: nn.Module, count: int) -> set[str]:
    """The names in the model's state that belong to its top `count` layers, those in no block included.

    Leave them out when loading weights, and the layers keep the model's own fresh start. Raises UserError.
    """
    own = {id(parameter) for parameter in _always_trained(model)}
    blocks = [block for block in model.blocks if not own or any(id(part) not in own for part in block.parameters())]
    if not 0 <= count < len(blocks):
        raise UserError(f"ckpt_load.reinit_top={count}: the model has {len(blocks) - 1} layers")
    kept = {id(value) for block in blocks[: len(blocks) - count] for value in block.state_dict(keep_vars=True).values()}
    return {name for name, value in model.state_dict(keep_vars=True).items() if count and id(value) not in kept}


def _always_trained(model: nn.Module) -> list[nn.Parameter]:
    """What a model names as its users' own, to train whatever else is frozen: how ELMo mixes its layers."""
    names = getattr(model, "always_trained", ())
    return [parameter for name, parameter in model.named_parameters() if name.startswith(names)]


def _free(model: nn.Module) -> None:
    for parameter in _always_trained(model):
        parameter.requires_grad_(True)


class Tuning:
    """Everything trains at the base rate; what a subclass changes of that is its name."""

    def apply(self, objective: Objective) -> None:
        """Freeze or inject, on the device and before the optimizer exists."""

    def trained(self, objective: Objective) -> dict[str, nn.Parameter]:
        """The parameters that will train at some point, by name, each once however many modules share it."""
        return {name: parameter for name, parameter in objective.named_parameters() if parameter.requires_grad}

    def rate(self, below: int) -> float:
        """The factor on the rate of parameters `below` levels under the heads."""
        return 1.0

    def groups(self, objective: Objective, lr: float, weight_decay: float, weight_decay_end: float | None = None) -> list[dict]:
        """Parameter groups for any torch optimizer, with `names`, `label`, `base_lr` and `hidden` beside what it knows.

        Only matrices decay, embeddings among them; biases and norms never do. hidden: matrices of the layers, which are
        neither embeddings nor heads: what Muon is for. steady: whose rate follows no schedule. decay: what that of matrices
        goes from and to, where it changes. Raises UserError where nothing trains.
        """
        depth, top = depths(objective), len(objective.model.blocks)
        tables = {id(part.weight) for part in objective.modules() if isinstance(part, nn.Embedding)}
        groups: dict[tuple, dict] = {}
        for name, parameter in self.trained(objective).items():
            matrix, rate = parameter.ndim >= 2, self.rate(top - depth[name])
            hidden = matrix and 0 < depth[name] < top and id(parameter) not in tables
            kind = "hidden matrices" if hidden else "other matrices" if matrix else "vectors"
            steady = name.startswith(objective.steady)
            kind += " at a steady rate" if steady else ""
            group = groups.setdefault((kind, rate), {"params": [], "names": []})
            group["params"].append(parameter)
            group["names"].append(name)
            group.update(lr=lr * rate, base_lr=lr * rate, weight_decay=weight_decay if matrix else 0.0, hidden=hidden)
            group["steady"] = steady
            if matrix and weight_decay_end is not None:
                group["decay"] = weight_decay, weight_decay_end
            group["label"] = kind if rate == 1 else f"{kind} x {rate:.4g}"
        if not groups:
            raise UserError(f"tuning={type(self).__name__.lower()}: nothing is left to train: no layer and no head")
        return list(groups.values())

    def train_mode(self, objective: Objective) -> None:
        """Training mode, but for the frozen parts of the model: dropout is off and statistics stand still in them."""
        objective.train()
        for part in [*objective.model.modules(), *objective.model.blocks]:
            frozen = [not parameter.requires_grad for parameter in part.parameters()]
            if frozen and all(frozen):
                part.eval()

    def advance(self, progress: float) -> None:
        """Change what trains with progress in [0, 1]; called before every step."""

    def plain_state(self, objective: Objective) -> dict[str, Tensor]:
        """The model's weights as any later stage can load them."""
        return objective.model.state_dict()

    def raw_state(self, objective: Objective) -> dict[str, Tensor]:
        """What resuming needs beside the plain weights."""
        return {}

    def load_raw(self, objective: Objective, tensors: Mapping[str, Tensor]) -> None:
        """Continue from `raw_state`, after the plain weights and `apply`; raises CheckpointError on a misfit."""
        own = self.raw_state(objective)
        unlike = _shapes(own) ^ _shapes(tensors)
        if unlike:
            raise CheckpointError(f"the tuning in the checkpoint is another one: {min(unlike)[0]} does not fit")
        with torch.no_grad():
            for name, value in own.items():
                value.copy_(tensors[name])

    def table(self, objective: Objective) -> list[dict]:
        """One row for each part of the objective, shallow to deep: part, parameters, trained, rate."""
        depth, top, trained = depths(objective), len(objective.model.blocks), self.trained(objective)
        rows, lowest = [], "embeddings" if "text" in objective.model.traits else "stem"
        for level in range(top + 1):
            part = lowest if level == 0 else "heads" if level == top else f"layer {level}"
            sizes = {name: p.numel() for name, p in objective.named_parameters() if depth[name] == level}
            moving = sum(size for name, size in sizes.items() if name in trained)
            rate = self.rate(top - level) if moving else 0.0
            rows.append({"part": part, "parameters": sum(sizes.values()), "trained": moving, "rate": rate})
        return rows


def _shapes(tensors: Mapping[str, Tensor]) -> set[tuple]:
    return {(name, value.shape) for name, value in tensors.items()}


class Full(Tuning):
    """All weights train.

    layer_decay: each level trains at this share of the rate of the one above it, heads at the full rate (Clark et al.
    2020, ELECTRA; .65 with 12 layers leaves .0037 for the embeddings). None: one rate. Raises ValueError.
    """

    def __init__(self, layer_decay: float | None):
        if layer_decay is not None and not 0 < layer_decay <= 1:
            raise ValueError(f"layer_decay={layer_decay}: give a share in (0, 1], such as 0.65, or null for one rate")
        self.layer_decay = layer_decay

    def rate(self, below: int) -> float:
        return 1.0 if self.layer_decay is None else self.layer_decay**below


class Frozen(Tuning):
    """Part of the model is frozen: no gradient, evaluation mode, not in the optimizer.

    blocks: "all", or how many layers from the bottom, the embeddings always with them; negative leaves that many at the
    top free; 0 freezes by name only. names: patterns (`*` matches anything) over names in the model's state.
    """

    def __init__(self, blocks: int | str, names: list[str]):
        if blocks != "all" and (isinstance(blocks, bool) or not isinstance(blocks, int)):
            raise ValueError(f"blocks={blocks}: give all or a number of layers")
        self.blocks, self.names = blocks, names

    def apply(self, objective: Objective) -> None:
        """Freeze; raises UserError where the model has too few layers or no parameter of a name."""
        lowest = self._lowest(len(objective.model.blocks) - 1)
        patterns = self._checked_names([name for name, _ in objective.model.named_parameters()])
        depth = depths(objective)
        for name, parameter in objective.model.named_parameters():
            if depth[f"model.{name}"] <= lowest or any(fnmatchcase(name, pattern) for pattern in patterns):
                parameter.requires_grad_(False)

        if self.blocks == "all" and not patterns:
            _free(objective.model)

    def _lowest(self, layers: int) -> int:
        """The depth up to which all is frozen; -1 for nothing."""
        if self.blocks == "all":
            return layers
        if abs(self.blocks) > layers:
            raise UserError(f"tuning.blocks={self.blocks}: the model has {layers} layers")
        return self.blocks or -1 if self.blocks >= 0 else layers + self.blocks

    def _checked_names(self, known: list[str]) -> list[str]:
        for pattern in self.names:
            if not any(fnmatchcase(name, pattern) for name in known):
                raise UserError(f"tuning.names={pattern}: no parameter of that name{did_you_mean(pattern, known)}")
        return self.names


class Gradual(Tuning):
    """Unfreezes from the top: heads first, one more level each `every` (ULMFiT, Howard & Ruder 2018, §3.3).

    ratio: each level trains that much slower than the one above it (§3.2: 2.6). What is still frozen has no gradient,
    so the optimizer neither moves nor decays it. steps, steps_per_epoch: facts about the run. Raises ValueError.
    """

    def __init__(self, steps: int, steps_per_epoch: float, every: int | float | str, ratio: float):
        if ratio < 1:
            raise ValueError(f"ratio={ratio}: give at least 1, such as 2.6")
        self.steps, self.every, self.ratio = steps, duration(every, steps, steps_per_epoch, "every"), ratio
        if not self.every:
            raise ValueError(f'every={every}: give at least one step, such as "1 epoch"')

    def apply(self, objective: Objective) -> None:
        """Freeze all but the top."""
        self.objective, self.parameters = objective, super().trained(objective)
        depth = depths(objective)
        levels = {level: [] for level in sorted({depth[name] for name in self.parameters}, reverse=True)}
        for name, parameter in self.parameters.items():
            levels[depth[name]].append(parameter)
        self.levels, self.open = list(levels.values()), 0
        self.advance(0.0)

    def trained(self, objective: Objective) -> dict[str, nn.Parameter]:
        return self.parameters

    def rate(self, below: int) -> float:
        return self.ratio**-below

    def advance(self, progress: float) -> None:
        count = min(len(self.levels), 1 + int(progress * self.steps / self.every + 1e-6))
        if count == self.open:
            return
        self.open = count
        for index, level in enumerate(self.levels):
            for parameter in level:
                parameter.requires_grad_(index < count)
                parameter.grad = parameter.grad if index < count else None
        if self.objective.training:
            self.train_mode(self.objective)


class LoRA(Tuning):
    """Low-rank factors train beside the frozen weights of the model; heads train as always.

    rank, alpha: the update is alpha / rank * up @ down. targets: patterns over layer names in the model, `*` for all of
    its linear, convolutional and LSTM layers. seed: a fact about the run, from which the factors start. Raises ValueError.
    """

    def __init__(self, seed: int, rank: int, alpha: float, targets: list[str]):
        if rank < 1:
            raise ValueError(f"rank={rank}: give at least 1, such as 8")
        self.seed, self.rank, self.alpha, self.targets = seed, rank, alpha, targets

    def apply(self, objective: Objective) -> None:
        """Freeze and inject; raises UserError where no layer has such a name."""
        model = objective.model.requires_grad_(False)
        if not lora.inject(model, self.targets, self.rank, self.alpha, self.seed):
            layers = [name for name, layer in model.named_modules() if isinstance(layer, lora.LAYERS)]
            wrong = ",".join(self.targets)
            if not layers:
                raise UserError(f"tuning=lora: {type(model).__name__} has no linear, convolutional or LSTM layer to adapt")
            raise UserError(f"tuning.targets=[{wrong}]: no layer of that name{did_you_mean(wrong, layers)}")
        _free(model)

    def plain_state(self, objective: Objective) -> dict[str, Tensor]:
        return lora.merged_state(objective.model)

    def raw_state(self, objective: Objective) -> dict[str, Tensor]:
        return lora.raw_state(objective.model)
