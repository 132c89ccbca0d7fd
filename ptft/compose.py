"""From what Hydra composed to what a command gets: plain values, checked, and the text that is saved with a run."""

from __future__ import annotations

import dataclasses
import importlib
import re
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ValidationError

from ptft import handover
from ptft.choices import known_settings
from ptft.errors import UserError, did_you_mean
from ptft.explain import explain
from ptft.schema import REQUIRED, ROOTS, Settings, check_root

# what belongs to one launch and not to the run: a saved configuration can be launched again as it is
OF_ONE_LAUNCH = {"run": None, "resume": None, "resume_allow": [], "trusted_modules": []}
PARTS = ("dataset", "model", "objective", "tuning", "optimizer", "schedule", "trainer")
SECRET = re.compile(r"(^|_)(secret|password|passwd|credentials?|(api|auth|access|bearer|hf)_(token|key))$|^token$")
REFERENCE = re.compile(r"\$\{([\w.]+)\}")
HINTS = {
    "ckpt": "ckpt=RUN",
    "finetune ckpt": "ckpt=RUN, or ckpt=null model=NAME to start from scratch",
    "output": "output=FOLDER, or the file NAME.pt2 or NAME.onnx",
    "input": "input=FILE, or input=- for standard input",
    "show what": "ptft show RUN, or a setting or choice, such as optimizer.lr or model=gpt",
    "diff first": "ptft diff RUN1 RUN2",
    "diff second": "ptft diff RUN1 RUN2",
}


def prepare(config: DictConfig, command: str, folder: Path | None, own: bool = False) -> dict[str, Any]:
    """The values a command gets; `saved` among them is the YAML text to keep with its run.

    folder: the run's, where `run` was not given. own: whether YAML files of the user's are among what was composed. Raises
    UserError for whatever can be seen to be wrong without torch; where such a file is, for what constructors do not take, too.
    """
    faults = _missing(config, command)
    if not faults:
        handover.fill(config)
        faults = _missing(config, command)  # a checkpoint may leave some to the user
    faults += _not_read(config, command)
    if faults:
        raise UserError("\n".join([*faults, *(_of_values(config, faults) if own else [])]))
    if "run" in config and folder and not config.run:
        config.run = str(folder)
    values = OmegaConf.to_container(config, resolve=True)
    try:
        check_root(values)
    except UserError as error:
        said = str(error).splitlines()
        raise UserError("\n".join([*said, *(_of_constructors(values, said) if own else [])])) from None
    return {**values, "saved": saved_text(config, command)}


def retyped(config: DictConfig, command: str, typed: DictConfig | None = None) -> list[str]:
    """What is of a wrong type where a configuration was composed without types; the default takes its place there."""
    faults = []
    typed = OmegaConf.structured(ROOTS[command]) if typed is None else typed
    for key, default in [(key, default) for key, default in typed.items_ex(resolve=False) if key in config]:
        if isinstance(default, DictConfig) and isinstance(config[key], DictConfig):
            faults += retyped(config[key], command, default)
        elif isinstance(default, DictConfig):  # one value in place of settings is what stopped Hydra
            config[key] = default
        elif not OmegaConf.is_interpolation(config, key):
            try:
                typed[key] = config[key]
            except ValidationError as error:
                faults.append(explain(error, command))
            config[key] = typed[key]
    return faults


def _of_values(config: DictConfig, said: list[str]) -> list[str]:
    """What else is wrong with a configuration in which something is missing or unknown."""
    values = OmegaConf.to_container(config, resolve=True)
    faults = _of_constructors(values, said)
    known = {field.name for field in dataclasses.fields(Settings)}
    values["trainer"] = {name: value for name, value in (values.get("trainer") or {}).items() if name in known}
    try:
        check_root({name: value for name, value in values.items() if value != REQUIRED})
    except UserError as error:
        faults += str(error).splitlines()
    return faults


def _of_constructors(values: dict[str, Any], said: list[str]) -> list[str]:
    """What the classes that are named do not take, beside what was said already."""
    try:
        importlib.import_module("ptft.misfits").check_settings(values)
    except UserError as error:
        known = {line.partition(";")[0] for line in said}
        return [line for line in str(error).splitlines() if line.partition(";")[0] not in known]
    return []


def _missing(config: DictConfig, command: str) -> list[str]:
    """Settings and parts that must be given; UserError where the configuration is no command's at all."""
    fields = [field.name for field in dataclasses.fields(ROOTS[command])]
    if 2 * len(config.keys()) < len(fields):
        raise UserError(f"the configuration has no defaults: begin it with 'defaults: [{command}, _self_]'")
    missing = sorted(OmegaConf.missing_keys(config) | {name for name in fields if name not in config})
    hints = {key: HINTS.get(f"{command} {key}") or HINTS.get(key) or f"{key}=VALUE" for key in missing}
    needed = PARTS if command != "data" else ("dataset",)
    dropped = [part for part in needed if part in fields and part not in missing and config[part] is None]
    asked: dict[str, list[str]] = {}
    for key, hint in (hints | {part: f"{part}=NAME" for part in dropped}).items():
        asked.setdefault(hint, []).append(key)
    return [f"{' and '.join(keys)} must be given: {hint}" for hint, keys in asked.items()]


def _not_read(config: DictConfig, command: str) -> list[str]:
    """Settings that nothing reads: the command line cannot add them, but ++ and a user's YAML file can."""
    faults = _unknown("", config, {field.name for field in dataclasses.fields(ROOTS[command])})
    for part in ("tokenizer", "transform", *PARTS):
        node = None if OmegaConf.is_missing(config, part) else config.get(part)
        target = node.get("_target_") if isinstance(node, DictConfig) else None
        known = known_settings([part, "task"] if part == "objective" else [part], target) if target else set()
        faults += _unknown(part, node, known) if known else []
    if "trainer" in config and config.trainer is not None:
        faults += _unknown("trainer", config.trainer, {field.name for field in dataclasses.fields(Settings)})
    return faults


def _unknown(where: str, node: DictConfig, known: set[str]) -> list[str]:
    subject = f"{where} has no setting" if where else "there is no setting"
    return [f"{subject} '{key}'{did_you_mean(key, known - {'_target_'})}" for key in node if key not in known]


def saved_text(config: DictConfig, command: str) -> str:
    """The configuration as YAML that starts the same run again (`--config-dir FOLDER --config-name config`).

    Values are resolved, except those from the environment; secrets are blanked out.
    """
    raw = OmegaConf.to_container(config, resolve=False)
    values = _storable(raw, OmegaConf.to_container(config, resolve=True), raw)
    values.update({name: value for name, value in OF_ONE_LAUNCH.items() if name in values})
    head = f"# ptft {command} --config-dir THIS_FOLDER --config-name config starts this run again.\n"
    return head + OmegaConf.to_yaml(OmegaConf.create({"defaults": [f"schema/{command}", "_self_"], **values}))


def _storable(raw: Any, resolved: Any, root: dict[str, Any], key: str = "") -> Any:
    """A value for the saved text: `raw` has the interpolations that `resolved` has not."""
    if isinstance(raw, dict):
        return {name: _storable(raw[name], resolved[name], root, str(name)) for name in raw}
    if isinstance(raw, list):
        return [_storable(*pair, root) for pair in zip(raw, resolved, strict=True)]
    if isinstance(raw, str) and "${" in raw:
        return raw if _from_environment(raw, root) or "${" in str(resolved) else resolved
    return "REDACTED" if SECRET.search(key) and isinstance(raw, str) else raw


def _from_environment(text: str, root: dict[str, Any]) -> bool:
    """Whether an interpolation takes its value, at first or second hand, from an environment variable."""
    if "oc.env" in text or "${." in text:  # a relative one is not followed, so it is not trusted
        return "oc.env" in str(root)
    return any(_from_environment(str(_at(root, path)), root) for path in REFERENCE.findall(text))


def _at(root: Any, path: str) -> Any:
    for name in path.split("."):
        root = root.get(name) if isinstance(root, dict) else None
    return root
