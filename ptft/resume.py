"""Whether and from where a run goes on: never by accident, never under settings that silently differ."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import yaml

from ptft.errors import CheckpointError, UserError
from ptft.locate import read_yaml
from ptft.manifest import names, newest

WRITTEN_OVER = ("config.yaml", "README.md")
LEFT_BY_A_RUN = ("metrics.jsonl", "scores.json", "checkpoints")
# settings that say where a run lies, how it is watched or how fast it loads, and can change no weight of any step
HARMLESS = {
    "run",
    "resume",
    "resume_allow",
    "trainer.workers",
    "trainer.log_every",
    "trainer.save_every",
    "trainer.save_minutes",
    "trainer.keep_last",
    "trainer.samples",
    "trainer.on_save_error",
    "trainer.health_every",
}
# what settings that are newer than a run were for it; switches were off
BEFORE = {"trainer.ema_every": 1}


def refuse_foreign(folder: Path) -> None:
    """Raise UserError where the folder is no run's and holds files that a run would write over."""
    foreign = [name for name in WRITTEN_OVER if os.path.exists(folder / name)]
    if foreign and not (folder / "run.json").exists():
        raise UserError(f"run={folder}: holds a {foreign[0]} of no run, which would be lost; name a new folder")


def refuse_reuse(folder: Path) -> None:
    """Raise UserError where the folder holds a run already: nothing is overwritten, nothing continued unasked.

    A run that failed before its first step left nothing to lose.
    """
    if any((folder / name).exists() for name in LEFT_BY_A_RUN):
        raise UserError(f"run={folder}: holds a run already; resume=auto continues it, else name a new folder")


def where(checkpoints: Path, run_id: str | None) -> tuple[Path | None, list[str]]:
    """The checkpoint to continue from and what had to be skipped; None where nothing was ever saved.

    Raises CheckpointError where there are checkpoints, but none of this run that is whole.
    """
    found, faults = newest(checkpoints, run_id)
    if found is None and names(checkpoints):
        reason = faults[0] if faults else "they are another run's"
        raise CheckpointError(f"{checkpoints}: no checkpoint to continue from: {reason}")
    return found, faults


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, str]:
    """The settings that differ and are not harmless: dotted name -> "old -> new"."""
    old, new = _flat(before), _flat(now)
    newer = {name: value for name, value in new.items() if value is False or name in BEFORE}
    old = {**{name: BEFORE.get(name, value) for name, value in newer.items()}, **old}
    differing = [name for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)]
    return {name: f"{old.get(name, 'absent')} -> {new.get(name, 'absent')}" for name in differing if name not in HARMLESS}


def check_config(resumed: Path, config: str, allow: Collection[str]) -> list[str]:
    """Compare a checkpoint's config with today's, both YAML; returns the allowed changes, one line each.

    allow: dotted names, each standing for all settings below it too. Raises UserError naming what is not allowed.
    """
    differing = changes(read_yaml(resumed / "config.yaml") or {}, yaml.safe_load(config) or {})
    refused = [name for name in differing if not _is_allowed(name, allow)]
    if refused:
        table = ", ".join(f"{name} {differing[name]}" for name in refused)
        raise UserError(f"resume: settings changed: {table}; resume_allow=[{','.join(refused)}] accepts that")
    return [f"{name} {change}" for name, change in differing.items()]


def fit_steps(settings: Any, progress: Any, lanes: bool) -> str:
    """Give a run whose batches are of another size now the steps that its rows need; returns what is to be said of it.

    The stream of training rows goes on where it was, whatever the batches. Where epochs are counted, the last step follows
    from the rows that are left (settings.rows: in all); where steps are, it stays. lanes: whether the order of rows is that
    of batches which continue each other, of which another size makes another one.
    """
    batch = settings.batch_size * settings.accumulate
    if progress.samples == progress.step * batch:
        return ""
    if settings.rows is not None:
        settings.steps = progress.step + max(0, math.ceil((settings.rows - progress.samples) / batch))
    order = "rows of this epoch may come twice or not at all" if lanes else "each row still comes once an epoch"
    return (
        f"batches were of another size before row {progress.samples:,} of the training stream: {order}, "
        f"{settings.steps - progress.step:,} steps are left, and the bits are those of no run with one size only"
    )


def check_identity(before: Mapping[str, Any], now: Mapping[str, str], allow: Collection[str]) -> None:
    """Raise CheckpointError where the data or the tokenizer (by hash) is not what the checkpoint was trained with."""
    for what, value in now.items():
        if before.get(what) != value and what not in allow:
            change = f"{str(before.get(what))[:12]} -> {value[:12]}"
            raise CheckpointError(f"resume: the {what} changed ({change}); resume_allow=[{what}] goes on all the same")


def _is_allowed(name: str, allow: Collection[str]) -> bool:
    return any(name == allowed or name.startswith(f"{allowed}.") for allowed in allow)


def _flat(node: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as dotted names; lists are values."""
    flat = {}
    for name, value in node.items():
        inner = isinstance(value, Mapping) and value
        flat.update(_flat(value, f"{prefix}{name}.") if inner else {f"{prefix}{name}": value})
    return flat
