"""`ptft find lr|batch pretrain ...`: which learning rate to train with, or how large a batch; no run is left."""

from __future__ import annotations

import math
import re
import shlex
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ptft import build, machine, misfits, pictures, rates
from ptft.errors import DataError, Diverged, MachineError, Stopped, UserError
from ptft.logs import Console
from ptft.loop import fit
from ptft.terminal import Terminal, size, tell
from ptft.training import Progress
from ptft.trial import Longest, Silence, seconds, shortened

SMOOTHING = 0.9  # share of the mean loss that stays at each step
WORSE = 4.0  # times the lowest loss: there is nothing to be found beyond
SHOWN = 12  # rows of the table of rates
TIMED_STEPS = 2
SLOWER = 2  # doublings that made nothing faster, after which larger batches are of no use
SIZE = re.compile(r"(\d+(?:\.\d+)?) *([KMGT]?)B?", re.IGNORECASE)
UNCHANGED = {"rows": None, "eval_every": None, "save_every": None, "health_every": None, "save_minutes": math.inf}
Table = list[dict[str, Any]]


def main(config: dict) -> None:
    """Print what was tried, what it says, and the command to go on with. Raises whatever the run would raise."""
    options = SimpleNamespace(**config["find"])
    _check(options)
    misfits.check(config)
    machine.keep_memory()
    console = Console(0)
    stage = build.stage(config, report=console.progress)
    table, found, setting = FINDERS[config["sought"]](stage, options)
    terminal = Terminal()
    terminal.table(table)
    terminal.line()
    terminal.pairs(found)
    terminal.line()
    terminal.line(_command(config["argv"], setting))
    for note in stage.dataset.notes:
        console.note(note)


def _check(options: SimpleNamespace) -> None:
    """Refuse before anything is built what cannot be done in the end. Raises UserError."""
    if options.lowest >= options.highest:
        raise UserError(f"find.lowest: expected less than find.highest={options.highest:g}, found {options.lowest:g}")
    if options.to and Path(options.to).suffix.lower() != ".png":
        raise UserError(f"find.to: expected the name of a PNG file, such as rates.png, found '{options.to}'")
    if options.to and not Path(options.to).absolute().parent.is_dir():
        raise UserError(f"find.to: there is no folder {Path(options.to).parent}")
    options.memory = options.memory and in_bytes(options.memory)


def in_bytes(text: str) -> int:
    """How much memory 8G or 512M is, in the units that are shown. Raises UserError."""
    given = SIZE.fullmatch(str(text).strip())
    if not given or not float(given[1]):
        raise UserError(f"find.memory: expected a size such as 8G or 512M, found '{text}'")
    return round(float(given[1]) * 1000 ** " KMGT".index(given[2].upper() or " "))


def _command(argv: list[str], setting: str) -> str:
    """The training command that was asked about, with the setting that was found."""
    name = setting.partition("=")[0]
    kept = [word for word in argv[3:] if word.partition("=")[0] != name]
    return shlex.join(["ptft", *kept, setting])


def rate(stage: build.Stage, options: SimpleNamespace) -> tuple[Table, dict, str]:
    """The smoothed loss while the rate grows, and the rates it suggests (Smith 2017, 1506.01186, 3.3)."""
    build.fit_batch(stage)
    trainer = stage.config["trainer"]
    train = stage.loader("train", trainer["batch_size"], limit=trainer["train_rows"])
    settings = build.settings(stage.config, train.samples, stage.precision, stage.objective.score)
    training, _ = build.training(stage, settings)
    few = shortened(settings, steps=options.steps, nonfinite="stop", log_every=1, **UNCHANGED)
    climb, base = Climb(), training.rate
    if not base:
        raise UserError("optimizer.lr=0: expected a rate above 0, from which each group of weights has its share")
    try:
        fit(training, train, None, lambda share: rate_at(share, options) / base, climb, few)
    except (Diverged, Stopped):  # as it should, sooner or later
        if not climb.losses:
            raise
    tried = [rate_at(step / options.steps, options) for step in range(len(climb.losses))]
    suggested = suggestions(tried, climb.losses)
    if options.to:
        pictures.climb(tried, climb.losses, suggested, options.to)
    every = max(1, len(tried) // SHOWN)
    table = [{"rate": f"{rate:.1e}", "loss": tell(loss)} for rate, loss in [*zip(tried, climb.losses, strict=True)][::every]]
    # an optimizer whose rate is that of a batch of 256 is told such a one
    scaled = stage.config["optimizer"].get("base_lr") is not None
    name, growth = ("optimizer.base_lr" if scaled else "optimizer.lr"), rates.growth(stage.config)
    found = {said: f"{name}={rate / growth:.1e}" for said, rate in suggested.items()}
    return table, found, min(found.values(), key=lambda setting: float(setting.partition("=")[2]))


class Climb(Silence):
    """A run that keeps the smoothed loss of each step, and stops where it has become much worse than it was."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self._mean = 0.0

    def log(self, step: int, split: str, values: Mapping[str, float]) -> None:
        self._mean = SMOOTHING * self._mean + (1 - SMOOTHING) * values["loss"]
        self.losses.append(self._mean / (1 - SMOOTHING**step))
        lowest = min(self.losses)
        if self.losses[-1] > lowest + (WORSE - 1) * abs(lowest):  # some losses are below zero
            self.stop = "a loss that only grows"


def rate_at(share: float, options: SimpleNamespace) -> float:
    """The rate after a share of the climb."""
    return options.lowest * (options.highest / options.lowest) ** share


def suggestions(tried: list[float], losses: list[float]) -> dict[str, float]:
    """The rate where the loss fell most at a step, and a tenth of that where it was lowest. Raises DataError."""
    lowest = min(range(len(losses)), key=losses.__getitem__, default=0)
    if lowest < 2:
        raise DataError("the loss fell at no rate: find.lowest is too high, or the weights have learned all this already")
    falls = [after - before for before, after in pairwise(losses[: lowest + 1])]
    steepest = tried[1 + min(range(len(falls)), key=falls.__getitem__)]
    return {"steepest fall": steepest, "a tenth of the lowest loss's": tried[lowest] / 10}


@dataclass
class Size:
    """What a batch of so many rows took: memory at its most, seconds and tokens of a step."""

    rows: int
    memory: int
    seconds: float
    tokens: float

    @property
    def speed(self) -> float:
        return self.rows / self.seconds

    def row(self) -> dict[str, Any]:
        """A line of the table."""
        tokens = {"tokens a second": tell(round(self.tokens / self.seconds))} if self.tokens else {}
        return {"rows": self.rows, "memory": size(self.memory), "rows a second": f"{self.speed:,.3g}", **tokens}


def batch(stage: build.Stage, options: SimpleNamespace) -> tuple[Table, dict, str]:
    """Memory and speed of steps on the longest batch of 1, 2, 4, ... rows, as long as they fit and make it faster."""
    trainer, began = stage.config["trainer"], time.monotonic()
    trainer.update(batch_size=1, accumulate=1)
    train = stage.loader("train", 1, limit=trainer["train_rows"])
    settings = build.settings(stage.config, train.samples, stage.precision, stage.objective.score)
    training, schedule = build.training(stage, settings)
    machine.forget_peak(stage.device)
    room = options.memory or machine.peak_memory(stage.device) + machine.free_memory(stage.device)
    tried: list[Size] = []
    why = ""
    for rows in sizes(train.samples):
        try:
            found = _measured(stage, training, schedule, settings, rows)
        except Exception as error:
            if machine.out_of_memory(error):
                why = f"{rows} rows do not fit"
                break
            if rows == 1 and train.samples > 1:  # too few to compare or to normalise; what else is wrong is so with two
                continue
            raise
        if found.memory > room:
            why = f"{rows} rows take {size(found.memory)}"
            break
        tried.append(found)
        if why := _enough(tried, room, time.monotonic() - began, options.seconds):
            break
    if not tried:
        raise MachineError(f"{why}, of {size(room)} there are: a smaller model or shorter rows take less")
    fastest = f"trainer.batch_size={max(tried, key=lambda found: found.speed).rows}"
    largest = f"trainer.batch_size={tried[-1].rows} ({why or 'all training rows'})"
    return [found.row() for found in tried], {"fits": largest, "fastest": fastest}, fastest


def sizes(most: int) -> Iterator[int]:
    """1, 2, 4, ... up to `most`."""
    return (2**power for power in range(most.bit_length()))


def _measured(stage: build.Stage, training: Any, schedule: Any, settings: SimpleNamespace, rows: int) -> Size:
    """Steps on a batch of so many rows, after one that warms up."""
    machine.forget_peak(stage.device)  # else what a larger batch left, or one that did not fit, would count as this one's
    longest = Longest(stage.loader("train", rows, limit=stage.config["trainer"]["train_rows"]))
    few = shortened(settings, batch_size=rows, **UNCHANGED)
    training.progress = Progress()
    spent, before = 0.0, 0
    for last in (1, 1 + TIMED_STEPS):
        few.steps, before = last, training.progress.tokens
        spent = seconds(partial(fit, training, longest, None, schedule, Silence(), few))
    tokens = training.progress.tokens - before
    return Size(rows, machine.peak_memory(stage.device), spent / TIMED_STEPS, tokens / TIMED_STEPS)


def _enough(tried: list[Size], room: int, spent: float, patience: float) -> str:
    """Why no larger batch is tried; empty where one is. What a batch takes beyond the one before, the next takes twice."""
    memory, rows = [found.memory for found in tried], tried[-1].rows
    if len(memory) > 1 and memory[-1] + 2 * (memory[-1] - memory[-2]) > room:
        return f"{2 * rows} would take about {size(memory[-1] + 2 * (memory[-1] - memory[-2]))} of {size(room)}"
    fastest = max(range(len(tried)), key=lambda index: tried[index].speed)
    if len(tried) - 1 - fastest >= SLOWER:
        return "larger ones are no faster"
    return f"find.seconds={patience:g} were over" if spent > patience else ""


FINDERS = {"lr": rate, "batch": batch}
