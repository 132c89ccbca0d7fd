"""Where a command writes its lines: a file, or standard output; and what it says of rows beside them."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TextIO

from ptft.errors import MachineError
from ptft.logs import Console


def destination(name: str) -> AbstractContextManager[TextIO]:
    """The file `name`, or standard output for "-". Raises MachineError."""
    if name == "-":
        return nullcontext(sys.stdout)
    try:
        return open(name, "w", encoding="utf-8")
    except OSError as error:
        raise MachineError(f"output={name}: {error.strerror}") from None


def tell(found: dict[str, list[Any]]) -> None:
    """A note on the standard error for each thing that is to be known of rows: the first one's name, and how many more."""
    console = Console(0, stream=sys.stderr)
    for what, names in found.items():
        others = f" and {len(names) - 1:,} more" if len(names) > 1 else ""
        console.note(f"row {names[0]}{others} {what}")
