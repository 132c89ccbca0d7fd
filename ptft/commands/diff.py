"""`ptft diff RUN1 RUN2`: where two runs differ: settings, data, tokenizer, parent, version, and how they scored."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from ptft import records
from ptft.choices import as_typed
from ptft.direction import lower_is_better
from ptft.locate import read_yaml
from ptft.terminal import Terminal, tell

Values = dict[str, Any]
SPLITS = ("valid", "valid_ema", "test")
SHORT = 12  # characters of a fingerprint
ABSENT = "-"


def main(config: dict[str, Any]) -> None:
    """Print what differs between two runs, or the runs at two checkpoints. Raises UserError, CheckpointError."""
    names = [str(config["first"]), str(config["second"])]
    found = [records.find(name) for name in names]
    settings = differing(*(dict(flat(_settings(*side))) for side in found))
    origins = differing(*(_origin(*side) for side in found))
    scores = [_scores(*side) for side in found]
    terminal = Terminal()
    if not settings and not origins and not differing(*scores):
        terminal.line("no difference: the same settings, data, tokenizer, parent, version and scores")
        return
    columns = ("first", "second")
    terminal.pairs(dict(zip(columns, names, strict=True)))
    for title, rows in (("settings", settings), ("origin", origins)):
        terminal.line()
        terminal.line(title if rows else f"no difference: {title}", style="bold")
        if rows:
            terminal.table({"": name} | dict(zip(columns, pair, strict=True)) for name, pair in rows.items())
    show_scores(terminal, columns, scores, {name for side in found for name in _lower(*side)})
    foreign = [name for name in ("data", "tokenizer") if name in origins]
    foreign += ["objective"] if "objective._target_" in settings else []
    if foreign and set(scores[0]) & set(scores[1]):
        terminal.line(f"the runs differ in {', '.join(foreign)}: their scores may not compare")


def show_scores(terminal: Terminal, columns: tuple[str, ...], scores: list[Values], lower: Collection[str]) -> None:
    """The scores side by side, the better one marked. lower: those of an objective's own that are better when lower."""
    names = list(dict.fromkeys(name for values in scores for name in values))
    terminal.line()
    terminal.line("scores (* is better)" if names else "no scores", style="bold")
    if names:
        terminal.table({"": name} | dict(zip(columns, marked(name, *scores, lower), strict=True)) for name in names)


def marked(name: str, first: Values, second: Values, lower: Collection[str] = ()) -> list[str]:
    """A score of each side as text, `*` behind the better one."""
    pair = [values.get(name) for values in (first, second)]
    texts = [ABSENT if value is None else tell(value) for value in pair]
    numbers = [math.nan if value is None else value for value in pair]
    if numbers[0] != numbers[1] and not any(map(math.isnan, numbers)):
        low = numbers[0] < numbers[1]
        texts[0 if low == lower_is_better(name, lower) else 1] += " *"
    return texts


def differing(first: Values, second: Values) -> dict[str, tuple[str, str]]:
    """Name -> the value of each side as text, where the sides are not alike; settings of one part stay together."""
    names = list(dict.fromkeys([*first, *second]))
    parts = list(dict.fromkeys(name.partition(".")[0] for name in names))
    names.sort(key=lambda name: parts.index(name.partition(".")[0]))
    pairs = {name: tuple(as_typed(side[name]) if name in side else ABSENT for side in (first, second)) for name in names}
    return {name: (left, right) for name, (left, right) in pairs.items() if left != right}


def flat(node: Values, where: str = "") -> Iterator[tuple[str, Any]]:
    """Every setting under its dotted key."""
    for key, value in node.items():
        name = f"{where}{key}"
        yield from flat(value, f"{name}.") if isinstance(value, dict) else [(name, value)]


def _settings(run: Path | None, checkpoint: Path | None) -> Values:
    found = read_yaml((checkpoint or run) / "config.yaml")
    settings = found if isinstance(found, dict) else {}
    return {name: value for name, value in settings.items() if name != "defaults"}


def _lower(run: Path | None, checkpoint: Path | None) -> list[str]:
    """Which of its own scores the objective calls better when they are lower."""
    found = records.read_json((checkpoint or _latest(run)) / "assets" / "data.json").get("lower")
    return found if isinstance(found, list) else []


def _latest(run: Path) -> Path:
    """The run's last checkpoint, or its folder where it has none."""
    return next(iter(found["path"] for found in reversed(records.checkpoints(run))), run)


def _origin(run: Path | None, checkpoint: Path | None) -> Values:
    """What the weights are of: data and tokenizer by their fingerprints, the checkpoint they started from, the version."""
    manifest = records.read_json((checkpoint or _latest(run)) / "manifest.json")
    identity = manifest.get("identity", {})
    about = records.read_json(run / "run.json") if run else {}
    parent = about.get("parent") or {}
    step = f" at step {parent['step']}" if "step" in parent else ""
    return {
        "data": str(identity.get("data"))[:SHORT] if identity.get("data") else None,
        "tokenizer": str(identity.get("tokenizer"))[:SHORT] if identity.get("tokenizer") else None,
        "parent": f"{parent.get('path')}{step} (run {str(parent.get('run_id'))[:8]})" if parent else None,
        "version": " ".join(str(about[name]) for name in ("version", "git") if about.get(name)) or manifest.get("ptft"),
    }


def _scores(run: Path | None, checkpoint: Path | None) -> Values:
    """split/score -> value: the run's final ones, or those at the step of its checkpoint."""
    if run is None:
        return {}
    found = records.scores(run, records.read_json(checkpoint / "manifest.json").get("step") if checkpoint else None)
    return {
        f"{split}/{name}": value
        for split in SPLITS
        for name, value in (found.get(split) or {}).items()
        if isinstance(value, (int, float)) and name != "step"
    }
