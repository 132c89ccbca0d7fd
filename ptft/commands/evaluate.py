"""`ptft evaluate ckpt=RUN split=test`: score a trained model on a split of its data, or of other data."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

from ptft import build
from ptft.errors import DataError, MachineError
from ptft.journal import plain
from ptft.logs import Console
from ptft.loop import Evaluation, evaluate
from ptft.outcome import per_class


def main(config: dict) -> tuple[str, float] | None:
    """Print the scores, and leave them in scores.json of `run` where one is given; returns the objective's own score."""
    console = Console(0)
    stage = build.stage(config, report=console.progress)
    split = config["split"]
    loader = stage.loader(split, config["batch_size"])
    if loader is None:
        raise DataError(f"split={split}: the dataset has no such split")
    for note in stage.dataset.notes:
        console.note(note)
    settings = SimpleNamespace(seed=config["seed"], precision=stage.precision, eval_batches=None, samples=0)
    found = evaluate(stage.objective, loader, settings)
    scores = {**found.scores, **per_class(found, stage.dataset.facts.get("labels"))}
    _show(console, config, split, found)
    if config["run"]:
        _leave(Path(config["run"]), split, scores)
    score = stage.objective.score
    return (score, found.scores[score]) if score in found.scores else None


def _show(console: Console, config: dict, split: str, found: Evaluation) -> None:
    console.summary({"ckpt": config["ckpt"], "split": split, **found.scores})


def _leave(folder: Path, split: str, scores: dict) -> None:
    """Put a split's scores into scores.json, beside those of other splits."""
    path = folder / "scores.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        path.write_text(json.dumps(plain({**known, split: scores}), indent=1, allow_nan=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise MachineError(f"run={folder}: {error.strerror}") from error
