"""What a training run says before it starts and leaves when it ends: scores, pictures, run card, what to type next."""

from __future__ import annotations

import platform
import shlex
from types import SimpleNamespace
from typing import Any

import torch

from ptft import machine, pictures, records
from ptft.card import card
from ptft.locate import locate
from ptft.loop import Evaluation
from ptft.manifest import read_manifest
from ptft.metrics import lower_is_better
from ptft.origin import name_of
from ptft.run import Run
from ptft.terminal import printable, size
from ptft.training import Training

FLOAT = 4  # bytes
COPIES = 3  # weights, and the two moments of Adam
PICTURES = ("curves.png", "schedule.png", "confusion_matrix.png")
POINTS = 500  # at which the picture of the schedule is drawn
# labelled data to fine-tune on, to show how
LABELLED = {
    "text": "dataset=sentence_polarity",
    "image": "dataset=digits",
    "table": "dataset=table dataset.path=FILE dataset.target=COLUMN",
}
OWN_TEXT = "dataset=labelled_text dataset.path=FILE dataset.label=COLUMN"  # beside text of one's own


def plan(stage: Any, training: Training, schedule: Any, settings: SimpleNamespace, run: Run) -> dict[str, Any]:
    """The facts about a run that are known before its first step, as the run card wants them."""
    objective, trainer = stage.objective, stage.config["trainer"]
    parameters = sum(parameter.numel() for parameter in objective.parameters())
    trained = sum(parameter.numel() for parameter in training.parameters)
    batch = trainer["batch_size"] * trainer["accumulate"]
    epochs = (settings.rows / batch if settings.rows else settings.steps) / max(settings.steps_per_epoch, 1e-9)
    checkpoint = FLOAT * (parameters + (COPIES - 1) * trained)
    model = {
        "class": type(stage.model).__name__,
        "objective": type(objective).__name__,
        "parameters": parameters,
        "trainable": trained,
        "weights": str(stage.landed) if stage.landed else "fresh",
        **objective.describe(),
    }
    brief = {
        "run": str(run.folder),
        "data": _rows(stage),
        "model": f"{model['class']} + {model['objective']}: {parameters:,} parameters, {trained:,} trained",
        "weights": f"from {_source(stage)}: {model['weights']}" if stage.source else "fresh",
        "steps": f"{settings.steps:,} of {batch} rows ({epochs:.2f} epochs)",
        "rate": _rate(training, trainer, stage.config["optimizer"]),
        "schedule": schedule.course(training.rate),
        "machine": machine.describe(stage.device, stage.precision),
        "disk": f"{size(checkpoint)} a checkpoint, at most {trainer['keep_last'] + 2} at a time",
    }
    if run.resumed:
        brief["resumed"] = str(run.resumed)
    data = stage.dataset.describe()
    if skipped := stage.dataset.skipped:
        data["skipped"] = _keep_skipped(run, skipped)
        stage.dataset.notes.append(f"left out of the data: {data['skipped']}")
    config = stage.config
    return {
        "name": run.folder.name,
        "command": shlex.join(config["argv"]),
        "brief": brief,
        "run": _where(stage, run),
        "data": {
            **data,
            "fingerprint": stage.dataset.fingerprint,
            **stage.hashes(),
        },
        "model": model,
        "tuning": training.tuning.table(objective),
        "schedule": dict(config["schedule"]),
        "lineage": records.lineage(run.folder),
        "labels": stage.dataset.facts.get("labels"),
    }


def _keep_skipped(run: Run, skipped: list[str]) -> str:
    """Leave in the run's folder what its data left out and why, a line each; returns what is to be said of it."""
    run.write("skipped.txt", "".join(f"{printable(line)}\n" for line in skipped).encode(errors="backslashreplace"))
    return f"{len(skipped):,}, listed with the reasons in skipped.txt"


def _source(stage: Any) -> str:
    """Where the weights are from, and which part of them it is."""
    part, name = stage.config.get("part"), name_of(stage.source)
    return f"the {part} of {name}" if part else name


def draw_schedule(run: Run, training: Training, schedule: Any, steps: int) -> None:
    """Draw the rates of all parameters over the run, before it begins."""
    factors = [schedule(point / POINTS) for point in range(POINTS)]
    kinds = sorted({(group["base_lr"], group["steady"]) for group in training.optimizer.param_groups}, reverse=True)
    rates = {
        f"{rate:.3g}{', steady' if steady else ''}": [rate * (1.0 if steady else factor) for factor in factors]
        for rate, steady in kinds
    }
    with run.forgiving("schedule.png"):
        pictures.schedule(rates, steps, run.folder / "schedule.png")


def _rate(training: Training, trainer: dict, optimizer: dict) -> str:
    """The optimizer and its largest rate, and what that follows from."""
    said = f"{type(training.optimizer).__name__}, lr {training.rate:.4g}"
    if optimizer.get("base_lr") is None:
        return said
    batch = trainer["batch_size"] * trainer["accumulate"]
    return f"{said}: base_lr {optimizer['base_lr']:g} for batches of 256, {batch} here, scale {optimizer['scale']}"


def _rows(stage: Any) -> str:
    """How many rows each split has."""
    splits = {split: stage.dataset.rows(split) for split in ("train", "valid", "test")}
    counts = ", ".join(f"{split} {len(rows):,}" for split, rows in splits.items() if rows is not None)
    node = stage.config["dataset"]
    return f"{counts} rows of {node.get('path') or node['_target_'].rpartition('.')[2]}"


def _where(stage: Any, run: Run) -> dict[str, Any]:
    born = records.read_json(run.folder / "run.json")
    return {
        "started": born.get("started"),
        "seconds": None,
        "machine": machine.describe(stage.device, stage.precision),
        "ptft": born.get("version"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "git": born.get("git"),
        "run id": run.run_id,
        "seed": stage.config["seed"],
    }


def leave(run: Run, stage: Any, settings: SimpleNamespace, final: dict[str, Evaluation], facts: dict) -> Any:
    """Write scores, tables, pictures and card, say what to type next.

    Returns the name and value of the score that ranks, and whether lower is better.
    """
    labels = stage.dataset.facts.get("labels")
    scores = {split: {**found.scores, **per_class(found, labels)} for split, found in final.items()}
    run.finish(scores, _next(stage, final))
    step = read_manifest(locate(str(run.folder)))["step"]  # of the chosen weights, not of the last ones
    for split, found in final.items():
        run.log(settings.steps, f"final_{split}", found.scores)
        run.tables(step, found.tables, split)
    names = _draw(run, settings, final, labels)
    following = records.going_on(run.folder)
    rows = records.metrics(run.folder)
    shown = {split: found.scores for split, found in final.items()}
    chosen = _chosen(run, settings, final)
    facts = {
        **facts,
        "scores": shown,
        "losses": records.curve(rows, "train", "loss")[1],
        "notes": run.console.notes if run.console else [],
        "chosen": chosen,
        "samples": [line for found in final.values() for line in found.samples][: settings.samples],
        "pictures": names,
        "next": following,
    }
    run.write("README.md", card(facts).encode())
    if run.console:
        names = dict.fromkeys(name for values in shown.values() for name in values)
        result = [
            {"score": name, **{split: values[name] for split, values in shown.items() if name in values}} for name in names
        ]
        run.console.summary({"run": str(run.folder), "scores": result, "card": str(run.folder / "README.md")}, following)
    value = final["valid"].scores.get(settings.best) if "valid" in final else None
    return None if value is None else (settings.best, value, lower_is_better(settings.best, stage.objective.lower))


def per_class(found: Evaluation, labels: list[str] | None) -> dict[str, Any]:
    """Tables with one number for each class, by the name of the class, or for each type of spans, by its name."""
    named = {name: table for name, table in found.tables.items() if isinstance(table, dict)}
    plain = {name: table for name, table in found.tables.items() if name not in named}
    vectors = {name: table.tolist() for name, table in plain.items() if labels and table.shape == (len(labels),)}
    named |= {name: dict(zip(labels, values, strict=True)) for name, values in vectors.items()}
    return {"per_class": named} if named else {}


def _draw(run: Run, settings: SimpleNamespace, final: dict[str, Evaluation], labels: list[str] | None) -> list[str]:
    with run.forgiving("curves.png"):
        pictures.curves(records.metrics(run.folder), run.folder / "curves.png", settings.best, run.folder.name)
    split = "test" if "test" in final else "valid"
    if split in final and "confusion_matrix" in final[split].tables:
        with run.forgiving("confusion_matrix.png"):
            pictures.confusion(final[split].tables["confusion_matrix"], labels, run.folder / "confusion_matrix.png")
    return [name for name in PICTURES if (run.folder / name).is_file()]


def _chosen(run: Run, settings: SimpleNamespace, final: dict[str, Evaluation]) -> dict[str, Any] | None:
    best = [row for row in records.checkpoints(run.folder) if "best" in row["is"].split()]
    if not best or "valid" not in final or settings.best not in final["valid"].scores:
        return None
    value = final["valid"].scores[settings.best]
    return {"split": "valid", "score": settings.best, "step": best[0]["step"], "value": value}


def _next(stage: Any, final: dict[str, Evaluation]) -> list[str]:
    """The commands that go on from here, with RUN for the run's folder."""
    begun = "ckpt=RUN"
    if trusted := stage.config["trusted_modules"]:
        begun += " " + shlex.quote(f"trusted_modules=[{','.join(trusted)}]")
    objective = stage.objective
    if hasattr(objective, "predict") and objective.target != "text":
        scored = [f"ptft evaluate {begun} split={split}" for split in ("test", "valid") if split in final]
        return [*scored[:1], f"ptft predict {begun} input=FILE"]
    more = [f'ptft generate {begun} prompt="..."'] if stage.model.traits & {"causal", "seq2seq"} else []
    if objective.target == "text":
        return more
    return [f"ptft finetune {begun} task=classify {_labelled(stage)}", *more]


def _labelled(stage: Any) -> str:
    """Labelled data to go on with: the run's own images, as they were named, where they have classes."""
    words = [word for word in stage.config["argv"] if word.startswith(("dataset=", "dataset."))]
    train = getattr(stage.dataset, "listed", {}).get("train")
    # a column of a table may hold numbers, but what folders and arrays of images are labelled with is classes
    if train is None or train.labels is None or stage.dataset.label or not any(word.startswith("dataset=") for word in words):
        own = stage.dataset.modality == "text" and any(word.startswith("dataset.path=") for word in words)
        return OWN_TEXT if own else LABELLED[stage.dataset.modality]
    return shlex.join(words)
