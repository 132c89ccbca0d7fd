"""What a run folder says of its run, read without torch and while the run may still be writing."""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import shlex
from pathlib import Path
from typing import Any

from ptft.elsewhere import SCHEMES
from ptft.errors import UserError, did_you_mean
from ptft.locate import POINTERS, locate

Row = dict[str, Any]
NOT_FINITE = {"nan", "inf", "-inf", "infinity", "-infinity"}


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; empty where the file is missing or not (yet) whole."""
    with contextlib.suppress(OSError, ValueError):
        found = json.loads(path.read_text(encoding="utf-8"))
        return found if isinstance(found, dict) else {}
    return {}


def metrics(folder: Path) -> list[Row]:
    """The rows of metrics.jsonl that still hold, without what a resumed run did over again."""
    try:
        text = (folder / "metrics.jsonl").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    rows = []
    for line in text.splitlines():
        with contextlib.suppress(ValueError):  # a kill may tear a line
            found = json.loads(line)
            if isinstance(found, dict):
                rows.append(found)
    return current(rows)


def current(rows: list[Row]) -> list[Row]:
    """Rows of a split at a step, numbers as floats, those voided by a later `superseded_after` left out."""
    held: list[Row] = []
    for row in rows:
        if "superseded_after" in row:
            held = [earlier for earlier in held if earlier["step"] <= row["superseded_after"]]
        elif isinstance(row.get("step"), int) and "split" in row:
            held.append({name: _number(value) for name, value in row.items()})
    return held


def _number(value: Any) -> Any:
    """JSON has no word for what is not finite: such numbers are written as text."""
    if isinstance(value, str) and value.lower() in NOT_FINITE:
        return float(value)
    return value


def curve(rows: list[Row], split: str, name: str) -> tuple[list[int], list[float]]:
    """Steps and values of one number on one split, in order of the steps, finite values only."""
    points = {row["step"]: row[name] for row in rows if row["split"] == split and _is_finite(row.get(name))}
    return sorted(points), [points[step] for step in sorted(points)]


def _is_finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def typed(folder: Path) -> list[str]:
    """The words of the command line, whatever path the program was started by."""
    run = read_json(folder / "run.json")
    argv = run.get("argv") or ["ptft", run.get("command") or ""]
    return ["ptft", *map(str, argv[1:])]


def going_on(folder: Path) -> list[str]:
    """The commands that go on from a run that is done."""
    commands = read_json(folder / "run.json").get("next")
    commands = commands if isinstance(commands, list) and commands else ["ptft evaluate ckpt=RUN"]
    return [str(command).replace("ckpt=RUN", f"ckpt={shlex.quote(str(folder))}", 1) for command in commands]


def run_of(checkpoint: Path) -> Path | None:
    """The run folder that a run folder, or a checkpoint folder in it, belongs to."""
    for folder in (checkpoint, checkpoint.parent.parent):
        if (folder / "run.json").is_file():
            return folder
    return None


def find(text: str) -> tuple[Path | None, Path | None]:
    """The run folder that a path means or belongs to, and the checkpoint if that is what it means.

    The checkpoint may lie outside its run. Raises UserError where there is neither, CheckpointError.
    """
    path = Path(text).expanduser()
    if not text.strip():
        raise UserError("the name of the run is empty; give a run folder or a checkpoint folder")
    if (path / "run.json").is_file():
        return path, None
    if not (path / "manifest.json").is_file() and path.name not in POINTERS:
        raise UserError(f"{text} {'is not a run folder' if path.exists() else 'does not exist'}{_nearest_run(path)}")
    checkpoint = locate(text)
    return run_of(checkpoint), checkpoint


def _nearest_run(path: Path) -> str:
    """The end of an error line: the runs in the folder that was named, or beside it."""
    runs = runs_near(path)
    return did_you_mean(str(path), runs) if runs else " and no run lies there; training runs make their folders under runs/"


def runs_near(path: Path) -> list[str]:
    """The run folders in a folder, or beside what is none."""
    return [str(place.parent) for place in (path if path.is_dir() else path.parent).glob("*/run.json")]


def scores(folder: Path, step: int | None = None) -> dict[str, dict[str, Any]]:
    """The final scores of each split, else those of the latest evaluation; those at one step, where that is asked for."""
    rows = [row for row in metrics(folder) if row["split"] != "train" and step in (None, row["step"])]
    latest = {row["split"]: {name: value for name, value in row.items() if name != "split"} for row in rows}
    return latest if step is not None else read_json(folder / "scores.json") or latest


def lineage(folder: Path) -> list[Row]:
    """The runs this one descends from, nearest first, back to the first pretraining.

    Each has path and run_id as they were recorded, and command, started where the folder still holds that very run;
    else `missing` says why it does not.
    """
    chain: list[Row] = []
    seen = {read_json(folder / "run.json").get("run_id")}
    parent = read_json(folder / "run.json").get("parent")
    while isinstance(parent, dict) and parent.get("run_id") not in seen:
        seen.add(parent.get("run_id"))
        found = _find(parent, folder)
        ancestor = read_json(found / "run.json") if found else {}
        entry = {"path": str(parent.get("path")), "run_id": parent.get("run_id"), "started": ancestor.get("started")}
        if entry["path"].partition(":")[0] in SCHEMES:
            chain.append({**entry, "missing": "made elsewhere"})
        elif not found:
            chain.append({**entry, "missing": "no longer there"})
        elif ancestor.get("run_id") != parent.get("run_id"):
            chain.append({**entry, "started": None, "missing": "another run lies there now"})
        else:
            chain.append({**entry, "command": shlex.join(typed(found))})
        alive = "missing" not in chain[-1]
        folder, parent = (found, ancestor.get("parent")) if alive else (folder, None)
    return chain


def _find(parent: Row, child: Path) -> Path | None:
    """Where a parent lies: as recorded, else beside the child (both were moved together)."""
    recorded = Path(str(parent.get("path")))
    run = recorded.parent.parent if recorded.parent.name == "checkpoints" else recorded
    for candidate in (run, child.resolve().parent / run.name):
        if (candidate / "run.json").is_file():
            return candidate
    return None


def holder(folder: Path) -> Row | None:
    """Who is training in the folder right now; None where nobody is. The kernel frees the lock of a dead process."""
    lock = folder / ".lock"
    try:
        with lock.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return read_json(lock)
    except OSError:
        pass
    return None


def checkpoints(folder: Path) -> list[Row]:
    """The committed checkpoints, oldest save first: path, step, bytes, and `is`: best, last, both or neither."""
    place = folder / "checkpoints"
    pointers = {name: _pointer(place / name) for name in ("best", "last")}
    manifests = {path: read_json(path / "manifest.json") for path in place.glob("step-*")}
    whole = {path: manifest for path, manifest in manifests.items() if isinstance(manifest.get("seq"), int)}
    return [
        {
            "path": path,
            "step": whole[path].get("step"),
            "bytes": _bytes_in(path),
            "is": " ".join(name for name, target in pointers.items() if target == path.name),
        }
        for path in sorted(whole, key=lambda path: whole[path]["seq"])
    ]


def _bytes_in(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # the run may delete it while we look
            total += path.stat().st_size if path.is_file() else 0
    return total


def _pointer(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""
