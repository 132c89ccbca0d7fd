"""Any number of classes for each text, and pairs of texts, from the table to the prediction."""

import json

import numpy as np
import pytest

from ptft.errors import DataError
from ptft.records import read_json

ROWS = [(f"text number {number}", "|".join(name for name, step in (("two", 2), ("three", 3)) if number % step == 0))
        for number in range(60)]  # fmt: skip


def sets(dataset, tokenizer, **settings) -> dict:
    dataset.prepare(tokenizer, 32, "classes", **settings)
    return {row["text"]: row["label"].tolist() for split in ("train", "valid", "test") for row in dataset.rows(split) or []}


@pytest.mark.parametrize("between", ["|", ";", " ; "])
def test_each_row_has_the_classes_its_cell_names(between, labelled, tokenizers):
    dataset = labelled([(text, label.replace("|", between)) for text, label in ROWS])
    found = sets(dataset, tokenizers["byte"])
    assert dataset.facts == {"num_classes": 2, "labels": ["three", "two"]}
    assert [found[f"text number {number}"] for number in (0, 1, 2, 3)] == [[1, 1], [0, 0], [0, 1], [1, 0]]
    assert len(found) == 60


def test_lists_of_classes_are_the_same_as_cells_with_marks_between(choice, labelled, tokenizers, tmp_path):
    rows = [{"text": text, "label": [name for name in label.split("|") if name]} for text, label in ROWS]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    of_lists = choice("dataset", "labelled_text", path=str(tmp_path / "rows.jsonl"))
    assert sets(of_lists, tokenizers["byte"]) == sets(labelled(ROWS), tokenizers["byte"])
    with pytest.raises(DataError, match=r"rows\.jsonl:1: column 'label' holds a list, expected a string or a number"):
        of_lists.prepare(tokenizers["byte"], 32, "class")


def test_a_row_is_of_one_byte_for_each_class(labelled, tokenizers):
    dataset = labelled(ROWS, valid_fraction=0.0, test_fraction=0.0)
    sets(dataset, tokenizers["byte"])
    label = dataset.rows("train")[3]["label"]
    assert label.dtype == np.uint8 and label.shape == (2,)


def test_a_class_that_training_lacks_is_noted(labelled, tokenizers, tmp_path):
    labelled([("x", "five|two")], name="test.tsv")
    dataset = labelled(ROWS, test_path=str(tmp_path / "test.tsv"))
    assert sets(dataset, tokenizers["byte"])["x"] == [1, 0, 1]
    assert "1 classes do not occur in training: five" in dataset.notes


def test_classes_of_a_trained_model_keep_their_order_and_others_are_refused(labelled, tokenizers):
    assert sets(labelled(ROWS), tokenizers["byte"], labels=["two", "x", "three"])["text number 3"] == [0, 0, 1]
    with pytest.raises(DataError, match=r"rows\.tsv:2: label 'three' is none of the 2 known ones: one, two"):
        sets(labelled(ROWS[:1] + ROWS), tokenizers["byte"], labels=["one", "two"])


def test_fewer_than_two_classes_are_refused(labelled, tokenizers):
    with pytest.raises(DataError, match=r"dataset\.label=label: 1 classes; expected two, with '\|' or ';' between"):
        sets(labelled([("a", "x"), ("b", "")] * 5), tokenizers["byte"])


def test_a_row_without_a_label_is_refused_where_there_must_be_one(labelled, tokenizers):
    with pytest.raises(DataError, match=r"rows\.tsv:3: column 'label' is empty, expected a value"):
        labelled([("a", "x"), ("b", ""), ("c", "y")]).prepare(tokenizers["byte"], 32, "class")


TINY = ("tokenizer=byte", "model=transformer_tiny", "preset=smoke", "trainer.steps=4", "device=cpu")


def answers(cli, run, path) -> list[dict]:
    found = cli("predict", f"ckpt={run}", f"input={path}")
    assert found.code == 0, found.err
    return [json.loads(line) for line in found.out.splitlines()]


@pytest.mark.slow
def test_texts_with_several_labels_are_trained_on_scored_and_predicted(cli, tmp_path):
    (tmp_path / "rows.csv").write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in ROWS))
    run = tmp_path / "run"
    words = ("task=multilabel", "dataset=labelled_text", f"dataset.path={tmp_path / 'rows.csv'}", f"run={run}")
    found = cli("finetune", "ckpt=null", *TINY, *words)
    assert found.code == 0, found.err
    scores = read_json(run / "scores.json")["test"]
    assert {"map", "f1_micro", "hamming_loss"} <= scores.keys() and scores["per_class"]["f1"].keys() == {"two", "three"}
    for answer in answers(cli, run, tmp_path / "rows.csv"):
        assert answer["labels"] == [name for name, share in answer["probabilities"].items() if share >= 0.5]


@pytest.mark.slow
def test_pairs_of_texts_are_trained_on_scored_and_predicted(cli, tmp_path):
    rows = "".join(f"the cat sat on mat {number},mat {number % 7},{'no' if number % 7 else 'yes'}\n" for number in range(60))
    (tmp_path / "pairs.csv").write_text(f"premise,hypothesis,label\n{rows}")
    run = tmp_path / "run"
    columns = ("dataset.text=premise", "dataset.text_pair=hypothesis", "dataset.label=label")
    words = ("task=classify", "dataset=labelled_text", f"dataset.path={tmp_path / 'pairs.csv'}", *columns, f"run={run}")
    found = cli("finetune", "ckpt=null", *TINY, *words)
    assert found.code == 0, found.err
    assert 0 <= read_json(run / "scores.json")["test"]["accuracy"] <= 1
    other = tmp_path / "other.csv"
    other.write_text("premise,hypothesis\n" + "the cat sat on mat 1,mat 1\n" * 2 + "the cat sat on mat 1,a dog\n")
    one, same, another = (answer["probabilities"]["yes"] for answer in answers(cli, run, other))
    assert one == pytest.approx(same, abs=1e-6) and one != pytest.approx(another, abs=1e-6)
