"""What the training loop does and when: evaluate, save, stop early, survive numbers that are not finite."""

from __future__ import annotations

import errno
import json
import math
import re

import pytest
import torch
from safetensors.torch import load_file

from ptft import checkpoint, durable, events, journal, pictures
from ptft.commands.show import what_next
from ptft.errors import CheckpointError, DataError, Diverged, MachineError, UserError
from ptft.locate import locate
from ptft.objectives import bert
from ptft.records import checkpoints, metrics, read_json
from ptft.tasks.classify import Classify
from ptft.tuning import Full

MODEL = ("model=transformer_tiny", "model.dim=16", "model.heads=2", "model.hidden=32", "tokenizer=byte", "device=cpu")
SCRATCH = ("finetune", "ckpt=null", *MODEL)
EACH_STEP = ("trainer.batch_size=4", "trainer.log_every=1", "trainer.eval_batches=2")
SEED_AND_NOTHING_ELSE = ("model.dropout=0", "objective.dropout=0", "schedule=constant", "trainer.clip=null")

FRAGILE = """
from typing import Any, Literal

from torch import nn

from ptft.tasks.classify import Classify


class Fragile(Classify):
    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,
        num_classes: int,
        labels: list[str],
        pooling: Literal["mean", "max"],
        breaks: list[int],
    ):
        super().__init__(model, num_classes, labels, pooling, 0.0, 0.0, 0.0, 0.0, None, tokenizer)
        self.breaks, self.step = breaks, 0

    def forward(self, batch):
        output = super().forward(batch)
        if self.training:
            output.loss = output.loss * (float("nan") if self.step in self.breaks else 1)
            self.step += 1
        return output
"""


@pytest.fixture
def fragile(train, compose, data, tmp_path, monkeypatch):
    """Train with a task of the user's own whose loss is NaN at some steps."""
    (tmp_path / "fragile_task.py").write_text(FRAGILE)
    monkeypatch.syspath_prepend(tmp_path)

    def run(breaks: list[int], *words: str):
        plain = *SCRATCH, *data.classes, *EACH_STEP, "trainer.save_every=1", *words
        task = {"_target_": "fragile_task.Fragile", "pooling": "mean", "breaks": breaks}
        return train(tmp_path / "run", *plain, objective=task, trusted_modules=["fragile_task"])

    return run


def rows(run, split: str) -> list[dict]:
    return [row for row in metrics(run) if row["split"] == split]


def steps(run, split: str) -> list[int]:
    return [row["step"] for row in rows(run, split)]


def saved(run) -> list[int]:
    return [found["step"] for found in checkpoints(run)]


def weights(run, pointer: str = "last") -> dict:
    return load_file(locate(f"{run}/{pointer}") / "model.safetensors")


def bad_batches(run) -> list[dict]:
    return [json.loads(line) for line in (run / "bad_batches.jsonl").read_text().splitlines()]


def assert_all_finite(run) -> None:
    tensors = [value for path in run.rglob("*.safetensors") for value in load_file(path).values()]
    assert tensors
    assert all(value.isfinite().all() for value in tensors)


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_rows(fragile, tmp_path):
    with pytest.raises(Diverged, match="step 2: loss nan") as stop:
        fragile([2], "trainer.steps=5")
    assert stop.value.exit_code == 5
    (bad,) = bad_batches(tmp_path / "run")
    assert bad["step"] == 2
    assert bad["loss"] == "nan"
    assert len(set(bad["rows"])) == 4
    assert saved(tmp_path / "run")[-1] == 2
    assert_all_finite(tmp_path / "run")


def test_a_run_that_diverges_before_its_first_save_keeps_the_weights_from_before(fragile, tmp_path):
    with pytest.raises(Diverged, match="step 1"):
        fragile([1], "trainer.steps=5", "trainer.save_every=null", "trainer.eval_every=null")
    assert saved(tmp_path / "run") == [1]
    assert_all_finite(tmp_path / "run")


def test_what_a_loss_that_is_not_finite_is_made_of_is_written_down(train, data, tmp_path, monkeypatch):
    loss = bert.token_loss
    monkeypatch.setattr(bert, "token_loss", lambda *arguments: loss(*arguments) * math.nan)
    words = "pretrain", "objective=bert", *MODEL, "model.segments=2", *data.text, "dataset.documents=line"
    with pytest.raises(Diverged):
        train(tmp_path / "run", *words, "trainer.steps=2", "trainer.batch_size=4")
    (bad,) = bad_batches(tmp_path / "run")
    assert bad["mlm_loss"] == "nan" and 0 < bad["nsp_loss"] < 2


def test_skip_leaves_a_bad_step_out_and_goes_on(fragile):
    run = fragile([1], "trainer.steps=3", "trainer.nonfinite=skip", "trainer.keep_last=9")
    assert [bad["step"] for bad in bad_batches(run)] == [1]
    one, two, three = (load_file(found["path"] / "model.safetensors") for found in checkpoints(run))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not all(torch.equal(two[name], three[name]) for name in one)


@pytest.mark.slow
def test_skip_gives_up_after_three_bad_steps_in_a_row(fragile, tmp_path):
    with pytest.raises(Diverged, match="step 6"):
        fragile([1, 2, 4, 5, 6], "trainer.steps=9", "trainer.nonfinite=skip")
    assert [bad["step"] for bad in bad_batches(tmp_path / "run")] == [1, 2, 4, 5, 6]
    assert_all_finite(tmp_path / "run")


def test_rollback_takes_up_the_last_checkpoint_and_the_data_that_comes_next(fragile):
    run = fragile([3], "trainer.steps=4", "trainer.nonfinite=rollback", "trainer.save_every=2", "trainer.eval_every=null")
    states = {found["step"]: load_file(found["path"] / "model.safetensors") for found in checkpoints(run)}
    assert all(torch.equal(states[4][name], states[2][name]) for name in states[2])
    assert read_json(locate(f"{run}/last") / "state.json")["progress"]["samples"] == 16


@pytest.mark.parametrize("policy", ["stop", "skip", "rollback"])
def test_a_rate_that_explodes_ends_with_exit_code_5_and_only_finite_checkpoints(policy, train, data, tmp_path):
    words = *SCRATCH, *data.classes, *EACH_STEP, "trainer.steps=9", "trainer.save_every=1", f"trainer.nonfinite={policy}"
    with pytest.raises(Diverged) as stop:
        train(tmp_path / "run", *words, "optimizer.lr=1e20", "schedule=constant")
    assert stop.value.exit_code == 5
    assert "step" in str(stop.value)
    for path in (tmp_path / "run").rglob("*.safetensors"):
        assert all(value.isfinite().all() for value in load_file(path).values())


@pytest.mark.parametrize(
    ("every", "expected"),
    [
        ("3", [3, 6, 8]),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (("0.25", [2, 4, 6, 8]), ("'2 epochs'", [4, 8]), ("null", [8]))
        ),
    ],
)
def test_evaluating_and_saving_come_in_steps_shares_or_epochs_and_at_the_end(every, expected, train, data, tmp_path):
    words = *SCRATCH, *data.classes, *EACH_STEP, "trainer.steps=8", "trainer.train_rows=8", "trainer.keep_last=99"
    evaluated = train(tmp_path / "eval", *words, f"trainer.eval_every={every}", "trainer.save_every=null")
    assert steps(evaluated, "valid") == expected
    kept = train(tmp_path / "save", *words, f"trainer.save_every={every}", "trainer.eval_every=null")
    assert saved(kept) == expected
    assert steps(kept, "train") == list(range(1, 9))


def test_early_stopping_waits_for_so_many_evaluations_without_a_better_score(train, data, tmp_path):
    words = *SCRATCH, *data.classes, *EACH_STEP, "optimizer.lr=1e-30", "trainer.steps=20", "trainer.eval_every=2"
    run = train(tmp_path / "run", *words, "trainer.patience=3")
    assert steps(run, "valid") == [2, 4, 6, 8]  # the first is the best
    assert saved(run)[-1] == 8
    assert "stopped early at step 8" in (run / "README.md").read_text()


def test_the_best_checkpoint_is_the_one_with_the_best_validation_score_and_the_final_scores_are_its(train, data, tmp_path):
    wrong = tmp_path / "wrong.csv"  # what is learnt of the training rows is wrong here
    wrong.write_text("text,label\n" + "the big cat sat on the rug,old\nthe old cat sat on the rug,big\n" * 4)
    words = *SCRATCH, *data.classes, f"dataset.valid_path={wrong}", *EACH_STEP, "trainer.steps=30", "trainer.eval_every=5"
    words += ("trainer.precision=fp32",)  # as the final scores are computed
    run = train(tmp_path / "run", *words, "trainer.best=loss", "optimizer.lr=0.02", "schedule=constant")
    measured = {row["step"]: row["loss"] for row in rows(run, "valid")}
    best = min(measured, key=measured.get)
    assert best < 30
    assert locate(f"{run}/best").name == f"step-{best:010d}"
    assert read_json(run / "scores.json")["valid"]["loss"] == pytest.approx(measured[best], rel=1e-6)


def test_the_final_scores_are_of_whole_splits_however_little_is_looked_at_on_the_way(train, data, tmp_path):
    words = (
        *SCRATCH,
        *data.classes,
        "trainer.batch_size=4",
        "trainer.steps=2",
        "trainer.eval_every=null",
        "trainer.precision=fp32",
    )
    little = train(tmp_path / "little", *words, "trainer.eval_batches=1")
    whole = train(tmp_path / "whole", *words, "trainer.eval_batches=null")
    assert rows(little, "valid")[0]["loss"] != rows(whole, "valid")[0]["loss"]
    assert read_json(little / "scores.json") == read_json(whole / "scores.json")


def test_before_each_step_the_tuning_and_after_it_the_objective_are_told_how_much_of_the_run_is_done(
    train, data, tmp_path, monkeypatch
):
    told = []
    monkeypatch.setattr(Full, "advance", lambda self, progress: told.append(("tuning", progress)))
    monkeypatch.setattr(Classify, "after_step", lambda self, progress: told.append(("objective", progress)))
    train(tmp_path / "run", *SCRATCH, *data.classes, *EACH_STEP, "trainer.steps=4")
    assert told == [(who, step / 4) for step in range(4) for who in ("tuning", "objective")]


@pytest.mark.slow
def test_another_score_can_choose_and_one_that_does_not_exist_is_refused_before_the_first_step(train, data, tmp_path):
    words = *SCRATCH, *data.classes, *EACH_STEP, "trainer.steps=4", "trainer.eval_every=1", "optimizer.lr=0.05"
    run = train(tmp_path / "run", *words, "trainer.best=loss")
    measured = {row["step"]: row["loss"] for row in rows(run, "valid")}
    assert locate(f"{run}/best").name == f"step-{min(measured, key=measured.get):010d}"
    with pytest.raises(UserError, match="trainer.best=acuracy: there is no such score; did you mean 'accuracy'"):
        train(tmp_path / "no", *words, "trainer.best=acuracy")
    assert not (tmp_path / "no" / "metrics.jsonl").exists()


def test_of_weights_with_the_same_score_those_with_the_lower_loss_are_the_best(train, data, tmp_path):
    words = *SCRATCH, *data.classes, *EACH_STEP, "trainer.steps=4", "trainer.eval_every=1", "schedule=constant"
    run = train(tmp_path / "run", *words, "optimizer.lr=1e-6", "trainer.precision=fp32")  # bf16 sees no such small steps
    measured = rows(run, "valid")
    assert len({row["accuracy"] for row in measured}) == 1
    lowest = min(measured, key=lambda row: row["loss"])
    assert lowest["step"] > 1
    assert locate(f"{run}/best").name == f"step-{lowest['step']:010d}"


OWN_SCORE = """
from typing import Any

import torch

from ptft.tasks.classify import Classify


class OffBy(Classify):
    score = "{score}"
    lower = ("off_by",)

    def __init__(self, model: torch.nn.Module, tokenizer: Any, num_classes: int, labels: list[str]):
        super().__init__(model, num_classes, labels, "mean", 0.0, 0.0, 0.0, 0.0, None, tokenizer)
        self.seen = 0

    def scores(self, means):
        self.seen += 1
        return {{"off_by": float(self.seen)}}
"""


@pytest.fixture
def own_score(train, data, tmp_path, monkeypatch):
    """Train with a task of the user's own whose score off_by grows with each evaluation; its `score` is named."""

    def run(name: str, *more: str):
        (tmp_path / f"task_of_{name}.py").write_text(OWN_SCORE.format(score=name))
        monkeypatch.syspath_prepend(tmp_path)
        words = *SCRATCH, *data.classes, *EACH_STEP, "trainer.steps=3", "trainer.eval_every=1", *more
        task = {"_target_": f"task_of_{name}.OffBy"}
        return train(tmp_path / "run", *words, objective=task, trusted_modules=[f"task_of_{name}"])

    return run


def test_a_score_that_the_task_calls_lower_keeps_the_checkpoint_where_it_is_lowest(own_score):
    run = own_score("off_by")
    assert [row["off_by"] for row in rows(run, "valid")] == [1, 2, 3]
    assert locate(f"{run}/best").name == "step-0000000001"
    assert "The best checkpoint, step 1, was chosen on **valid** by off_by" in (run / "README.md").read_text()
    assert read_json(locate(run) / "assets" / "data.json")["lower"] == ["off_by"], "so that others know it, too"


def test_the_commands_that_go_on_from_a_run_trust_what_it_trusted(own_score):
    run = own_score("of_by")
    begun = f"ckpt={run} 'trusted_modules=[task_of_of_by]'"
    assert what_next(run) == [f"ptft evaluate {begun} split=test", f"ptft predict {begun} input=FILE"]


def test_a_score_that_no_evaluation_gives_is_said_with_those_there_are(own_score):
    card = (own_score("of_by") / "README.md").read_text()
    assert card.count("the evaluation gives no 'of_by' to choose the best weights by, only accuracy, ") == 1
    assert "(did you mean off_by?); those of the last step are kept" in card
    assert "No split chose the weights: they are those of the last step" in card


def test_test_is_scored_once_at_the_end_and_scores_have_the_fields_names(train, data, tmp_path):
    words = *SCRATCH, *data.classes, *EACH_STEP, "trainer.steps=4", "trainer.eval_every=1"
    run = train(tmp_path / "run", *words)
    assert steps(run, "test") == []
    assert steps(run, "final_test") == steps(run, "final_valid") == [4]
    scores = read_json(run / "scores.json")
    assert scores.keys() == {"valid", "test"}
    for split in scores.values():
        assert {"loss", "accuracy", "balanced_accuracy", "f1_macro", "precision_macro", "recall_macro", "ece"} <= split.keys()
        assert all(re.fullmatch("[a-z0-9_]+", name) for name in split)
        assert split["per_class"]["f1"].keys() == {"big", "old", "red", "small"}
    assert {"step", "split", "loss", "lr", "grad_norm", "tokens"} <= rows(run, "train")[0].keys()
    assert "chosen" in (run / "README.md").read_text() or "valid" in (run / "README.md").read_text()


def test_language_models_report_loss_perplexity_and_bits(clm_run, mlm_run):
    for run in (clm_run, mlm_run):
        found = read_json(run / "scores.json")["valid"]
        assert found["perplexity"] == pytest.approx(math.exp(found["loss"]))
    found = read_json(clm_run / "scores.json")["valid"]
    assert found["bits_per_byte"] >= found["loss"] / math.log(2) * 0.9  # a byte is at most a token


@pytest.mark.slow
def test_smoothing_labels_raises_the_training_loss_of_a_sure_model_and_no_other(train, data, tmp_path):
    words = *SCRATCH, *data.classes, *EACH_STEP, *SEED_AND_NOTHING_ELSE, "trainer.steps=1", "optimizer.lr=1e-30"
    plain, smooth = (train(tmp_path / str(share), *words, f"objective.label_smoothing={share}") for share in (0.0, 0.4))
    assert rows(plain, "valid")[0]["loss"] == rows(smooth, "valid")[0]["loss"]
    assert rows(plain, "train")[0]["loss"] != rows(smooth, "train")[0]["loss"]


def test_clipping_bounds_the_length_of_a_step_and_the_log_has_the_norm_before_it(train, data, tmp_path):
    sgd = "optimizer=sgd", "optimizer.momentum=0", "optimizer.nesterov=false", "optimizer.weight_decay=0", "optimizer.lr=1"
    words = *SCRATCH, *data.classes, *EACH_STEP, *SEED_AND_NOTHING_ELSE, *sgd, "trainer.steps=1"
    start = weights(train(tmp_path / "start", *words, "optimizer.lr=1e-30"))
    free = train(tmp_path / "free", *words)
    norm = rows(free, "train")[0]["grad_norm"]
    clipped = train(tmp_path / "clipped", *words, f"trainer.clip={norm / 10}")
    assert rows(clipped, "train")[0]["grad_norm"] == pytest.approx(norm)
    whole, tenth = weights(free), weights(clipped)
    for name in start:
        torch.testing.assert_close(tenth[name] - start[name], (whole[name] - start[name]) / 10, rtol=1e-3, atol=1e-6)


def test_each_parameter_can_be_clipped_by_its_own_norm(train, data, tmp_path):
    sgd = "optimizer=sgd", "optimizer.momentum=0", "optimizer.nesterov=false", "optimizer.weight_decay=0", "optimizer.lr=1"
    words = *SCRATCH, *data.classes, *EACH_STEP, *SEED_AND_NOTHING_ELSE, *sgd, "trainer.steps=1"
    start = weights(train(tmp_path / "start", *words, "optimizer.lr=1e-30"))
    whole = weights(train(tmp_path / "free", *words))
    lengths = {name: (whole[name] - start[name]).norm().item() for name in start}
    bound = sorted(lengths.values())[len(lengths) // 2]
    each = weights(train(tmp_path / "each", *words, f"trainer.clip={bound}", "trainer.clip_each=true"))
    for name, length in lengths.items():
        step = (whole[name] - start[name]) * min(1.0, bound / length if length else 1.0)
        torch.testing.assert_close(each[name] - start[name], step, rtol=1e-3, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_trains_about_as_full_precision_does(precision, train, data, tmp_path):
    words = *SCRATCH, *data.classes, *EACH_STEP, *SEED_AND_NOTHING_ELSE, "trainer.steps=4", "optimizer.lr=2e-4"
    full, half = (train(tmp_path / kind, *words, f"trainer.precision={kind}") for kind in ("fp32", precision))
    losses = [[row["loss"] for row in rows(run, "train")] for run in (full, half)]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)
    assert losses[1] != losses[0]
    assert all(value.dtype == torch.float32 for value in weights(half).values())


def test_fp16_skips_a_loss_that_is_not_finite_too(fragile):
    run = fragile([1], "trainer.steps=3", "trainer.nonfinite=skip", "trainer.precision=fp16")
    assert [bad["step"] for bad in bad_batches(run)] == [1]
    assert_all_finite(run)


def test_one_validation_row_is_enough_for_every_score_but_the_explained_variance(train, data, tmp_path):
    one = tmp_path / "one.csv"
    one.write_text("text,label\na cat,3\n")
    words = *SCRATCH, *data.numbers, f"dataset.valid_path={one}", "task=regress", *EACH_STEP, "trainer.steps=1"
    (found,) = rows(train(tmp_path / "run", *words), "valid")
    assert math.isfinite(found["mse"])
    assert math.isnan(found["r2"])


@pytest.fixture
def half(train, data, tmp_path):
    """A run to continue, and the words that started it."""
    words = *SCRATCH, *data.classes, *EACH_STEP, "trainer.steps=2"
    return train(tmp_path / "half", *words), words


def test_a_resumed_run_refuses_changed_settings_by_old_and_new_value_unless_allowed(half, train, cli):
    run, words = half
    answer = cli(*words, f"run={run}", "resume=auto", "optimizer.lr=0.5", "trainer.steps=4")
    assert answer.code == 2
    assert "optimizer.lr 0.001 -> 0.5" in answer.complaint
    assert "trainer.steps 2 -> 4" in answer.complaint
    assert "resume_allow=[optimizer.lr,trainer.steps]" in answer.complaint
    allowed = "optimizer.lr=0.5", "trainer.steps=4", "resume_allow=[optimizer.lr,trainer.steps]"
    train(run, *words, *allowed, resume="auto")
    assert [row["step"] for row in rows(run, "train")] == [1, 2, 3, 4]
    assert "optimizer.lr 0.001 -> 0.5" in (run / "README.md").read_text()


def test_a_batch_of_another_size_goes_on_at_the_same_sample(half, train):
    run, words = half
    other = "trainer.batch_size=8", "trainer.steps=3", "resume_allow=[trainer]"
    train(run, *words, *other, resume="auto")
    assert read_json(locate(f"{run}/last") / "state.json")["progress"]["samples"] == 2 * 4 + 8


def test_a_finished_run_that_is_resumed_stays_as_it_is(half, train):
    run, words = half
    before, scores = metrics(run), (run / "scores.json").read_text()
    train(run, *words, resume="auto")
    assert rows(run, "train") == [row for row in before if row["split"] == "train"]
    assert (run / "scores.json").read_text() == scores


def test_a_second_run_in_the_folder_of_another_is_refused(half, train):
    run, words = half
    with pytest.raises(UserError, match="holds a run already") as refusal:
        train(run, *words)
    assert refusal.value.exit_code == 2


def test_data_that_changed_since_the_run_began_are_refused_with_exit_code_4(train, data, tmp_path):
    file = tmp_path / "rows.csv"
    file.write_text((data.folder / "classes.csv").read_text())
    words = *SCRATCH, "dataset=labelled_text", f"dataset.path={file}", *EACH_STEP, "trainer.steps=1"
    run = train(tmp_path / "run", *words)
    with file.open("a") as stream:
        stream.write("the new cat,old\n")
    with pytest.raises(CheckpointError, match=r"the data changed.*resume_allow=\[data\]") as refusal:
        train(run, *words, resume="auto")
    assert refusal.value.exit_code == 4
    more = "trainer.steps=2", "resume_allow=[data,trainer.steps]"
    assert steps(train(run, *words, *more, resume="auto"), "train") == [1, 2]


def test_data_that_are_gone_at_resume_are_named(half, train, data, tmp_path):
    _, words = half
    file = tmp_path / "rows.csv"
    file.write_text((data.folder / "classes.csv").read_text())
    words = tuple(f"dataset.path={file}" if word.startswith("dataset.path") else word for word in words)
    run = train(tmp_path / "run", *words)
    file.unlink()
    with pytest.raises(DataError, match="rows.csv"):
        train(run, *words, resume="auto")


def test_a_batch_larger_than_the_data_is_refused_with_exit_code_3(train, data, tmp_path):
    with pytest.raises(DataError, match=r"trainer.batch_size=500 is more than the \d+ training rows") as refusal:
        train(tmp_path / "run", *SCRATCH, *data.classes, "trainer.batch_size=500")
    assert refusal.value.exit_code == 3


@pytest.mark.parametrize("content", ["", "text,label\n", "text,label\n ,big\n ,small\n"])
def test_data_without_a_row_are_refused_with_exit_code_3(content, train, tmp_path):
    file = tmp_path / "rows.csv"
    file.write_text(content)
    with pytest.raises(DataError, match="rows.csv"):
        train(tmp_path / "run", *SCRATCH, "dataset=labelled_text", f"dataset.path={file}")


def test_text_without_a_character_is_refused_with_exit_code_3(train, tmp_path):
    file = tmp_path / "nothing.txt"
    file.write_text("\n\n")
    with pytest.raises(DataError):
        train(tmp_path / "run", "pretrain", *MODEL, "dataset=text", f"dataset.path={file}")


@pytest.fixture
def full_disk(monkeypatch):
    """A disk without room for the checkpoints of some steps."""

    def fill(*steps: int):
        save = checkpoint.save

        def refused(folder, step, *more):
            if step in steps:
                raise MachineError(f"{folder}: cannot save: No space left on device; 99 bytes needed, 9 free")
            return save(folder, step, *more)

        monkeypatch.setattr(checkpoint, "save", refused)

    return fill


SAVING = ("trainer.steps=6", "trainer.save_every=2", "trainer.eval_every=null", "trainer.keep_last=9")


def test_a_full_disk_ends_a_run_unless_it_is_told_to_warn(full_disk, train, data, tmp_path):
    full_disk(4)
    words = *SCRATCH, *data.classes, *EACH_STEP, *SAVING
    with pytest.raises(MachineError, match="No space left"):
        train(tmp_path / "stop", *words)
    assert saved(tmp_path / "stop") == [2]
    run = train(tmp_path / "warn", *words, "trainer.on_save_error=warn")
    assert saved(run) == [2, 6]
    assert steps(run, "train") == [1, 2, 3, 4, 5, 6]
    assert "step 4 is not saved, training goes on" in (run / "README.md").read_text()


def test_metrics_and_pictures_that_a_full_disk_refuses_end_a_run_unless_it_is_told_to_warn(train, data, tmp_path, monkeypatch):
    def refused(*about):
        raise OSError(errno.ENOSPC, "No space left on device")

    for module, name in ((journal, "whole"), (events, "whole")):
        monkeypatch.setattr(module, name, refused)
    monkeypatch.setattr(pictures, "schedule", durable.refusals("schedule.png")(refused))
    words = *SCRATCH, *data.classes, *EACH_STEP, *SAVING
    with pytest.raises(MachineError, match="No space left") as full:
        train(tmp_path / "stop", *words)
    assert full.value.exit_code == 6
    run = train(tmp_path / "warn", *words, "trainer.on_save_error=warn")
    assert saved(run) == [2, 4, 6] and metrics(run) == []
    assert {"valid", "test"} == set(read_json(run / "scores.json"))
    card = (run / "README.md").read_text()
    for name in ("metrics.jsonl", "tensorboard/", "schedule.png"):
        assert f"{name} lacks what the disk refused, training goes on" in card


def test_a_disk_that_refuses_the_last_checkpoint_ends_the_run_whatever_it_is_told(full_disk, train, data, tmp_path):
    full_disk(4, 6)
    with pytest.raises(MachineError, match="No space left") as refused:
        train(tmp_path / "run", *SCRATCH, *data.classes, *EACH_STEP, *SAVING, "trainer.on_save_error=warn")
    assert refused.value.exit_code == 6
    assert saved(tmp_path / "run") == [2]


def test_weights_that_could_not_be_saved_are_not_the_best_that_later_ones_must_beat(full_disk, own_score):
    full_disk(1)
    run = own_score("off_by", "trainer.on_save_error=warn")
    assert [row["off_by"] for row in rows(run, "valid")] == [1, 2, 3]
    assert locate(f"{run}/best").name == "step-0000000002"


def test_a_plateau_without_scores_to_watch_is_refused_in_one_line(train, data, tmp_path):
    words = *SCRATCH, *data.classes, *EACH_STEP, "schedule=plateau", "trainer.eval_every=null"
    with pytest.raises(UserError, match=r"^schedule.*: patience: no score tells a plateau without .* trainer.eval_every$"):
        train(tmp_path / "run", *words)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("trainer.ema=0.9", "trainer.ema_half_life=0.1"), "trainer.ema_half_life: says what trainer.ema=0.9 says already"),
        (("trainer.ema_every=4",), "trainer.ema_every: there is no average to update; give trainer.ema=0.999"),
        (("trainer.ema_half_life=0",), "trainer.ema_half_life: expected more than 0"),
        (("trainer.ema_half_life='0 epochs'",), "trainer.ema_half_life: expected more than 0"),
        (("trainer.ema_half_life=often",), "ema_half_life=often: give steps"),
        (("trainer.on_save_error=ignore",), "trainer.on_save_error: expected one of stop, warn, found 'ignore'"),
        (("trainer.health_every=0",), "trainer.health_every: expected at least 1, found 0"),
    ],
)
def test_settings_that_contradict_each_other_are_refused_by_name(words, told, cli, data):
    answer = cli(*SCRATCH, *data.classes, *words)
    assert answer.code == 2
    assert told in answer.err
