"""What is looked at before Hydra reads, builds or launches anything: a user's files, its own nodes, the values of a sweep."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ptft.arguments import Arguments, parsed
from ptft.choices import ONE_OUTPUT, config_dir, groups
from ptft.errors import UserError
from ptft.locate import locate, read_yaml

# the keys with which Hydra's own nodes name code, those of logging too, and the packages that it may come from
NAMES_CODE = {"_target_", "()", "class"}
PLUGINS = ("hydra._internal.core_plugins.", "hydra_plugins.")


def check_own_files(arguments: Arguments) -> None:
    """Refuse a user's YAML that is broken or would explode, if it is named anywhere at all. Raises UserError."""
    folder = arguments.flags.get("--config-dir")
    if folder is None:
        return
    if not Path(folder).is_dir():
        raise UserError(f"--config-dir={folder}: there is no such folder")
    faults, said = {}, " ".join(arguments.typed)
    for group in (".", *groups([config_dir()])):
        for path in sorted((Path(folder) / group).glob("*.yaml")):
            try:
                content = read_yaml(path)
            except UserError as error:
                faults[path] = str(error)
                continue
            if not isinstance(content, dict):
                faults[path] = f"{path} is {'empty' if content is None else 'not a mapping of settings (name: value)'}"
            said += f" {content}"
    for path, fault in faults.items():
        if re.search(rf"(?<![\w-]){re.escape(path.stem)}(?![\w-])", said):
            raise UserError(fault)


def check_output(command: str, arguments: Arguments) -> None:
    """Refuse a sweep whose jobs would write over what the one before wrote. Raises UserError."""
    place = arguments.only("output")
    if arguments.multirun and command in ONE_OUTPUT and place not in (None, "-") and "${" not in place:
        path = Path(place)
        apart = path.with_name(f"{path.stem}-${{hydra:job.num}}{path.suffix}")
        raise UserError(f"output={place} is one for all jobs: number it, as in 'output={apart}'")


def check_checkpoints(arguments: Arguments) -> None:
    """Refuse a sweep over checkpoints of which there is none, with a line for each. Raises what `locate` raises."""
    faults = []
    for ckpt in arguments.values("ckpt") if arguments.multirun else ():
        if ckpt is None:
            return
        try:
            locate(ckpt)
            return
        except UserError as error:
            faults.append(error)
    if faults:
        raise type(faults[0])("\n".join(map(str, faults)))


def is_hydras(word: str) -> bool:
    """Whether an override is of Hydra's own configuration."""
    return word.lstrip("+~").startswith(("hydra.", "hydra/", "hydra="))


def check_plugins(node: Any, where: str = "hydra") -> None:
    """Refuse code that a composed `hydra` node names, but for launchers and sweepers. Raises UserError."""
    inner = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in inner:
        if key in NAMES_CODE and not str(value).startswith(PLUGINS):
            raise UserError(f"{where}.{key}={value} is not allowed: Hydra may build its own launchers and sweepers only")
        check_plugins(value, f"{where}.{key}")


def variants(overrides: list[str]) -> Iterator[list[str]]:
    """The words of jobs in which each kind of value of a sweep occurs once, beside the first value of each other.

    Numbers are one kind. A sweep whose values are chosen later (an interval, a glob) stays out: its setting keeps its default.
    """
    choices = [found for found in map(_choices, overrides) if found]
    first = [values[0] for values in choices]
    yield first
    for place, values in enumerate(choices):
        for value in values[1:]:
            yield [*first[:place], value, *first[place + 1 :]]


def _choices(word: str) -> list[str]:
    """The overrides that a word stands for, one for each kind of value: itself, where it is no sweep."""
    override = parsed(word)
    if not override.is_sweep_override():
        return [word]
    if override.is_interval_sweep() or type(override.value()).__name__ == "Glob":
        if is_hydras(word):
            raise UserError(f"{word}: name the values of Hydra's own settings one by one")
        return []
    kinds = {}
    for value, text in zip(override.sweep_iterator(), override.sweep_string_iterator(), strict=True):
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        kinds.setdefault("a number" if is_number else text, f"{word.partition('=')[0]}={text}")
    return list(kinds.values())
