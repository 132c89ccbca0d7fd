"""`ptft show RUN`: what was run, how it stands, its scores, where its weights come from, what it left on disk.

`ptft show optimizer.lr` and `ptft show model=gpt` tell of a setting and of a choice.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from ptft import records
from ptft.choices import as_typed, comments, description, group_of
from ptft.elsewhere import SCHEMES
from ptft.errors import UserError, nearest
from ptft.locate import POINTERS
from ptft.settings import NOT_SETTINGS, REQUIRED, SLOTS, Catalogue, Place, example, settings_of
from ptft.terminal import Terminal, as_clock, size, sparkline, tell

SPLITS = ("valid", "valid_ema", "test")
NEEDS_A_RUN = {"finetune", "evaluate", "predict", "generate", "export"}


def main(config: dict[str, Any]) -> None:
    """Print what `what` names: the record of a run, or of the one a checkpoint belongs to; a setting; a choice.

    Raises UserError where it is none of these.
    """
    text = str(config["what"])
    if is_run(text):
        return show_run(text)
    if text.partition(":")[0] in SCHEMES:
        raise UserError(f"{text} is no run, of which show tells: other commands start from it, as in ptft finetune ckpt={text}")
    catalogue, terminal = Catalogue(config["folders"]), Terminal()
    if found := catalogue.commands_with(text) | catalogue.choices_with(text):
        return show_setting(terminal, text, list(found.values()))
    group, _, option = text.partition("=")
    group = group_of(group, catalogue.groups)
    if option in catalogue.groups.get(group, {}):
        return show_choice(terminal, catalogue, group, option)
    if "/" in text or not text.strip() or Path(text).exists():
        return show_run(text)
    raise UserError(f"there is no run, setting or choice '{text}'{_nearest(text, catalogue)}")


def is_run(text: str) -> bool:
    """Whether a folder is a run or a checkpoint, or a path is named like one of a run's."""
    path = Path(text).expanduser()
    return any((path / name).is_file() for name in ("run.json", "manifest.json")) or (path.name in POINTERS and "/" in text)


def _nearest(text: str, catalogue: Catalogue) -> str:
    """The end of an error line: the setting or choice of that last name, else what is most like it, runs here among them."""
    group = group_of(text.rstrip(".="), catalogue.groups)
    if group in catalogue.groups:
        return f", but a group of choices: ptft list {group}"
    names = catalogue.names()
    same = [name for name in names if name.endswith((f".{text}", f"={text}"))]
    close = same[:4] or list(filter(None, [nearest(text, [*names, *records.runs_near(Path(text))])]))
    return f"; did you mean {' or '.join(close)}?" if close else "; ptft list has the choices, ptft COMMAND --help the settings"


def show_setting(terminal: Terminal, key: str, places: list[Place]) -> None:
    """Default, type and meaning of a setting, the commands and the choices that have it, and an example."""
    commands = [place for place in places if "=" not in place.name]
    choices = [place for place in places if "=" in place.name]
    first = next((place for place in places if place.meaning), places[0])
    if isinstance(first.default, dict):
        raise UserError(f"{key} holds settings of its own: {', '.join(f'{key}.{name}' for name in first.default)}")
    terminal.line(key, style="bold")
    terminal.pairs(
        {
            "meaning": f"{first.name}: {first.meaning}" if first in commands and choices else first.meaning or "-",
            "type": "; ".join(dict.fromkeys(place.kind for place in choices or commands if place.kind))
            or "as its meaning says",
            "default": "; ".join(f"{value} ({names})" for value, names in _alike(commands)) or "of the choice",
            "example": _example(key, commands, choices),
        }
    )
    if choices:
        terminal.line()
        said = {place.meaning for place in choices} - {""}
        alike = [
            (value, group, said)
            for said in dict.fromkeys(place.meaning for place in choices)
            for value, group in _alike([place for place in choices if place.meaning == said])
        ]
        terminal.table(
            {"default": value, "in": names} | ({"meaning": text} if len(said) > 1 else {}) for value, names, text in alike
        )


def _alike(places: list[Place]) -> list[tuple[str, str]]:
    """Each default with the places that have it."""
    found: dict[str, list[str]] = {}
    for place in places:
        found.setdefault(_default(place), []).append(place.name)
    return [(value, ", ".join(_shortened(names))) for value, names in found.items()]


def _shortened(names: list[str]) -> list[str]:
    """Choices of one group are said together: model=gpt|lstm."""
    found: dict[str, list[str]] = {}
    for name in names:
        group, equals, option = name.rpartition("=")
        found.setdefault(group + equals if option else name, []).append(option)
    return [f"{group}{'|'.join(options)}" if group else ", ".join(options) for group, options in found.items()]


def _default(place: Place) -> str:
    return "must be given" if place.default == REQUIRED else as_typed(place.default)


def _example(key: str, commands: list[Place], choices: list[Place]) -> str:
    """A line that sets it, with the choice that has it where the command begins with one that has not."""
    command = next(iter(commands), None)
    if command is None:  # an option of a group that no command has
        return "-"
    begins = not choices or command.choice in [place.name for place in choices]
    place = next((place for place in choices if not begins or place.name == command.choice), command)
    value = example(command.default if begins else place.default, place.kind, command.meaning or place.meaning)
    chosen = [] if begins else [place.name]
    return " ".join([started(command.name, key), *chosen, f"{key}={value}"])


def started(command: str, key: str = "") -> str:
    """The beginning of a command line that lacks nothing but what it is about."""
    sought = "batch" if key in ("find.memory", "find.seconds") else "lr"
    first = {"data": ["preview"], "find": [sought]}.get(command, [])
    return " ".join(["ptft", command, *first, *(["ckpt=RUN"] if command in NEEDS_A_RUN and key != "ckpt" else [])])


def show_choice(terminal: Terminal, catalogue: Catalogue, group: str, option: str) -> None:
    """What a choice is, the commands that take it, an example, and its settings."""
    path = catalogue.groups[group][option]
    node, said = settings_of(path), comments(path)
    commands = [name for name, (settings, _) in catalogue.commands.items() if group in catalogue.defaults(settings)]
    terminal.line(f"{group}={option}", style="bold")
    example = {"example": f"{started(commands[0])} {group}={option}"} if commands else {}
    terminal.pairs(
        {"is": description(path), "class": node.get("_target_", "-"), "commands": ", ".join(commands) or "-", **example}
    )
    given = {key: value for key, value in node.items() if key not in NOT_SETTINGS and not isinstance(value, dict)}
    if given:
        slot = SLOTS.get(group, group)
        slot = "" if group in ("experiment", "preset") else f"{slot}."
        terminal.line()
        terminal.table({"setting": f"{slot}{key}={as_typed(value)}", "is": said.get(key, "")} for key, value in given.items())


def show_run(text: str) -> None:
    """Print the record of a run. Raises UserError where there is none."""
    folder, checkpoint = records.find(text)
    if folder is None:
        raise UserError(f"{text} is a checkpoint outside its run folder, whose run.json says what was run")
    terminal = Terminal()
    terminal.line(str(folder), style="bold")
    terminal.pairs(overview(folder))
    show_scores(terminal, folder)
    show_lineage(terminal, folder)
    show_checkpoints(terminal, folder, checkpoint)
    terminal.line()
    for command in what_next(folder):
        terminal.line(f"next: {command}")


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
    scores = records.scores(folder)
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


def what_next(folder: Path) -> list[str]:
    """The commands that go on from here."""
    if records.holder(folder) is not None:
        return [shlex.join(["ptft", "show", str(folder)])]
    if records.read_json(folder / "scores.json"):
        return records.going_on(folder)
    typed = [word for word in records.typed(folder) if not word.startswith(("run=", "resume="))]
    return [shlex.join([*typed, f"run={folder}", "resume=auto"])]
