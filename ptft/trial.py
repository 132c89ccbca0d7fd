"""Trying a run out: a loader of the longest batch, a run that leaves nothing, a clock; what fits where memory ran out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import repeat
from types import SimpleNamespace
from typing import Any

from ptft import machine
from ptft.loop import move
from ptft.objective import Batch


@dataclass
class Longest:
    """A loader whose only batch is the longest there is: what fits in it fits in all."""

    loader: Any

    @property
    def rows(self) -> Any:
        return self.loader.rows

    def batches(self, start: int) -> Iterator[Batch]:
        return repeat(self.loader.longest())

    def epoch(self) -> Iterator[Batch]:
        return iter([self.loader.longest()])


def shortened(settings: SimpleNamespace, **changes: Any) -> SimpleNamespace:
    """The trainer's settings with some of them changed."""
    return SimpleNamespace(**{**vars(settings), **changes})


class Silence:
    """A run that leaves nothing, for timing."""

    stop = ""

    def log(self, *_: Any) -> None:
        pass

    save = evaluated = note = bad_batch = log

    def latest(self) -> None:
        pass

    def pause(self) -> AbstractContextManager:
        return nullcontext()

    def minutes_since_save(self) -> float:
        return 0.0


def seconds(work: Callable[[], Any]) -> float:
    """How long some work takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def smaller(stage: Any, training: Any, settings: SimpleNamespace, saved: bool) -> str:
    """What to say and to set where memory ran out: the largest share of the batch that fits, tried on the longest rows.

    saved: whether there is a checkpoint to go on from.
    """
    found = f"out of memory at step {training.progress.step:,} with trainer.batch_size={settings.batch_size}"
    batch, limit = settings.batch_size, stage.config["trainer"]["train_rows"]
    training.tuning.train_mode(training.objective)  # it may have been an evaluation
    for parts in (parts for parts in range(2, batch + 1) if batch % parts == 0):
        training.optimizer.zero_grad(set_to_none=True)
        machine.forget_peak(training.device)
        rows = batch // parts
        if _fits(stage.loader("train", rows, limit=limit), training, settings):
            same = f"trainer.batch_size={rows} trainer.accumulate={settings.accumulate * parts} makes steps of as many rows"
            again = ", with resume=auto resume_allow=[trainer.batch_size,trainer.accumulate] from the last checkpoint on"
            return f"{found}; {rows} of the longest fit: {same}{again if saved else ''}"
    return f"{found}, and not even one of the longest rows fits: take a smaller model, or cut rows shorter"


def _fits(loader: Any, training: Any, settings: SimpleNamespace) -> bool:
    """Whether the loss of a loader's longest batch and its gradients can be had."""
    try:
        with machine.autocast(training.device, settings.precision):
            loss = training.objective(move(loader.longest(), training.device)).loss
        loss.backward()
    except Exception as error:
        # a batch may also be too small, for a batch norm say: what is to be told is that memory ran out
        if machine.out_of_memory(error) or isinstance(error, ValueError):
            return False
        raise
    return True
