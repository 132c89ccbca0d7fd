"""Which checkpoints of a run stay, and the pointers to the last and the best of them.

Nothing here asks a clock: order is the sequence number in the manifests, and so is what the pointers say.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from ptft.durable import replace, sync
from ptft.lock import is_read
from ptft.manifest import MANIFEST, manifests

LEAST_KEPT = 2  # so that one damaged checkpoint is never the end of a run


def sweep(folder: Path) -> None:
    """Remove what an interrupted save or removal left behind; the caller holds the run's lock."""
    for entry in folder.glob(".t*"):
        if entry.name.startswith((".tmp-", ".trash-")):
            _remove(entry)


def point(folder: Path, run_id: str) -> None:
    """Make RUN/checkpoints/last and best say what the manifests say: hints for people and for `ckpt=RUN/best`."""
    mine = _of_run(folder, run_id)
    targets = {"last": list(mine)[-1:], "best": _best(mine)}
    for pointer, names in targets.items():
        if names and _target(folder / pointer) != names[0]:
            replace(folder / pointer, f"{names[0]}\n".encode())


def retire(folder: Path, run_id: str, keep_last: int | None) -> None:
    """Remove a run's older checkpoints: all but the newest `keep_last`, at least two, the best, and what others read now.

    None keeps all.
    """
    mine = _of_run(folder, run_id)
    if keep_last is None:
        return
    kept = {*list(mine)[-max(keep_last, LEAST_KEPT) :], *_best(mine)}
    for name in mine.keys() - kept:
        if is_read(folder / name / MANIFEST):
            continue  # until a later save
        # by one rename it is no checkpoint any more, however little of it is removed before a kill
        os.rename(folder / name, folder / f".trash-{name}")
        _remove(folder / f".trash-{name}")
    sync(folder)


def _of_run(folder: Path, run_id: str) -> dict[str, dict]:
    """The manifests of one run's checkpoints, oldest first."""
    return {name: found for name, found in manifests(folder).items() if found["identity"].get("run_id") == run_id}


def _best(mine: dict[str, dict]) -> list[str]:
    return [name for name, found in mine.items() if found["best"]][-1:]


def _target(pointer: Path) -> str | None:
    return pointer.read_text(errors="replace").strip() if pointer.is_file() else None


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
