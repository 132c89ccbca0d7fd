"""`ptft pretrain` and `ptft finetune`: the same function; their YAML files differ, not their code."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import ExitStack
from types import SimpleNamespace

from ptft import build, machine, misfits, outcome, resume
from ptft.data.loader import Loader
from ptft.errors import MachineError
from ptft.locate import locate
from ptft.logs import Console
from ptft.loop import Evaluation, evaluate, fit
from ptft.manifest import verify
from ptft.run import Run
from ptft.training import Training
from ptft.trial import shortened, smaller


def main(config: dict, console: Console | None = None) -> tuple[str, float, bool] | None:
    """Train as `config` says; returns the name and value of the score that sweeps rank by, where a split gave one.

    Raises every UserError there is: nothing is built before the configuration is checked and the folder is ours.
    """
    misfits.check(config)
    machine.keep_memory()
    console = console or Console(0)
    source = locate(config["ckpt"]) if config["ckpt"] else None
    started = time.monotonic()
    with (
        Run.open(
            config["run"],
            config["saved"],
            config["argv"],
            resuming=config["resume"] == "auto",
            allow=config["resume_allow"],
            parent=source,
            keep_last=config["trainer"]["keep_last"],
            console=console,
            warns=config["trainer"]["on_save_error"] == "warn",
        ) as run,
        ExitStack() as workers,
    ):
        stage = build.stage(config, own=run.resumed, report=console.progress)
        build.fit_batch(stage)
        loaders = {split: _loader(stage, split) for split in ("train", "valid", "test")}
        for loader in filter(None, loaders.values()):
            workers.callback(loader.close)
        _keep_index(stage, run)
        settings = build.settings(config, loaders["train"].samples, stage.precision, stage.objective.score)
        build.check_best(stage.objective, loaders["valid"], settings)
        run.identify(data=stage.dataset.fingerprint, **stage.hashes())
        run.assets = stage.assets()
        training, schedule = build.training(stage, settings)
        if run.resumed:
            training.restore(run.resumed)
            if said := resume.fit_steps(settings, training.progress, stage.objective.lanes):
                run.note(said)
        facts = outcome.plan(stage, training, schedule, settings, run)
        outcome.draw_schedule(run, training, schedule, settings.steps)
        _announce(console, stage, training, settings, run, facts)
        if _too_large(lambda: fit(training, loaders["train"], loaders["valid"], schedule, run, settings)):
            raise MachineError(smaller(stage, training, settings, saved=run.latest() is not None))
        if training.progress.step < settings.steps:  # stopped early
            _note(run, training.tuning.notes(training.progress.step))
        final = _final(training, loaders, settings, run)
        facts["run"]["seconds"] = time.monotonic() - started
        return outcome.leave(run, stage, settings, final, facts)


def _too_large(work: Callable[[], None]) -> bool:
    """Whether work ended for want of memory; what it held is free again once this returns."""
    try:
        work()
    except Exception as error:
        if machine.out_of_memory(error):
            return True
        raise
    return False


def _keep_index(stage: build.Stage, run: Run) -> None:
    """Leave in the run's folder which rows a few-label experiment (dataset.per_class) saw."""
    few = stage.dataset.few_labels
    if few is not None:
        text = json.dumps({"per_class": stage.config["dataset"]["per_class"], "rows": few}, ensure_ascii=False, indent=1)
        run.write("few_labels.json", f"{text}\n".encode())


def _loader(stage: build.Stage, split: str) -> Loader | None:
    trainer = stage.config["trainer"]
    limit = trainer["train_rows"] if split == "train" else None
    return stage.loader(split, trainer["batch_size"], trainer["workers"], limit)


def _note(run: Run, notes: list[str]) -> None:
    for note in notes:
        run.note(note)


def _announce(
    console: Console, stage: build.Stage, training: Training, settings: SimpleNamespace, run: Run, facts: dict
) -> None:
    """Say what will run, before it does."""
    _note(run, stage.dataset.notes + training.tuning.notes(settings.steps))
    console.expect(settings.steps, settings.best)
    console.start(facts["command"], {**facts["brief"], "tuning": facts["tuning"]})


def _final(training: Training, loaders: dict, settings: SimpleNamespace, run: Run) -> dict[str, Evaluation]:
    """Score the chosen weights: all of valid, and test, which is looked at here and nowhere else.

    In fp32, as by `ptft evaluate`: scores belong to the weights, not to the number format they were trained in.
    """
    chosen = locate(str(run.folder))
    last = training.progress.step
    if chosen != run.latest():
        verify(chosen)
        training.restore(chosen)
    exact = shortened(settings, precision="fp32")
    found = {}
    for split in ("valid", "test"):
        if loaders[split]:
            with run.pause():
                found[split] = evaluate(training.objective, loaders[split], exact, limit=False)
    training.progress.step = last
    return found
