"""`part=encoder`: the encoder of a model that translates becomes the model of the next stage (CoVe, 1708.00107)."""

from __future__ import annotations

import json

import pytest
import torch
import yaml
from safetensors.torch import load_file

from ptft.locate import locate

SMALL = ("model.dim=16", "model.layers=1", "model.max_length=64", "tokenizer=byte", "preset=smoke", "objective.max_tokens=4")
KINDS = {"seq2seq": (), "transformer_seq2seq": ("model.heads=2", "model.hidden=32")}
STILL = ("optimizer.lr=1e-30", "trainer.steps=1", "trainer.batch_size=4")  # too small a rate to change a bit


@pytest.fixture(scope="module", params=KINDS)
def translator(cli, data, request, tmp_path_factory):
    """A model that translates, trained for a moment."""
    folder = tmp_path_factory.mktemp(request.param) / "run"
    words = f"model={request.param}", *SMALL, *KINDS[request.param], *data.pairs, f"run={folder}"
    answer = cli("pretrain", "objective=translate", *words)
    assert answer.code == 0, answer.err
    return folder


def weights(run) -> dict:
    return load_file(locate(f"{run}/last") / "model.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "kind"), [("classify", "classes"), pytest.param("regress", "numbers", marks=pytest.mark.slow)]
)
def test_the_whole_encoder_and_nothing_else_goes_into_every_task(task, kind, cli, translator, data, tmp_path):
    words = f"task={task}", *getattr(data, kind), f"run={tmp_path / 'run'}"
    answer = cli("finetune", f"ckpt={translator}", "part=encoder", *words, *STILL)
    assert answer.code == 0, answer.err
    assert "the encoder of" in answer.out and "(100.0% of" in answer.out
    parent = {name: value for name, value in weights(f"{translator}").items() if not name.startswith("decoder.")}
    taken = weights(tmp_path / "run")
    assert taken.keys() == parent.keys()
    best = load_file(locate(str(translator)) / "model.safetensors")
    assert all(torch.equal(taken[name], best[name]) for name in taken)


@pytest.mark.slow
def test_the_saved_configuration_holds_the_encoder_and_starts_the_same_run_again(train, cli, translator, data, tmp_path):
    words = f"ckpt={translator}", "part=encoder", *data.classes, "preset=smoke", "device=cpu", "model.dropout=0.3"
    first = train(tmp_path / "first", "finetune", *words)
    node = yaml.safe_load((first / "config.yaml").read_text())["model"]
    assert node["_target_"].endswith("Encoder") and node["dim"] == 16 and node["dropout"] == 0.3
    again = train(tmp_path / "again", "finetune", "--config-dir", str(first), "--config-name", "config")
    assert (again / "config.yaml").read_text() == (first / "config.yaml").read_text()
    one, other = (weights(run) for run in (first, again))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert cli("evaluate", f"ckpt={first}", "split=valid").code == 0
    (tmp_path / "texts.txt").write_text("the big cat\n")
    answer = cli("predict", f"ckpt={first}", f"input={tmp_path / 'texts.txt'}")
    assert json.loads(answer.out)["label"] in ("big", "small", "old", "red")


@pytest.mark.slow
def test_the_encoder_of_an_encoder_has_no_parts(cli, translator, data, tmp_path):
    assert cli("finetune", f"ckpt={translator}", "part=encoder", *data.classes, f"run={tmp_path / 'run'}", *STILL).code == 0
    answer = cli("finetune", f"ckpt={tmp_path / 'run'}", "part=encoder", *data.classes)
    assert answer.code == 2
    assert "has no parts to take over alone" in answer.complaint


def test_a_part_there_is_not_is_refused_with_the_ones_there_are(cli, translator, clm_run, data):
    for part in ("encodr", "decoder"):
        answer = cli("finetune", f"ckpt={translator}", f"part={part}", *data.classes)
        assert answer.code == 2
        assert f"part={part}" in answer.complaint and "encoder" in answer.complaint.replace(part, "", 1)
    assert "has no parts to take over alone" in cli("finetune", f"ckpt={clm_run}", "part=encoder", *data.classes).complaint
    assert "give ckpt=RUN" in cli("finetune", "ckpt=null", "part=encoder", "model=gpt", *data.classes).complaint


@pytest.mark.slow
def test_the_features_of_cove_hold_the_embedding_unless_told_otherwise(train, cli, data, tmp_path):
    parent = tmp_path / "parent"
    cli("pretrain", "objective=translate", "model=seq2seq", *SMALL, *data.pairs, f"run={parent}")
    widths = []
    for choice in ((), ("model.concat_embedding=false",)):
        run = train(
            tmp_path / f"run{len(widths)}", "finetune", f"ckpt={parent}", "part=encoder", *data.classes, *choice, *STILL
        )
        widths.append(load_file(locate(f"{run}/last") / "objective.safetensors")["head.linear.weight"].shape[1])
    assert widths == [32, 16]


@pytest.mark.slow
def test_translation_goes_on_in_fine_tuning_with_all_of_the_model(train, translator, data, tmp_path):
    run = train(tmp_path / "run", "finetune", f"ckpt={translator}", "task=generate", *data.pairs, *STILL)
    before, after = load_file(locate(str(translator)) / "model.safetensors"), weights(run)
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.slow
def test_infilling_hands_over_to_translation(train, data, tmp_path):
    words = "model=transformer_seq2seq", *SMALL[:-1], *KINDS["transformer_seq2seq"], *data.text
    first = train(tmp_path / "first", "pretrain", "objective=infill", *words)
    run = train(tmp_path / "run", "finetune", f"ckpt={first}", "task=generate", "objective.max_tokens=4", *data.pairs, *STILL)
    before, after = load_file(locate(str(first)) / "model.safetensors"), weights(run)
    assert all(torch.equal(before[name], after[name]) for name in before)
