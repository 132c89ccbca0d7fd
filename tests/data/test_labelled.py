"""Labelled text: rows, labels and splits."""

import io
import json
import math
import random

import pyarrow as pa
import pyarrow.parquet
import pytest

from ptft.data.labelled import LabelledText
from ptft.errors import DataError, UserError

ROWS = [(f"text number {number}", "pos" if number % 3 else "neg") for number in range(120)]
SPLITS = ("train", "valid", "test")


def examples(dataset, tokenizer, target="class", length=32, **settings):
    dataset.prepare(tokenizer, length, target, **settings)
    return {split: list(dataset.rows(split) or []) for split in SPLITS}


def test_splits_are_disjoint_and_whole_and_keep_the_share_of_each_class(labelled, tokenizers):
    found = examples(labelled(ROWS), tokenizers["byte"])
    assert [len(found[split]) for split in SPLITS] == [96, 12, 12]
    assert sorted(row["text"] for rows in found.values() for row in rows) == sorted(text for text, _ in ROWS)
    assert [sum(row["label"] == 0 for row in found[split]) for split in SPLITS] == [32, 4, 4]


def test_a_class_that_is_too_rare_to_be_balanced_is_never_held_out_whole(labelled, tokenizers):
    rows = [(f"text {number}", "rare" if number == 7 else "ab"[number % 2]) for number in range(25)]
    for seed in range(20):
        found = examples(labelled(rows, split_seed=seed), tokenizers["byte"])
        assert {row["label"] for row in found["train"]} == {0, 1, 2}


def test_splits_do_not_depend_on_the_order_of_the_file(labelled, tokenizers):
    shuffled = random.Random(0).sample(ROWS, len(ROWS))
    one, two = (examples(labelled(rows), tokenizers["byte"]) for rows in (ROWS, shuffled))
    for split in SPLITS:
        assert {row["text"] for row in one[split]} == {row["text"] for row in two[split]}


def test_another_split_seed_holds_out_other_rows(labelled, tokenizers):
    one, two = (examples(labelled(ROWS, split_seed=seed), tokenizers["byte"]) for seed in (0, 1))
    assert {row["text"] for row in one["test"]} != {row["text"] for row in two["test"]}


def test_equal_texts_never_lie_on_both_sides_of_a_split(labelled, tokenizers):
    rows = [(f"text {number % 25}", "ab"[number % 25 % 2]) for number in range(200)]
    found = examples(labelled(rows), tokenizers["byte"])
    texts = [{row["text"] for row in found[split]} for split in SPLITS]
    assert not texts[0] & texts[1] and not texts[0] & texts[2] and not texts[1] & texts[2]
    assert sum(len(rows) for rows in found.values()) == 200


def test_an_example_holds_ids_label_row_and_the_text_as_it_was(labelled, tokenizers):
    dataset = labelled([("über  alles", "b"), ("[EOS] x", "a")], valid_fraction=0.0, test_fraction=0.0)
    first, second = examples(dataset, tokenizers["bpe"])["train"]
    assert (first["text"], first["label"], first["row"]) == ("über  alles", 1, 0)
    assert (second["text"], second["label"], second["row"]) == ("[EOS] x", 0, 1)
    assert tokenizers["bpe"].decode(first["tokens"]) == "über  alles"
    assert dataset.facts == {"num_classes": 2, "labels": ["a", "b"]}


def test_files_of_their_own_are_the_splits_and_all_of_path_is_for_training(labelled, tokenizers, tmp_path):
    labelled(ROWS[:10], name="valid.tsv")
    found = examples(labelled(ROWS, valid_path=str(tmp_path / "valid.tsv")), tokenizers["byte"])
    assert [len(found[split]) for split in SPLITS] == [120, 10, 0]


def test_labels_of_a_trained_model_keep_their_order(labelled, tokenizers):
    dataset = labelled(ROWS)
    found = examples(dataset, tokenizers["byte"], labels=["pos", "other", "neg"])
    assert {row["label"] for row in found["train"]} == {0, 2}
    assert dataset.facts["labels"] == ["pos", "other", "neg"]


def test_a_label_the_model_does_not_know_is_refused_with_its_row(labelled, tokenizers):
    dataset = labelled([*ROWS, ("odd one", "neutral")], valid_fraction=0.0, test_fraction=0.0)
    with pytest.raises(DataError, match=r"rows\.tsv:122: label 'neutral' is none of the 2 known ones: neg, pos"):
        dataset.prepare(tokenizers["byte"], 32, "class", labels=["neg", "pos"])


def test_a_label_only_the_test_file_has_is_refused(labelled, tokenizers, tmp_path):
    labelled([("x", "pos"), ("y", "new")], name="test.tsv")
    with pytest.raises(DataError, match=r"test\.tsv:3: label 'new'"):
        labelled(ROWS, test_path=str(tmp_path / "test.tsv")).prepare(tokenizers["byte"], 32, "class")


def test_numbers_are_learned_as_they_are(labelled, tokenizers):
    rows = [(f"text {number}", number / 7) for number in range(50)]
    found = examples(labelled(rows), tokenizers["byte"], "number")
    assert all(row["label"] == int(row["text"].split()[1]) / 7 for split in SPLITS for row in found[split])


@pytest.mark.parametrize("bad", ["nan", "inf", "1e39", "much", "1_1"])
def test_a_label_that_is_no_finite_number_is_refused_with_its_row(bad, labelled, tokenizers):
    dataset = labelled([("a", "1.5"), ("b", bad)], valid_fraction=0.0, test_fraction=0.0)
    with pytest.raises(DataError, match=rf"rows\.tsv:3: column 'label' is '{bad}', expected a finite number"):
        dataset.prepare(tokenizers["byte"], 32, "number")


def test_numbers_are_not_taken_for_classes(labelled, tokenizers):
    with pytest.raises(DataError, match="these are numbers: use task=regress"):
        labelled([(f"t{number}", number / 7) for number in range(50)]).prepare(tokenizers["byte"], 32, "class")
    with pytest.raises(DataError, match="choose another column"):
        labelled([(f"t{number}", f"name {number}") for number in range(50)]).prepare(tokenizers["byte"], 32, "class")
    with pytest.raises(DataError, match="all .* rows are 'a'; expected two"):
        labelled([(f"t{number}", "a") for number in range(50)]).prepare(tokenizers["byte"], 32, "class")


@pytest.mark.parametrize(("classes", "told"), [(20, 0), (21, 1)])
def test_many_classes_that_are_numbers_are_said_to_look_like_numbers(classes, told, labelled, tokenizers):
    dataset = labelled([(f"t{number}", number % classes / 2) for number in range(300)])
    dataset.prepare(tokenizers["byte"], 32, "class")
    named = [note for note in dataset.notes if "dataset.label=label: 21 classes, all of them numbers" in note]
    assert len(named) == told and all("task=regress" in note for note in named)


def test_few_label_experiments_keep_as_many_rows_of_each_class(labelled, tokenizers):
    found = {seed: examples(labelled(ROWS, per_class=5, split_seed=seed), tokenizers["byte"]) for seed in (0, 1)}
    assert [row["label"] for row in found[0]["train"]].count(0) == 5
    assert len(found[0]["train"]) == 10
    assert len(found[0]["test"]) == 12
    assert [row["text"] for row in found[0]["train"]] != [row["text"] for row in found[1]["train"]]
    with pytest.raises(UserError, match="per_class=5 is for tasks that learn classes"):
        labelled(ROWS, per_class=5).prepare(tokenizers["byte"], 32, "number")


def test_pairs_share_the_room_and_the_longer_is_cut(labelled, tokenizers):
    rows = [("a" * 5, "b" * 100, "x"), ("a" * 100, "b" * 5, "y"), ("a" * 100, "b" * 100, "x")] + [("a", "b", "y")] * 4
    header = ("one", "two", "label")
    dataset = labelled(rows, header, text="one", text_pair="two", valid_fraction=0.0, test_fraction=0.0)
    found = examples(dataset, tokenizers["byte"])["train"]
    assert [(len(row["tokens"]), len(row["pair"])) for row in found[:4]] == [(5, 26), (26, 5), (15, 16), (1, 1)]
    assert dataset.notes == ["train: 3 of 7 rows (42.9%) cut to 31 tokens; the longest has 200"]


def test_texts_that_are_compared_have_all_the_room_each(labelled, tokenizers):
    rows = [("a" * 30, "b" * 31, 1), ("a" * 100, "b" * 5, 2), ("a" * 3, "b" * 100, 3)] + [("a", "b", 4)] * 4
    changes = {"text": "one", "text_pair": "two", "valid_fraction": 0.0, "test_fraction": 0.0}
    dataset = labelled(rows, ("one", "two", "label"), **changes)
    found = examples(dataset, tokenizers["byte"], "likeness")["train"]
    assert [(len(row["tokens"]), len(row["pair"])) for row in found[:4]] == [(30, 31), (32, 5), (3, 32), (1, 1)]
    assert dataset.notes == ["train: 2 of 7 rows (28.6%) cut to 32 tokens; the longest has 100"]
    reader = LabelledText.reader({}, dataset.columns, None)
    new = [example for _, example in reader.read(str(dataset.files["train"][0]), tokenizers["byte"], 32)]
    assert [(len(row["tokens"]), len(row["pair"])) for row in new[:4]] == [(30, 31), (32, 5), (3, 32), (1, 1)]


def test_a_completion_is_the_label_as_tokens(labelled, tokenizers):
    dataset = labelled([("Q: one", "two words")], valid_fraction=0.0, test_fraction=0.0)
    (row,) = examples(dataset, tokenizers["bpe"], "text")["train"]
    assert tokenizers["bpe"].decode(row["completion"]) == "two words"
    assert "label" not in row


def test_a_completion_keeps_the_blanks_around_it_and_a_class_does_not(choice, tokenizers, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(f'{{"text": "Q{n}", "label": " ai\\n  indented{n % 2}\\n"}}\n' for n in range(8)), encoding="utf-8")
    dataset = choice("dataset", "labelled_text", path=str(path), valid_fraction=0.0, test_fraction=0.0)
    row = examples(dataset, tokenizers["byte"], "text")["train"][0]
    assert tokenizers["byte"].decode(row["completion"]) == " ai\n  indented0\n"
    assert row["references"] == [" ai\n  indented0\n"]
    dataset.prepare(tokenizers["byte"], 32, "class")
    assert dataset.labels == ["ai\n  indented0", "ai\n  indented1"]


def test_rows_without_a_completion_are_dropped_and_counted(choice, tokenizers, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(
        '{"text": "Q", "label": "A"}\n{"text": "R", "label": " \\n"}\n{"text": "S", "label": ""}\n', encoding="utf-8"
    )
    dataset = choice("dataset", "labelled_text", path=str(path), valid_fraction=0.0, test_fraction=0.0)
    (row,) = examples(dataset, tokenizers["byte"], "text")["train"]
    assert (row["text"], row["references"]) == ("Q", ["A"])
    assert dataset.notes == ["train: 2 rows without label dropped"]


def test_rows_that_all_lack_a_completion_are_refused(choice, tokenizers, tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"text": "Q", "label": " \\n"}\n', encoding="utf-8")
    path = str(tmp_path / "rows.jsonl")
    dataset = choice("dataset", "labelled_text", path=path, valid_fraction=0.0, test_fraction=0.0)
    with pytest.raises(DataError, match=r"rows\.jsonl: no row with text and label is left to train on"):
        dataset.prepare(tokenizers["byte"], 32, "text")


def parquet(path, labels):
    """A parquet file of rows with these labels; its path."""
    rows = [{"text": f"t{number}", "label": label} for number, label in enumerate(labels)]
    pyarrow.parquet.write_table(pa.Table.from_pylist(rows), path)
    return str(path)


def test_whole_numbers_are_the_same_classes_from_every_format(choice, labelled, tokenizers, tmp_path):
    stars = [1, 2, 3, 4] * 3
    shares = {"valid_fraction": 0.0, "test_fraction": 0.0}
    table = labelled([(f"t{number}", star) for number, star in enumerate(stars)], **shares)
    binary = choice("dataset", "labelled_text", path=parquet(tmp_path / "a.parquet", map(float, stars)), **shares)
    for dataset in (table, binary):
        dataset.prepare(tokenizers["byte"], 32, "class")
    assert binary.labels == table.labels == ["1", "2", "3", "4"]


def test_a_label_that_is_not_a_number_counts_as_missing(choice, tokenizers, tmp_path):
    path = parquet(tmp_path / "a.parquet", [1.0, 2.0, math.nan])
    dataset = choice("dataset", "labelled_text", path=path, valid_fraction=0.0, test_fraction=0.0)
    with pytest.raises(DataError, match=r"a\.parquet: row 3: column 'label' is empty, expected a value"):
        dataset.prepare(tokenizers["byte"], 32, "class")


def test_rows_cut_are_counted_and_too_many_are_refused(labelled, tokenizers):
    dataset = labelled([*ROWS, ("long " * 20, "pos")], valid_fraction=0.0, test_fraction=0.0)
    found = examples(dataset, tokenizers["byte"])["train"]
    assert len(found[-1]["tokens"]) == 32
    assert dataset.notes == ["train: 1 of 121 rows (0.8%) cut to 32 tokens; the longest has 100"]
    with pytest.raises(DataError, match="more than half lose text: raise model.max_length, or dataset.max_length"):
        labelled(ROWS).prepare(tokenizers["byte"], 8, "class")


def test_rows_without_text_are_dropped_and_counted(labelled, tokenizers):
    dataset = labelled([*ROWS, ("", "pos"), ("  ", "neg")])
    found = examples(dataset, tokenizers["byte"])
    assert sum(len(rows) for rows in found.values()) == 120
    assert dataset.notes == ["train: 2 rows without text dropped"]


def test_a_second_preparation_reads_the_cache_and_says_the_same(labelled, tokenizers):
    first, second = labelled([*ROWS, ("", "pos")]), labelled([*ROWS, ("", "pos")])
    one, two = (examples(dataset, tokenizers["byte"]) for dataset in (first, second))
    assert first.folder == second.folder
    assert "tables" not in vars(second)
    assert first.notes == second.notes
    assert [row["text"] for row in one["train"]] == [row["text"] for row in two["train"]]


COLUMNS = {
    "named so": (("id", "text", "label"), {}, ("text", "label")),
    "other usual names": (("sentence", "n", "sentiment"), {}, ("sentence", "sentiment")),
    "only one of words": (("first", "second"), {}, ("first", "second")),
    "wanted": (("a", "b", "c"), {"text": "a", "label": "c"}, ("a", "c")),
    "text wanted": (("a", "label"), {"text": "a"}, ("a", "label")),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_columns_are_taken_by_name_or_where_they_are_obvious(name, labelled):
    header, wanted, expected = COLUMNS[name]
    row = ["1"] * len(header)
    row[header.index(expected[0])] = "some words"
    dataset = labelled([tuple(row)] * 3, header, **wanted)
    assert (dataset.text, dataset.label) == expected


MISTAKES = {
    "misspelt": (
        ("text", "label"),
        {"text": "txt"},
        r"dataset\.text=txt: .*rows\.tsv has no such column; did you mean 'text'\?",
    ),
    "columns listed": (("text", "label"), {"label": "zzz"}, r"dataset\.label=zzz: .*; columns: text, label"),
    "label open": (("text", "u", "v"), {}, r"dataset\.label is not set and .* choose from: text, u, v"),
    "text open": (("u", "v", "label"), {}, r"dataset\.text is not set and .* choose from: u, v, label"),
    "pair": (("text", "label"), {"text_pair": "other"}, r"dataset\.text_pair=other: .* no such column"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_column_that_is_not_there_or_not_clear_is_refused_at_once(name, labelled):
    header, wanted, message = MISTAKES[name]
    with pytest.raises(DataError, match=message):
        labelled([tuple("some words" for _ in header)], header, **wanted)


def test_an_empty_table_is_refused(labelled):
    with pytest.raises(DataError, match=r"rows\.tsv: empty"):
        labelled([])


def test_rows_to_predict_become_examples_without_labels(labelled, tokenizers, tmp_path, monkeypatch):
    dataset = labelled([("some words", "x")] * 3, ("review", "kind"), text="review", label="kind")
    (tmp_path / "new.jsonl").write_text('{"id": 7, "review": "read me"}\n', encoding="utf-8")
    reader = LabelledText.reader({}, dataset.columns, None)
    ((name, row),) = reader.read(str(tmp_path / "new.jsonl"), tokenizers["bpe"], 32)
    assert name == 7
    assert (row["row"], row["text"], tokenizers["bpe"].decode(row["tokens"])) == (0, "read me", "read me")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"plain line\n")))
    ((_, row),) = reader.read("-", tokenizers["bpe"], 32)
    assert row["text"] == "plain line"
    (tmp_path / "new.jsonl").write_text('{"id": 7, "txt": "read me"}\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"new\.jsonl:1: no field 'review'; fields: id, txt"):
        list(reader.read(str(tmp_path / "new.jsonl"), tokenizers["bpe"], 32))


@pytest.mark.parametrize(
    ("given", "row", "read", "told"),
    [
        ({}, {"n": 1, "Sentence": "yes"}, "yes", ["without 'remark': 'Sentence' is read instead"]),
        ({}, {"text": "no", "remark": "yes"}, "yes", None),
        ({}, {"text": "yes"}, "yes", None),  # a plain line comes so, too
        ({"text": "remark"}, {"n": 1, "sentence": "no"}, None, None),
        ({}, {"n": 1, "words": "no"}, None, None),
    ],
)
def test_a_text_is_found_by_a_usual_name_and_that_is_told_unless_a_user_named_the_column(
    given, row, read, told, labelled, tokenizers, tmp_path
):
    dataset = labelled([("some words", 1)] * 3, ("remark", "kind"))
    (tmp_path / "new.jsonl").write_text(json.dumps(row), encoding="utf-8")
    rows = LabelledText.reader(given, dataset.columns, None).read(str(tmp_path / "new.jsonl"), tokenizers["bpe"], 32)
    if read is None:
        with pytest.raises(DataError, match="no field 'remark'.*dataset.text=FIELD names another"):
            next(rows)
    else:
        ((_, example),) = rows
        assert (example["text"], example.get("told")) == (read, told)


def test_a_table_on_standard_input_is_known_by_the_columns_of_the_run(tokenizers, monkeypatch):
    reader = LabelledText.reader({}, {"text": "review", "text_pair": "reply"}, None)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b'ID,reply,review\n7,"no, never",yes\n')))
    ((name, row),) = reader.read("-", tokenizers["byte"], 32)
    assert (name, row["text"]) == ("7", "yes")
    assert tokenizers["byte"].decode(row["pair"]) == "no, never"


def test_the_classes_that_ship_are_read_whole(choice, tokenizers):
    dataset = choice("dataset", "sentence_polarity")
    dataset.prepare(tokenizers["bpe"], 256, "class")
    assert dataset.describe()["rows"] == {"train": 8529, "valid": 1066, "test": 1067}
    assert dataset.facts["labels"] == ["neg", "pos"]
