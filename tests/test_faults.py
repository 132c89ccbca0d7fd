"""Killed anywhere, a run continues from what it last committed; these tests die at every step a save takes."""

import itertools
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ptft import checkpoint
from ptft.checkpoint import read, read_state
from ptft.manifest import names, newest, verify
from ptft.run import Run

CONFIG = "seed: 0\n"
# what a save, a pointer and a removal are made of; a kill comes just before the call, or halfway through writing
CALLS = ("mkdir", "chmod", "fsync", "rename", "replace", "unlink", "rmdir", "ftruncate", "pwrite")
pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


def weights(step):
    return {"model": {"w": torch.full((64,), float(step))}, "optimizer": {"w::exp_avg": torch.full((64,), -float(step))}}


def train(folder, steps, committed=lambda step: None):
    """Continue the run in `folder` for some steps, a checkpoint each."""
    with Run.open(folder, CONFIG, resuming=True, keep_last=2) as run:
        run.identify(data="data")
        for step in range(run.step + 1, run.step + 1 + steps):
            run.log(step, "train", {"loss": 1.0})
            run.save(step, weights(step), {"progress": {"step": step}}, best=step % 2 == 0)
            committed(step)


def die_at(call):
    """Make this process end at the `call`-th thing it asks of the file system."""
    counter = itertools.count(1)

    def dying(original, write_half):
        def call_or_die(*args, **kwargs):
            if next(counter) == call:
                write_half(*args)
                os._exit(9)
            return original(*args, **kwargs)

        return call_or_die

    def half_a_file(path, content, *_):
        Path.open(path, "wb").write(content[: len(content) // 2])

    def half_a_safetensors(tensors, path, metadata):
        save_file(tensors, path, metadata)
        os.truncate(path, path.stat().st_size // 2)

    save_file = checkpoint.save_file
    for name in CALLS:
        setattr(os, name, dying(getattr(os, name), lambda *args: None))
    Path.write_bytes = dying(Path.write_bytes, half_a_file)
    checkpoint.save_file = dying(save_file, half_a_safetensors)


def last_committed(folder, call):
    """Train in a child that dies at its `call`-th call; returns the last step it knew was saved, and whether it died."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(reader)
        try:
            die_at(call)
            train(folder, 1, committed=lambda step: os.write(writer, bytes([step])))
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as pipe:
        steps = pipe.read()
    _, status = os.waitpid(child, 0)
    return steps[-1] if steps else 3, os.waitstatus_to_exitcode(status) == 9


@pytest.mark.slow
def test_killed_at_any_call_a_run_continues_from_what_it_last_committed(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # still counted, but a kill loses nothing in memory
    train(tmp_path / "start", 3)
    recovered = 0
    for call in itertools.count(1):
        folder = tmp_path / "run"
        shutil.copytree(tmp_path / "start", folder)
        committed, died = last_committed(folder, call)
        resumed, faults = newest(folder / "checkpoints")
        step = verify(resumed)["step"]
        # a kill between the rename and the report of it leaves one more than was reported
        assert step in (committed, committed + 1) and faults == [], call
        assert read_state(resumed) == {"progress": {"step": step}}
        for group, value in weights(step).items():
            assert all(torch.equal(read(resumed, group)[name], tensor) for name, tensor in value.items())
        train(folder, 1)
        assert_tidy(folder, step + 1)
        shutil.rmtree(folder)
        if not died:
            break
        recovered += 1
    assert recovered > 40


def assert_tidy(folder, step):
    checkpoints = folder / "checkpoints"
    left = [entry.name for entry in [*checkpoints.iterdir(), *folder.iterdir()] if entry.name.startswith(".t")]
    assert left == []
    assert (checkpoints / "last").read_text().strip() == f"step-{step:010d}"
    best = (checkpoints / "best").read_text().strip()
    assert int(best[5:]) == step - step % 2
    assert len(names(checkpoints)) <= 3


CHILD = """
import sys, torch
from ptft.run import Run

torch.set_num_threads(1)
with Run.open(sys.argv[1], "seed: 0", resuming=True) as run:
    print("ready", flush=True)
    for step in range(run.step + 1, 10**9):
        run.save(step, {"model": {"w": torch.full((50_000,), float(step))}}, {"progress": {"step": step}})
        if run.stop:
            sys.exit(75)
"""


def start(folder):
    process = subprocess.Popen([sys.executable, "-c", CHILD, folder], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    return process


@pytest.mark.slow
def test_killed_at_random_moments_a_run_always_goes_on(tmp_path):
    before = 0
    for moment in (0.0, 0.01, 0.03, 0.08):
        with start(tmp_path) as process, pytest.raises(subprocess.TimeoutExpired):
            try:
                process.wait(moment)
            finally:
                process.kill()
        resumed, faults = newest(tmp_path / "checkpoints")
        step = read_state(resumed)["progress"]["step"] if resumed else 0
        assert faults == []
        assert step >= before
        before = step


@pytest.mark.slow
def test_a_signal_during_a_save_finishes_it_and_a_second_one_leaves_at_once(tmp_path):
    with start(tmp_path) as process:
        process.terminate()
        assert process.wait(60) == 75
    before = len(names(tmp_path / "checkpoints"))
    assert before >= 1
    with start(tmp_path) as process:
        process.send_signal(signal.SIGSTOP)
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGUSR1)
        process.send_signal(signal.SIGCONT)
        assert process.wait(60) in (128 + signal.SIGTERM, 128 + signal.SIGUSR1)
    assert newest(tmp_path / "checkpoints")[1] == []
