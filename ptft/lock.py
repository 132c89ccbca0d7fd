"""One run, one folder, and what is read of it: locks that the kernel frees when their process ends, however it ends."""

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
_read: dict[Path, int] = {}  # the manifests of checkpoints that this process reads


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


def hold(manifest: Path) -> bool:
    """Keep a checkpoint from being retired while this process lives, by its manifest; False where it is gone already."""
    try:
        descriptor = os.open(manifest, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError:  # whoever reads it will say why it cannot be read
        return True
    with contextlib.suppress(OSError):  # some file systems have no locks
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    if not _is(manifest, descriptor):
        os.close(descriptor)
        return False
    if manifest in _read:
        os.close(_read[manifest])
    _read[manifest] = descriptor
    return True


def is_read(manifest: Path) -> bool:
    """Whether another process holds a checkpoint by its manifest; this one lets go of it."""
    if manifest in _read:
        os.close(_read.pop(manifest))
    descriptor = os.open(manifest, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return isinstance(error, BlockingIOError)
    finally:
        os.close(descriptor)
    return False


def _is(path: Path, descriptor: int) -> bool:
    """Whether an open file still goes by this name."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _signature() -> dict[str, int | str]:
    boot = Path("/proc/sys/kernel/random/boot_id")
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "boot_id": boot.read_text().strip() if boot.exists() else "",
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
    }
