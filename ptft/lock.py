"""One run, one folder: a lock that the kernel frees when its process ends, however it ends."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
from datetime import datetime
from pathlib import Path

from ptft.errors import MachineError

_held: set[int] = set()


def _forget_in_child() -> None:
    """A forked worker must not hold the lock on when its parent is killed."""
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_forget_in_child)


class Lock:
    """RUN/.lock, held until `release`; it says who holds it. Raises MachineError naming another holder."""

    def __init__(self, folder: Path):
        self.path = folder / ".lock"
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = self._holder() if isinstance(error, BlockingIOError) else error.strerror
            os.close(self._descriptor)
            raise MachineError(f"run={folder}: cannot be locked: {holder}") from None
        _held.add(self._descriptor)
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, json.dumps(_signature()).encode(), 0)

    def _holder(self) -> str:
        found = {}
        with contextlib.suppress(ValueError):
            found = json.loads(os.pread(self._descriptor, 4096, 0))
        return f"in use by process {found.get('pid')} on {found.get('host')} since {found.get('started')}"

    def release(self) -> None:
        if self._descriptor in _held:
            _held.remove(self._descriptor)
            os.close(self._descriptor)


def _signature() -> dict[str, int | str]:
    boot = Path("/proc/sys/kernel/random/boot_id")
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "boot_id": boot.read_text().strip() if boot.exists() else "",
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
    }
