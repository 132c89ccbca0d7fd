"""A run that was stopped and went on, and the same run in other pieces, are the same run to the last bit."""

from __future__ import annotations

import io
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ptft import build, records
from ptft.data.loader import Assembly
from ptft.errors import Stopped
from ptft.locate import locate
from ptft.logs import Console
from ptft.nn import text

SIZES = ("model.dim=16", "model.hidden=32", "model.max_length=48", "tokenizer=byte")
# rows 30 and 6 rows a step: an epoch is 5 steps
TRAINER = (
    "trainer.steps=8",
    "trainer.train_rows=30",
    "trainer.eval_every=3",
    "trainer.eval_batches=2",
    "trainer.save_every=null",
    "trainer.log_every=1",
    "trainer.ema=0.9",
    "device=cpu",
)
STEPS = {1: ("trainer.batch_size=6",), 3: ("trainer.batch_size=2", "trainer.accumulate=3")}
TUNINGS = {
    "full": ("tuning=full", "tuning.layer_decay=0.7"),
    "frozen": ("tuning=frozen", "tuning.blocks=1"),
    "gradual": ("tuning=gradual", "tuning.every=2"),
    "lora": ("tuning=lora", "tuning.rank=2"),
}
STOPS = {"mid-epoch": 2, "epoch end": 5, "epoch two": 7}
PACE = {"tokens_per_second", "samples_per_second", "seconds_left"}


def command(objective: str, data) -> tuple[str, ...]:
    """The words that train for an objective from scratch."""
    causal, both = ("model=gpt", "model.layers=2", "model.heads=2"), ("model=transformer_tiny", "model.heads=2")
    sides = "model=transformer_seq2seq", "model.layers=1", "model.heads=2"
    lstm = "model=lstm", "model.layers=2", "model.weight_drop=0.3", "model.embedding_dropout=0.1"
    finetune = ("finetune", "ckpt=null")
    words = {
        "mlm": ("pretrain", "objective=mlm", *both, *data.text),
        "bert": ("pretrain", "objective=bert", *both, "model.segments=2", *data.text, "dataset.documents=line"),
        "lstm": ("pretrain", "objective=clm", *lstm, *data.text),
        "clm": ("pretrain", "objective=clm", *causal, *data.text),
        "lengths": (
            "pretrain",
            "objective=clm",
            "objective.length_schedule=0.9",
            "objective.aligned=true",
            *causal,
            *data.text,
        ),
        "classify": (*finetune, "task=classify", *both, *data.classes),
        "regress": (*finetune, "task=regress", *both, *data.numbers),
        "translate": ("pretrain", "objective=translate", "objective.max_tokens=2", *sides, *data.pairs),
        "seq2seq": ("pretrain", "objective=translate", "objective.max_tokens=2", "model=seq2seq", *data.pairs),
        "tag": (*finetune, "task=tag", *both),
        "infill": ("pretrain", "objective=infill", *sides, *data.text),
        "plm": ("pretrain", "objective=plm", "objective.mem_len=0", "model.layers=2", "model.heads=2", *data.text),
        "bilm": ("pretrain", "objective=bilm", "objective.carry=false", *data.text),
        "generate": (*finetune, "task=generate", "objective.max_tokens=2", *causal, *data.pairs),
    }
    return *words[objective], *(size for size in SIZES if objective != "seq2seq" or "hidden" not in size)


class Interrupting(Console):
    """A console that sends SIGTERM to its own process when training reaches a moment."""

    def __init__(self, moment: str, step: int = 0):
        super().__init__(0, stream=io.StringIO())
        self.moment, self.at = moment, step

    def interrupt(self, moment: str, step: int) -> None:
        if (moment, step) == (self.moment, self.at):
            os.kill(os.getpid(), signal.SIGTERM)

    def start(self, title, rows):
        super().start(title, rows)
        self.interrupt("start", 0)

    def step(self, step, values):
        super().step(step, values)
        self.interrupt("step", step)

    def evaluation(self, step, split, scores):
        super().evaluation(step, split, scores)
        self.interrupt(split, step)


def history(run: Path) -> list[dict]:
    """All that was measured, but for how fast it went."""
    return [{name: value for name, value in row.items() if name not in PACE} for row in records.metrics(run)]


def content(run: Path) -> dict[str, bytes]:
    """The files of the last checkpoint, but for what names the run and how many workers it had."""
    files = [path for path in locate(f"{run}/last").rglob("*") if path.is_file()]
    return {path.name: path.read_bytes() for path in files if path.name not in ("manifest.json", "config.yaml")}


def assert_same_run(one: Path, other: Path) -> None:
    assert history(one) == history(other)
    first, second = content(one), content(other)
    assert {"model.safetensors", "optim.safetensors", "ema.safetensors", "state.json"} <= first.keys()
    assert [name for name in first.keys() | second.keys() if first.get(name) != second.get(name)] == []
    assert (one / "scores.json").read_bytes() == (other / "scores.json").read_bytes()


CHOSEN = [
    ("mlm", "full", 0, 3, "mid-epoch"),
    ("clm", "gradual", 0, 1, "epoch end"),
    ("classify", "lora", 2, 1, "epoch two"),
]
# every pair of two choices occurs
REST = [
    ("mlm", "lora", 2, 1, "epoch two"),
    ("lstm", "full", 0, 3, "mid-epoch"),
    ("lengths", "full", 2, 3, "mid-epoch"),
    ("lengths", "full", 0, 1, "epoch end"),
    ("generate", "lora", 0, 1, "epoch end"),
    ("translate", "full", 0, 1, "epoch end"),
    ("bert", "full", 2, 3, "epoch two"),
    ("lstm", "gradual", 2, 1, "epoch two"),
    ("lstm", "lora", 2, 3, "mid-epoch"),
    ("infill", "full", 2, 3, "mid-epoch"),
    ("clm", "full", 2, 3, "epoch two"),
    ("regress", "gradual", 0, 3, "epoch two"),
    ("classify", "frozen", 0, 1, "epoch two"),
    *(
        (objective, tuning, 2 * ((row + column) % 2), (1, 3)[(row + column // 2) % 2], list(STOPS)[(2 * row + column) % 3])
        for row, objective in enumerate(("mlm", "clm", "classify", "regress", "generate"))
        for column, tuning in enumerate(TUNINGS)
    ),
]
CASES = [*CHOSEN, *(pytest.param(*case, marks=pytest.mark.slow) for case in dict.fromkeys(REST) if case not in CHOSEN)]


@pytest.mark.parametrize(("objective", "tuning", "workers", "accumulate", "stop"), CASES)
def test_a_run_stopped_by_a_signal_goes_on_to_the_bit(objective, tuning, workers, accumulate, stop, train, data, tmp_path):
    words = *command(objective, data), *TUNINGS[tuning], *TRAINER, *STEPS[accumulate]
    whole = train(tmp_path / "whole", *words, "trainer.workers=0")
    with pytest.raises(Stopped, match="resume=auto") as stopped:
        train(tmp_path / "parts", *words, f"trainer.workers={workers}", console=Interrupting("step", STOPS[stop]))
    assert stopped.value.exit_code == 75
    assert locate(f"{tmp_path}/parts/last").name == f"step-{STOPS[stop]:010d}"
    parts = train(tmp_path / "parts", *words, f"trainer.workers={2 - workers}", resume="auto")
    assert_same_run(whole, parts)


@pytest.mark.slow
@pytest.mark.parametrize(("moment", "step", "saved"), [("start", 0, 0), ("valid", 3, 3), ("valid_ema", 6, 6)])
def test_a_signal_before_the_first_step_and_around_evaluations_costs_nothing(moment, step, saved, train, data, tmp_path):
    words = *command("classify", data), *TRAINER, *STEPS[1]
    whole = train(tmp_path / "whole", *words)
    with pytest.raises(Stopped):
        train(tmp_path / "parts", *words, console=Interrupting(moment, step))
    assert locate(f"{tmp_path}/parts/last").name.startswith(f"step-{saved:010d}")
    assert_same_run(whole, train(tmp_path / "parts", *words, resume="auto"))


@pytest.mark.slow
def test_after_a_resume_a_checkpoint_knows_the_same_of_its_images(train, tmp_path):
    words = "finetune", "ckpt=null", "model=linear", "task=classify", "dataset=digits", "transform.size=16", "device=cpu"
    words += "trainer.steps=4", "trainer.batch_size=8", "trainer.eval_batches=1", "trainer.save_every=1", "trainer.log_every=1"
    whole = train(tmp_path / "whole", *words)
    with pytest.raises(Stopped):
        train(tmp_path / "parts", *words, console=Interrupting("step", 2))
    parts = train(tmp_path / "parts", *words, resume="auto")
    known = [(locate(f"{run}/last") / "assets" / "data.json").read_text() for run in (whole, parts)]
    assert known[0] == known[1]


def test_a_run_stopped_at_every_step_goes_on_to_the_bit(train, data, tmp_path):
    words = *command("mlm", data), *TRAINER, *STEPS[1], "trainer.steps=4"
    whole = train(tmp_path / "whole", *words)
    for step in (1, 2, 3):
        with pytest.raises(Stopped):
            train(tmp_path / "parts", *words, resume="auto", console=Interrupting("step", step))
    assert_same_run(whole, train(tmp_path / "parts", *words, resume="auto"))


@pytest.mark.slow
def test_sigterm_from_outside_saves_and_exits_75_and_the_run_goes_on_to_the_bit(train, cli, data, tmp_path):
    words = [*command("clm", data), *TRAINER, *STEPS[1], "trainer.steps=60", "trainer.eval_every=null"]
    program = "import sys, torch; torch.set_num_threads(1); from ptft.cli import main; sys.exit(main(sys.argv[1:]))"
    arguments = [sys.executable, "-c", program, *words, f"run={tmp_path / 'parts'}"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while not (tmp_path / "parts" / "metrics.jsonl").exists() and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate()
    assert process.returncode == 75, errors
    assert "resume=auto" in errors.splitlines()[-1]
    assert 1 <= records.metrics(tmp_path / "parts")[-1]["step"] < 60
    assert cli(*words, f"run={tmp_path / 'parts'}", "resume=auto").code == 0
    assert_same_run(train(tmp_path / "whole", *words), tmp_path / "parts")


def test_the_same_command_twice_is_the_same_run_and_another_seed_is_another(train, data, tmp_path):
    words = *command("mlm", data), *TRAINER, *STEPS[1], "trainer.steps=3"
    one, two = (train(tmp_path / name, *words) for name in ("one", "two"))
    assert_same_run(one, two)
    other = train(tmp_path / "other", *words, "seed=1")
    assert content(other)["model.safetensors"] != content(one)["model.safetensors"]


def test_the_number_of_workers_changes_nothing(train, data, tmp_path):
    words = *command("mlm", data), *TRAINER, *STEPS[3], "trainer.steps=4"
    others = set(multiprocessing.active_children())
    runs = [train(tmp_path / str(workers), *words, f"trainer.workers={workers}") for workers in (0, 1, 2)]
    assert set(multiprocessing.active_children()) <= others  # a run takes its workers with it
    for run in runs[1:]:
        assert history(run) == history(runs[0])
        assert content(run)["model.safetensors"] == content(runs[0])["model.safetensors"]


SLOW = [
    pytest.param(name, marks=pytest.mark.slow)
    for name in ("bert", "plm", "bilm", "translate", "infill", "classify", "regress", "generate")
]


@pytest.mark.parametrize("objective", ["mlm", "clm", *SLOW])
def test_accumulating_small_batches_equals_the_big_one(objective, train, compose, data, tmp_path):
    plain = "model.dropout=0", "optimizer=sgd", "optimizer.lr=0.5", "schedule=constant", "trainer.clip=null"
    words = *command(objective, data), *plain, "trainer.steps=1", "trainer.eval_batches=1", "trainer.log_every=1"
    words += ("trainer.precision=fp32",)  # bf16 rounds products of batches of another shape otherwise
    # only its heads drop features of tasks
    words += ("objective.dropout=0",) if objective in ("classify", "regress") else ()
    settings = compose(*words)["trainer"]
    runs = []
    for size, times in ((12, 1), (4, 3), (1, 12)):
        trainer = {**settings, "batch_size": size, "accumulate": times}
        runs.append(train(tmp_path / str(size), *words, trainer=trainer))
    rows = [records.metrics(run)[0] for run in runs]
    assert rows[0]["grad_norm"] > 0.01
    for name in ("loss", "grad_norm"):
        assert [row[name] for row in rows] == pytest.approx([rows[0][name]] * 3, rel=1e-6)
    whole, *parts = (load_file(locate(f"{run}/last") / "model.safetensors") for run in runs)
    for part in parts:
        for name, value in part.items():
            torch.testing.assert_close(value, whole[name], rtol=1e-6, atol=1e-7)


RAGGED = ("bert", "classify", "generate", "translate", "seq2seq", "tag")


@pytest.mark.parametrize("objective", RAGGED)
def test_the_width_that_a_batch_is_padded_to_changes_no_loss_and_no_prediction(objective, compose, data, tmp_path, monkeypatch):
    tagged = tmp_path / "tagged.conll"
    tagged.write_text(
        "".join(f"Ann B-PER\nsat O\n{'on O' * (row % 2)}\n{'Bob B-PER' * (row % 3 > 1)}\n\n" for row in range(60))
    )
    own = ("dataset=tagged_text", f"dataset.path={tagged}") if objective == "tag" else ()
    stage = build.stage(compose(*command(objective, data), *own, "device=cpu", "model.dropout=0"))
    objective, loader = stage.objective.eval(), stage.loader("train", 5)
    widths, found = [], []
    for multiple in (1, 8):
        monkeypatch.setattr(text, "WIDTHS", multiple)
        batches = list(loader.epoch())
        with torch.no_grad():
            outputs = [objective(batch) for batch in batches]
        widths.append([batch["inputs"]["tokens"].shape[1] for batch in batches])
        found.append([(output.loss / output.count, output.count, output.prediction) for output in outputs])
    assert any(width % 8 for width in widths[0])
    assert all(width % 8 == 0 for width in widths[1])
    for (loss, count, prediction), (wide_loss, wide_count, wide_prediction) in zip(*found, strict=True):
        torch.testing.assert_close(wide_loss, loss, rtol=1e-6, atol=0)
        assert wide_count == count
        if isinstance(prediction, torch.Tensor):
            torch.testing.assert_close(wide_prediction, prediction, rtol=1e-5, atol=1e-6)
        else:  # texts that were written
            assert wide_prediction == prediction


@pytest.mark.slow
def test_a_run_stopped_on_a_plateau_goes_on_to_the_bit(train, data, tmp_path):
    plateau = "schedule=plateau", "schedule.patience=2", "schedule.factor=0.5", "schedule.warmup=1", "optimizer.lr=1e-30"
    words = *command("classify", data), *TRAINER, *STEPS[1], *plateau, "trainer.eval_every=1", "trainer.ema_every=3"
    whole = train(tmp_path / "whole", *words, "trainer.steps=9")
    with pytest.raises(Stopped):  # a cut comes after evaluations 3, 5 and 7: the first is the best
        train(tmp_path / "parts", *words, "trainer.steps=9", console=Interrupting("step", 4))
    assert_same_run(whole, train(tmp_path / "parts", *words, "trainer.steps=9", resume="auto"))
    rates = [row["lr"] for row in history(whole) if row["split"] == "train"]
    assert rates == pytest.approx([0.5e-30, 1e-30, 1e-30, 0.5e-30, 0.5e-30, 0.25e-30, 0.25e-30, 0.125e-30, 0.125e-30])


VIEWS = ("pretrain", "objective=simsiam", "objective.probe=null", "objective.width=8", "model.width=4", "transform.size=16")


@pytest.mark.slow
def test_looks_at_the_health_change_no_bit_and_a_run_stopped_between_them_goes_on_to_the_bit(train, tmp_path):
    words = *VIEWS, *TRAINER, *STEPS[1]
    looked = train(tmp_path / "looked", *words, "trainer.health_every=2")
    blind = train(tmp_path / "blind", *words, "trainer.health_every=null")
    looks = [row for row in history(looked) if row["split"] == "health"]
    assert [row["step"] for row in looks] == [2, 4, 6, 8]
    assert looks[0].keys() == {"step", "split", "loss", "feature_std", "effective_rank", "alignment", "uniformity"}
    assert [row for row in history(looked) if row not in looks] == history(blind)
    assert content(looked) == content(blind)
    with pytest.raises(Stopped):
        train(tmp_path / "parts", *words, "trainer.health_every=2", console=Interrupting("step", 4))
    assert_same_run(looked, train(tmp_path / "parts", *words, "trainer.health_every=2", resume="auto"))


@pytest.fixture
def seen(monkeypatch):
    """The rows of every training batch that was made, in their order."""
    rows, original = [], Assembly.__getitem__

    def noted(assembly, question):
        start, stop, training = question
        rows.extend(assembly.order.places(start, stop)[1].tolist() if training else [])
        return original(assembly, question)

    monkeypatch.setattr(Assembly, "__getitem__", noted)
    return rows


@pytest.mark.parametrize(
    ("other", "size", "left"),
    [
        (("trainer.batch_size=4",), 4, 12),
        pytest.param(("trainer.batch_size=3", "trainer.accumulate=5"), 15, 4, marks=pytest.mark.slow),
    ],
)
def test_a_run_that_goes_on_in_batches_of_another_size_sees_each_row_once_an_epoch(
    other, size, left, seen, train, data, tmp_path
):
    words = *command("mlm", data), *(word for word in TRAINER if not word.startswith("trainer.steps"))
    words += "trainer.epochs=2", "schedule=linear", "schedule.warmup=0", "optimizer.lr=0.01"
    with pytest.raises(Stopped):
        train(tmp_path / "run", *words, *STEPS[1], console=Interrupting("step", 2))
    allowed = "resume_allow=[trainer.batch_size,trainer.accumulate]"
    run = train(tmp_path / "run", *words, *other, allowed, resume="auto")
    assert sorted(seen[:30]) == sorted(seen[30:60]) == list(range(30))
    assert len(seen) == 12 + left * size
    rows = [row for row in history(run) if row["split"] == "train"]
    assert [row["step"] for row in rows] == list(range(1, 3 + left))
    starts = [0, 6, *range(12, 60, size)]  # of 60 rows in all, which step takes which first
    assert [row["lr"] for row in rows] == pytest.approx([0.01 * (1 - start / 60) for start in starts], rel=1e-6)
    card = (run / "README.md").read_text()
    assert "before row 12 of the training stream: each row still comes once an epoch" in card


@pytest.mark.slow
def test_a_run_in_batches_of_another_size_that_is_stopped_again_goes_on_to_the_bit(train, data, tmp_path):
    words = *command("mlm", data), *(word for word in TRAINER if not word.startswith("trainer.steps")), "trainer.epochs=2"
    other = "trainer.batch_size=4", "resume_allow=[trainer.batch_size]"
    for name in ("whole", "parts"):
        with pytest.raises(Stopped):
            train(tmp_path / name, *words, *STEPS[1], console=Interrupting("step", 2))
    with pytest.raises(Stopped):
        train(tmp_path / "parts", *words, *other, resume="auto", console=Interrupting("step", 6))
    runs = [train(tmp_path / name, *words, *other, resume="auto") for name in ("whole", "parts")]
    assert_same_run(*runs)
