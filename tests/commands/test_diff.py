"""`ptft diff RUN1 RUN2`: what differs, what does not, and which scored better."""

from __future__ import annotations

import json

import pytest
import yaml

from ptft.commands.diff import main, marked
from ptft.manifest import seal

SETTINGS = {
    "seed": 0,
    "model": {"_target_": "ptft.models.gpt.GPT", "dim": 128},
    "optimizer": {"lr": 0.001, "betas": [0.9, 0.99]},
}


def make_run(folder, scores=None, parent=None, data="d" * 64, version="0.1.0", **settings):
    """A run folder with checkpoints at steps 10 and 20."""
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"run_id": folder.name, "version": version, "git": "abc", "parent": parent}))
    text = yaml.safe_dump({"defaults": ["schema/pretrain", "_self_"], **SETTINGS, **settings})
    (folder / "config.yaml").write_text(text)
    rows = [{"step": step, "split": "valid", "loss": 5.0 - step / 10} for step in (10, 20)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for sequence, step in enumerate((10, 20)):
        checkpoint = folder / "checkpoints" / f"step-{step:010}"
        checkpoint.mkdir()
        (checkpoint / "config.yaml").write_text(text)
        identity = {"run_id": folder.name, "data": data, "tokenizer": "t" * 64}
        fields = {"schema": 1, "ptft": version, "identity": identity, "seq": sequence, "step": step}
        (checkpoint / "manifest.json").write_bytes(seal(fields | {"best": False, "environment": {}, "files": {}}))
    (folder / "checkpoints" / "last").write_text("step-0000000020\n")
    if scores:
        (folder / "scores.json").write_text(json.dumps(scores))
    return folder


def compared(capsys, first, second) -> list[list[str]]:
    main({"first": str(first), "second": str(second)})
    return [line.split() for line in capsys.readouterr().out.splitlines()]


def test_settings_that_differ_are_listed_by_their_dotted_key_with_the_value_in_each(tmp_path, capsys):
    first = make_run(tmp_path / "a", model={"_target_": "ptft.models.gpt.GPT", "dim": 64, "bias": True})
    second = make_run(tmp_path / "b", optimizer={"lr": 0.001, "betas": [0.9, 0.95]}, seed=1)
    lines = compared(capsys, first, second)
    assert ["model.dim", "64", "128"] in lines and ["model.bias", "true", "-"] in lines
    assert ["optimizer.betas", "[0.9,0.99]", "[0.9,0.95]"] in lines and ["seed", "0", "1"] in lines
    assert not [line for line in lines if line[:1] in (["optimizer.lr"], ["model._target_"], ["defaults"])]


def test_data_parent_and_version_are_compared(tmp_path, capsys):
    parent = {"path": "runs/old", "step": 7, "run_id": "12345678-9"}
    first, second = make_run(tmp_path / "a"), make_run(tmp_path / "b", parent=parent, data="e" * 64, version="0.2.0")
    lines = compared(capsys, first, second)
    assert ["data", "d" * 12, "e" * 12] in lines
    assert ["parent", "null", "runs/old", "at", "step", "7", "(run", "12345678)"] in lines
    assert ["version", "0.1.0", "abc", "0.2.0", "abc"] in lines
    assert not [line for line in lines if line[:1] == ["tokenizer"]]
    assert lines[-1][:6] == ["the", "runs", "differ", "in", "data:", "their"]


def test_the_better_score_is_marked_whichever_way_it_goes(tmp_path, capsys):
    first = make_run(tmp_path / "a", {"valid": {"loss": 2.0, "accuracy": 0.5, "f1": 0.25, "per_class": {"a": 1}}})
    second = make_run(tmp_path / "b", {"valid": {"loss": 1.5, "accuracy": 0.25, "f1": 0.25}, "test": {"loss": 3.0}})
    lines = compared(capsys, first, second)
    assert ["valid/loss", "2.0000", "1.5000", "*"] in lines
    assert ["valid/accuracy", "0.5000", "*", "0.2500"] in lines
    assert ["valid/f1", "0.2500", "0.2500"] in lines and ["test/loss", "-", "3.0000"] in lines
    assert not [line for line in lines if "per_class" in str(line)]


def test_a_score_of_ones_own_is_better_as_its_objective_says(tmp_path, capsys):
    first = make_run(tmp_path / "a", {"valid": {"off_by": 2.0, "hits": 2.0}})
    second = make_run(tmp_path / "b", {"valid": {"off_by": 1.5, "hits": 1.5}})
    for run in (first, second):
        (run / "checkpoints" / "step-0000000020" / "assets").mkdir()
        (run / "checkpoints" / "step-0000000020" / "assets" / "data.json").write_text('{"lower": ["off_by"]}')
    lines = compared(capsys, first, second)
    assert ["valid/off_by", "2.0000", "1.5000", "*"] in lines and ["valid/hits", "2.0000", "*", "1.5000"] in lines


def test_nothing_beats_what_is_not_a_number():
    assert marked("loss", {"loss": float("nan")}, {"loss": 1.0}) == ["nan", "1.0000"]


def test_runs_that_are_alike_say_so(tmp_path, capsys):
    first, second = make_run(tmp_path / "a"), make_run(tmp_path / "b")
    assert compared(capsys, first, second) == compared(capsys, first, first)
    main({"first": str(first), "second": str(second)})
    assert capsys.readouterr().out == "no difference: the same settings, data, tokenizer, parent, version and scores\n"


def test_checkpoints_are_compared_by_the_scores_at_their_steps(tmp_path, capsys):
    run = make_run(tmp_path / "a")
    lines = compared(capsys, run / "checkpoints" / "step-0000000010", run / "last")
    assert ["valid/loss", "4.0000", "3.0000", "*"] in lines
    assert ["no", "difference:", "settings"] in lines


@pytest.mark.parametrize(
    ("words", "code", "answer"),
    [
        (("a",), 2, "second must be given: ptft diff RUN1 RUN2"),
        ((), 2, "first and second must be given: ptft diff RUN1 RUN2"),
        (("a", "aa"), 2, "aa does not exist; did you mean 'a'?"),
        (("a", "."), 2, ". is not a run folder; "),
        (("a", "a/best"), 4, "a has no best checkpoint (yet); use a/last"),
        (("a", "a", "a"), 2, "'a' sets nothing"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_line(cli, words, code, answer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path / "a")
    found = cli("diff", *words)
    assert found.code == code and answer in found.err and found.err.splitlines()[-1].startswith("ptft diff: ")
