"""`ptft find lr|batch pretrain ...`: which learning rate to train with, or how large a batch; no run is left."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator, Mapping
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

from ptft import build, machine, misfits
from ptft.errors import DataError, Diverged, Stopped
from ptft.logs import Console
from ptft.loop import fit
from ptft.terminal import Terminal, size, tell
from ptft.training import Progress
from ptft.trial import Longest, Silence, seconds, shortened

LOWEST, HIGHEST, STEPS = 1e-6, 1.0, 100
SMOOTHING = 0.9  # share of the mean loss that stays at each step
WORSE = 4.0  # times the lowest loss: there is nothing to be found beyond
SHOWN = 12  # rows of the table of rates
TIMED_STEPS = 2
PATIENCE = 60.0  # seconds that trying batches may take
SLOWER = 2  # doublings that made nothing faster, after which larger batches are of no use
Row = dict[str, Any]


def main(config: dict) -> None:
    """Print what was tried and the setting to type. Raises whatever the run would raise."""
    misfits.check(config)
    machine.keep_memory()
    console = Console(0)
    stage = build.stage(config, report=console.progress)
    rows, found = FINDERS[config["sought"]](stage)
    terminal = Terminal()
    terminal.table(rows)
    terminal.line()
    terminal.pairs(found)
    for note in stage.dataset.notes:
        console.note(note)


def rates(stage: build.Stage) -> tuple[list[Row], Row]:
    """The smoothed loss while the rate grows, and the rates it suggests (Smith 2017, 1506.01186, 3.3)."""
    build.fit_batch(stage)
    trainer = stage.config["trainer"]
    train = stage.loader("train", trainer["batch_size"], limit=trainer["train_rows"])
    settings = build.settings(stage.config, train.samples, stage.precision, stage.objective.score)
    training, _ = build.training(stage, settings)
    few = shortened(settings, steps=STEPS, rows=None, nonfinite="stop", eval_every=None, save_every=None, health_every=None)
    few.log_every, climb, base = 1, Climb(), training.rate
    with contextlib.suppress(Diverged, Stopped):  # as it should, sooner or later
        fit(training, train, None, lambda share: rate_at(share) / base, climb, few)
    return told(climb.losses)


class Climb(Silence):
    """A run that keeps the smoothed loss of each step, and stops where it has become much worse than it was."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self._mean = 0.0

    def log(self, step: int, split: str, values: Mapping[str, float]) -> None:
        self._mean = SMOOTHING * self._mean + (1 - SMOOTHING) * values["loss"]
        self.losses.append(self._mean / (1 - SMOOTHING**step))
        if self.losses[-1] > WORSE * min(self.losses) or not math.isfinite(self._mean):
            self.stop = "a loss that only grows"


def rate_at(share: float) -> float:
    """The rate after a share of the climb."""
    return LOWEST * (HIGHEST / LOWEST) ** share


def told(losses: list[float]) -> tuple[list[Row], Row]:
    """A table of rates and smoothed losses, and the two usual suggestions. Raises DataError where nothing was learned."""
    tried = [rate_at(step / STEPS) for step in range(len(losses))]
    lowest = min(range(len(losses)), key=losses.__getitem__, default=0)
    if lowest < 2:
        raise DataError("the loss fell at no rate: nothing can be learned here, or the weights have learned it already")
    falls = [after - before for before, after in pairwise(losses[: lowest + 1])]
    steepest = tried[1 + min(range(len(falls)), key=falls.__getitem__)]
    every = max(1, len(losses) // SHOWN)
    rows = [{"rate": tell(rate), "loss": tell(loss)} for rate, loss in [*zip(tried, losses, strict=True)][::every]]
    cautious = tried[lowest] / 10
    return rows, {
        "steepest fall": f"optimizer.lr={steepest:.1e}",
        "a tenth of the lowest loss": f"optimizer.lr={cautious:.1e}",
    }


def batches(stage: build.Stage) -> tuple[list[Row], Row]:
    """Memory and speed of steps on the longest batch of 1, 2, 4, ... rows, as long as they fit and make it faster."""
    trainer, began = stage.config["trainer"], time.monotonic()
    trainer["batch_size"] = 1
    train = stage.loader("train", 1, limit=trainer["train_rows"])
    settings = build.settings(stage.config, train.samples, stage.precision, stage.objective.score)
    training, schedule = build.training(stage, settings)
    free, before = machine.free_memory(stage.device), machine.peak_memory(stage.device)
    tried: list[tuple[int, int, float]] = []  # rows, the most memory by then, rows a second
    why = ""
    for rows in sizes(train.samples):
        try:
            speed = _speed(stage, training, schedule, settings, rows)
        except Exception as error:
            if not machine.out_of_memory(error):
                raise
            why = f"{rows} rows do not fit"
            break
        tried.append((rows, machine.peak_memory(stage.device), speed))
        why = _enough(tried, before + free, began)
        if why:
            break
    if not tried:
        raise DataError(f"{why or 'the training split has no row'}: a smaller model or shorter texts take less memory")
    return _table(tried, why or "all training rows fit")


def sizes(most: int) -> Iterator[int]:
    """2, 4, 8, ... up to `most`: batch norm wants more than one row."""
    return (2**power for power in range(1, max(most.bit_length(), 1)) if 2**power <= most)


def _speed(stage: build.Stage, training: Any, schedule: Any, settings: SimpleNamespace, rows: int) -> float:
    """Rows a second, after a step that warms up."""
    longest = Longest(stage.loader("train", rows, limit=stage.config["trainer"]["train_rows"]))
    few = shortened(settings, batch_size=rows, rows=None, eval_every=None, save_every=None, health_every=None)
    training.progress = Progress()
    spent = 0.0
    for last in (1, 1 + TIMED_STEPS):
        few.steps = last
        spent = seconds(lambda: fit(training, longest, None, schedule, Silence(), few))
    return TIMED_STEPS * rows / spent


def _enough(tried: list[tuple[int, int, float]], room: int, began: float) -> str:
    """Why no larger batch is tried; empty where one is. What a batch takes beyond the one before, the next takes twice."""
    memory = [peak for _, peak, _ in tried]
    if len(memory) > 1 and memory[-1] + 2 * (memory[-1] - memory[-2]) > room:
        return f"{2 * tried[-1][0]} rows would not fit"
    fastest = max(range(len(tried)), key=lambda index: tried[index][2])
    if len(tried) - 1 - fastest >= SLOWER:
        return "larger ones are no faster"
    return "that took long enough" if time.monotonic() - began > PATIENCE else ""


def _table(tried: list[tuple[int, int, float]], why: str) -> tuple[list[Row], Row]:
    rows = [{"rows": rows, "memory": size(memory), "rows a second": tell(speed)} for rows, memory, speed in tried]
    fastest = max(tried, key=lambda row: row[2])[0]
    largest = f"trainer.batch_size={tried[-1][0]} ({why})"
    return rows, {"largest that was tried": largest, "fastest": f"trainer.batch_size={fastest}"}


FINDERS = {"lr": rates, "batch": batches}
