"""Shell completion: commands, groups and paths here, settings by Hydra; the scripts that Hydra writes call `ptft -sc`."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable

from ptft.arguments import PLAIN_FLAGS, VALUE_FLAGS
from ptft.choices import ALIASES, FOUND, commands, config_dir, groups
from ptft.errors import UserError

PATH_SETTING = re.compile(r"(ckpt|run|input|output|dataset\.\w*path)=")
CHECKED = ("pretrain", "finetune")


def complete(words: list[str]) -> int:
    """Answer `ptft -sc query=SHELL` about the line in COMP_LINE, or print the script for `install=SHELL`."""
    if any(word.startswith("query=") for word in words):
        typed = os.environ.get("COMP_LINE", "").split(" ")[1:] or [""]
        return _answer(typed, words)
    return _ask_hydra("pretrain", words)


def _answer(typed: list[str], words: list[str]) -> int:
    """Print what the last of the typed words may become."""
    command, last = ALIASES.get(typed[0], typed[0]), typed[-1]
    if len(typed) == 1:
        return _print(name for name in commands() if name.startswith(last))
    if command == "check":
        is_command = len(typed) == 2
        return _print(name for name in CHECKED if name.startswith(last)) if is_command else _answer(typed[1:], words)
    if command == "find" and len(typed) < 4:
        return _print(name for name in (tuple(FOUND), CHECKED)[len(typed) - 2] if name.startswith(last))
    if command == "find" and last.startswith("find"):
        own = [f"find.{name}" for name in FOUND.get(typed[1], ())]
        return _print(f"{key}=" for key in own if key.startswith(last))
    if command == "find":
        return _answer(typed[2:], words)
    if command == "list":
        return _print(name for name in groups([config_dir()]) if name.startswith(last))
    if last.startswith("-"):
        return _print(flag for flag in (*PLAIN_FLAGS, *VALUE_FLAGS) if flag.startswith(last))
    if command == "show":
        from ptft.settings import Catalogue

        names = Catalogue([config_dir()]).names() if last else []
        return _print([*_paths(last), *(name for name in names if name.startswith(last))])
    if command == "diff" or PATH_SETTING.match(last):
        return _print(_paths(last))
    line = " ".join(["ptft", *typed[1:]])
    os.environ["COMP_LINE"], os.environ["COMP_POINT"] = line, str(len(line))
    return _ask_hydra(command, words)


def _ask_hydra(command: str, words: list[str]) -> int:
    from ptft import handover, schema
    from ptft.app import hydra_main

    try:
        schema.register()
        handover.register(None)
        return hydra_main(lambda config: None, command, words)
    except UserError:  # a line that is not finished may well be wrong
        return 0


def _paths(word: str) -> list[str]:
    key, equals, start = word.rpartition("=")
    found = sorted(glob.glob(glob.escape(os.path.expanduser(start)) + "*"))
    return [f"{key}{equals}{path}{'/' if os.path.isdir(path) else ''}" for path in found]


def _print(names: Iterable[str]) -> int:
    print("\n".join(names))
    return 0
