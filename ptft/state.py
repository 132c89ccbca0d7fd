"""Training state as named tensors and plain values, and weights as they land in a module."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ptft.errors import CheckpointError, UserError
from ptft.objective import Objective, heads

TENSOR = "__tensor__"  # {"__tensor__": "weight::exp_avg"} stands where a tensor was
SAMPLES = 3  # names an error shows of each kind


def optimizer_state(optimizer: Optimizer, module: nn.Module) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What an optimizer remembers: tensors named "<parameter>::<entry>", and plain values that point at them.

    Its options (rates, betas, decay) are not kept: they come from the configuration. Restored by `restore_optimizer`.
    """
    tensors: dict[str, Tensor] = {}
    names = {parameter: name for name, parameter in module.named_parameters()}
    entries = {
        names[parameter]: {key: _pack(value, f"{names[parameter]}::{key}", tensors) for key, value in memory.items()}
        for parameter, memory in optimizer.state.items()
    }
    return tensors, {**_describe(optimizer, names), "entries": entries}


def restore_optimizer(optimizer: Optimizer, module: nn.Module, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Give an optimizer its memory back, each tensor on its parameter's device.

    Raises CheckpointError where the memory is another optimizer's, or is not complete.
    """
    names = {parameter: name for name, parameter in module.named_parameters()}
    now = _describe(optimizer, names)
    if state["kind"] != now["kind"]:
        raise CheckpointError(f"optimizer: the checkpoint was made with {state['kind']}, this run uses {now['kind']}")
    if state["groups"] != now["groups"]:
        before, after = ({name for group in side["groups"] for name in group} for side in (state, now))
        culprit = min(before ^ after, default="the grouping of parameters")
        raise CheckpointError(f"optimizer: what trains differs between the checkpoint and this run: {culprit}")
    left = dict(tensors)
    order = [name for group in now["groups"] for name in group]
    memory = {order.index(name): _unpack(entry, left) for name, entry in state["entries"].items()}
    if left:
        raise CheckpointError(f"optimizer: the checkpoint holds {min(left)}, which nothing refers to")
    optimizer.load_state_dict({"state": memory, "param_groups": optimizer.state_dict()["param_groups"]})


def _describe(optimizer: Optimizer, names: Mapping[Tensor, str]) -> dict[str, Any]:
    groups = [[names[parameter] for parameter in group["params"]] for group in optimizer.param_groups]
    return {"kind": type(optimizer).__name__, "groups": groups}


def _pack(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """The value with each tensor in it moved to `tensors`, and its name left in its place."""
    if isinstance(value, Tensor):
        tensors[name] = value
        return {TENSOR: name}
    if isinstance(value, (list, tuple)):
        return [_pack(inner, f"{name}.{index}", tensors) for index, inner in enumerate(value)]
    if isinstance(value, Mapping):
        return {key: _pack(inner, f"{name}.{key}", tensors) for key, inner in value.items()}
    return value


def _unpack(value: Any, left: dict[str, Tensor]) -> Any:
    """The inverse of `_pack`; takes what it uses out of `left`."""
    if isinstance(value, list):
        return [_unpack(inner, left) for inner in value]
    if not isinstance(value, Mapping):
        return value
    if value.keys() != {TENSOR}:
        return {key: _unpack(inner, left) for key, inner in value.items()}
    if value[TENSOR] not in left:
        raise CheckpointError(f"optimizer: the checkpoint lacks {value[TENSOR]}")
    return left.pop(value[TENSOR]).clone()  # read tensors are mapped to the file; this one will change


@dataclass(frozen=True)
class Report:
    """How the weights of a checkpoint landed in a module, by names.

    missing: the module's, not in the checkpoint. unexpected: the checkpoint's, not in the module. reshaped: name ->
    shape in the checkpoint, shape in the module. fresh: left out on purpose. parameters: how many numbers the module
    has, and loaded_parameters how many of them were loaded.
    """

    loaded: list[str]
    missing: list[str]
    unexpected: list[str]
    reshaped: dict[str, tuple[list[int], list[int]]]
    fresh: list[str]
    parameters: int
    loaded_parameters: int

    @property
    def share(self) -> float:
        """The part of the module's parameters that came from the checkpoint."""
        return self.loaded_parameters / max(self.parameters, 1)

    def __str__(self) -> str:
        new = len(self.missing) + len(self.reshaped) + len(self.fresh)
        return (
            f"{len(self.loaded)} tensors loaded ({self.share:.1%} of {self.parameters:,} parameters), "
            f"{new} newly initialised, {len(self.unexpected)} of the checkpoint unused"
        )


def report(tensors: Mapping[str, Tensor], module: nn.Module, fresh: Collection[str] = ()) -> Report:
    """How `tensors` would land in `module`; nothing is changed. fresh: names to leave as they are."""
    own = module.state_dict()
    wanted = [name for name in own if name not in fresh]
    shared = [name for name in wanted if name in tensors]
    reshaped = {n: (list(tensors[n].shape), list(own[n].shape)) for n in shared if tensors[n].shape != own[n].shape}
    loaded = [name for name in shared if name not in reshaped]
    sizes = {name: parameter.numel() for name, parameter in module.named_parameters()}
    return Report(
        loaded=loaded,
        missing=[name for name in wanted if name not in tensors],
        unexpected=[name for name in tensors if name not in own],
        reshaped=reshaped,
        fresh=[name for name in own if name in fresh],
        parameters=sum(sizes.values()),
        loaded_parameters=sum(sizes.get(name, 0) for name in loaded),
    )


def load_model(
    model: nn.Module, tensors: Mapping[str, Tensor], allow_partial: bool = False, fresh: Collection[str] = ()
) -> Report:
    """Put a checkpoint's weights into a model.

    Every weight must land and every one must be used, unless `allow_partial`. fresh: names that keep the model's own
    start. A model with a method `adapt` may first make them fit images of its own size and channels. Raises UserError with
    samples of what does not fit, and the prefix that would explain it; CheckpointError for numbers of another kind.
    """
    tensors = model.adapt(dict(tensors)) if hasattr(model, "adapt") else tensors
    found = report(tensors, model, fresh)
    if not allow_partial and (found.missing or found.unexpected or found.reshaped):
        raise UserError(f"ckpt: {found}{_explain(found)}; ckpt_load.allow_partial=true loads what fits")
    if not found.loaded and (tensors or found.missing):  # a linear model has none: all it learns is in the head
        raise UserError(f"ckpt: no weight of the checkpoint fits the model{_explain(found)}")
    own = model.state_dict()
    for name in found.loaded:
        if tensors[name].dtype != own[name].dtype:
            raise CheckpointError(f"ckpt: {name} is {tensors[name].dtype} in the checkpoint and {own[name].dtype} in the model")
    model.load_state_dict({name: tensors[name] for name in found.loaded}, strict=False)
    return found


def _explain(found: Report) -> str:
    parts = [
        f"{name} is {there} in the checkpoint and {here} in the model"
        for name, (there, here) in list(found.reshaped.items())[:SAMPLES]
    ]
    for kind, names in (("the model also has", found.missing), ("the checkpoint also has", found.unexpected)):
        if names:
            more = f" and {len(names) - SAMPLES} more" if len(names) > SAMPLES else ""
            parts.append(f"{kind} {', '.join(names[:SAMPLES])}{more}")
    if hint := _prefix(found.missing, found.unexpected):
        parts.append(hint)
    return "".join(f"; {part}" for part in parts)


def _prefix(missing: list[str], unexpected: list[str]) -> str | None:
    """The start of names that explains most of what is missing, such as `module.` or `backbone.`."""
    if prefix := _prefix_on(unexpected, missing):
        return f"names in the checkpoint start with '{prefix}': take that prefix off them"
    if prefix := _prefix_on(missing, unexpected):
        return f"names in the checkpoint lack the prefix '{prefix}'"
    return None


def _prefix_on(long: list[str], short: list[str]) -> str | None:
    """What most names in `long` have before a name in `short`."""
    candidates = {name[: -len(plain)] for plain in short[:SAMPLES] for name in long if name.endswith(f".{plain}")}
    counts = {prefix: len({prefix + plain for plain in short} & set(long)) for prefix in candidates}
    best = max(counts, key=counts.__getitem__, default=None)
    return best if best and counts[best] > len(short) / 2 else None


def load_heads(objective: Objective, tensors: Mapping[str, Tensor]) -> None:
    """Put saved heads back, where the same kind of objective goes on. Raises CheckpointError where they do not fit."""
    objective.make_room(tensors)
    own = heads(objective)
    for name in sorted(own.keys() ^ tensors.keys()):
        raise CheckpointError(f"heads: {name} is {'missing from' if name in own else 'only in'} the checkpoint")
    for name, value in own.items():
        if value.shape != tensors[name].shape:
            shapes = f"{list(tensors[name].shape)} in the checkpoint and {list(value.shape)} here"
            raise CheckpointError(f"heads: {name} is {shapes}")
        with torch.no_grad():
            value.copy_(tensors[name])
