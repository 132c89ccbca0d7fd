"""`ptft find lr|batch`: suggestions before a run."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest

from ptft import machine, trial
from ptft.commands import find
from ptft.errors import DataError, MachineError
from ptft.objectives.mlm import MLM
from ptft.records import metrics, read_json

SMALL = ["model=transformer", "model.dim=16", "model.layers=1", "model.heads=2", "model.hidden=16", "model.dropout=0"]
SMALL += ["tokenizer=byte", "device=cpu"]


def test_the_rates_that_are_suggested_are_where_the_loss_falls_most_and_a_tenth_of_its_lowest():
    losses = [1 / (1 + math.exp((step - 40) / 2)) for step in range(60)] + [0.5] * 20  # falls most at step 40
    rows, suggested = find.told(losses)
    steepest, cautious = (float(text.removeprefix("optimizer.lr=")) for text in suggested.values())
    assert steepest == pytest.approx(find.rate_at(0.4), rel=0.2)
    assert cautious == pytest.approx(find.rate_at(0.59) / 10, rel=0.05)
    assert float(rows[0]["rate"]) == pytest.approx(find.LOWEST)


def test_a_loss_that_only_grows_suggests_nothing():
    with pytest.raises(DataError, match="the loss fell at no rate"):
        find.told([1.0, 1.1, 1.2])


def test_the_climb_ends_where_the_loss_is_four_times_the_lowest():
    climb = find.Climb()
    for step, loss in enumerate([2.0, 1.0, 1.0, 1.0, 90.0], 1):
        assert not climb.stop
        climb.log(step, "train", {"loss": loss})
    assert climb.stop


def test_a_rate_is_found_and_nothing_is_left(cli, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    answer = cli("find", "lr", *SMALL, *data.text)  # of pretrain, where no command is named
    assert answer.code == 0, answer.err
    rates = [float(word.partition("=")[2]) for word in answer.out.split() if word.startswith("optimizer.lr=")]
    assert len(rates) == 2 and all(1e-4 < rate < 1 for rate in rates)
    assert not list(tmp_path.iterdir())


def test_batches_grow_until_the_rows_end(cli, data):
    answer = cli("find", "batch", "finetune", "ckpt=null", *SMALL, *data.classes, "trainer.train_rows=9")
    assert answer.code == 0, answer.err
    assert [line.split()[0] for line in answer.out.splitlines() if line.strip()[:1].isdigit()] == ["2", "4", "8"]
    assert "trainer.batch_size=8 (all training rows fit)" in answer.out


@pytest.mark.parametrize(
    ("tried", "room", "why"),
    [
        ([(2, 100, 1.0), (4, 130, 2.0)], 180, "8 rows would not fit"),
        ([(2, 100, 1.0), (4, 130, 2.0)], 200, ""),
        ([(2, 100, 3.0), (4, 100, 2.0), (8, 100, 1.0)], 999, "larger ones are no faster"),
    ],
)
def test_no_larger_batch_is_tried_than_fits_and_pays(tried, room, why):
    assert find._enough(tried, room, began=math.inf) == why


def hungry(most: int):
    """A forward that wants more memory than there is for more than so many rows."""
    forward = MLM.forward

    def refuse(self, batch):
        if self.training and len(batch["inputs"]["tokens"]) > most:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")
        return forward(self, batch)

    return refuse


def test_where_memory_runs_out_the_largest_batch_that_fits_is_named_and_goes_on(train, data, tmp_path, monkeypatch):
    words = *SMALL, *data.text, "trainer.steps=4", "trainer.save_every=1", "trainer.eval_every=null", "trainer.log_every=1"
    whole = train(tmp_path / "whole", "pretrain", *words, "trainer.batch_size=6")
    monkeypatch.setattr(MLM, "forward", hungry(3))
    with pytest.raises(MachineError, match="batch_size=6; 3 of the longest fit: trainer.batch_size=3 trainer.accumulate=2"):
        train(tmp_path / "run", "pretrain", *words, "trainer.batch_size=6")
    run = train(tmp_path / "run2", "pretrain", *words, "trainer.batch_size=3", "trainer.accumulate=2")
    first, second = ([row["loss"] for row in metrics(folder) if row["split"] == "train"] for folder in (whole, run))
    assert first == pytest.approx(second, rel=1e-4)
    assert read_json(run / "scores.json")


def test_where_not_even_one_row_fits_a_smaller_model_is_asked_for(train, data, tmp_path, monkeypatch):
    monkeypatch.setattr(MLM, "forward", hungry(0))
    with pytest.raises(MachineError, match="not even one of the longest rows fits"):
        train(tmp_path / "run", "pretrain", *SMALL, *data.text, "trainer.steps=1", "trainer.batch_size=4")


def test_other_errors_are_no_want_of_memory():
    assert machine.out_of_memory(MemoryError())
    assert not machine.out_of_memory(RuntimeError("shapes do not match"))
    assert not machine.out_of_memory(ValueError("not enough memory"))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only there does a limit of the address space hold")
def test_a_process_that_may_take_no_more_memory_says_what_fits(tmp_path):
    large = ["model.dim=512", "model.hidden=2048", "model.heads=8", "tokenizer=byte", "trainer.batch_size=40"]
    command = [sys.executable, "-m", "ptft", "pretrain", *large, f"run={tmp_path / 'run'}"]
    limited = f"import resource, subprocess, sys; resource.setrlimit(resource.RLIMIT_AS, ({4 << 30}, {4 << 30})); "
    limited += "sys.exit(subprocess.run(sys.argv[1:]).returncode)"
    done = subprocess.run(
        [sys.executable, "-c", limited, *command], capture_output=True, text=True, cwd=Path(trial.__file__).parent.parent
    )
    assert done.returncode == 6, done.stderr
    assert "of the longest fit: trainer.batch_size=" in done.stderr
