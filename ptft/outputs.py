"""Where a command writes its lines: a file, or standard output; and what it says of rows beside them."""

from __future__ import annotations

import os
import sys
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import Any, TextIO

from ptft.errors import MachineError, UserError
from ptft.logs import Console


def destination(name: str) -> AbstractContextManager[TextIO]:
    """The file `name`, or standard output for "-". Raises MachineError."""
    if name == "-":
        return nullcontext(sys.stdout)
    try:
        return open(name, "w", encoding="utf-8")
    except OSError as error:
        raise MachineError(f"output={name}: {error.strerror}") from None


def check_apart(output: str | Path, **sources: Any) -> None:
    """Raise UserError where `output` is a file that one of `sources`, setting=value, is read from: it would be lost."""
    for setting, source in sources.items():
        with suppress(OSError, TypeError):  # one of them is not there, or is no path
            if os.path.samefile(output, Path(source).expanduser()):
                raise UserError(f"output={output} is the file that {setting}={source} is read from; give another name")


def tell(found: dict[str, list[Any]]) -> None:
    """A note on the standard error for each thing that is to be known of rows: the first one's name, and how many more."""
    console = Console(0, stream=sys.stderr)
    for what, names in found.items():
        others = f" and {len(names) - 1:,} more" if len(names) > 1 else ""
        console.note(f"row {names[0]}{others} {what}")
