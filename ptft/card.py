"""The run card: one page of Markdown that says what was run, on what, how well it went and how to go on."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ptft.terminal import as_clock, printable, sparkline, tell

MOST_LABELS = 100
SPLITS = {"train": "train", "valid": "valid", "valid_ema": "valid, averaged weights", "test": "test"}


def card(facts: Mapping[str, Any]) -> str:
    """The run card as Markdown; a section is left out where `facts` has nothing for it.

    name: the run's name. command: the line that was typed.
    run: what happened where (started, seconds, device, threads, ptft, python, torch, git, run id ...), in that order.
    data: the dataset's describe() (path, fingerprint, rows per split, tokens, truncated, dropped ...).
    model: class, parameters, trainable ... tuning: rows of its table. schedule: what moves the learning rate.
    scores: split -> name -> value. losses: the training losses in order. notes: the warnings.
    chosen: {split, score, step, value} of the checkpoint called best; absent where no split chose one.
    lineage: as records.lineage() tells it. labels: class names in order. samples: lines the model produced.
    pictures: names of PNG files in the run folder.
    reproduce: the command that does it again (by default `command`). next: the commands to go on with.
    """
    sections = [
        _code([facts.get("command")]),
        _scores(facts),
        _list("Warnings", facts.get("notes")),
        _pictures(facts.get("pictures")),
        _pairs("Run", facts.get("run")),
        _pairs("Data", facts.get("data")),
        _pairs("Model", facts.get("model")),
        _section("Tuning", _table(facts.get("tuning") or ())),
        _pairs("Schedule", facts.get("schedule")),
        _lineage(facts.get("lineage")),
        _labels(facts.get("labels")),
        _section("Samples", _code(facts.get("samples"))),
        _section("Do it again", _code([facts.get("reproduce") or facts.get("command")])),
        _section("Go on", _code(facts.get("next"))),
    ]
    return "\n\n".join([f"# {_inline(facts.get('name', 'run'))}", *filter(None, sections)]) + "\n"


def _scores(facts: Mapping[str, Any]) -> str:
    scores = {split: values for split, values in (facts.get("scores") or {}).items() if values}
    names = list(dict.fromkeys(name for values in scores.values() for name in values))
    columns = [split for split in SPLITS if split in scores]
    rows = [
        {"score": name} | {SPLITS[split]: scores[split][name] for split in columns if name in scores[split]} for name in names
    ]
    curve = sparkline(facts.get("losses") or ())
    choice = _choice(facts, "test" in scores) if rows else ""
    return _section("Scores", "\n\n".join(filter(None, [_table(rows), choice, curve and f"training loss `{curve}`"])))


def _choice(facts: Mapping[str, Any], tested: bool) -> str:
    """The sentence that says which split chose the weights, so that nobody need guess whether it was test."""
    chosen = facts.get("chosen")
    if chosen:
        value = f" ({tell(chosen['value'], chosen['score'])})" if "value" in chosen else ""
        by = f"on **{chosen['split']}** by {chosen['score']}{value}"
        first = f"The best checkpoint, step {chosen['step']:,}, was chosen {by}"
    else:
        first = "No split chose the weights: they are those of the last step"
    last = "**test** was evaluated once, at the end, and chose nothing" if tested else "there is no score on test"
    return f"{first}; {last}."


def _lineage(ancestors: Sequence[Mapping[str, Any]] | None) -> str:
    """Where the weights come from, nearest run first."""
    lines = []
    for number, ancestor in enumerate(ancestors or (), start=1):
        what = f"({ancestor['missing']})" if "missing" in ancestor else f"`{_inline(ancestor.get('command', ''))}`"
        lines.append(f"{number}. {_inline(ancestor['path'])} {what}, run {_inline(ancestor.get('run_id', 'unknown'))}")
    return _section("The weights come from", "\n".join(lines))


def _labels(labels: Sequence[str] | None) -> str:
    labels = list(labels or ())
    table = _table({"class": index, "label": str(label)} for index, label in enumerate(labels[:MOST_LABELS]))
    more = f"\n\nand {len(labels) - MOST_LABELS:,} more" if len(labels) > MOST_LABELS else ""
    return _section("Labels", table + more if labels else "")


def _pictures(names: Iterable[str] | None) -> str:
    return "\n\n".join(f"![{name.removesuffix('.png').replace('_', ' ')}]({name})" for name in names or ())


def _pairs(title: str, rows: Mapping[str, Any] | None) -> str:
    rows = {name: _readable(name, value) for name, value in (rows or {}).items() if value is not None}
    return _section(title, "\n".join(f"- {_inline(name)}: {_inline(value)}" for name, value in rows.items()))


def _readable(name: str, value: Any) -> str:
    return as_clock(value) if name == "seconds" else tell(value, name)


def _list(title: str, lines: Iterable[str] | None) -> str:
    return _section(title, "\n".join(f"- {_inline(line)}" for line in lines or ()))


def _section(title: str, body: str) -> str:
    return f"## {title}\n\n{body}" if body else ""


def _table(rows: Iterable[Mapping[str, Any]]) -> str:
    rows = list(rows)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    if not rows:
        return ""
    rule = ["--:" if all(isinstance(row.get(name, 0), (int, float)) for row in rows) else "---" for name in columns]
    cells = [[_inline(tell(row.get(name, ""), name)).replace("|", "\\|") for name in columns] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in [columns, rule, *cells])


def _code(lines: Iterable[str | None] | None) -> str:
    """A fenced block, with a fence longer than any in the text."""
    text = "\n".join(printable(line) for line in lines or () if line)
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", text)), 3)
    return f"{fence}\n{text}\n{fence}" if text else ""


def _inline(value: Any) -> str:
    """Text that stays on its line."""
    return printable(" ".join(str(value).split()))
