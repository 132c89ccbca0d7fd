from __future__ import annotations

import json
import shlex

import numpy as np
import pytest
from PIL import Image

from ptft.errors import Diverged, MachineError
from ptft.records import checkpoints, metrics, read_json
from ptft.run import Run


def test_a_run_leaves_its_configuration_card_metrics_pictures_and_checkpoints(cli, data, tmp_path):
    run = tmp_path / "run"
    small = "model=transformer_tiny", "model.dim=16", "model.heads=2", "tokenizer=byte", "device=cpu"
    answer = cli("finetune", "ckpt=null", f"run={run}", *small, *data.classes, "preset=smoke")
    assert answer.code == 0, answer.err
    left = {path.name for path in run.iterdir()}
    assert {"config.yaml", "README.md", "metrics.jsonl", "scores.json", "run.json", "checkpoints", "tensorboard"} <= left
    for picture in ("curves.png", "schedule.png", "confusion_matrix.png"):
        assert (run / picture).read_bytes().startswith(b"\x89PNG")
    assert list((run / "samples").iterdir())
    card = (run / "README.md").read_text()
    for known in ("ptft finetune ckpt=null", str(data.folder / "classes.csv"), "accuracy", "test"):
        assert known in card
    assert f"ptft predict ckpt={run} input=FILE" in answer.out
    assert all(json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines())


def test_the_tables_are_those_of_the_chosen_weights_not_of_the_last_ones(train, data, tmp_path):
    small = "model=transformer_tiny", "model.dim=16", "model.heads=2", "tokenizer=byte", "device=cpu"
    rate = "optimizer.lr=0.3", "schedule=constant", "schedule.warmup=0", "trainer.best=loss"
    lengths = "trainer.steps=6", "trainer.eval_every=1", "trainer.keep_last=1"
    run = train(tmp_path / "run", "finetune", "ckpt=null", *small, *data.classes, *rate, *lengths)
    (chosen,) = (row["step"] for row in checkpoints(run) if row["is"] == "best")
    assert chosen < 6
    for split, scores in read_json(run / "scores.json").items():
        table = read_json(run / "tables" / f"{split}.json")
        right = sum(row[number] for number, row in enumerate(table["confusion_matrix"]))
        assert table["step"] == chosen
        assert right / sum(map(sum, table["confusion_matrix"])) == pytest.approx(scores["accuracy"])
    assert {path.name for path in (run / "tables").iterdir()} == {"valid.json", "test.json"}


@pytest.mark.slow
@pytest.mark.parametrize(("words", "split"), [(("dataset.test_fraction=0",), "valid"), ((), "test")])
def test_only_a_split_that_there_is_is_suggested_for_scoring(words, split, cli, data, tmp_path):
    small = "model=transformer_tiny", "model.dim=16", "model.heads=2", "tokenizer=byte", "device=cpu", "preset=smoke"
    answer = cli("finetune", "ckpt=null", f"run={tmp_path / 'run'}", *small, *data.classes, *words)
    assert answer.code == 0, answer.err
    (scored,) = (line.strip() for line in answer.out.splitlines() if line.startswith("  ptft evaluate"))
    assert scored == f"ptft evaluate ckpt={tmp_path / 'run'} split={split}"
    assert cli(*scored.split()[1:]).code == 0


@pytest.mark.slow
def test_what_to_type_next_after_pretraining_on_images_in_classes_are_these_images(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("flat", "my images/dark", "my images/light"):
        (tmp_path / name).mkdir(parents=True)
    for number in range(24):
        picture = Image.fromarray(np.full((8, 8), number * 10, dtype=np.uint8))
        picture.save(tmp_path / "my images" / ("dark" if number < 12 else "light") / f"{number}.png")
        picture.save(tmp_path / "flat" / f"{number}.png")
    suggested = {}
    for name in ("my images", "flat"):
        words = "dataset=image_folder", f"dataset.path={name}", "transform.size=8", "preset=smoke", "device=cpu"
        answer = cli("pretrain", "objective=reconstruct", "model=autoencoder", f"run=of {name}", *words)
        assert answer.code == 0, answer.err
        (suggested[name],) = (line for line in answer.out.splitlines() if line.startswith("  ptft finetune"))
    assert suggested["my images"].endswith(" task=classify dataset=image_folder 'dataset.path=my images'")
    assert suggested["flat"].endswith(" task=classify dataset=digits")
    answer = cli(*shlex.split(suggested["my images"])[1:], "preset=smoke", "device=cpu", "run=next")
    assert answer.code == 0, answer.err


def test_what_to_type_next_after_pretraining_is_a_command_that_works(cli, mlm_run, data, tmp_path):
    (following,) = (line for line in cli("show", mlm_run).out.splitlines() if line.startswith("next: ptft finetune"))
    words = following.replace("FILE", str(data.folder / "classes.csv")).replace("COLUMN", "label").split()[2:]
    answer = cli(*words, f"run={tmp_path / 'run'}", "preset=smoke")
    assert answer.code == 0, answer.err


@pytest.mark.slow
def test_the_score_that_sweeps_rank_by_is_the_tasks_own(cli, data, tmp_path):
    small = "model=transformer_tiny", "model.dim=16", "model.heads=2", "tokenizer=byte", "device=cpu", "preset=smoke"
    words = "finetune", "-m", "ckpt=null", *small, *data.classes, f"run={tmp_path / 'sweep'}", "seed=0,1"
    answer = cli(*words)
    assert answer.code == 0, answer.err
    assert "accuracy" in answer.out
    assert {read_json(tmp_path / "sweep" / str(job) / "scores.json").keys() >= {"valid"} for job in (0, 1)} == {True}


@pytest.mark.parametrize(
    ("words", "wanted", "dataset"),
    [
        ("task=tag model=transformer tokenizer=byte dataset=sentence_polarity", "tags", "tagged_text"),
        ("task=segment model=resnet_small dataset=digits", "a mask", "masks"),
        ("task=regress model=linear dataset=nuclei", "a number", "image_folder"),
        ("task=classify model=transformer tokenizer=byte dataset=text dataset.path=a.txt", "a class", "labelled_text"),
    ],
)
def test_data_that_a_task_cannot_learn_from_are_answered_with_some_that_it_can(words, wanted, dataset, cli):
    answer = cli("finetune", "ckpt=null", *words.split())
    assert (answer.code, len(answer.err.splitlines())) == (2, 1)
    assert f"needs {wanted} to learn for each row" in answer.err
    assert answer.err.rstrip().endswith(f"; choose another dataset, such as dataset={dataset}")


def test_a_validation_split_of_one_image_leaves_a_run_whole(cli, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (12, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "few.npz", images=pixels, labels=np.arange(12) % 3)
    words = "dataset=image_arrays", f"dataset.path={tmp_path / 'few.npz'}", "dataset.valid_fraction=0.05", "model.width=4"
    words += "dataset.test_fraction=0.2", "trainer.steps=1", "trainer.batch_size=4", "device=cpu"
    answer = cli("pretrain", "objective=contrastive", *words, f"run={tmp_path / 'run'}")
    assert answer.code == 0, answer.err
    assert read_json(tmp_path / "run" / "scores.json")["test"]["loss_over_collapse"] > 0


def test_a_folder_in_use_is_refused_before_anything_is_built(train, data, tmp_path):
    with Run.open(tmp_path / "run", "seed: 0"), pytest.raises(MachineError, match="in use"):
        train(tmp_path / "run", "pretrain", *data.text)


@pytest.mark.slow
def test_a_run_that_failed_before_its_first_step_can_be_started_again_in_its_folder(train, data, tmp_path):
    words = "pretrain", "model=transformer_tiny", "tokenizer=byte", *data.text, "preset=smoke", "trainer.steps=1"
    with pytest.raises(Diverged):
        train(tmp_path / "diverged", *words, "optimizer.lr=1e30", "trainer.steps=3")
    with pytest.raises(Exception, match="batch_size"):
        train(tmp_path / "run", *words, "trainer.batch_size=100000")
    train(tmp_path / "run", *words)


@pytest.mark.parametrize("wrong", ["trainer.batch_size=100000", "dataset.label=colour", "dataset.valid_path=nowhere.csv"])
def test_a_mistake_found_in_the_data_leaves_no_folder_behind(wrong, cli, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = "finetune", "ckpt=null", "model=transformer_tiny", "tokenizer=byte", *data.classes, "device=cpu"
    assert cli(*words, wrong, "run=new/run").code == 3
    assert cli(*words, wrong).code == 3
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("kept")
    assert cli(*words, wrong, "run=mine").code == 3
    assert (tmp_path / "mine" / "notes.txt").read_text() == "kept"


@pytest.mark.parametrize(("scale", "lr"), [("linear", 0.25), ("sqrt", 0.5), ("none", 1.0)])
def test_a_base_rate_scales_with_the_rows_of_a_step(scale, lr, train, data, tmp_path):
    model = ("model=transformer_tiny", "model.dim=16", "model.heads=2", "tokenizer=byte", "model.max_length=16")
    sizes = ("trainer.batch_size=32", "trainer.accumulate=2")  # 64 rows: a quarter of 256
    rate = ("optimizer=sgd", "optimizer.base_lr=1", f"optimizer.scale={scale}", "schedule=constant", "schedule.warmup=0")
    run = train(tmp_path / "run", "pretrain", *data.text, *model, *sizes, *rate, "trainer.steps=1", "trainer.log_every=1")
    assert [row["lr"] for row in metrics(run) if row["split"] == "train"] == [pytest.approx(lr)]
    assert "base_lr: 1" in (run / "config.yaml").read_text()


def test_the_rate_of_biases_and_norms_scales_as_the_base_rate_does(train, data, tmp_path):
    model = ("model=transformer_tiny", "model.dim=16", "model.heads=2", "tokenizer=byte", "model.max_length=16")
    rate = ("optimizer=lars", "optimizer.base_lr=0.2", "optimizer.vector_lr=0.4", "schedule=constant", "schedule.warmup=0")
    sizes = ("trainer.batch_size=64", "trainer.steps=1", "trainer.log_every=1")
    run = train(tmp_path / "run", "pretrain", *data.text, *model, *sizes, *rate)
    assert [row["lr"] for row in metrics(run) if row["split"] == "train"] == [pytest.approx(0.1)]  # the largest rate
    assert "vector_lr: 0.4" in (run / "config.yaml").read_text()


@pytest.mark.parametrize(("value", "complaint"), [("fast", "a number or null, found 'fast'"), ("-1", "at least 0, found -1")])
def test_a_rate_of_biases_and_norms_that_is_none_is_refused(value, complaint, cli, data):
    answer = cli("pretrain", *data.text, "optimizer=lars", f"optimizer.vector_lr={value}")
    assert f"optimizer.vector_lr: expected {complaint}" in answer.complaint


def test_a_scale_that_is_none_of_the_known_ones_is_refused(cli, data):
    assert (
        "optimizer.scale=cubic: expected one of linear, sqrt, none"
        in cli("pretrain", *data.text, "optimizer.scale=cubic").complaint
    )


def test_a_batch_that_nobody_asked_for_is_no_larger_than_the_data(cli, data, tmp_path):
    header, *rows = (data.folder / "classes.csv").read_text().splitlines()
    (tmp_path / "few.csv").write_text("\n".join([header, *rows[8:22]]) + "\n")
    words = "finetune", "ckpt=null", "model=transformer_tiny", "tokenizer=byte", f"dataset.path={tmp_path / 'few.csv'}"
    words += "dataset=labelled_text", "dataset.valid_fraction=0", "dataset.test_fraction=0", "trainer.steps=1", "device=cpu"
    answer = cli(*words, f"run={tmp_path / 'run'}")
    assert answer.code == 0, answer.err
    assert "batches are of the 14 training rows there are, not of 32" in answer.out
    refused = cli(*words, "trainer.batch_size=32")
    assert (refused.code, "trainer.batch_size=32 is more than the 14 training rows" in refused.err) == (3, True)


@pytest.mark.slow
def test_a_few_rows_are_gone_through_more_often_where_epochs_are_counted(train, data, tmp_path):
    small = "model=transformer_tiny", "model.dim=16", "model.heads=2", "tokenizer=byte", "trainer.eval_every=null"
    lengths = {"trainer.min_steps=9": 9, "trainer.min_steps=1": 1}
    for words, expected in lengths.items():
        epochs = "trainer.epochs=0.01", words, "trainer.log_every=1"
        run = train(tmp_path / str(expected), "finetune", "ckpt=null", *small, *data.classes, *epochs)
        assert [row["step"] for row in metrics(run) if row["split"] == "train"][-1] == expected


def test_an_optimizer_of_ones_own_without_a_weight_decay_is_refused_by_name(cli, data, tmp_path):
    (tmp_path / "optimizer").mkdir()
    (tmp_path / "optimizer" / "bare.yaml").write_text("# Adam with a rate alone\n_target_: torch.optim.Adam\nlr: 0.01\n")
    own = f"--config-dir={tmp_path}", "optimizer=bare", f"run={tmp_path / 'run'}"
    answer = cli("pretrain", *own, *data.text, "tokenizer=byte", "model=transformer_tiny", "preset=smoke", "device=cpu")
    assert answer.code == 2
    assert "optimizer.weight_decay must be given" in answer.complaint
    assert not (tmp_path / "run").exists()


WITHOUT = {
    "traits": "has no traits: expected a frozenset such as",
    "dim": "has no dim: expected the width of its features",
    "blocks": "has no blocks: expected its layers, shallow to deep",
}


@pytest.mark.parametrize("name", WITHOUT)
def test_a_model_of_ones_own_that_lacks_what_training_asks_for_is_refused_by_name(name, cli, data, tmp_path, monkeypatch):
    body = {"traits": "frozenset({'text', 'bidirectional'})", "dim": "8", "max_length": "16", "blocks": "()"}
    lines = [f"    {key} = {value}" for key, value in body.items() if key != name]
    (tmp_path / f"without_{name}.py").write_text("\n".join(["from torch import nn", "class Mine(nn.Module):", *lines]))
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text(f"# A model of one's own\n_target_: without_{name}.Mine\n")
    monkeypatch.syspath_prepend(tmp_path)
    own = f"--config-dir={tmp_path}", f"trusted_modules=[without_{name}]", "model=mine", f"run={tmp_path / 'run'}"
    answer = cli("pretrain", *own, *data.text, "tokenizer=byte", "preset=smoke", "device=cpu")
    assert (answer.code, answer.complaint.count(WITHOUT[name])) == (2, 1)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("optimizer.lr=-1",), "optimizer.lr: expected at least 0, found -1"),
        (("optimizer=lars", "optimizer.weight_decay=-0.1"), "optimizer.weight_decay: expected at least 0, found -0.1"),
        (("optimizer.momentum=1.5",), "optimizer.momentum: expected at least 0 and less than 1, found 1.5"),
        (
            ("optimizer=adamw", "optimizer.betas=[0.9,1.0]"),
            "optimizer.betas: expected at least 0 and less than 1, found [0.9, 1.0]",
        ),
        (("schedule.warmup=2.5",), "schedule.warmup=2.5: give steps (an integer >= 0), a fraction of the run"),
    ],
)
def test_what_no_run_can_have_is_refused_before_the_data_is_read(words, told, cli, tmp_path):
    answer = cli("pretrain", "dataset=text", f"dataset.path={tmp_path / 'not there.txt'}", *words)
    assert answer.code == 2
    assert told in answer.complaint
