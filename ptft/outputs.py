"""Where a command writes its lines: a file, or standard output."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from typing import TextIO

from ptft.errors import MachineError


def destination(name: str) -> AbstractContextManager[TextIO]:
    """The file `name`, or standard output for "-". Raises MachineError."""
    if name == "-":
        return nullcontext(sys.stdout)
    try:
        return open(name, "w", encoding="utf-8")
    except OSError as error:
        raise MachineError(f"output={name}: {error.strerror}") from None
