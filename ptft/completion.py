"""Shell completion: the command here, paths here, settings by Hydra; the scripts that Hydra installs call `ptft -sc`."""

from __future__ import annotations

import glob
import os
import re

from ptft.choices import commands

PATH_SETTING = re.compile(r"(ckpt|run|input|output|dataset\.\w*path)=")


def complete(words: list[str]) -> int:
    """Answer `ptft -sc query=SHELL` about the line in COMP_LINE, or print the script for `install=SHELL`."""
    line = os.environ.get("COMP_LINE", "")
    command, _, rest = line.partition(" ")[2].lstrip().partition(" ")
    if not any(word.startswith("query=") for word in words):
        return ask_hydra("pretrain", words)
    if command not in commands() or not line.rstrip("\n").partition(" ")[2].lstrip().count(" "):
        print("\n".join(name for name in commands() if name.startswith(command)))
        return 0
    word = rest.split(" ")[-1]
    if PATH_SETTING.match(word):
        print("\n".join(_paths(word)))
        return 0
    cut = f"ptft {rest}"
    os.environ["COMP_LINE"], os.environ["COMP_POINT"] = cut, str(len(cut))
    return ask_hydra(command, words)


def ask_hydra(command: str, words: list[str]) -> int:
    """Let Hydra answer; `check pretrain` is completed as pretrain."""
    from ptft.app import compose_and

    return compose_and(None, "pretrain" if command == "check" else command, words)


def _paths(word: str) -> list[str]:
    key, _, start = word.partition("=")
    found = sorted(glob.glob(glob.escape(os.path.expanduser(start)) + "*"))
    return [f"{key}={path}{'/' if os.path.isdir(path) else ''}" for path in found]
