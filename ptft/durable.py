"""Small files that are either the old or the new one, whenever the machine stops."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from ptft.errors import MachineError


@contextlib.contextmanager
def refusals(what: str | Path) -> Iterator[None]:
    """Say of `what` that the machine refused it: an OSError inside becomes a MachineError."""
    try:
        yield
    except OSError as error:
        raise MachineError(f"{what}: {error.strerror or error}") from error


def replace(path: Path, content: bytes) -> None:
    """Write a file in place of an older one, in one step."""
    partial = path.with_name(f".tmp-{path.name}-{os.getpid()}")
    try:
        with open(partial, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
    sync(path.parent)


def whole(descriptor: int, content: bytes) -> None:
    """Write all of it to an open file, in one call unless the disk takes a part only; OSError where it refuses the rest."""
    while content:
        content = content[os.write(descriptor, content) :]


def sync(path: Path) -> None:
    """Wait until a file's content, or a folder's entries, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
