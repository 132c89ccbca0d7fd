"""Tables from the command line: pretrain, fine-tune, predict, and what does not fit."""

import json
import math

import pytest

from ptft.records import read_json

TRAINER = ("trainer.steps=60", "trainer.batch_size=32", "optimizer.lr=0.01", "device=cpu")


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """A csv of people: two numbers, a category and some gaps; whether they are sick, what they cost, what they like."""
    path = tmp_path_factory.mktemp("people") / "people.csv"
    lines = ["age,height,city,sick,cost,tea,jam"]
    for index in range(160):
        age, city = 20 + (7 * index) % 60, ("Rome", "Bonn", "Oslo", "")[index % 4]
        cells = ["" if index % 23 == 0 else age, f"{160 + 9 * math.sin(index):.2f}", city, ("no", "yes")[age > 50], 3 * age]
        lines.append(",".join(map(str, [*cells, int(age > 40), int(city == "Rome")])))
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def options(people):
    """The table without its answers, as words of a command line."""
    return "dataset=table", f"dataset.path={people}", "dataset.features=[age,height,city]"


@pytest.fixture(scope="module")
def pretrained(cli, options, tmp_path_factory):
    """An autoencoder of the table."""
    run = tmp_path_factory.mktemp("tables") / "pretrained"
    answer = cli("pretrain", "objective=reconstruct", f"run={run}", *options, *TRAINER)
    assert answer.code == 0, answer.err
    return run


@pytest.mark.parametrize(
    ("task", "target", "score", "least"),
    [
        ("classify", "sick", "accuracy", 0.9),
        pytest.param("regress", "cost", "r2", 0.8, marks=pytest.mark.slow),
        pytest.param("multilabel", "[tea,jam]", "map", 0.9, marks=pytest.mark.slow),
    ],
)
def test_every_task_learns_a_table_from_scratch(task, target, score, least, cli, options, tmp_path):
    words = ("model=mlp", f"task={task}", f"dataset.target={target}", "trainer.steps=150", "objective.dropout=0")
    answer = cli("finetune", "ckpt=null", f"run={tmp_path}", *options, *TRAINER, *words)
    assert answer.code == 0, answer.err
    assert read_json(tmp_path / "scores.json")["test"][score] > least


@pytest.mark.slow
def test_a_fine_tuned_table_model_predicts_rows_by_their_columns(cli, options, pretrained, people, tmp_path):
    answer = cli(
        "finetune", f"ckpt={pretrained}", "task=classify", f"run={tmp_path / 'run'}", *options, "dataset.target=sick", *TRAINER
    )
    assert answer.code == 0, answer.err
    (tmp_path / "new.csv").write_text("city,id,height,age\nRome,p1,170,25\nLima,p2,,70\n")
    answer = cli("predict", f"ckpt={tmp_path / 'run'}", f"input={tmp_path / 'new.csv'}")
    rows = [json.loads(line) for line in answer.out.splitlines()]
    assert [row["id"] for row in rows] == ["p1", "p2"]
    assert all(set(row["probabilities"]) == {"no", "yes"} for row in rows)
    assert "row p2 with empty cells: numbers become the training mean" in answer.err
    assert "row p2 with a category that the training rows do not have" in answer.err


def test_another_table_is_refused_by_the_columns_it_lacks(cli, pretrained, tmp_path):
    words = ("dataset=diabetes", "task=regress")
    answer = cli("finetune", f"ckpt={pretrained}", f"run={tmp_path / 'run'}", *words, *TRAINER)
    assert answer.code == 3
    assert "no column 'height', which the checkpoint reads" in answer.complaint


def test_gaps_are_told_once_in_the_run_card(pretrained):
    card = (pretrained / "README.md").read_text()
    assert "in 'age'" in card and "missing" in card


def test_classification_pretrains_on_a_table_which_needs_no_transform(cli, options, tmp_path):
    words = ("objective=classify", "model=mlp", "dataset.target=sick", f"run={tmp_path / 'run'}", *options, *TRAINER)
    answer = cli("pretrain", *words, "trainer.steps=1")
    assert answer.code == 0, answer.err
    assert "accuracy" in read_json(tmp_path / "run" / "scores.json")["test"]


def test_a_transform_that_is_asked_for_is_refused_on_a_table(cli, options, tmp_path):
    words = ("objective=classify", "model=mlp", "dataset.target=sick", f"run={tmp_path / 'run'}", *options, *TRAINER)
    answer = cli("pretrain", *words, "transform=simclr")
    assert answer.code == 2 and answer.complaint.endswith("transform is for image; leave it out with ~transform")


def test_a_model_that_reads_no_tables_is_refused_with_one_that_does(cli, options, tmp_path):
    answer = cli("pretrain", "objective=classify", "dataset.target=sick", f"run={tmp_path / 'run'}", *options)
    assert answer.code == 2 and answer.complaint.endswith("holds table, and model ResNet is image pyramid; use model=mlp")


def test_an_objective_of_images_is_what_is_refused_on_a_table(cli, options, tmp_path):
    answer = cli("pretrain", "objective=contrastive", f"run={tmp_path / 'run'}", *options)
    assert answer.code == 2 and answer.complaint.endswith("Contrastive is for image, and dataset Tabular holds table")
