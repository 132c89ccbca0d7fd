"""JSON lines that only ever grow: metrics.jsonl and bad_batches.jsonl of a run. `records` reads them."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ptft.durable import refusals, whole
from ptft.errors import MachineError


class Journal:
    """Appends rows to a file; a line that a kill or a full disk tore is ended, so that it spoils no other.

    Raises MachineError.
    """

    def __init__(self, path: Path):
        self.path = path
        self._descriptor: int | None = None

    def append(self, row: Mapping[str, Any]) -> None:
        """One write per row: a killed run loses nothing that was logged."""
        line = (json.dumps(plain(row), allow_nan=False) + "\n").encode()
        try:
            with refusals(self.path):
                if self._descriptor is None:
                    self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
                    self._end_torn_line()
                whole(self._descriptor, line)
        except MachineError:
            self.close()  # so that the next row ends what may be torn now
            raise

    def _end_torn_line(self) -> None:
        size = os.fstat(self._descriptor).st_size
        if size and os.pread(self._descriptor, 1, size - 1) != b"\n":
            whole(self._descriptor, b"\n")

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def plain(value: Any) -> Any:
    """A value as JSON can say it; numbers that are not finite become text."""
    if isinstance(value, Mapping):
        return {name: plain(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
