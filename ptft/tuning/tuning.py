"""Tunings: which weights train, and how fast.

A model's `blocks` run from shallow to deep. Each parameter has a depth: 0 for the embeddings, 1 to n for the layers,
n + 1 for the objective's heads, which always train. What lies in no block, such as a final norm, counts with the last.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ptft.errors import CheckpointError, UserError
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


def part_name(level: int, objective: Objective) -> str:
    """What tables call the parameters of one depth."""
    if level == 0:
        return "embeddings" if "text" in objective.model.traits else "stem"
    return "heads" if level == len(objective.model.blocks) else f"layer {level}"


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


def free_own(model: nn.Module) -> None:
    """Let those train that a model names as its users' own."""
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

    def groups(
        self,
        objective: Objective,
        lr: float,
        weight_decay: float,
        weight_decay_end: float | None = None,
        vector_lr: float | None = None,
    ) -> list[dict]:
        """Parameter groups for any torch optimizer, with `names`, `label`, `base_lr` and `hidden` beside what it knows.

        Only matrices decay, embeddings among them; biases and norms never do. hidden: matrices of the layers, which are
        neither embeddings nor heads: what Muon is for. steady: whose rate follows no schedule. decay: what that of matrices
        goes from and to, where it changes. vector_lr: of biases and norms, None: lr. Raises UserError where nothing trains.
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
            own = (lr if matrix or vector_lr is None else vector_lr) * rate
            group.update(lr=own, base_lr=own, weight_decay=weight_decay if matrix else 0.0, hidden=hidden)
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

    def notes(self, steps: int) -> list[str]:
        """What must be known of a run that ends after so many steps."""
        return []

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
        rows = []
        for level in range(top + 1):
            sizes = {name: p.numel() for name, p in objective.named_parameters() if depth[name] == level}
            moving = sum(size for name, size in sizes.items() if name in trained)
            rate = self.rate(top - level) if moving else 0.0
            part = part_name(level, objective)
            rows.append({"part": part, "parameters": sum(sizes.values()), "trained": moving, "rate": rate})
        return rows


def _shapes(tensors: Mapping[str, Tensor]) -> set[tuple]:
    return {(name, value.shape) for name, value in tensors.items()}
