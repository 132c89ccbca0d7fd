"""Pairs of texts from tables and from aligned files."""

import json

import pytest

from ptft.errors import DataError, UserError


@pytest.fixture
def parallel(choice, tmp_path):
    """dataset=parallel_text on files of the given contents."""

    def build(files: dict[str, str], path, **changes):
        for name, content in files.items():
            (tmp_path / name).write_text(content, encoding="utf-8")
        paths = str(tmp_path / path) if isinstance(path, str) else [str(tmp_path / name) for name in path]
        return choice("dataset", "parallel_text", path=paths, valid_fraction=0.0, test_fraction=0.0, **changes)

    return build


TABLE = {"a.tsv": "source\ttarget\nhello\tbonjour\nempty\t\nbye\tau revoir\n"}
FILES = {"a.en": "hello\nempty\nbye\n", "a.fr": "bonjour\n\nau revoir\n"}


@pytest.mark.parametrize("files, path", [(TABLE, "a.tsv"), (FILES, ["a.en", "a.fr"])])
def test_tables_and_aligned_files_give_the_same_pairs(files, path, parallel, tokenizers):
    dataset = parallel(files, path)
    dataset.prepare(tokenizers["byte"], 64, "text")
    decode = tokenizers["byte"].decode
    pairs = [(decode(row["tokens"]), decode(row["completion"])) for row in dataset.rows("train")]
    assert pairs == [("hello", "bonjour"), ("bye", "au revoir")]
    assert dataset.notes == ["train: 1 rows without text dropped"]


def test_pairs_that_recur_are_held_out_together_and_whatever_their_targets(choice, tmp_path):
    (tmp_path / "a.tsv").write_text("source\ttarget\n" + "".join(f"s{row % 20}\tt{row % 20}\n" for row in range(200)))
    tables = choice("dataset", "parallel_text", path=str(tmp_path / "a.tsv")).tables
    assert {split: len(table) for split, table in tables.items()} == {"train": 160, "valid": 20, "test": 20}
    assert len({source for table in tables.values() for source in set(table.texts)}) == 20
    assert not set(tables["train"].texts) & {*tables["valid"].texts, *tables["test"].texts}


def test_a_tokenizer_is_trained_on_both_sides(parallel):
    assert sorted(parallel(TABLE, "a.tsv").texts()) == ["au revoir", "bonjour", "bye", "hello"]


def test_files_of_different_lengths_are_refused_with_the_line(parallel, tokenizers):
    dataset = parallel({"a.en": "one\ntwo\n", "a.fr": "un\n"}, ["a.en", "a.fr"])
    with pytest.raises(DataError, match=r"a\.fr:2: ends before the other file"):
        dataset.prepare(tokenizers["byte"], 64, "text")


def test_two_files_are_two(parallel):
    with pytest.raises(UserError, match=r"dataset\.path lists 1 files, expected two"):
        parallel(FILES, ["a.en"])
    with pytest.raises(UserError, match=r"dataset\.valid_path=.*all splits must be tables, or all lists"):
        parallel(FILES | TABLE, ["a.en", "a.fr"], valid_path="a.tsv")


def test_columns_go_by_their_own_settings(parallel):
    with pytest.raises(DataError, match=r"dataset\.target=goal: .*; columns: source, target"):
        parallel(TABLE, "a.tsv", target="goal")


def test_pairs_cannot_teach_a_class(parallel, tokenizers):
    with pytest.raises(UserError, match="the task learns a class; use labelled_text"):
        parallel(TABLE, "a.tsv").prepare(tokenizers["byte"], 64, "class")


def test_the_pairs_that_ship_are_read_whole(choice, tokenizers):
    dataset = choice("dataset", "chat_pairs")
    dataset.prepare(tokenizers["bpe"], 512, "text")
    assert dataset.describe()["rows"] == {"train": 982, "valid": 122, "test": 125}


def test_a_row_keeps_its_target_as_it_stands_and_every_other_right_one(parallel, tokenizers):
    rows = [{"source": "a cat", "target": ["eine Katze", "ein Kätzchen", ""]}, {"source": "a dog", "target": "ein Hund"}]
    dataset = parallel({"a.jsonl": "".join(json.dumps(row) + "\n" for row in rows)}, "a.jsonl")
    dataset.prepare(tokenizers["byte"], 16, "text")
    found = list(dataset.rows("train"))
    assert [row["references"] for row in found] == [["eine Katze", "ein Kätzchen"], ["ein Hund"]]
    assert tokenizers["byte"].decode(found[1]["completion"]) == "ein Hund"


def test_a_target_that_is_no_text_is_refused_by_place(parallel):
    dataset = parallel({"a.jsonl": json.dumps({"source": "a", "target": [1]})}, "a.jsonl")
    with pytest.raises(DataError, match=r"a.jsonl:1: column 'target' holds a number, expected a string"):
        list(dataset.texts())
