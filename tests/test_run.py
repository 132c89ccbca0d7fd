import contextlib
import io
import json
import os
import resource
import shutil
import signal
import stat
import subprocess
import sys

import pytest
import torch

from ptft.errors import CheckpointError, MachineError, UserError
from ptft.logs import Console
from ptft.loop import Evaluation
from ptft.manifest import names, verify
from ptft.records import lineage, metrics
from ptft.run import Run, check_folder

CONFIG = "seed: 0\ntrainer: {steps: 100}\n"
WEIGHTS = {"model": {"w": torch.arange(4.0)}}


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def train(run, *steps, best=()):
    for step in steps:
        run.log(step, "train", {"loss": 1 / step})
        run.save(step, WEIGHTS, {"progress": {"step": step}}, best=step in best)


@pytest.fixture
def stopped(tmp_path):
    """The folder of a run that ended after step 3."""
    with Run.open(tmp_path / "run", CONFIG, ["ptft", "pretrain", "seed=0"]) as run:
        run.identify(data="d" * 64, tokenizer="t" * 64)
        train(run, 1, 2, 3, best=(2,))
    return tmp_path / "run"


def test_a_new_folder_says_what_was_started(stopped):
    born = json.loads((stopped / "run.json").read_text())
    assert born["argv"] == ["ptft", "pretrain", "seed=0"] and born["command"] == "pretrain" and born["parent"] is None
    assert (stopped / "config.yaml").read_text() == CONFIG
    assert verify(stopped / "checkpoints" / "step-0000000003")["identity"] == {
        "run_id": born["run_id"],
        "data": "d" * 64,
        "tokenizer": "t" * 64,
    }


@contextlib.contextmanager
def largest_file(size):
    """A disk that takes files up to this size."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


WRITES = {
    "metrics.jsonl": lambda run: run.log(2, "train", {"loss": 0.5}),
    "samples/": lambda run: run.samples(2, ["to be, or not to be"]),
    "pictures/": lambda run: run.pictures(2, {"views": torch.rand(3, 20, 20)}),
    "tables/": lambda run: run.tables(2, {"confusion_matrix": torch.eye(3)}),
    "bad_batches.jsonl": lambda run: run.bad_batch(2, range(40), {"loss": 0.5}),
}


@pytest.mark.parametrize("what", WRITES)
def test_a_full_disk_ends_a_run_where_it_is_not_told_to_warn(what, tmp_path):
    with Run.open(tmp_path / "run", CONFIG) as run, largest_file(9), pytest.raises(MachineError, match="too large") as full:
        WRITES[what](run)
    assert full.value.exit_code == 6 and "\n" not in str(full.value)


def test_a_run_that_is_told_to_warn_does_without_what_a_full_disk_refuses(tmp_path):
    console = Console(9, stream=io.StringIO())
    with Run.open(tmp_path / "run", CONFIG, console=console, warns=True) as run:
        run.log(1, "train", {"loss": 1.0})
        with largest_file(70):  # a part of the next line fits
            for write in (*WRITES.values(), WRITES["metrics.jsonl"]):
                write(run)
        said = console.notes
        run.log(3, "train", {"loss": 0.3})
    assert [text.partition(" ")[0] for text in said] == [
        "metrics.jsonl",
        "tensorboard/",
        "pictures/",
        "tables/",
        "bad_batches.jsonl",
    ]
    assert all(text.endswith("training goes on (trainer.on_save_error=warn): File too large") for text in said)
    assert [row["step"] for row in metrics(run.folder)] == [1, 3]
    assert not [path for path in run.folder.rglob("*") if path.name.startswith(".tmp")]


def test_a_run_that_failed_before_its_first_step_left_nothing_to_lose(tmp_path):
    for _ in range(2):
        Run.open(tmp_path, CONFIG).close()


@pytest.mark.parametrize("resuming", [False, True])
@pytest.mark.parametrize("name", ["config.yaml", "README.md"])
def test_a_file_of_somebody_else_is_not_overwritten(name, resuming, tmp_path):
    (tmp_path / name).write_text("mine: true\n")
    for take in (Run.open, check_folder):
        with pytest.raises(UserError, match=f"holds a {name} of no run, which would be lost; name a new folder"):
            take(tmp_path, CONFIG, resuming=resuming)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {name: "mine: true\n"}


def test_a_folder_that_holds_a_run_is_never_taken_unasked(stopped):
    before = {path: path.stat().st_mtime_ns for path in stopped.rglob("*") if path.name not in (".lock", "run")}
    with pytest.raises(UserError, match="holds a run already; resume=auto continues it") as refused:
        Run.open(stopped, CONFIG)
    assert refused.value.exit_code == 2
    after = {path: path.stat().st_mtime_ns for path in stopped.rglob("*") if path.name not in (".lock", "run")}
    assert after == before


def test_resuming_an_empty_or_missing_folder_simply_starts(tmp_path):
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "empty", tmp_path / "missing" / "deep"):
        with Run.open(folder, CONFIG, resuming=True) as run:
            assert (run.resumed, run.step) == (None, 0)


def test_a_run_killed_before_its_first_checkpoint_starts_again(tmp_path):
    with Run.open(tmp_path, CONFIG) as run:
        run.log(1, "train", {"loss": 1.0})
    with Run.open(tmp_path, CONFIG, resuming=True) as run:
        assert run.resumed is None
        run.log(1, "train", {"loss": 2.0})
    assert [row["loss"] for row in metrics(tmp_path)] == [2.0]


def test_resuming_continues_the_same_run_from_its_newest_checkpoint(stopped):
    born = (stopped / "run.json").read_bytes()
    with Run.open(stopped, CONFIG, resuming=True) as run:
        run.identify(data="d" * 64, tokenizer="t" * 64)
        assert (run.step, run.resumed.name) == (3, "step-0000000003")
        train(run, 4)
    assert (stopped / "run.json").read_bytes() == born
    assert verify(stopped / "checkpoints" / "step-0000000004")["seq"] == 4


def test_metrics_of_steps_done_again_are_superseded_not_rewritten(stopped):
    with Run.open(stopped, CONFIG, resuming=True) as run:
        run.log(4, "train", {"loss": 4.0})
    first = (stopped / "metrics.jsonl").read_bytes()
    with Run.open(stopped, CONFIG, resuming=True) as run:
        run.log(4, "train", {"loss": 5.0})
    assert (stopped / "metrics.jsonl").read_bytes().startswith(first)
    assert {"superseded_after": 3} in lines(stopped / "metrics.jsonl")
    assert [(row["step"], row["loss"]) for row in metrics(stopped)] == [(1, 1), (2, 1 / 2), (3, 1 / 3), (4, 5)]


def test_a_line_torn_by_a_kill_spoils_no_other(stopped):
    with open(stopped / "metrics.jsonl", "a") as file:
        file.write('{"step": 4, "spl')
    with Run.open(stopped, CONFIG, resuming=True) as run:
        run.log(4, "train", {"loss": 0.5})
    assert [row["step"] for row in metrics(stopped)] == [1, 2, 3, 4]


def test_numbers_that_are_not_finite_are_logged_as_text(tmp_path):
    with Run.open(tmp_path, CONFIG) as run:
        run.log(1, "train", {"loss": float("nan"), "grad_norm": float("inf")})
    assert lines(tmp_path / "metrics.jsonl")[0] == {"step": 1, "split": "train", "loss": "nan", "grad_norm": "inf"}


def test_a_damaged_checkpoint_is_skipped_with_a_warning(stopped):
    with open(stopped / "checkpoints" / "step-0000000003" / "model.safetensors", "r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x55")
    shown = io.StringIO()
    console = Console(total_steps=10, plain=True, stream=shown, width=1000)
    with Run.open(stopped, CONFIG, resuming=True, console=console) as run:
        assert run.step == 2
        train(run, 3)
    assert "step-0000000003/model.safetensors: damaged" in shown.getvalue()
    assert "step-0000000003/model.safetensors" in lines(stopped / "metrics.jsonl")[3]["skipped"]
    assert verify(stopped / "checkpoints" / "step-0000000003-2")["step"] == 3


def test_a_run_whose_every_checkpoint_is_damaged_does_not_silently_start_anew(stopped):
    for name in names(stopped / "checkpoints"):
        (stopped / "checkpoints" / name / "state.json").unlink()
    with pytest.raises(CheckpointError, match=r"no checkpoint to continue from: .*state\.json"):
        Run.open(stopped, CONFIG, resuming=True)


def test_checkpoints_of_another_run_are_not_continued(stopped, tmp_path):
    with Run.open(tmp_path / "other", CONFIG) as run:
        train(run, 900)
    shutil.move(tmp_path / "other" / "checkpoints" / "step-0000000900", stopped / "checkpoints")
    with Run.open(stopped, CONFIG, resuming=True) as run:
        assert run.step == 3
        train(run, 4, 5, 6)
    assert "step-0000000900" in names(stopped / "checkpoints")
    shutil.copy(tmp_path / "other" / "run.json", stopped / "run.json")
    (tmp_path / "other" / "run.json").unlink()
    with Run.open(stopped, CONFIG, resuming=True) as run:
        assert run.step == 900


def test_changed_settings_need_to_be_allowed(stopped):
    longer = CONFIG.replace("100", "200")
    with pytest.raises(UserError, match=r"trainer\.steps 100 -> 200"):
        Run.open(stopped, longer, resuming=True)
    with Run.open(stopped, longer, resuming=True, allow=["trainer.steps"]) as run:
        train(run, 4)
    with Run.open(stopped, longer, resuming=True) as run:
        assert run.step == 4


def test_changed_data_needs_to_be_allowed(stopped):
    with Run.open(stopped, CONFIG, resuming=True) as run, pytest.raises(CheckpointError, match="the data changed"):
        run.identify(data="e" * 64, tokenizer="t" * 64)
    with Run.open(stopped, CONFIG, resuming=True, allow=["data"]) as run:
        run.identify(data="e" * 64, tokenizer="t" * 64)


def test_another_number_of_threads_is_told(stopped):
    shown = io.StringIO()
    console = Console(total_steps=10, plain=True, stream=shown, width=1000)
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    try:
        Run.open(stopped, CONFIG, resuming=True, console=console).close()
    finally:
        torch.set_num_threads(before)
    assert f"threads {before} -> {before + 1}" in shown.getvalue()


def test_pointers_and_retention_follow_every_save(stopped):
    with Run.open(stopped, CONFIG, resuming=True, keep_last=2) as run:
        train(run, 4, 5)
    checkpoints = stopped / "checkpoints"
    assert sorted(names(checkpoints)) == [f"step-000000000{step}" for step in (2, 4, 5)]
    assert (checkpoints / "last").read_text() == "step-0000000005\n"
    assert (checkpoints / "best").read_text() == "step-0000000002\n"
    assert run.latest() == checkpoints / "step-0000000005"


def test_pointers_are_rebuilt_where_a_kill_came_between_save_and_pointer(stopped):
    for pointer in ("last", "best"):
        (stopped / "checkpoints" / pointer).unlink()
    Run.open(stopped, CONFIG, resuming=True).close()
    assert (stopped / "checkpoints" / "last").read_text() == "step-0000000003\n"
    assert (stopped / "checkpoints" / "best").read_text() == "step-0000000002\n"


def test_lineage_leads_to_the_run_the_weights_came_from(stopped, tmp_path):
    with Run.open(tmp_path / "child", CONFIG, ["ptft", "finetune"], parent=stopped / "checkpoints" / "step-0000000002"):
        pass
    parent = json.loads((tmp_path / "child" / "run.json").read_text())["parent"]
    assert parent["step"] == 2 and parent["path"].endswith("run/checkpoints/step-0000000002")
    assert [ancestor["command"] for ancestor in lineage(tmp_path / "child")] == ["ptft pretrain seed=0"]


def test_a_second_run_in_the_folder_is_refused_by_name_of_the_first(tmp_path):
    with Run.open(tmp_path, CONFIG):
        for resuming in (False, True):
            with pytest.raises(MachineError, match=f"in use by process {os.getpid()} on .* since") as refused:
                Run.open(tmp_path, CONFIG, resuming=resuming)
            assert refused.value.exit_code == 6
    Run.open(tmp_path, CONFIG, resuming=True).close()


@pytest.mark.slow
def test_a_kill_frees_the_folder_though_a_forked_worker_lives_on(tmp_path):
    code = f"""
import os, time
from ptft.run import Run
Run.open({str(tmp_path)!r}, "")
if os.fork():
    os.kill(os.getpid(), 9)
print("worker", flush=True)
time.sleep(20)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True)
    try:
        process.stdout.readline()
        process.wait()
        Run.open(tmp_path, "", resuming=True).close()
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.stdout.close()


def test_a_folder_that_cannot_be_written_to_is_refused_before_anything_else(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below", tmp_path / ("long" * 100), "/proc/run"):
        with pytest.raises(MachineError, match="run=") as refused:
            Run.open(folder, CONFIG)
        assert refused.value.exit_code == 6


def test_a_folder_that_may_be_listed_but_not_written_to_is_refused(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("ptft.durable.os.replace", refuse)
    with pytest.raises(MachineError, match="Permission denied"):
        Run.open(tmp_path, CONFIG)
    monkeypatch.undo()
    Run.open(tmp_path, CONFIG).close()


def test_evaluations_leave_scores_samples_and_tables(tmp_path):
    found = Evaluation({"loss": 0.5}, {"confusion_matrix": torch.eye(2).numpy()}, ["[MASK] -> word"])
    with Run.open(tmp_path, CONFIG) as run:
        run.evaluated(7, "valid", found)
        run.bad_batch(8, torch.tensor([3, 4]), {"loss": float("inf")})
        run.finish({"valid": {"loss": 0.5, "f1": float("nan")}})
    assert metrics(tmp_path) == [{"step": 7, "split": "valid", "loss": 0.5}]
    assert (tmp_path / "samples" / "step-0000000007-valid.txt").read_text() == "[MASK] -> word\n"
    assert json.loads((tmp_path / "tables" / "valid.json").read_text()) == {"step": 7, "confusion_matrix": [[1, 0], [0, 1]]}
    assert lines(tmp_path / "bad_batches.jsonl") == [{"step": 8, "rows": [3, 4], "loss": "inf"}]
    assert json.loads((tmp_path / "scores.json").read_text()) == {"valid": {"loss": 0.5, "f1": "nan"}}


def test_a_run_that_goes_on_is_not_finished(stopped):
    with Run.open(stopped, CONFIG, resuming=True) as run:
        run.finish({"valid": {}})
    Run.open(stopped, CONFIG, resuming=True).close()
    assert not (stopped / "scores.json").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_asks_the_run_to_stop_and_is_handed_back_afterwards(tmp_path, number):
    before = signal.getsignal(number)
    with Run.open(tmp_path, CONFIG) as run:
        assert not run.stop
        os.kill(os.getpid(), number)
        assert run.stop == number.name
    assert signal.getsignal(number) is before


def test_files_of_the_run_have_the_modes_the_umask_leaves(tmp_path):
    before = os.umask(0o027)
    try:
        with Run.open(tmp_path / "run", CONFIG) as run:
            train(run, 1)
            run.finish({})
    finally:
        os.umask(before)
    for path in [tmp_path / "run", *(tmp_path / "run").rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o750 if path.is_dir() else 0o640), path


def test_a_folder_is_checked_as_it_would_be_opened_without_leaving_anything(stopped, tmp_path):
    (tmp_path / "file").write_text("")
    before = sorted(tmp_path.rglob("*"))
    check_folder(tmp_path / "new" / "run", CONFIG)
    check_folder(stopped, CONFIG, resuming=True)
    with pytest.raises(UserError, match="holds a run already"):
        check_folder(stopped, CONFIG)
    with pytest.raises(UserError, match="resume_allow"):
        check_folder(stopped, CONFIG.replace("100", "200"), resuming=True)
    check_folder(stopped, CONFIG.replace("100", "200"), resuming=True, allow=["trainer.steps"])
    for folder in (tmp_path / "file", tmp_path / "file" / "below", tmp_path / ("long" * 100), "/proc/run"):
        with pytest.raises(MachineError, match="run="):
            check_folder(folder, CONFIG)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_in_use_does_not_pass_the_check(tmp_path):
    with Run.open(tmp_path / "run", CONFIG), pytest.raises(MachineError, match=f"in use by process {os.getpid()}"):
        check_folder(tmp_path / "run", CONFIG, resuming=True)
