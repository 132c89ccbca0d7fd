"""`ptft check pretrain ...`: all that a run would do, once, in a scratch folder: data, model, longest batch, checkpoint."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ptft import STARTED, build, machine, misfits, outcome
from ptft.logs import Console
from ptft.loop import evaluate, fit
from ptft.run import Run, check_folder
from ptft.terminal import as_clock, size
from ptft.training import Progress, Training
from ptft.trial import Longest, Silence, seconds, shortened

TIMED_STEPS = 8
TIMED_BATCHES = 4


def main(config: dict) -> None:
    """Print what the run would take: parameters, tokens, steps, memory, disk, time. Raises whatever the run would raise."""
    misfits.check(config)
    if config["run"]:
        check_folder(config["run"], config["saved"], resuming=config["resume"] == "auto", allow=config["resume_allow"])
    machine.keep_memory()
    console = Console(0)
    with (
        tempfile.TemporaryDirectory(prefix="ptft-check-") as scratch,
        Run.open(Path(scratch) / "run", config["saved"], config["argv"]) as run,
    ):
        stage = build.stage(config, report=console.progress)
        rows = _try(stage, run)
    console.summary({"checked": f"ptft {config['command']}: it runs", **rows})
    for note in stage.dataset.notes:
        console.note(note)


def _try(stage: build.Stage, run: Run) -> dict[str, Any]:
    """Train, evaluate, save and read back; returns what was found."""
    config = stage.config
    trainer = config["trainer"]
    build.fit_batch(stage)
    train = stage.loader("train", trainer["batch_size"], limit=trainer["train_rows"])
    valid, test = (stage.loader(split, trainer["batch_size"]) for split in ("valid", "test"))
    settings = build.settings(config, train.samples, stage.precision, stage.objective.score)
    build.check_best(stage.objective, valid, settings)
    run.identify(data=stage.dataset.fingerprint, **stage.hashes())
    run.assets = stage.assets()
    training, schedule = build.training(stage, settings)
    outcome.draw_schedule(run, training, schedule, settings.steps)
    starting = time.monotonic() - STARTED  # that of this process, which read and encoded the data as a run would
    once = shortened(settings, steps=1, eval_every=1, health_every=None)
    fit(training, Longest(train), valid and Longest(valid), schedule, run, once)
    training.restore(run.latest())
    step = _seconds_per_step(training, train, schedule, settings)
    batches, of_test = (math.ceil(loader.samples / trainer["batch_size"]) if loader else 0 for loader in (valid, test))
    batch = _seconds_per_batch(training, valid or test, settings)
    evaluation, final = batch * min(batches, settings.eval_batches or batches), batch * (batches + of_test)
    saving = seconds(lambda: run.save(2, *training.capture()))
    whole = starting + _total(settings, step, evaluation, saving) + final
    checkpoint = sum(path.stat().st_size for path in run.latest().rglob("*"))
    return {
        "data": {name: found for name, found in stage.dataset.describe().items() if found not in ([], {}, None)},
        **_tokens(stage),
        "parameters": sum(parameter.numel() for parameter in stage.objective.parameters()),
        "trained": sum(parameter.numel() for parameter in training.parameters),
        "rate": schedule.course(training.rate),
        "steps": settings.steps,
        "epochs": round(settings.steps / settings.steps_per_epoch, 2),
        "memory": f"{size(machine.peak_memory(stage.device))} at the longest batch",
        "disk": f"{size(checkpoint)} a checkpoint, {size(checkpoint * (trainer['keep_last'] + 2))} at most",
        "time": f"{as_clock(whole)}, {as_clock(starting)} until it trains",
    }


def _tokens(stage: build.Stage) -> dict[str, Any]:
    """How many tokens each split has, of text."""
    if stage.tokenizer is None:
        return {}
    parts = {split: stage.dataset.rows(split) for split in ("train", "valid", "test")}
    return {"tokens": {split: int(rows.lengths().sum()) for split, rows in parts.items() if rows is not None}}


def _seconds_per_step(training: Training, train: Any, schedule: Callable, settings: SimpleNamespace) -> float:
    """The time of a usual step, after a first one that warms up."""
    few = shortened(settings, eval_every=None, save_every=None, steps=settings.steps)
    training.progress = Progress()
    taken = []
    for last in (1, 1 + TIMED_STEPS):
        few.steps = last
        before = training.progress.step
        spent = seconds(partial(fit, training, train, None, schedule, Silence(), few))
        taken.append(spent / (training.progress.step - before))
    return taken[-1]


def _seconds_per_batch(training: Training, valid: Any, settings: SimpleNamespace) -> float:
    if not valid:
        return 0.0
    few = shortened(settings, eval_batches=TIMED_BATCHES, samples=0)
    return seconds(lambda: evaluate(training.objective, valid, few)) / TIMED_BATCHES


def _total(settings: SimpleNamespace, step: float, evaluation: float, saving: float) -> float:
    evaluations = math.ceil(settings.steps / (settings.eval_every or settings.steps))
    saves = math.ceil(settings.steps / (settings.save_every or settings.steps)) + 1
    return settings.steps * step + evaluations * evaluation + saves * saving
