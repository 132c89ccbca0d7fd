"""What can be set: the settings of commands and choices with defaults, types and meanings, from YAML and source, unimported."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ptft.choices import as_typed, commands, comments, config_dir, groups
from ptft.locate import read_yaml

SLOTS = {"task": "objective"}  # groups that fill the slot of another
SCHEMA = "ptft.schema"  # what commands take is declared there, one class each
ROOTS = {"pretrain": "Train", "finetune": "Train"}
NOT_SETTINGS = {"defaults", "_target_"}
REQUIRED = "???"
WORDS = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text", "Path": "a path"}
WORDS |= {"list": "a list", "tuple": "a list", "Sequence": "a list", "dict": "a mapping", "Mapping": "a mapping"}
WHERE_NULL = {"a whole number": "100", "a number": "0.5"}  # examples of what has no default
OF_VALUES = {bool: "bool", int: "int", float: "float", str: "str", list: "list", dict: "dict"}


@dataclass(frozen=True)
class Place:
    """Where a setting is: a choice (model=gpt) or a command. choice: the one that a command begins with."""

    name: str
    default: Any
    meaning: str
    kind: str
    choice: str = ""


class Catalogue:
    """Every setting of the YAML files in some folders, read as it is asked for."""

    def __init__(self, folders: Iterable[Path]):
        self.groups = groups(folders)
        self.commands = {name: _command(name) for name in commands() if name != "check"}

    def choices_with(self, key: str) -> dict[str, Place]:
        """The choices that have the setting `group.name`, as group=option."""
        head, _, leaf = key.partition(".")
        found = {}
        for group in [group for group in self.groups if leaf and head in (group, SLOTS.get(group))]:
            for option, path in self.groups[group].items():
                node = settings_of(path)
                if leaf in node and leaf not in NOT_SETTINGS and group not in ("experiment", "preset"):
                    kind = parameters(node.get("_target_") or f"{SCHEMA}.Settings").get(leaf, _kind(node[leaf]))
                    name = f"{group}={option}"
                    found[name] = Place(name, node[leaf], comments(path).get(leaf, ""), kind)
        return found

    def commands_with(self, key: str) -> dict[str, Place]:
        """The commands that have a setting, with the default there: their own, or that of the choice they begin with."""
        head, _, leaf = key.partition(".")
        choices = self.choices_with(key)
        found = {}
        for name, (settings, said) in self.commands.items():
            chosen = {group: option for group, option in self.defaults(settings).items() if head in (group, SLOTS.get(group))}
            if key in said or (not leaf and key in settings and key not in NOT_SETTINGS and not chosen):
                default = settings[head].get(leaf) if leaf else settings[key]
                option = next((f"{group}={option}" for group, option in chosen.items()), "")
                kind = parameters(f"{SCHEMA}.{ROOTS.get(name, name.capitalize())}").get(head, "")
                kind = parameters(f"{SCHEMA}.{kind}").get(leaf, "") if leaf and not choices else kind
                found[name] = Place(name, default, said.get(key, ""), kind, option)
            elif choices and chosen:
                found[name] = self._through(name, head, leaf, chosen, choices)
        return found

    def _through(self, command: str, head: str, leaf: str, chosen: dict[str, str], choices: dict[str, Place]) -> Place:
        """A command's setting that is one of a choice's."""
        (group, option), *_ = chosen.items()
        own = self.commands[command][0].get(head) or {}
        choice = f"{group}={option}"
        through = (
            choices[choice].default
            if choice in choices
            else "as in the checkpoint"
            if option == "from_ckpt"
            else "of the choice"
        )
        return Place(command, own.get(leaf, through), "", "", choice)

    @staticmethod
    def defaults(settings: dict[str, Any]) -> dict[str, str]:
        """The groups of a command, each with the option it begins with."""
        entries = [entry for entry in settings.get("defaults", []) if isinstance(entry, dict)]
        return {group: option for entry in entries for group, option in entry.items()}

    def names(self) -> list[str]:
        """Everything that can be asked about: settings and choices."""
        found = [key for settings, said in self.commands.values() for key in {*said, *settings} - NOT_SETTINGS]
        for group, options in self.groups.items():
            found += [f"{group}={option}" for option in options]
            if group not in ("experiment", "preset"):
                slot = SLOTS.get(group, group)
                found += [f"{slot}.{key}" for path in options.values() for key in settings_of(path).keys() - NOT_SETTINGS]
        return sorted(set(found))


def settings_of(path: Path) -> dict[str, Any]:
    """The settings of an option's file, on top of those of the files it builds upon."""
    node = _read(path)
    bases = [entry for entry in node.get("defaults", []) if isinstance(entry, str) and entry != "_self_"]
    files = [path.parent / f"{base}.yaml" for base in bases]
    inherited = [settings_of(file) for file in files if file.is_file()]
    return {key: value for part in [*inherited, node] for key, value in part.items()}


@functools.cache
def _read(path: Path) -> dict[str, Any]:
    found = read_yaml(path)
    return found if isinstance(found, dict) else {}


def _command(name: str) -> tuple[dict[str, Any], dict[str, str]]:
    """What a command's YAML file and the one all share set, and what they say of it."""
    file, base = config_dir() / f"{name}.yaml", config_dir() / "base.yaml"
    shared = "base" in _read(file).get("defaults", [])
    return (_read(base) if shared else {}) | _read(file), (comments(base) if shared else {}) | comments(file)


def _kind(value: Any) -> str:
    return WORDS.get(OF_VALUES.get(type(value), ""), "")


@functools.cache
def parameters(target: str) -> dict[str, str]:
    """What a class of this package takes, name -> kind in words, its bases' too; empty for what is foreign or not there."""
    module, _, name = target.rpartition(".")
    file = _file(module)
    if file is None:
        return {}
    tree = _parsed(file)
    origins = {alias.name: node.module for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    if name not in classes:
        return parameters(f"{origins[name]}.{name}") if name in origins else {}
    bases = [base.id for base in classes[name].bases if isinstance(base, ast.Name)]
    found: dict[str, str] = {}
    for base in bases:
        found |= parameters(f"{module if base in classes else origins.get(base, '')}.{base}")
    return found | {name: in_words(kind, module) for name, kind in _own_parameters(classes[name]).items()}


def _file(module: str) -> Path | None:
    """Where a module of this package lies."""
    path = Path(__file__).parent.joinpath(*module.split(".")[1:])
    places = (path.with_suffix(".py"), path / "__init__.py") if module.startswith("ptft.") else ()
    return next((file for file in places if file.is_file()), None)


@functools.cache
def _parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def _own_parameters(node: ast.ClassDef) -> dict[str, ast.expr]:
    fields = {item.target.id: item.annotation for item in node.body if isinstance(item, ast.AnnAssign)}
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.name == "__init__":
            fields = {given.arg: given.annotation for given in [*item.args.args, *item.args.kwonlyargs] if given.annotation}
    return fields


def in_words(annotation: ast.expr, module: str) -> str:
    """An annotation as a user says it; the name of a class of settings, nothing for any value at all.

    module: where it stands, whose names for types are looked up.
    """
    if isinstance(annotation, ast.BinOp):
        parts = [in_words(annotation.left, module), in_words(annotation.right, module)]
        return " or ".join(dict.fromkeys(filter(None, parts))) if all(parts) else ""
    if isinstance(annotation, ast.Constant):
        return "null" if annotation.value is None else str(annotation.value)
    name = annotation.value if isinstance(annotation, ast.Subscript) else annotation
    name = ast.unparse(name).rpartition(".")[2]
    if name == "Literal":
        inner = annotation.slice.elts if isinstance(annotation.slice, ast.Tuple) else [annotation.slice]
        return ", ".join(str(choice.value) for choice in inner)
    if name in WORDS or name == "Any":
        return WORDS.get(name, "")
    found = _named(module, name)
    return in_words(*found) if found else name


def _named(module: str, name: str) -> tuple[ast.expr, str] | None:
    """What a module calls `name`, as in `Hidden = Literal["tanh", "relu"]`, and where; None where it is no such name."""
    for node in _parsed(_file(module)).body if _file(module) else ():
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == name:
            return node.value, module
        if isinstance(node, ast.ImportFrom) and name in [alias.name for alias in node.names]:
            return _named(node.module or "", name)
    return None


def example(value: Any, kind: str, meaning: str) -> str:
    """Another value than the default, such as one might type."""
    such = re.search(r"such as (\[[^\]]*\]|[\w.:/-]*\w)", meaning)
    if value in (None, REQUIRED) and such:
        return such[1]
    if isinstance(value, bool):
        return as_typed(not value)
    if isinstance(value, int):
        return str(2 * value or 1)
    if isinstance(value, float):
        return f"{value / 2 or 0.1:g}"
    return WHERE_NULL.get(kind.partition(" or ")[0], "VALUE") if value in (None, REQUIRED) else as_typed(value)
