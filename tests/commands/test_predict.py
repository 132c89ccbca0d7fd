from __future__ import annotations

import io
import json
import sys

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="module")
def run(cli, mlm_run, data, tmp_path_factory):
    """A classifier, trained for a moment."""
    folder = tmp_path_factory.mktemp("run") / "run"
    assert cli("finetune", f"ckpt={mlm_run}", f"run={folder}", *data.classes, "preset=smoke").code == 0
    return folder


@pytest.fixture
def predict(cli, run):
    """The answers for some input."""

    def answers(*words) -> list[dict]:
        answer = cli("predict", f"ckpt={run}", *words)
        assert answer.code == 0, answer.err
        return [json.loads(line) for line in answer.out.splitlines()]

    return answers


TEXTS = ["the big cat sat", "the old dog sat on the hilltop", "the red ant", "the small owl sat on the mat", "the cow"]


def write(path, texts=TEXTS) -> str:
    """A file of texts in the format its name says, with ids from the last to the first where it can hold them."""
    ids = [f"id-{number}" for number in reversed(range(len(texts)))]
    lines = {
        ".jsonl": [json.dumps({"id": key, "text": text}) for key, text in zip(ids, texts, strict=True)],
        ".csv": ["id,text", *(f"{key},{text}" for key, text in zip(ids, texts, strict=True))],
        ".txt": texts,
    }
    path.write_text("\n".join(lines[path.suffix]) + "\n")
    return f"input={path}"


def test_every_row_gets_a_label_and_the_probability_of_each(predict, tmp_path):
    found = predict(write(tmp_path / "rows.csv"))
    for answer in found:
        assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-5)
        assert answer["label"] == max(answer["probabilities"], key=answer["probabilities"].get)
        assert answer["probabilities"].keys() == {"big", "old", "red", "small"}


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_ids_and_order_of_the_input_are_kept_whatever_the_batch(suffix, predict, tmp_path):
    given = write(tmp_path / f"rows{suffix}")
    found = predict(given, "batch_size=2")
    assert [answer["id"] for answer in found] == ["id-4", "id-3", "id-2", "id-1", "id-0"]
    for together, alone in zip(found, predict(given, "batch_size=1"), strict=True):
        assert together["probabilities"] == pytest.approx(alone["probabilities"], abs=1e-5)


def test_plain_lines_are_numbered_and_answered_as_a_table_is(predict, tmp_path):
    plain, table = predict(write(tmp_path / "rows.txt")), predict(write(tmp_path / "rows.csv"))
    assert [answer["id"] for answer in plain] == [0, 1, 2, 3, 4]
    assert [answer["probabilities"] for answer in plain] == [answer["probabilities"] for answer in table]


def test_standard_input_is_read_as_lines_of_text_or_json(predict, monkeypatch):
    lines = "the big cat\n" + json.dumps({"id": "b", "text": "the old dog"}) + "\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines.encode())))
    assert [answer["id"] for answer in predict("input=-")] == [0, "b"]


def test_rows_without_text_are_answered_and_told_of(cli, run, tmp_path):
    rows = [{"id": "a", "text": "the old dog"}, {"id": "b", "text": None}, {"id": "c", "text": " "}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    answer = cli("predict", f"ckpt={run}", f"input={tmp_path / 'rows.jsonl'}")
    assert len(answer.out.splitlines()) == 3
    assert "row b and 1 more without text" in answer.err


def test_rows_that_are_cut_are_answered_by_their_beginning_and_told_of(cli, run, tmp_path):
    texts = ["the old dog", "the big cat sat " * 50, "the big cat sat " * 60]
    answer = cli("predict", f"ckpt={run}", write(tmp_path / "rows.csv", texts))
    assert answer.code == 0, answer.err
    first, second, third = (json.loads(line) for line in answer.out.splitlines())
    assert second["probabilities"] == pytest.approx(third["probabilities"], abs=1e-6)
    assert first["probabilities"] != pytest.approx(second["probabilities"], abs=1e-6)
    assert "row id-1 and 1 more cut to 62 tokens: the rest is not read" in answer.err


def test_answers_go_to_a_file_where_one_is_named(predict, tmp_path):
    assert predict(write(tmp_path / "rows.csv"), f"output={tmp_path / 'out.jsonl'}") == []
    written = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert written == predict(write(tmp_path / "rows.csv"))


def test_the_label_column_may_be_there_or_not(predict, data):
    found = predict(f"input={data.folder / 'classes.csv'}")
    assert len(found) == 60


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("id,words\n1,the cat\n", "no field 'text'; fields: id, words; dataset.text=FIELD names another"),
        ('{"text": 3}\n', "holds a number, expected a string"),
    ],
)
def test_rows_it_cannot_read_are_refused_by_line(content, told, cli, run, tmp_path):
    file = tmp_path / ("rows.csv" if content.startswith("id") else "rows.jsonl")
    file.write_text(content)
    answer = cli("predict", f"ckpt={run}", f"input={file}")
    assert answer.code == 3
    assert told in answer.complaint
    assert "rows." in answer.complaint


def test_a_run_without_labels_is_refused_by_name(cli, mlm_run, tmp_path):
    answer = cli("predict", f"ckpt={mlm_run}", write(tmp_path / "rows.csv"))
    assert answer.code == 2
    assert "MLM predicts no labels" in answer.complaint


def test_an_output_that_cannot_be_written_is_said(cli, run, tmp_path):
    answer = cli("predict", f"ckpt={run}", write(tmp_path / "rows.csv"), f"output={tmp_path}/no/such/folder.jsonl")
    assert answer.code == 6
    assert "output=" in answer.complaint


def test_the_input_is_never_written_over(cli, run, clm_run, tmp_path):
    given = write(tmp_path / "rows.csv")
    before = (tmp_path / "rows.csv").read_text()
    (tmp_path / "link.csv").symlink_to(tmp_path / "rows.csv")
    for output in (tmp_path / "rows.csv", tmp_path / "link.csv"):
        for command, ckpt in (("predict", run), ("generate", clm_run)):
            answer = cli(command, f"ckpt={ckpt}", given, f"output={output}")
            assert answer.code == 2 and f"output={output} is the file that {given} is read from" in answer.complaint
    assert (tmp_path / "rows.csv").read_text() == before


def test_the_training_file_may_be_gone_by_then(cli, mlm_run, tmp_path):
    rows = [f"{kind} {animal},{kind}" for kind in ("good", "bad") for animal in ("cat", "dog", "owl", "ant", "cow", "hen") * 4]
    table = tmp_path / "train.csv"
    table.write_text("\n".join(["review,stars", *rows]) + "\n")
    words = ("dataset=labelled_text", f"dataset.path={table}", "dataset.text=review", "dataset.label=stars")
    assert cli("finetune", f"ckpt={mlm_run}", f"run={tmp_path / 'run'}", *words, "preset=smoke").code == 0
    table.unlink()
    (tmp_path / "new.csv").write_text("id,review\n7,good pig\n")
    answer = cli("predict", f"ckpt={tmp_path / 'run'}", f"input={tmp_path / 'new.csv'}")
    assert answer.code == 0, answer.err
    assert json.loads(answer.out)["id"] in (7, "7")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Twelve small pictures of noise in two class folders."""
    folder = tmp_path_factory.mktemp("pictures")
    values = np.random.default_rng(0)
    for number in range(12):
        path = folder / ("day", "night")[number % 2] / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(values.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)
    return folder


@pytest.fixture(scope="module")
def sorter(cli, pictures, tmp_path_factory):
    """A classifier of pictures, trained for a moment."""
    folder = tmp_path_factory.mktemp("sorter") / "run"
    words = ("ckpt=null", "model=mlp", "dataset=image_folder", f"dataset.path={pictures}", "preset=smoke")
    assert cli("finetune", *words, f"run={folder}").code == 0
    return folder


def test_pictures_that_cannot_be_decoded_are_told_and_the_others_answered_in_their_order(cli, sorter, pictures, tmp_path):
    for name, file in ("b.png", pictures / "day" / "0.png"), ("d.png", pictures / "night" / "1.png"):
        (tmp_path / name).write_bytes(file.read_bytes())
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / "c.jpg").write_text("<html>no such page</html>")
    answer = cli("predict", f"ckpt={sorter}", f"input={tmp_path}", "batch_size=2")
    found = {row["id"]: row for row in map(json.loads, answer.out.splitlines())}
    assert answer.code == 0 and list(found) == ["a.png", "b.png", "c.jpg", "d.png"]
    assert found["a.png"] == {"id": "a.png", "error": "the file is empty"}
    assert found["c.jpg"] == {"id": "c.jpg", "error": "its content is no image of a known format"}
    assert "a.png and 1 more cannot be decoded" in answer.err
    for name in ("b.png", "d.png"):
        alone = json.loads(cli("predict", f"ckpt={sorter}", f"input={tmp_path / name}").out)
        assert found[name]["probabilities"] == pytest.approx(alone["probabilities"], abs=1e-6)


def test_pictures_of_which_none_can_be_decoded_are_refused_and_nothing_is_written(cli, sorter, tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / "kept.jsonl").write_text("as it was")
    answer = cli("predict", f"ckpt={sorter}", f"input={tmp_path}", f"output={tmp_path / 'kept.jsonl'}")
    assert answer.code == 3
    assert answer.complaint.endswith("none of 1 images can be decoded; the first: a.png: the file is empty")
    assert (tmp_path / "kept.jsonl").read_text() == "as it was"
