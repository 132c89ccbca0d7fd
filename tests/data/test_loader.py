"""The order of data is a function of seed and sample number."""

import itertools
from collections import Counter

import numpy as np
import pytest

from ptft.data.loader import Loader
from ptft.errors import DataError
from ptft.randomness import key, permute

ROWS = [{"row": row} for row in range(37)]


def collate(examples, draw):
    return {
        "rows": [example["row"] for example in examples],
        "epochs": draw.epoch.tolist(),
        "noise": draw.uniform("test").tolist(),
    }


def collate_odd(examples, draw):
    raise DataError("row 3 is odd")


def first(loader, number, start=0):
    return list(itertools.islice(loader.batches(start), number))


def test_every_epoch_has_each_row_once_in_another_order():
    batches = first(Loader(ROWS, collate, 5, seed=1), 37)
    rows = list(itertools.chain.from_iterable(batch["rows"] for batch in batches))
    epochs = [rows[start : start + 37] for start in range(0, 5 * 37, 37)]
    assert all(sorted(epoch) == list(range(37)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 5


def test_sample_s_is_the_row_that_the_permutation_of_its_epoch_gives():
    batches = first(Loader(ROWS, collate, 8, seed=3), 20)
    rows = list(itertools.chain.from_iterable(batch["rows"] for batch in batches))
    epochs = list(itertools.chain.from_iterable(batch["epochs"] for batch in batches))
    for sample, (row, epoch) in enumerate(zip(rows, epochs, strict=True)):
        assert epoch == sample // 37
        assert row == permute(np.array([sample % 37]), 37, key(3, "order", epoch))[0]


def test_resuming_anywhere_gives_what_an_uninterrupted_run_gets():
    loader = Loader(ROWS, collate, 5, seed=1)
    whole = first(loader, 30)
    for done in (0, 1, 7, 8, 29):
        assert first(Loader(ROWS, collate, 5, seed=1), 30 - done, done * 5) == whole[done:]


def test_resuming_far_on_costs_no_reading(monkeypatch):
    class Counted:
        asked = Counter()

        def __len__(self):
            return 10**7

        def __getitem__(self, index):
            self.asked[index] += 1
            return {"row": index}

    rows = Counted()
    batch = next(Loader(rows, collate, 8, seed=0).batches(8 * 10**9))
    assert sum(rows.asked.values()) == 8
    assert batch["epochs"] == [800] * 8


def test_another_seed_gives_another_order_and_other_draws():
    one, two = (first(Loader(ROWS, collate, 37, seed=seed), 1)[0] for seed in (0, 1))
    assert one["rows"] != two["rows"]
    assert one["noise"] != two["noise"]


def test_an_evaluation_takes_each_row_once_in_file_order_and_always_draws_the_same():
    loader = Loader(ROWS, collate, 8, seed=1, shuffle=False)
    once, again = list(loader.epoch()), list(loader.epoch())
    assert once == again
    assert list(itertools.chain.from_iterable(batch["rows"] for batch in once)) == list(range(37))
    assert [len(batch["rows"]) for batch in once] == [8, 8, 8, 8, 5]
    assert {epoch for batch in once for epoch in batch["epochs"]} == {0}


def test_draws_of_a_row_do_not_depend_on_the_batch_size():
    def noise(size):
        pairs = [zip(batch["rows"], batch["noise"], strict=True) for batch in Loader(ROWS, collate, size, seed=1).epoch()]
        return dict(itertools.chain.from_iterable(pairs))

    assert noise(4) == noise(37)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(workers):
    import torch

    alone, helped = Loader(ROWS, collate, 5, seed=1), Loader(ROWS, collate, 5, seed=1, workers=workers)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    assert first(helped, 20, 15) == first(alone, 20, 15)
    for _ in range(2):
        assert list(helped.epoch()) == list(alone.epoch())
    interrupted = helped.epoch()
    next(interrupted)
    assert list(helped.epoch()) == list(alone.epoch())
    assert torch.equal(torch.get_rng_state(), state), "workers drew from the global generator"


@pytest.mark.slow
def test_an_error_in_a_worker_is_the_error_itself():
    with pytest.raises(DataError, match="^row 3 is odd$"):
        next(Loader(ROWS, collate_odd, 5, seed=1, workers=1).batches(0))


def test_a_dataset_without_rows_is_refused():
    with pytest.raises(DataError, match="the dataset is empty"):
        Loader([], collate, 1, seed=0)


def test_a_batch_larger_than_the_data_is_refused_for_training_only():
    with pytest.raises(DataError, match=r"trainer\.batch_size=38 is more than the 37 training rows"):
        Loader(ROWS, collate, 38, seed=0)
    (batch,) = Loader(ROWS, collate, 38, seed=0, shuffle=False).epoch()
    assert len(batch["rows"]) == 37


def test_large_data_has_each_row_once_across_windows():
    rows = [{"row": row} for row in range(20001)]
    loader = Loader(rows, lambda examples, draw: [example["row"] for example in examples], 100, seed=4)
    seen = list(itertools.chain.from_iterable(itertools.islice(loader.batches(0), 201)))[:20001]
    assert sorted(seen) == list(range(20001))


def test_in_lanes_row_i_of_a_batch_follows_row_i_of_the_one_before():
    batches = [batch["rows"] for batch in first(Loader(ROWS, collate, 5, seed=1, lanes=True), 7)]
    assert batches[0] == [0, 7, 14, 21, 28]
    for before, after in itertools.pairwise(batches):
        assert after == [row + 1 for row in before]


def test_lanes_leave_out_other_rows_each_epoch():
    batches = first(Loader(ROWS, collate, 5, seed=1, lanes=True), 21)
    epochs = [sorted(itertools.chain.from_iterable(b["rows"] for b in batches[start : start + 7])) for start in (0, 7, 14)]
    assert [set(range(37)) - set(rows) for rows in epochs] == [{35, 36}, {0, 36}, {0, 1}]
    assert [set(batches[number]["epochs"]) for number in (0, 6, 7, 20)] == [{0}, {0}, {1}, {2}]


def test_lanes_resume_anywhere_and_evaluations_know_none():
    loader = Loader(ROWS, collate, 5, seed=1, lanes=True)
    whole = first(loader, 30)
    for done in (1, 7, 8, 29):
        assert first(Loader(ROWS, collate, 5, seed=1, lanes=True), 30 - done, done * 5) == whole[done:]
    evaluated = list(itertools.chain.from_iterable(batch["rows"] for batch in loader.epoch()))
    assert evaluated == list(range(37))
