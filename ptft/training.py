"""Everything that moves while a run trains, and how it gets into a checkpoint and back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ptft import checkpoint
from ptft.averaging import Average
from ptft.errors import CheckpointError
from ptft.nn.teacher import rising
from ptft.objective import Objective, heads
from ptft.state import load_heads, optimizer_state, restore_optimizer
from ptft.tuning import Tuning


@dataclass
class Progress:
    """Where a run stands, as plain numbers."""

    step: int = 0
    evaluated: int = 0  # the step of the last evaluation
    saved: int = 0  # the step of the last checkpoint
    evaluations: list = field(default_factory=list)  # of each, the share of the run it came after, and whether it was the best
    best: float | None = None
    best_loss: float = math.inf  # of the weights that are the best so far
    waited: int = 0  # evaluations since the best one
    ailing: bool = False  # whether the last look at what is learned raised an alarm
    bad: int = 0  # steps in a row that were not finite
    loss: float = 0.0  # summed since the last log line, and
    count: float = 0.0  # its number of targets
    tokens: int = 0
    samples: int = 0  # rows taken from the stream of training rows: where it goes on


@dataclass
class Training:
    """The moving parts of one run: weights, what the optimizer remembers, the running average, and how far it is."""

    objective: Objective
    optimizer: torch.optim.Optimizer
    tuning: Tuning
    average: Average | None = None
    scaler: torch.amp.GradScaler | None = None
    progress: Progress = field(default_factory=Progress)

    def __post_init__(self):
        self.parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        self.device = self.parameters[0].device
        self.sparse = getattr(self.optimizer, "sparse", False)  # whether it takes gradients of some rows of a table

    @property
    def rate(self) -> float:
        """The largest base rate of all groups."""
        return max(group["base_lr"] for group in self.optimizer.param_groups)

    def set_rates(self, factor: float, fraction: float) -> None:
        """Each group's rate, `factor` times its own, and its decay, at this share of the run."""
        for group in self.optimizer.param_groups:
            group["lr"] = group["base_lr"] * (1.0 if group["steady"] else factor)
            if "decay" in group:
                group["weight_decay"] = rising(*group["decay"], fraction)

    def capture(self) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
        """What a checkpoint holds: groups of tensors, and plain values."""
        memory, description = optimizer_state(self.optimizer, self.objective)
        tensors = {
            "model": self.tuning.plain_state(self.objective),
            "objective": heads(self.objective),
            "tuning": self.tuning.raw_state(self.objective),
            "optimizer": memory,
            "ema": self.average.state() if self.average else {},
        }
        scaler = self.scaler.state_dict() if self.scaler else {}
        return tensors, {"progress": asdict(self.progress), "optimizer": description, "scaler": scaler}

    def restore(self, path: Path) -> None:
        """Continue from a checkpoint of this very run that was just verified. Raises CheckpointError where it does not fit."""
        raw = checkpoint.read(path, "tuning", level="size")
        _load_weights(self.objective.model, checkpoint.read(path, "model", level="size"), raw)
        self.tuning.load_raw(self.objective, raw)
        load_heads(self.objective, checkpoint.read(path, "objective", level="size"))
        state = checkpoint.read_state(path)
        restore_optimizer(self.optimizer, self.objective, checkpoint.read(path, "optimizer", level="size"), state["optimizer"])
        if self.average:
            self.average.load(checkpoint.read(path, "ema", level="size"))
        if self.scaler:
            self.scaler.load_state_dict(state["scaler"])
        for name, value in state["progress"].items():
            setattr(self.progress, name, value)


def _load_weights(model: nn.Module, plain: Mapping[str, Tensor], raw: Mapping[str, Tensor]) -> None:
    """Put plain weights back into a model whose tuning may have renamed some of them to the names in `raw`."""
    missing, _ = model.load_state_dict(dict(plain), strict=False)
    lost = sorted(set(missing) - raw.keys())
    if lost:
        raise CheckpointError(f"model: {lost[0]} is missing from the checkpoint")
