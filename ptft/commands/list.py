"""`ptft list [group]`: every choice, with its line of description."""

from __future__ import annotations

from typing import Any

from ptft.choices import description, group_of, groups
from ptft.errors import UserError, did_you_mean
from ptft.terminal import Terminal


def main(config: dict[str, Any]) -> None:
    """Print the options of one group, or of all. Raises UserError where there is no such group."""
    found = groups(config["folders"])
    group = config["group"] and group_of(config["group"], found)
    if group is not None and group not in found:
        raise UserError(f"there is no group '{group}'{did_you_mean(group, found)}")
    terminal = Terminal()
    for name in [group] if group else found:
        options = found[name]
        terminal.table({name: option, "is": description(path)} for option, path in options.items())
        terminal.line()
