"""`ptft find lr|batch`: suggestions before a run."""

from __future__ import annotations

import dataclasses
import math
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from ptft import machine, schema, trial
from ptft.choices import FOUND, comments, config_dir
from ptft.commands import find
from ptft.errors import DataError, MachineError
from ptft.objectives.mlm import MLM
from ptft.records import metrics

SMALL = ["model=transformer", "model.dim=16", "model.layers=1", "model.heads=2", "model.hidden=16", "model.dropout=0"]
SMALL += ["tokenizer=byte", "device=cpu"]


OPTIONS = SimpleNamespace(**dataclasses.asdict(schema.Finding()))


def test_the_rates_that_are_suggested_are_where_the_loss_falls_most_and_a_tenth_of_its_lowest():
    losses = [1 / (1 + math.exp((step - 40) / 2)) for step in range(60)] + [0.5] * 20  # falls most at step 40
    tried = [find.rate_at(step / 100, OPTIONS) for step in range(80)]
    steepest, cautious = find.suggestions(tried, losses).values()
    assert steepest == pytest.approx(1e-6 * 10 ** (6 * 0.4), rel=0.2)
    assert cautious == pytest.approx(1e-6 * 10 ** (6 * 0.59) / 10)


def test_a_loss_that_only_grows_suggests_nothing():
    with pytest.raises(DataError, match="the loss fell at no rate"):
        find.suggestions([1e-6, 1e-5, 1e-4], [1.0, 1.1, 1.2])


def test_the_climb_ends_where_the_loss_is_four_times_the_lowest():
    climb = find.Climb()
    for step, loss in enumerate([2.0, 1.0, 1.0, 1.0, 90.0], 1):
        assert not climb.stop
        climb.log(step, "train", {"loss": loss})
    assert climb.stop


def test_each_setting_is_of_one_finder_which_its_comment_names():
    said = comments(config_dir() / "find.yaml")
    assert {f"find.{name}": sought for sought, names in FOUND.items() for name in names} == {
        key: text.partition(":")[0] for key, text in said.items()
    }
    assert {name for names in FOUND.values() for name in names} == set(vars(OPTIONS))


def test_no_rate_is_found_from_none(cli, data):
    answer = cli("find", "lr", *SMALL, *data.text, "optimizer.lr=0")
    assert (answer.code, "optimizer.lr=0: expected a rate above 0" in answer.complaint) == (2, True)


def test_the_climb_goes_on_below_zero():
    climb = find.Climb()
    for step, loss in enumerate([-0.5, -0.6, -0.5, -0.4], 1):
        climb.log(step, "train", {"loss": loss})
    assert not climb.stop


@pytest.mark.slow
def test_a_rate_is_found_and_nothing_but_the_picture_is_left(cli, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = [*SMALL, *data.text, "optimizer.lr=7", "find.steps=30", "find.to=rates.png"]
    answer = cli("find", "lr", *words)  # of pretrain, where no command is named
    assert answer.code == 0, answer.err
    suggested = [word.partition("=")[2] for word in answer.out.split() if word.startswith("optimizer.lr=")]
    assert len(suggested) == 3 and all(1e-5 < float(rate) < 1 for rate in suggested)
    again = shlex.join(["ptft", "pretrain", *words[:-3], f"optimizer.lr={min(suggested, key=float)}"])
    assert answer.out.splitlines()[-1] == again
    assert [path.name for path in tmp_path.iterdir()] == ["rates.png"]
    table = answer.out[answer.out.index("rate  ") :]  # behind a line about tokens where no one was asked for them before
    assert cli("find", "lr", "pretrain", *words).out.endswith(table)


def test_an_optimizer_with_the_rate_of_a_batch_of_256_is_told_such_a_one(cli, data):
    common = ["find", "lr", *SMALL, *data.text, "optimizer=sgd", "trainer.batch_size=4", "find.steps=20"]
    plain, scaled = (cli(*common, word).out.split() for word in ("optimizer.lr=0.1", "optimizer.base_lr=6.4"))
    rate = next(float(word.partition("=")[2]) for word in plain if word.startswith("optimizer.lr="))
    base = next(float(word.partition("=")[2]) for word in scaled if word.startswith("optimizer.base_lr="))
    assert base == pytest.approx(64 * rate, rel=0.05)


def test_batches_grow_until_the_rows_end(cli, data, monkeypatch):
    monkeypatch.setattr(find, "SLOWER", 99)
    answer = cli("find", "batch", "finetune", "ckpt=null", *SMALL, *data.classes, "trainer.train_rows=9")
    assert answer.code == 0, answer.err
    assert [line.split()[0] for line in answer.out.splitlines() if line.strip()[:1].isdigit()] == ["1", "2", "4", "8"]
    assert "trainer.batch_size=8 (all training rows)" in answer.out
    assert answer.out.splitlines()[-1].startswith("ptft finetune ckpt=null") and "trainer.batch_size=" in answer.out


def test_batches_end_where_memory_does(cli, data, monkeypatch):
    monkeypatch.setattr(MLM, "forward", hungry(2))
    assert "trainer.batch_size=2 (4 rows do not fit)" in cli("find", "batch", *SMALL, *data.text).out
    answer = cli("find", "batch", *SMALL, *data.text, "find.memory=1K")
    assert answer.code == 6
    assert "of 1.0 KB there are: a smaller model or shorter rows take less" in answer.err


@pytest.mark.parametrize(
    ("tried", "room", "why"),
    [
        ([(2, 100, 1.0), (4, 130, 1.0)], 180, "8 would take about 190 B of 180 B"),
        ([(2, 100, 1.0), (4, 130, 1.0)], 200, ""),
        ([(2, 100, 1.0), (4, 100, 3.0), (8, 100, 7.0)], 999, "larger ones are no faster"),
    ],
)
def test_no_larger_batch_is_tried_than_fits_and_pays(tried, room, why):
    assert find._enough([find.Size(*found, tokens=0) for found in tried], room, spent=1, patience=60) == why


def test_no_larger_batch_is_begun_after_the_time_that_is_given():
    assert find._enough([find.Size(2, 100, 1.0, 0)], 999, spent=61, patience=60) == "find.seconds=60 were over"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a peak is for ever")
def test_a_peak_is_forgotten_where_the_next_batch_is_measured():
    cpu = torch.device("cpu")
    machine.forget_peak(cpu)
    before = machine.peak_memory(cpu)
    torch.ones(100 << 18)  # 100 MB
    assert machine.peak_memory(cpu) - before > 90 << 20
    machine.forget_peak(cpu)
    assert machine.peak_memory(cpu) - before < 20 << 20


@pytest.mark.parametrize(("text", "found"), [("8G", 8 * 10**9), ("1.5 mb", 1_500_000), ("700", 700), (8, 8)])
def test_memory_is_read_as_it_is_written(text, found):
    assert find.in_bytes(text) == found


def hungry(most: int):
    """A forward that wants more memory than there is for more than so many rows."""
    forward = MLM.forward

    def refuse(self, batch):
        if self.training and len(batch["inputs"]["tokens"]) > most:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")
        return forward(self, batch)

    return refuse


def test_where_memory_runs_out_the_largest_batch_that_fits_goes_on_as_if_nothing_had_been(train, data, tmp_path, monkeypatch):
    words = [*SMALL, *data.text, "trainer.steps=4", "trainer.save_every=1", "trainer.eval_every=null", "trainer.log_every=1"]
    whole = train(tmp_path / "whole", "pretrain", *words, "trainer.batch_size=6")
    small = hungry(3)
    monkeypatch.setattr(MLM, "after_step", lambda self, fraction: monkeypatch.setattr(MLM, "forward", small))  # from step 2 on
    said = "out of memory at step 1 with trainer.batch_size=6; 3 of the longest fit: trainer.batch_size=3 trainer.accumulate=2"
    with pytest.raises(MachineError, match=said) as caught:
        train(tmp_path / "run", "pretrain", *words, "trainer.batch_size=6")
    assert caught.value.exit_code == 6
    more = next(word for word in str(caught.value).split() if word.startswith("resume_allow="))
    smaller = ["trainer.batch_size=3", "trainer.accumulate=2", "resume=auto", more, f"run={tmp_path / 'run'}"]
    run = train(tmp_path / "run", "pretrain", *words, *smaller)
    first, second = ([row for row in metrics(folder) if row["split"] == "train"] for folder in (whole, run))
    assert [row["step"] for row in second] == [1, 2, 3, 4]
    assert [row["loss"] for row in first] == pytest.approx([row["loss"] for row in second], rel=1e-5)  # the same rows and masks


def test_where_not_even_one_row_fits_a_smaller_model_is_asked_for(train, data, tmp_path, monkeypatch):
    monkeypatch.setattr(MLM, "forward", hungry(0))
    with pytest.raises(MachineError, match="not even one of the longest rows fits"):
        train(tmp_path / "run", "pretrain", *SMALL, *data.text, "trainer.steps=1", "trainer.batch_size=4")


def test_want_of_memory_in_other_commands_is_one_line_too(cli, data, monkeypatch):
    monkeypatch.setattr(MLM, "forward", hungry(0))
    answer = cli("check", "pretrain", *SMALL, *data.text)
    assert answer.code == 6
    assert answer.err.splitlines()[-1] == "ptft check: out of memory: a smaller batch or model, or shorter rows, take less"


def test_other_errors_are_no_want_of_memory():
    assert machine.out_of_memory(MemoryError()) and machine.out_of_memory(RuntimeError("std::bad_alloc"))
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
