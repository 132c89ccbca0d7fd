"""What a checkpoint hands to the next stage: `model: from_ckpt` stands for the node in the checkpoint's configuration.

The option exists in Hydra's ConfigStore only. With one `ckpt=` on the command line it holds the saved node from the start, so
that `--cfg job` shows it and a misspelt setting is refused at once. In a sweep over checkpoints, or where a YAML file sets
`ckpt`, it is an open placeholder that takes any setting, and the job fills it.

With `part=encoder` the model is that part of the saved one: of the class that model=NAME_encoder names, with the settings that
both have as they were saved.
"""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from ptft.choices import config_dir
from ptft.errors import CheckpointError, UserError, did_you_mean
from ptft.locate import locate, read_yaml, saved_config
from ptft.manifest import read_file, read_manifest
from ptft.protocols import PROTOCOLS
from ptft.schema import store

PARTS = ("dataset", "tokenizer", "transform", "model", "objective")
MAYBE = ("tokenizer", "transform")  # what data of other kinds has no use for
PLACEHOLDER = "_from_ckpt_"
HALVES = ("encoder", "decoder")  # what `part` may name, of models that have one


def register(ckpt: str | None, half: str | None = None) -> None:
    """Make `from_ckpt` an option of every part: what `ckpt` saved, or a placeholder where it is not known yet.

    half: the part of the model that is wanted, where not all of it is.
    """
    config = _saved(ckpt, half) if ckpt else {}
    for part in PARTS:
        node = OmegaConf.create(config.get(part) or {PLACEHOLDER: part})
        if not ckpt:
            OmegaConf.set_struct(node, False)
        store("from_ckpt", node, group=part)


def fill(config: DictConfig) -> None:
    """Replace placeholders by what the checkpoint saved, the settings given beside them on top. Raises UserError."""
    half = config.get("part")
    if half is not None and config.get("ckpt") is None:
        raise UserError(f"part={half} takes over a part of a trained model: give ckpt=RUN")
    saved = _saved(config.ckpt, half) if half is not None else None
    parts = [part for part in PARTS if PLACEHOLDER in (config.get(part) or {})]
    if not parts:
        return
    if config.get("ckpt") is None:
        raise UserError(f"{parts[-1]} must be given: {parts[-1]}=NAME (without ckpt there is none to take over)")
    saved = saved or _saved(config.ckpt)
    protocol = PROTOCOLS.get(config.get("protocol"))
    if protocol and protocol.target:  # it takes the objective's place, so that there need be none
        saved.setdefault("objective", {"_target_": protocol.target})
    for part in parts:
        if part in MAYBE and saved.get(part) is None:
            with open_dict(config):
                config[part] = None
            continue
        if part not in saved:
            raise UserError(f"ckpt={config.ckpt} saved no {part}; give {part}=NAME")
        changes = {key: value for key, value in config[part].items_ex(resolve=False) if key != PLACEHOLDER}
        _refuse_unknown(part, changes, saved[part])
        with open_dict(config):
            config[part] = OmegaConf.merge(saved[part], changes)


def _saved(ckpt: str, half: str | None = None) -> dict[str, Any]:
    """The parts of a checkpoint's configuration; a `defaults` list in one would compose more than was saved.

    half: the part of the model that stands for it. Raises UserError, CheckpointError.
    """
    path = locate(ckpt)
    read_file(path, "config.yaml", read_manifest(path))  # proves it is what was written
    parts = {part: node for part, node in saved_config(path).items() if part in PARTS and node is not None}
    for part, node in parts.items():
        if not isinstance(node, dict) or "defaults" in node:
            raise CheckpointError(f"{path / 'config.yaml'}: {part} is not a plain mapping of settings")
    return parts if half is None else {**parts, "model": _half(ckpt, parts.get("model", {}), half)}


def _half(ckpt: str, model: dict[str, Any], half: str) -> dict[str, Any]:
    """The settings of a part of a model."""
    *_, stem, name = ["", "", *str(model.get("_target_")).split(".")]
    files = {other: config_dir() / "model" / f"{stem}_{other}.yaml" for other in HALVES}
    found = {other: path for other, path in files.items() if path.is_file()}
    if not found:
        raise UserError(f"part={half}: ckpt={ckpt} is a {name}, which has no parts to take over alone")
    if half not in found:
        raise UserError(f"part={half}: {name} has no such part{did_you_mean(half, found)}")
    settings = read_yaml(found[half])
    return settings | {key: value for key, value in model.items() if key in settings.keys() - {"_target_"}}


def _refuse_unknown(part: str, changes: dict[str, Any], saved: dict[str, Any]) -> None:
    for key in changes:
        if key not in saved:
            raise UserError(f"{part} has no setting '{key}'{did_you_mean(key, saved.keys() - {'_target_'})}")
