"""Who a run is and where its weights come from: the content of run.json."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from ptft import __version__
from ptft.manifest import read_manifest


def origin(run_id: str, argv: Sequence[str], parent: Path | None) -> dict[str, Any]:
    """Written once, when a run begins. argv: the words typed. parent: the checkpoint the weights start from."""
    return {
        "run_id": run_id,
        "command": argv[1] if len(argv) > 1 else "",
        "argv": list(argv),
        "version": __version__,
        "git": _commit(),
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
        "parent": _ancestor(parent) if parent else None,
    }


def _ancestor(checkpoint: Path) -> dict[str, Any]:
    manifest = read_manifest(checkpoint)
    model = manifest["files"].get("model.safetensors", {}).get("blake2b")
    where = {"path": name_of(checkpoint.resolve()), "step": manifest["step"]}
    return {**where, "run_id": manifest["identity"].get("run_id"), "model": model}


def name_of(checkpoint: Path) -> str:
    """Where a checkpoint's weights are from: SCHEME:NAME for what was made elsewhere, else its folder."""
    return read_manifest(checkpoint)["identity"].get("source") or str(checkpoint)


def _commit() -> str | None:
    """The commit of the ptft that runs, where it runs from its repository."""
    source = Path(__file__).parent.parent
    if not (source / ".git").exists():
        return None
    command = ["git", "-C", str(source), "rev-parse", "--short", "HEAD"]
    with contextlib.suppress(OSError):
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or None
    return None
