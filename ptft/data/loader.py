"""Batches: which rows a step takes is a function of (seed, step), so resuming is arithmetic."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from ptft.errors import DataError, UserError
from ptft.randomness import Draw, key, permute

Batch = dict[str, Any]
WINDOW = 1 << 13  # samples whose places are computed at once
ASKED_AHEAD = 4


class Order:
    """The endless stream of samples: sample s is row permute(s % N) of epoch s // N.

    lanes: where it is set, samples are not shuffled but read in so many lanes side by side, each of which goes through its
    part of the rows in their order: sample s is in lane s % lanes. Up to lanes - 1 rows are left out of an epoch, others in
    the next one.
    """

    def __init__(self, size: int, seed: int, shuffle: bool, lanes: int = 0):
        self.size = size
        self.seed = seed
        self.shuffle = shuffle
        self.lanes = lanes
        self.span = min(size, WINDOW)
        self.window: tuple[int, np.ndarray] = (-1, np.empty((2, 0), dtype=np.int64))

    def places(self, start: int, stop: int) -> np.ndarray:
        """The epochs and the rows of samples start..stop, int64 [2, stop - start]."""
        first, last = start // self.span, (stop - 1) // self.span
        found = np.concatenate([self.places_of_window(index) for index in range(first, last + 1)], axis=1)
        return found[:, start - first * self.span : stop - first * self.span]

    def places_of_window(self, index: int) -> np.ndarray:
        """The epochs and rows of one window of samples; the last one asked for is kept, int64 [2, span]."""
        if self.window[0] != index:
            samples = np.arange(index * self.span, (index + 1) * self.span, dtype=np.int64)
            self.window = (index, self.in_lanes(samples) if self.lanes else self.permuted(samples))
        return self.window[1]

    def permuted(self, samples: np.ndarray) -> np.ndarray:
        """An epoch after the other, each in its own order."""
        epochs, rows = np.divmod(samples, self.size)
        if self.shuffle:
            for epoch in np.unique(epochs).tolist():
                inside = epochs == epoch
                rows[inside] = permute(rows[inside], self.size, key(self.seed, "order", epoch))
        return np.stack((epochs, rows))

    def in_lanes(self, samples: np.ndarray) -> np.ndarray:
        """Rows in file order, side by side in lanes that are read on from batch to batch."""
        length, rest = divmod(self.size, self.lanes)
        times, lanes = np.divmod(samples, self.lanes)
        epochs, times = np.divmod(times, length)
        return np.stack((epochs, lanes * length + times + epochs % (rest + 1)))


class Assembly:
    """Makes the batch of a range of samples, here or in a worker process.

    A question is (start, stop, training): samples of the endless stream, or rows in file order for an evaluation.
    """

    def __init__(self, rows: Sequence[Any], collate: Callable, seed: int, shuffle: bool, lanes: int = 0):
        self.source = rows
        self.collate = collate
        self.seed = seed
        self.order = Order(max(len(rows), 1), seed, shuffle, lanes)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, question: tuple[int, int, bool]) -> Batch:
        start, stop, training = question
        rows = np.arange(start, stop, dtype=np.int64)
        epochs, rows = self.order.places(start, stop) if training else (np.zeros_like(rows), rows)
        seed = self.seed if training else 0  # so that evaluations of runs with other seeds compare
        return self.collate(self.take(rows.tolist()), Draw(seed, epochs, rows, training))

    def take(self, indices: list[int]) -> list[Any]:
        take = getattr(self.source, "take", None)
        return take(indices) if take else [self.source[index] for index in indices]


class Guarded:
    """An assembly in a worker: what a user can mend comes back as a value, for processes wrap what they raise."""

    def __init__(self, assembly: Assembly):
        self.assembly = assembly

    def __len__(self) -> int:
        return len(self.assembly)

    def __getitem__(self, question: tuple[int, int, bool]) -> Batch | UserError:
        try:
            return self.assembly[question]
        except UserError as error:
            return error


class Questions:
    """What a data loader iterates over; set anew before each pass."""

    def __init__(self) -> None:
        self.pending: Iterator[tuple[int, int, bool]] = iter(())

    def __iter__(self) -> Iterator[tuple[int, int, bool]]:
        return self.pending


class Loader:
    """Batches of one split, the same whatever the number of workers.

    rows: examples by number (with a method `take` for many at once, if there is one). collate(examples, draw) makes the
    batch. lanes: training batches continue each other, row i of one where row i of the one before ends (see Order). A
    training loader (shuffle=True) with fewer rows than a batch is a DataError.
    """

    def __init__(
        self,
        rows: Sequence[Any],
        collate: Callable[[list[Any], Draw], Batch],
        batch_size: int,
        seed: int,
        workers: int = 0,
        shuffle: bool = True,
        lanes: bool = False,
    ):
        if len(rows) == 0:
            raise DataError("the dataset is empty: no row to make a batch of")
        if shuffle and batch_size > len(rows):
            raise DataError(f"trainer.batch_size={batch_size} is more than the {len(rows)} training rows; lower it")
        self.assembly = Assembly(rows, collate, seed, shuffle, batch_size if lanes and shuffle else 0)
        self.batch_size = batch_size
        self.workers = workers
        self.pools: dict[str, tuple[Any, Questions]] = {}

    @property
    def rows(self) -> Sequence[Any]:
        """The examples by number."""
        return self.assembly.source

    @property
    def samples(self) -> int:
        """Rows in an epoch."""
        return len(self.assembly)

    def rows_at(self, start: int, count: int) -> list[int]:
        """The rows that `count` samples of the training stream from number `start` on stand for."""
        return self.assembly.order.places(start, start + count)[1].tolist()

    def longest(self) -> Batch:
        """The rows with most tokens as one batch: what fits with them fits with all."""
        rows = np.array(self.assembly.source.longest(self.batch_size))
        return self._evaluated(rows)

    def some(self, count: int) -> Batch:
        """So many rows from all over the split as one batch, always the same ones, as an evaluation draws them."""
        rows = np.linspace(0, self.samples - 1, min(count, self.samples)).astype(np.int64)
        return self._evaluated(rows)

    def _evaluated(self, rows: np.ndarray) -> Batch:
        """These rows as one batch, as an evaluation draws them."""
        return self.assembly.collate(self.assembly.take(rows.tolist()), Draw(0, np.zeros_like(rows), rows))

    def batches(self, start: int) -> Iterator[Batch]:
        """The endless stream of training batches from sample number `start` on; a batch may span two epochs."""
        size = self.batch_size  # no `self` in the generator: in a cycle, workers would be waited for when it is freed
        return self.answers("batches", ((first, first + size, True) for first in itertools.count(start, size)))

    def epoch(self) -> Iterator[Batch]:
        """Every row once in file order, the last batch as short as it comes; draws are those of epoch 0."""
        size, total = self.batch_size, self.samples
        return self.answers("epoch", ((first, min(first + size, total), False) for first in range(0, total, size)))

    def answers(self, purpose: str, questions: Iterator[tuple[int, int, bool]]) -> Iterator[Batch]:
        if not self.workers:
            return map(self.assembly.__getitem__, questions)
        return map(raised, self.pool(purpose, questions))

    def pool(self, purpose: str, questions: Iterator[tuple[int, int, bool]]) -> Any:
        """Worker processes, kept from one pass to the next."""
        if purpose not in self.pools:
            self.pools[purpose] = self.start_workers()
        loader, pending = self.pools[purpose]
        pending.pending = questions
        return iter(loader)

    def close(self) -> None:
        """Let the worker processes end, once nobody iterates any more; otherwise they wait for the garbage collector."""
        self.pools.clear()

    def start_workers(self) -> tuple[Any, Questions]:
        import torch
        from torch.utils.data import DataLoader

        questions = Questions()
        loader = DataLoader(
            Guarded(self.assembly),
            batch_size=None,
            sampler=questions,
            num_workers=self.workers,
            collate_fn=unchanged,
            prefetch_factor=ASKED_AHEAD,
            persistent_workers=True,
            generator=torch.Generator().manual_seed(0),  # the global generator must not notice
        )
        return loader, questions


def unchanged(batch: Any) -> Any:
    """A batch as it came: a DataLoader has no other way to collate nothing."""
    return batch


def raised(answer: Batch | UserError) -> Batch:
    """A worker's batch, or the error it met."""
    if isinstance(answer, UserError):
        raise answer
    return answer
