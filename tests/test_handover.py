"""What one stage hands to the next: the model always, its heads where the same objective goes on."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
import yaml
from safetensors.torch import load_file

from ptft.errors import UserError
from ptft.inherited import check_inherited
from ptft.locate import locate
from ptft.records import lineage, read_json

STILL = ("optimizer.lr=1e-30", "trainer.steps=1", "trainer.batch_size=4")  # too small a rate to change a bit
QUICK = ("preset=smoke", "trainer.steps=2")


def weights(run, group: str = "model") -> dict:
    return load_file(locate(f"{run}/last") / f"{group}.safetensors")


def assert_equal(one: dict, other: dict) -> None:
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


def shapes(found: dict) -> dict:
    return {name: value.shape for name, value in found.items()}


@pytest.fixture(scope="module")
def classifier(cli, mlm_run, data, tmp_path_factory):
    """A classifier that grew out of the bidirectional model."""
    folder = tmp_path_factory.mktemp("classifier") / "run"
    answer = cli("finetune", f"ckpt={mlm_run}", f"run={folder}", *QUICK, *data.classes)
    assert answer.code == 0, answer.err
    return folder


@pytest.mark.parametrize("parent", ["mlm_run", pytest.param("clm_run", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("task", "kind"), [("classify", "classes"), pytest.param("regress", "numbers", marks=pytest.mark.slow)]
)
def test_every_pretrained_model_goes_into_every_task_whole_and_with_a_fresh_head(
    parent, task, kind, train, data, request, tmp_path
):
    parent = request.getfixturevalue(parent)
    run = train(tmp_path / "run", "finetune", f"ckpt={parent}", f"task={task}", *getattr(data, kind), *STILL)
    assert_equal(weights(run), weights(parent))
    assert all(name.startswith("head.") or name in ("mean", "std") for name in weights(run, "objective"))
    tokenizers = [(locate(str(folder)) / "assets" / "tokenizer.json").read_bytes() for folder in (run, parent)]
    assert tokenizers[0] == tokenizers[1]


@pytest.mark.slow
def test_a_causal_model_goes_on_to_write_and_then_to_classify(train, clm_run, data, tmp_path):
    writer = train(tmp_path / "writer", "finetune", f"ckpt={clm_run}", "task=generate", *data.pairs, *QUICK)
    reader = train(tmp_path / "reader", "finetune", f"ckpt={writer}", *data.classes, *STILL)
    assert_equal(weights(reader), load_file(locate(str(writer)) / "model.safetensors"))
    assert [ancestor["path"] for ancestor in lineage(reader)] == [str(locate(str(folder))) for folder in (writer, clm_run)]


def test_pretraining_goes_on_with_the_same_head(train, mlm_run, data, tmp_path):
    run = train(tmp_path / "run", "pretrain", f"ckpt={mlm_run}/last", *data.text, *STILL)
    assert_equal(weights(run), weights(mlm_run))
    assert_equal(weights(run, "objective"), weights(mlm_run, "objective"))


@pytest.mark.slow
def test_a_classifier_keeps_its_head_for_the_same_classes_and_gets_a_fresh_one_for_others(train, classifier, data, tmp_path):
    parent = f"ckpt={classifier}/last"
    same = train(tmp_path / "same", "finetune", parent, *data.classes, *STILL)
    assert_equal(weights(same, "objective"), weights(classifier, "objective"))
    fewer = data.folder / "fewer.csv"
    rows = (data.folder / "classes.csv").read_text().splitlines()
    fewer.write_text("\n".join(row for row in rows if not row.endswith("red")) + "\n")
    some = train(tmp_path / "some", "finetune", parent, data.classes[0], f"dataset.path={fewer}", *STILL)
    assert_equal(weights(some, "objective"), weights(classifier, "objective"))
    others = data.folder / "others.csv"
    others.write_text("text,label\n" + "a cat,meow\na dog,bark\n" * 20)
    fresh = train(tmp_path / "fresh", "finetune", parent, data.classes[0], f"dataset.path={others}", *STILL)
    assert shapes(weights(fresh, "objective")) != shapes(weights(classifier, "objective"))
    assert_equal(weights(fresh), weights(classifier))
    facts = json.loads((locate(str(fresh)) / "assets" / "data.json").read_text())["facts"]
    assert facts["labels"] == ["bark", "meow"]


def test_labels_a_classifier_does_not_know_are_refused_by_row(cli, classifier, data, tmp_path):
    strange = tmp_path / "strange.csv"
    strange.write_text("text,label\nthe big cat,big\nthe odd cat,odd\n")
    answer = cli("evaluate", f"ckpt={classifier}", *data.classes, f"dataset.test_path={strange}")
    assert answer.code == 3
    assert f"{strange}:3: label 'odd' is none of the 4 known ones: big, old, red, small" in answer.complaint


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("model=transformer", "model.dim=16", "model.layers=2", "model.heads=2", "model.hidden=32"), "models.gpt.GPT in the"),
        (("model.layers=3",), "model.layers is 2 in the checkpoint and 3 here"),
        (("model.heads=4",), "model.heads is 2 in the checkpoint and 4 here"),
        (("model.dim=32",), "model.dim is 16 in the checkpoint and 32 here"),
        (("tokenizer=bpe",), "brings its own"),
        (("model.dropot=0.2",), "did you mean"),
    ],
)
def test_what_contradicts_the_checkpoint_is_refused_in_one_line_before_anything_runs(words, told, cli, clm_run, data, tmp_path):
    answer = cli("finetune", f"ckpt={clm_run}", f"run={tmp_path / 'run'}", *data.classes, *words)
    assert answer.code == 2
    assert told in answer.complaint
    assert not (tmp_path / "run").exists()


def test_a_setting_that_changes_no_weight_may_differ_from_the_checkpoints(train, mlm_run, data, tmp_path):
    run = train(tmp_path / "run", "finetune", f"ckpt={mlm_run}", "model.dropout=0.5", *data.classes, *STILL)
    assert_equal(weights(run), weights(mlm_run))


def test_part_of_a_model_can_be_taken_if_asked_for(train, mlm_run, data, tmp_path):
    words = "model.layers=3", "ckpt_load.allow_partial=true", *STILL
    run = train(tmp_path / "run", "finetune", f"ckpt={mlm_run}", *data.classes, *words)
    found, parent = weights(run), weights(mlm_run)
    assert_equal({name: found[name] for name in parent}, parent)
    assert {name for name in found if "layers.2" in name} == found.keys() - parent.keys()


def test_the_top_layers_can_start_fresh(train, mlm_run, data, tmp_path):
    words = "ckpt_load.reinit_top=1", *STILL
    found = weights(train(tmp_path / "run", "finetune", f"ckpt={mlm_run}", *data.classes, *words))
    parent = weights(mlm_run)
    fresh = {name for name in parent if not torch.equal(found[name], parent[name])}
    assert any(name.startswith("stack.layers.1.") for name in fresh)
    assert all(name.startswith(("stack.layers.1.", "stack.norm.")) for name in fresh)


def test_the_running_average_can_be_handed_on_instead_of_the_weights(train, data, mlm_run, tmp_path):
    parent = train(tmp_path / "parent", "pretrain", f"ckpt={mlm_run}", *data.text, *QUICK, "trainer.ema=0.9")
    words = f"ckpt={parent}/last", "ckpt_load.weights=ema"
    run = train(tmp_path / "run", "finetune", *words, *data.classes, *STILL)
    average = {name.removeprefix("model."): value for name, value in weights(parent, "ema").items()}
    assert_equal(weights(run), {name: average[name] for name in weights(parent)})
    with pytest.raises(UserError, match="holds no running average"):
        train(tmp_path / "none", "finetune", f"ckpt={mlm_run}", "ckpt_load.weights=ema", *data.classes, *STILL)


def test_the_running_average_of_factors_is_handed_on_merged_with_the_weights_beside_them(cli, train, data, mlm_run, tmp_path):
    words = "tuning=lora", "tuning.alpha=8", "trainer.ema=0.9", "optimizer.lr=0.05", *QUICK, *data.classes
    parent = train(tmp_path / "parent", "finetune", f"ckpt={mlm_run}", *words)
    run = train(tmp_path / "run", "finetune", f"ckpt={parent}/last", "ckpt_load.weights=ema", *data.classes, *STILL)
    name, factors = "stack.layers.0.attention.qkv", weights(parent, "ema")
    up, down = (factors[f"model.{name}.parametrizations.weight.0.{side}"] for side in ("up", "down"))
    merged = weights(mlm_run)[f"{name}.weight"] + up @ down  # alpha 8, rank 8
    torch.testing.assert_close(weights(run)[f"{name}.weight"], merged)
    assert not torch.equal(weights(run)[f"{name}.weight"], weights(parent)[f"{name}.weight"])


def test_of_a_frozen_model_only_the_heads_have_another_running_average(train, data, mlm_run, tmp_path):
    parent = train(
        tmp_path / "parent", "finetune", f"ckpt={mlm_run}", "tuning=frozen", "trainer.ema=0.9", *QUICK, *data.classes
    )
    run = train(tmp_path / "run", "finetune", f"ckpt={parent}/last", "ckpt_load.weights=ema", *data.classes, *STILL)
    assert_equal(weights(run), weights(mlm_run))
    averages = weights(parent, "ema")
    assert_equal(weights(run, "objective"), {name: averages[name] for name in weights(run, "objective")})


TEACHERS = "dataset=digits", "transform.size=8", "trainer.batch_size=8", "trainer.train_rows=16"
ONCE = "trainer.eval_every=null", "trainer.save_every=null"
FRESH = "model=mlp", "transform=simclr", "objective.hidden=8", "objective.probe=null"


def pretrained(train, folder, *words):
    """A run whose teacher and student differ, and the model weights of both."""
    run = train(
        folder, "pretrain", *words, *TEACHERS, *FRESH, *ONCE, "trainer.steps=2", "optimizer.lr=0.1", "schedule.warmup=0"
    )
    prefix = "teacher.network.model."
    taught = {name.removeprefix(prefix): value for name, value in weights(run, "objective").items() if name.startswith(prefix)}
    assert any(not torch.equal(value, taught[name]) for name, value in weights(run).items())
    return run, weights(run), taught


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "chosen", "expected"),
    [
        (("objective=byol", "objective.width=8"), (), "student"),
        (("objective=byol", "objective.width=8"), ("ckpt_load.weights=teacher",), "teacher"),
        (("objective=dino", "objective.width=8", "objective.prototypes=16"), (), "teacher"),
        (("objective=dino", "objective.width=8", "objective.prototypes=16"), ("ckpt_load.weights=model",), "student"),
    ],
)
def test_student_or_teacher_is_handed_on_and_dino_hands_on_its_teacher(train, tmp_path, words, chosen, expected):
    run, student, teacher = pretrained(train, tmp_path / "parent", *words)
    tuned = train(tmp_path / "run", "finetune", f"ckpt={run}", "task=classify", *chosen, *TEACHERS, *STILL)
    assert_equal(weights(tuned), {"student": student, "teacher": teacher}[expected])


def test_a_teacher_that_is_not_there_is_not_handed_on(cli, mlm_run, data, tmp_path):
    answer = cli("finetune", f"ckpt={mlm_run}", "ckpt_load.weights=teacher", *data.classes, *STILL, f"run={tmp_path / 'run'}")
    assert answer.code == 4
    assert "holds no teacher" in answer.complaint
    answer = cli("finetune", f"ckpt={mlm_run}", "ckpt_load.weights=techer", *data.classes, *STILL)
    assert "ckpt_load.weights: expected model, ema or teacher, found 'techer'" in answer.complaint


@pytest.mark.parametrize("form", ["{run}/best", "{run}/last", "{run}/checkpoints/step-0000000002"])
def test_ckpt_takes_pointers_and_checkpoint_folders_and_the_lineage_says_which(form, train, mlm_run, data, tmp_path):
    ckpt = form.format(run=mlm_run)
    run = train(tmp_path / "run", "finetune", f"ckpt={ckpt}", *data.classes, *STILL)
    parent = read_json(run / "run.json")["parent"]
    assert parent["path"] == str(locate(ckpt))
    assert parent["run_id"] == read_json(mlm_run / "run.json")["run_id"]
    assert_equal(weights(run), load_file(locate(ckpt) / "model.safetensors"))


def test_the_baseline_from_scratch_has_no_parent(train, data, tmp_path):
    words = "ckpt=null", "model=transformer_tiny", "tokenizer=character", *data.classes, *STILL
    run = train(tmp_path / "run", "finetune", *words)
    assert read_json(run / "run.json")["parent"] is None


def test_lora_hands_on_plain_weights_that_compute_what_the_adapted_model_did(cli, train, mlm_run, data, tmp_path):
    words = "tuning=lora", "optimizer.lr=0.05", "trainer.steps=6", "trainer.batch_size=4", *data.classes
    run = train(tmp_path / "run", "finetune", f"ckpt={mlm_run}", *words)
    assert weights(run).keys() == weights(mlm_run).keys()
    assert not torch.equal(
        weights(run)["stack.layers.0.attention.qkv.weight"], weights(mlm_run)["stack.layers.0.attention.qkv.weight"]
    )
    scores = read_json(run / "scores.json")
    assert cli("evaluate", f"ckpt={run}", f"run={tmp_path / 'plain'}").code == 0
    assert read_json(tmp_path / "plain" / "scores.json")["test"]["loss"] == pytest.approx(scores["test"]["loss"], rel=1e-5)


def test_a_run_outlives_the_folder_of_its_parent(cli, train, mlm_run, data, tmp_path):
    parent = shutil.copytree(mlm_run, tmp_path / "parent")
    run = train(tmp_path / "run", "finetune", f"ckpt={parent}", *data.classes, *QUICK)
    shutil.rmtree(parent)
    assert cli("evaluate", f"ckpt={run}").code == 0
    assert "missing" in lineage(run)[0]


def test_a_model_is_handed_on_from_an_objective_that_is_trusted_there_and_not_here(train, compose, data, tmp_path, monkeypatch):
    (tmp_path / "my_own_lab.py").write_text("from ptft.objectives.mlm import MLM\n\n\nclass Mine(MLM):\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    words = "pretrain", "model=transformer_tiny", "model.dim=16", "model.heads=2", "tokenizer=byte", *data.text, *QUICK
    objective = {**compose(*words)["objective"], "_target_": "my_own_lab.Mine"}
    saved = yaml.safe_dump({**yaml.safe_load(compose(*words)["saved"]), "objective": objective})
    parent = train(tmp_path / "parent", *words, objective=objective, saved=saved, trusted_modules=["my_own_lab"])
    run = train(tmp_path / "run", "finetune", f"ckpt={parent}", *data.classes, *STILL)
    assert_equal(weights(run), weights(parent))


def test_a_setting_newer_than_the_checkpoint_may_be_off_and_not_on():
    saved = {"tokenizer": {}, "model": {"_target_": "ptft.models.gpt.GPT", "dim": 16}}
    config = {"ckpt": "runs/old", **saved, "model": saved["model"] | {"qk_norm": False, "logit_cap": None, "zero_init": True}}
    check_inherited(config, saved)
    config["model"]["qk_norm"] = True
    with pytest.raises(UserError, match="model.qk_norm is None in the checkpoint and True here"):
        check_inherited(config, saved)
