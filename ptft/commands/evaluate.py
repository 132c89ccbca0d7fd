"""`ptft evaluate ckpt=RUN split=test`: score a trained model on a split of its data, or of other data.

With protocol=NAME it is scored by one of ptft/protocols.py, whatever it was trained for: protocol=knn or linear by what its
features tell of classes, similarity by its embeddings of texts, wordsim or analogy by its vectors of words, choice by the
options it holds likely.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ptft import build, resolve
from ptft.canvas import write_png
from ptft.data.choices import Choices
from ptft.errors import DataError, MachineError, UserError
from ptft.journal import plain
from ptft.locate import locate, saved_config
from ptft.logs import Console
from ptft.loop import evaluate
from ptft.machine import autocast
from ptft.metrics import lower_is_better
from ptft.nn.language import NextToken
from ptft.nn.likelihood import choose
from ptft.outcome import per_class
from ptft.protocols import PROTOCOLS

SPLITS = ("train", "valid", "test")
# the settings of a dataset that is not split
UNSHARED = {"valid_fraction": 0.0, "test_fraction": 0.0}
WHOLE = {"valid_path": None, "test_path": None, **UNSHARED}
MAPPED = 1000  # points of the map of features


def main(config: dict) -> tuple[str, float, bool] | None:
    """Print the scores, and leave them in scores.json of `run` where one is given; returns the objective's own score."""
    console = Console(0)
    if config["protocol"]:
        config = _with_protocol(config)
    whole_file = _is_of_one_file(config)
    whole = bool(config["protocol"]) and PROTOCOLS[config["protocol"]].whole
    unsplit = WHOLE if whole_file else UNSHARED if whole else {}
    dataset = config["dataset"]
    config = {**config, "dataset": {**dataset, **{name: unsplit[name] for name in unsplit if name in dataset}}}
    _check_choice(config)
    stage = build.stage(config, report=console.progress)
    # a folder may still bring splits of its own
    split = "train" if whole_file and stage.dataset.rows("test") is None else config["split"]
    if not whole and stage.dataset.rows(split) is None:
        raise DataError(_without(stage.dataset, config))
    for note in stage.dataset.notes:
        console.note(note.removeprefix(f"{split}: ") if whole_file else note)
    by_protocol = config["protocol"] == "choice" or hasattr(stage.objective, "measure")
    scores, details = _measured(stage, SPLITS if whole else (split,)) if by_protocol else _evaluated(stage, split)
    seen = {} if whole else {"rows": len(stage.dataset.rows(split))}
    console.summary({"ckpt": config["ckpt"], "split": config["split"], **seen, **scores})
    if config["run"]:
        _leave(Path(config["run"]), config["split"], {**scores, **details}, add=bool(config["protocol"]))
    score = stage.objective.score
    return (score, scores[score], lower_is_better(score, stage.objective.lower)) if score in scores else None


def _check_choice(config: dict) -> None:
    """Refuse questions without a model that can choose, and the reverse, before anything is read."""
    kinds = ("dataset", "model", "objective")
    dataset, model, objective = (resolve.find(kind, config[kind], config["trusted_modules"]) for kind in kinds)
    questions = issubclass(dataset, Choices)
    if config["protocol"] != "choice":
        if questions:
            raise UserError("dataset=choices holds questions with options, which protocol=choice lets a model choose from")
    elif not questions or not issubclass(objective, NextToken) or "seq2seq" in model.traits:
        raise UserError("protocol=choice: a causal language model chooses between options; give its run, and dataset=choices")


def _is_of_one_file(config: dict) -> bool:
    """Whether all of another file than the run's own is to be scored: its path was typed, and nothing of how to split it."""
    typed = {word.partition("=")[0] for word in config["argv"]}
    splits = {"split", "dataset.split_seed", *(f"dataset.{name}" for name in WHOLE)}
    if config["protocol"] not in (None, "similarity") or "dataset.path" not in typed or typed & splits:
        return False
    own = (saved_config(locate(config["ckpt"])).get("dataset") or {}).get("path")
    return own is None or _places(own) != _places(config["dataset"]["path"])


def _places(path: str | list[str]) -> list[Path]:
    """Where a dataset's files are; one of parallel text may be two."""
    return [Path(part).expanduser().resolve() for part in ([path] if isinstance(path, str) else path)]


def _without(dataset: Any, config: dict) -> str:
    """What is said where the wanted split is missing: which ones there are, and how the dataset comes by it."""
    split = config["split"]
    known = " and ".join(name for name in SPLITS if dataset.rows(name) is not None)
    setting = f"{split}_path"
    more = f"; dataset.{setting}=FILE brings one" if setting in config["dataset"] else ""
    return f"split={split}: the dataset has no such split, only {known}{more}"


def _evaluated(stage: build.Stage, split: str) -> tuple[dict[str, float], dict[str, Any]]:
    """The scores of the objective itself, and those that are one for each class."""
    config = stage.config
    settings = SimpleNamespace(seed=config["seed"], precision=stage.precision, eval_batches=None, samples=0)
    found = evaluate(stage.objective, stage.loader(split, config["batch_size"]), settings, limit=False)
    return found.scores, per_class(found, stage.dataset.facts.get("labels"))


def _with_protocol(config: dict) -> dict:
    """The configuration with the protocol in the objective's place, and the seed the model was built with."""
    protocol = PROTOCOLS[config["protocol"]]
    if config["weights"] == "initial" and "weights" not in protocol.settings:
        raise UserError(f"weights=initial is for probes of features, not for protocol={config['protocol']}")
    if protocol.target is None:
        return config
    saved = saved_config(locate(config["ckpt"]))
    pooling = config["pooling"] or (saved.get("objective") or {}).get("pooling") or "mean"
    known = {**config, "pooling": pooling}
    objective = {"_target_": protocol.target, **{name: known[name] for name in protocol.settings}}
    return {**config, "seed": saved["seed"], "objective": objective}


def _measured(stage: build.Stage, splits: tuple[str, ...]) -> tuple[dict[str, float], dict[str, Any]]:
    """The scores of the protocol over some splits; where it has a map of the features, that goes into the folder of `run`."""
    config = stage.config
    found = [rows for rows in map(stage.dataset.rows, splits) if rows is not None]
    rows = found[0] if len(found) == 1 else [example for part in found for example in part]
    if config["protocol"] == "choice":
        return _chosen(stage, rows), {}
    with autocast(stage.device, stage.precision):
        scores = stage.objective.measure(rows)
    if config["run"] and hasattr(stage.objective, "map"):
        folder = _folder(Path(config["run"]) / "pictures")
        write_png(folder / f"map-{config['split']}-{config['weights']}.png", stage.objective.map(rows, MAPPED))
    return scores, {}


def _chosen(stage: build.Stage, questions: list) -> dict[str, float]:
    """How often the likeliest option is the right one, by log probability and by that per byte, and what chance would give."""
    with autocast(stage.device, stage.precision):
        chosen = [choose(stage.objective.eval(), question) for question in questions]
    answers = [question["answer"] for question in questions]
    plain, per_byte = (sum(map(int.__eq__, found, answers)) / len(answers) for found in zip(*chosen, strict=True))
    chance = sum(1 / len(question["options"]) for question in questions) / len(questions)
    return {"accuracy": plain, "accuracy_per_byte": per_byte, "chance": chance}


def _folder(path: Path) -> Path:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MachineError(f"run={path}: {error.strerror}") from error
    return path


def _leave(folder: Path, split: str, scores: dict, add: bool) -> None:
    """Put a split's scores into scores.json, beside those of other splits. add: beside those of this one too."""
    path = _folder(folder) / "scores.json"
    try:
        known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        scores = {**known.get(split, {}), **scores} if add else scores
        path.write_text(json.dumps(plain({**known, split: scores}), indent=1, allow_nan=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise MachineError(f"run={folder}: {error.strerror}") from error
