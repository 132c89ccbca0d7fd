"""What Hydra and OmegaConf say about a configuration, as one line that names the setting and a way out."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable
from typing import Any

from hydra.errors import MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    InterpolationResolutionError,
    OmegaConfBaseException,
    ValidationError,
)

from ptft.choices import config_dir, groups
from ptft.errors import UserError, did_you_mean
from ptft.schema import ROOTS, Settings

KINDS = {"Integer": "a whole number", "Float": "a number", "Boolean": "true or false", "String": "text"}
CONVERTED = re.compile(r"Value (?P<value>.*) of type '(?P<type>.*)' could not be converted to (?P<kind>\w+)")
IN_FILE = re.compile(r"(?s)In '(?P<file>[^']+)': .*?config:\s*(?P<fault>.*?)\s*full_key: (?P<key>[\w.]+)")
UNKNOWN_IN_FILE = re.compile(r"Key '([^']+)' (?:not in|is not in struct)")
# texts without structure, as Hydra 1.3 or 1.4 words them, and what to say instead
TEXTS = [
    (
        r"Could not append to config\. An item is already at '([^']+)'",
        r"\1 exists already: leave out the +",
    ),
    (
        r"Config group override must be a string or a list",
        r"a group takes the name of one of its options (model=gpt); to leave a group out write ~group",
    ),
    (
        r"Could not delete from config\. '([^']+)' does not exist",
        r"~\1: there is no such group to leave out",
    ),
    (
        r"Could not delete from config\. The value of '([^']+)' is",
        r"~\1: the group is set to another option; write ~\1 alone",
    ),
    (
        r"The --resolve flag can only be used",
        r"--resolve goes with --cfg=job",
    ),
    (
        r"(?s)In '((\w+)/[^']+)':.*(?:override|Default for) '(?:\2/(\w+)'|(\w+)@\2\.)",
        r"\1.yaml: begin it with '# @package _global_' and write 'override /\3\4: OPTION' with the slash",
    ),
    (
        r"(?s)In '([^']+)':.*(?:Could not override|Default for) '([^']+)'",
        r"\1.yaml is not for this command, which has no group '\2'",
    ),
    (
        r"(?s)In '([^']+)':.*Merge error: .* value: (\S+)",
        r"\1.yaml: expected settings of its own (name: value), found \2",
    ),
    (
        r"(?s)Multiple values for (\S+?)\.",
        r"\1 is chosen twice",
    ),
]
NO_GROUP = re.compile(r"(?s)Could not override '([^']+)'\..*(?:Did you mean|No match in the defaults list)")
SAME_SLOT = {"task": "objective", "objective": "task"}
OF_A_TASK = "# @package objective"  # without which a file below task/ fills a slot that there is not


def explain(error: Exception, command: str) -> str:
    """One line about a fault met while composing the configuration of `command`."""
    fault = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    if isinstance(error, MissingConfigException):
        return _no_option(error)
    if isinstance(fault, InterpolationResolutionError):
        return f"{fault.full_key}: {_first_line(fault)}"
    if isinstance(fault, (ConfigAttributeError, ConfigKeyError)):
        return _no_setting(fault, command)
    if isinstance(fault, ValidationError):
        return _wrong_value(str(fault.full_key), str(fault.msg), command)
    return _by_text(str(error), command)


def all_faults(error: UserError, words: list[str], compose: Callable[[list[str]], Any]) -> UserError:
    """A fault that Hydra met while composing by `words`, and those of the settings behind it: it stops at the first."""
    faults, last = [str(error)], error
    while words := _without_fault(words, _key_of(last.__cause__)):
        try:
            compose(words)
            break
        except UserError as another:
            faults, last = [*faults, str(another)], another
    return UserError("\n".join(faults))


def _without_fault(words: list[str], key: str) -> list[str]:
    """The words but for the one that sets `key`; none where no setting follows it, as those before it were taken."""
    keys = [word.partition("=")[0].lstrip("+") for word in words]
    place = keys.index(key) if key in keys else len(keys)
    return words[:place] + words[place + 1 :] if any("." in later for later in keys[place + 1 :]) else []


def _key_of(error: BaseException | None) -> str:
    """The setting that a fault met while composing is about, empty where it is about none."""
    return str(getattr(getattr(error, "__cause__", None), "full_key", None) or "")


def _no_option(error: MissingConfigException) -> str:
    group, _, option = str(error.missing_cfg_file).rpartition("/")
    if not group:
        return f"--config-name={option}: there is no such file {option}.yaml"
    if group == "objective" and option in groups([config_dir()])["task"]:
        return f"objective has no option '{option}', which is a task: ptft finetune task={option}"
    slot, _, file = str(error.missing_cfg_file).partition("/")
    if slot == "dataset" and os.path.exists(file):
        return f"dataset={file}: name what kind of data it is, as in dataset=text dataset.path={file} (see ptft list dataset)"
    options = [name for name in error.options or [] if name != "from_ckpt"]
    return f"{group} has no option '{option}'{did_you_mean(option, options)}"


def _no_setting(fault: OmegaConfBaseException, command: str) -> str:
    """A setting that does not exist; the same name elsewhere is a likelier cure than a similar one here."""
    full_key, key, parent = str(fault.full_key), str(fault.key), fault.parent_node
    head = full_key.partition(".")[0]
    if head == key and key in groups([config_dir()]):
        return _no_group(key, command)
    if not isinstance(parent, DictConfig):
        return f"{full_key.removesuffix('.' + key)} has no settings of its own, such as '{key}'"
    elsewhere = _with_leaf(parent._get_root(), key)
    where = full_key.rpartition(".")[0]
    what = f"{where} has no setting '{key}'" if where else f"there is no setting or group '{key}'"
    if elsewhere:
        return f"{what}; did you mean {' or '.join(elsewhere)}?"
    return what + did_you_mean(key, [name for name in parent if not str(name).startswith("_") and name != "hydra"])


def _no_group(group: str, command: str) -> str:
    other = SAME_SLOT.get(group)
    return f"{command} has no group '{group}'" + (f"; did you mean {other}=NAME?" if other else "")


def _with_leaf(root: Any, key: str) -> list[str]:
    """Where, at the top or one level down, there is a setting of that name."""
    nodes = OmegaConf.to_container(root, resolve=False)
    own = [key] if key in nodes and not isinstance(nodes[key], dict) else []
    return own + [f"{part}.{key}" for part, node in nodes.items() if isinstance(node, dict) and key in node and part != "hydra"]


def _wrong_value(key: str, message: str, command: str) -> str:
    message = message.splitlines()[0]
    converted = CONVERTED.search(message)
    if converted:
        kind = KINDS.get(converted["kind"], converted["kind"])
        return f"{key}: expected {kind}, found {converted['value']}{_as_whole(converted['value'], kind)}"
    if "is not a valid bool" in message:
        return f"{key}: expected true or false, found {message.removeprefix('Value ').partition(' is not a valid')[0]}"
    if "is not Optional" in message or "cannot be None" in message:
        return f"{key} cannot be null"
    if "is not a ListConfig" in message:
        return f"{key}: expected a list, such as [a,b]"
    if "Cannot convert 'dict'" in message:
        names = [field.name for field in dataclasses.fields(ROOTS[command])]
        near = [f"did you mean {name}?" for name in names if name.startswith(f"{key}_")]
        return "; ".join([f"{key} has no settings of its own", *near])
    if "is not a subclass of" in message:
        return f"{key} holds settings of its own: {key}.NAME=VALUE"
    return f"{key}: {message}"


def _as_whole(value: str, kind: str) -> str:
    """How to write a number such as 1e3 where a whole one is expected."""
    try:
        number = float(value.strip("'"))
    except ValueError:
        return ""
    return f"; write {number:.0f}" if kind == KINDS["Integer"] and number.is_integer() else ""


def _by_text(text: str, command: str) -> str:
    for pattern, line in TEXTS:
        found = re.search(pattern, text)
        if found:
            return found.expand(line)
    group = NO_GROUP.search(text)
    if group:
        return _no_group(group[1], command)
    in_file = IN_FILE.search(text)
    if in_file:
        unknown = UNKNOWN_IN_FILE.search(in_file["fault"])
        what = _unknown_key(in_file["key"], command) if unknown else _wrong_value(in_file["key"], in_file["fault"], command)
        if in_file["file"].startswith("task/") and in_file["key"] == "task":
            what = f"begin the file with '{OF_A_TASK}'; without it {what.partition(';')[0]}"
        return f"{in_file['file']}.yaml: {what}"
    return " ".join(text.split())


def _unknown_key(full_key: str, command: str) -> str:
    """A key of a user's YAML that the types do not know."""
    parent, _, key = full_key.rpartition(".")
    known = Settings if parent == "trainer" else ROOTS[command]
    what = f"{parent} has no setting" if parent else "there is no setting"
    return f"{what} '{key}'{did_you_mean(key, [field.name for field in dataclasses.fields(known)])}"


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
