from __future__ import annotations

import re

import pytest

from ptft.records import read_json


@pytest.fixture(scope="module")
def run(cli, mlm_run, data, tmp_path_factory):
    """A classifier, trained for a moment."""
    folder = tmp_path_factory.mktemp("run") / "run"
    assert cli("finetune", f"ckpt={mlm_run}", f"run={folder}", *data.classes, "preset=smoke").code == 0
    return folder


def scores(cli, folder, ckpt, *words) -> dict:
    answer = cli("evaluate", f"ckpt={ckpt}", f"run={folder}", *words)
    assert answer.code == 0, answer.err
    return read_json(folder / "scores.json")


def test_a_runs_own_scores_come_out_again(cli, run, tmp_path):
    for split in ("valid", "test"):
        found = scores(cli, tmp_path / "out", run, f"split={split}", "batch_size=4")
    assert found == read_json(run / "scores.json")


def test_scores_are_in_fp32_whatever_the_run_was_trained_in_unless_something_else_is_asked_for(cli, mlm_run, data, tmp_path):
    trained = "finetune", f"ckpt={mlm_run}", f"run={tmp_path / 'run'}", *data.classes, "preset=smoke", "trainer.precision=bf16"
    assert cli(*trained).code == 0
    own = read_json(tmp_path / "run" / "scores.json")["test"]
    losses = [
        scores(cli, tmp_path / "out", tmp_path / "run", f"batch_size={size}", *more)["test"]["loss"]
        for size, more in ((1, ()), (7, ()), (7, ("precision=bf16",)))
    ]
    assert losses[:2] == pytest.approx([own["loss"]] * 2, rel=1e-5)
    assert losses[2] != pytest.approx(own["loss"], rel=1e-5)


@pytest.mark.parametrize("parent", ["mlm_run", "clm_run"])
def test_the_loss_depends_neither_on_the_batch_size_nor_on_the_seed(parent, cli, request, tmp_path):
    parent = request.getfixturevalue(parent)
    words = [("batch_size=1",), ("batch_size=5", "seed=7"), ("batch_size=64",)]
    found = [scores(cli, tmp_path / str(number), parent, "split=valid", *more) for number, more in enumerate(words)]
    trained = read_json(parent / "scores.json")["valid"]
    for each in found:
        assert each["valid"] == pytest.approx(trained, rel=1e-5)


def test_other_data_are_scored_with_the_labels_of_the_checkpoint(cli, run, data, tmp_path):
    file = tmp_path / "few.csv"
    file.write_text("text,label\n" + "the red cat sat,red\nthe old cat sat,old\n")
    found = scores(cli, tmp_path / "out", run, f"dataset.test_path={file}")["test"]
    assert found["per_class"]["f1"].keys() == {"big", "old", "red", "small"}


@pytest.mark.slow
def test_all_rows_of_another_file_are_scored_unless_a_split_of_it_is_asked_for(cli, run, data, tmp_path):
    file = tmp_path / "few.csv"
    file.write_text("text,label\n,red\n" + "the red cat sat,red\nthe old cat sat,old\nthe big dog sat,big\n" * 5)
    whole = scores(cli, tmp_path / "whole", run, f"dataset.path={file}")
    assert whole == scores(cli, tmp_path / "test", run, f"dataset.test_path={file}")
    answer = cli("evaluate", f"ckpt={run}", f"dataset.path={file}")
    assert re.search(r"rows +15\b", answer.out)
    assert "note: 1 row without text dropped" in answer.out + answer.err
    assert cli("evaluate", f"ckpt={run}", f"dataset.path={file}", "split=test", "dataset.valid_fraction=0").code == 3
    (own,) = (word for word in data.classes if word.startswith("dataset.path="))
    again, first = scores(cli, tmp_path / "own", run, own)["test"], read_json(run / "scores.json")["test"]
    assert again.pop("loss") == pytest.approx(first.pop("loss"), abs=1e-6)  # batches of another size round otherwise
    assert again == first


@pytest.mark.slow
def test_another_pair_of_files_is_scored_as_a_whole(cli, tmp_path):
    for name, count in (("own", 30), ("new", 7)):
        for side, word in (("a", "the cat"), ("b", "die Katze")):
            (tmp_path / f"{name}.{side}").write_text("".join(f"{word} {row}\n" for row in range(count)))
    own, new = (f"dataset.path=[{tmp_path / name}.a,{tmp_path / name}.b]" for name in ("own", "new"))
    sizes = "model=transformer_seq2seq", "model.dim=16", "model.layers=1", "model.heads=2", "model.hidden=32"
    words = "objective=translate", "objective.max_tokens=2", "dataset=parallel_text", own, *sizes, "preset=smoke"
    assert cli("pretrain", *words, f"run={tmp_path / 'run'}").code == 0
    for path, rows in ((new, 7), (own, 3)):
        answer = cli("evaluate", f"ckpt={tmp_path / 'run'}", path)
        assert answer.code == 0, answer.err
        assert re.search(rf"rows +{rows}\b", answer.out)


def test_a_split_that_does_not_exist_is_said_with_those_that_do_and_how_to_bring_it(cli, clm_run):
    answer = cli("evaluate", f"ckpt={clm_run}")
    assert answer.code == 3
    said = "split=test: the dataset has no such split, only train and valid; dataset.test_path=FILE brings one"
    assert said in answer.complaint
    assert cli("evaluate", f"ckpt={clm_run}", "split=tset").code == 2
