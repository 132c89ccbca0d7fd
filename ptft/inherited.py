"""What a stage takes over from a checkpoint: its model's settings, checked, and the weights themselves."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from ptft import resolve
from ptft.checkpoint import read
from ptft.errors import CheckpointError, UserError
from ptft.locate import saved_config
from ptft.nn import lora
from ptft.objective import Objective
from ptft.state import Report, load_heads, load_model
from ptft.tuning import top_names

# settings of a model that leave the shape and the meaning of its weights as they are
FREE = {"dropout", "max_length", "init_std", "local_heads", "zero_init"}
FREE |= {"embedding_dropout", "input_dropout", "hidden_dropout", "output_dropout", "weight_drop"}

MODEL = "model."  # begins the names of its weights in an objective
VECTORS = "embedding.token.weight"  # all that a model of word vectors holds


def check_inherited(config: dict, saved: dict) -> None:
    """Refuse a tokenizer or a model beside `ckpt` other than those its weights were trained with."""
    if config["tokenizer"] != saved.get("tokenizer"):
        raise UserError(f"tokenizer: ckpt={config['ckpt']} brings its own; leave tokenizer out, or ckpt")
    if (config.get("ckpt_load") or {}).get("allow_partial"):
        return
    given, known = config["model"], saved.get("model") or {}
    own = given.keys() if given["_target_"] == known.get("_target_") else known.keys()
    shared = (given.keys() & own) - FREE - ({"_target_"} if config.get("part") else set())
    # a setting that the checkpoint's model did not have yet was off
    differing = [name for name in sorted(shared) if given[name] != known.get(name) and (name in known or given[name])]
    changed = {name: known.get(name) for name in differing}
    told = [f"{_setting(name)} is {old} in the checkpoint and {given[name]} here" for name, old in changed.items()]
    if told:
        raise UserError(f"ckpt={config['ckpt']}: {', '.join(told)}; ckpt_load.allow_partial=true loads what fits")


def _setting(name: str) -> str:
    return "model" if name == "_target_" else f"model.{name}"


def load(objective: Objective, source: Path, config: dict, goes_on: bool) -> Report:
    """Put a checkpoint's weights into the model, and into the heads where the objective goes on."""
    wanted = config.get("ckpt_load") or {"allow_partial": False, "reinit_top": 0, "weights": None}
    weights = read(source, "model", level="size")
    kind = _kind_of_saved(source, config["trusted_modules"])
    chosen = wanted["weights"] or ("teacher" if getattr(kind, "teacher_first", False) and not goes_on else "model")
    if chosen != "model":
        weights.update(_averaged(source) if chosen == "ema" else _of_teacher(source, getattr(kind, "teacher_model", None)))
    if config.get("part"):
        weights = _of_part(objective.model, weights)
    fresh = top_names(objective.model, wanted["reinit_top"])
    try:
        landed = load_model(objective.model, weights, wanted["allow_partial"], fresh)
    except UserError as error:
        if not wanted["allow_partial"] or weights.keys() != {VECTORS}:
            raise
        raise UserError(f"{error}{_that_takes(weights[VECTORS], objective.model)}") from error
    if goes_on:
        held = read(source, "objective", level="size")
        averages = read(source, "ema", level="size") if chosen == "ema" else {}
        load_heads(objective, held | {name: value for name, value in averages.items() if name in held})
    return landed


def _that_takes(vectors: torch.Tensor, model: nn.Module) -> str:
    """For the end of an error line: the setting with which the model has a table of vectors so wide."""
    name = getattr(model, "token_width", "dim")
    return f"; give model.{name}={vectors.shape[1]}" if VECTORS in model.state_dict() else ""


def _of_part(model: nn.Module, weights: dict) -> dict:
    """The weights of the modules that a part of a model has as well."""
    own = {name for name, _ in model.named_children()}
    return {name: value for name, value in weights.items() if name.partition(".")[0] in own}


def _kind_of_saved(source: Path, trusted: list[str]) -> type | None:
    """The class of the objective that a checkpoint was trained with; None without one, or with one that is not trusted here."""
    try:
        return resolve.find("objective", saved_config(source).get("objective"), trusted)
    except UserError:
        return None


def _averaged(source: Path) -> dict:
    """The running averages of the model's weights that trained, or of the factors beside them, as plain weights."""
    tensors = read(source, "ema", level="size")
    if not tensors:
        raise CheckpointError(f"ckpt_load.weights=ema: {source} holds no running average (trainer.ema was null)")
    found = _under(tensors, MODEL)
    if factors := read(source, "tuning", level="size"):
        merged = lora.merged_tensors(factors | found, saved_config(source)["tuning"]["alpha"])
        found = {name: value for name, value in found.items() if name not in factors} | merged
    return found


def _of_teacher(source: Path, prefix: str | None) -> dict:
    """The weights of the model's teacher, under the model's names."""
    found = _under(read(source, "objective", level="size"), prefix) if prefix else {}
    if not found:
        raise CheckpointError(f"ckpt_load.weights=teacher: {source} holds no teacher; its objective has none")
    return found


def _under(tensors: dict, prefix: str) -> dict:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
