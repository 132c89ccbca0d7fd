"""`ptft show RUN`: what was run, how it stands, its scores, where its weights come from, what it left on disk."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from ptft import records
from ptft.errors import UserError, did_you_mean
from ptft.locate import POINTERS, locate
from ptft.terminal import Terminal, as_clock, size, sparkline, tell

SPLITS = ("valid", "valid_ema", "test")
NEXT = {
    "pretrain": "ptft finetune ckpt={} task=classify dataset=labelled_text dataset.path=FILE dataset.label=COLUMN",
    "finetune": "ptft predict ckpt={} input=FILE",
}


def main(config: dict[str, Any]) -> None:
    """Print the record of the run, or of the run a checkpoint belongs to, that `run` names.

    Raises UserError where the folder is neither.
    """
    text = (config.get("show") or {}).get("run") or config.get("run")
    if not text:
        raise UserError("show: no run was named; type `ptft show RUN`, where RUN is a run folder or a checkpoint")
    folder, checkpoint = find_run(str(text))
    terminal = Terminal()
    terminal.line(str(folder), style="bold")
    terminal.pairs(overview(folder))
    show_scores(terminal, folder)
    show_lineage(terminal, folder)
    show_checkpoints(terminal, folder, checkpoint)
    terminal.line()
    terminal.line(f"next: {what_next(folder)}")


def find_run(text: str) -> tuple[Path, Path | None]:
    """The run folder, and the checkpoint in it if that is what was named. Raises UserError where there is neither."""
    path = Path(text).expanduser()
    if (path / "run.json").is_file():
        return path, None
    if not (path / "manifest.json").is_file() and path.name not in POINTERS:
        raise UserError(f"show: {text} {'is not a run folder' if path.exists() else 'does not exist'}{_near(path)}")
    checkpoint = locate(text)
    run = records.run_of(checkpoint)
    if not run:
        raise UserError(f"show: {text} is a checkpoint outside its run folder, whose run.json says what was run")
    return run, checkpoint


def _near(path: Path) -> str:
    """The end of an error line: the runs in the folder that was named, or beside it."""
    runs = [str(place.parent) for place in (path if path.is_dir() else path.parent).glob("*/run.json")]
    if not runs:
        return " and no run lies there; training runs make their folders under runs/"
    return did_you_mean(str(path), runs)


def overview(folder: Path) -> dict[str, Any]:
    """What was typed, when, with which version, and whether it is done."""
    run = records.read_json(folder / "run.json")
    return {
        "command": shlex.join(records.typed(folder)),
        "status": status(folder),
        "started": run.get("started"),
        "run id": run.get("run_id"),
        "ptft": " ".join(str(run[name]) for name in ("version", "git") if run.get(name)),
    }


def status(folder: Path) -> str:
    """Whether the run is running, finished or stopped, and at which step."""
    rows = records.metrics(folder)
    train = [row for row in rows if row["split"] == "train"]
    step = max((row["step"] for row in rows), default=0)
    holder = records.holder(folder)
    if holder is not None:
        left = train[-1].get("seconds_left") if train else None
        more = f", {as_clock(left)} left" if isinstance(left, (int, float)) else ""
        return f"running at step {step:,}{more} (process {holder.get('pid', '?')} on {holder.get('host', '?')})"
    if records.read_json(folder / "scores.json"):
        return f"finished at step {step:,}"
    saved = [found["step"] for found in records.checkpoints(folder)]
    return f"stopped at step {step:,}, " + (f"saved at step {saved[-1]:,}" if saved else "nothing saved")


def show_scores(terminal: Terminal, folder: Path) -> None:
    """The final scores of each split, else those of the latest evaluation; and the training loss as a line of text."""
    rows = records.metrics(folder)
    scores = records.read_json(folder / "scores.json") or _latest(rows)
    scores = {split: _numbers(scores[split]) for split in SPLITS if isinstance(scores.get(split), dict)}
    names = list(dict.fromkeys(name for values in scores.values() for name in values))
    if names:
        terminal.line()
        terminal.table(
            {"score": name} | {split: values[name] for split, values in scores.items() if name in values} for name in names
        )
    _, losses = records.curve(rows, "train", "loss")
    if losses:
        picture = sparkline(losses, ascii=terminal.ascii)
        terminal.line(f"training loss  {tell(losses[0])} {picture} {tell(losses[-1])}")


def _numbers(scores: dict[str, Any]) -> dict[str, Any]:
    """What fits a cell of a table: per-class scores are left to scores.json."""
    return {name: value for name, value in scores.items() if not isinstance(value, (dict, list))}


def _latest(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    latest = {row["split"]: row for row in rows if row["split"] != "train"}
    return {split: {name: value for name, value in row.items() if name != "split"} for split, row in latest.items()}


def show_lineage(terminal: Terminal, folder: Path) -> None:
    """Each run the weights came through, nearest first; one that is gone is named as it was recorded."""
    ancestors = records.lineage(folder)
    terminal.line()
    terminal.line("the weights come from" if ancestors else "no parent: the weights were new", style="bold")
    for ancestor in ancestors:
        terminal.line(f"  {ancestor['path']}  (run {ancestor['run_id']})")
        terminal.line(f"    {ancestor.get('missing') or ancestor['command']}", style="dim")


def show_checkpoints(terminal: Terminal, folder: Path, named: Path | None) -> None:
    """Every checkpoint with its size; the one that was named is marked."""
    found = records.checkpoints(folder)
    terminal.line()
    terminal.line("checkpoints" if found else "no checkpoint", style="bold")
    rows = [
        {
            "checkpoint": checkpoint["path"].name,
            "step": checkpoint["step"],
            "size": size(checkpoint["bytes"]),
            "": ", ".join([*checkpoint["is"].split(), *(["this one"] if _same(checkpoint["path"], named) else [])]),
        }
        for checkpoint in found
    ]
    if rows:
        terminal.table(rows)


def _same(path: Path, other: Path | None) -> bool:
    return other is not None and path.resolve() == other.resolve()


def what_next(folder: Path) -> str:
    """The command that goes on from here."""
    if records.holder(folder) is not None:
        return shlex.join(["ptft", "show", str(folder)])
    if records.read_json(folder / "scores.json"):
        done = records.read_json(folder / "run.json").get("command")
        return NEXT.get(done, "ptft evaluate ckpt={}").format(shlex.quote(str(folder)))
    typed = [word for word in records.typed(folder) if not word.startswith(("run=", "resume="))]
    return shlex.join([*typed, f"run={folder}", "resume=auto"])
