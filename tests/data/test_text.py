"""Unlabelled text: nothing is lost between a file and its blocks."""

import gzip
import json
import pickle
import random
import resource
import sys

import numpy as np
import pytest

from ptft.data import documents, encoding
from ptft.errors import DataError, UserError


def written(dataset, tokenizer, length=16, **settings):
    """The text of each split, document by document, as its blocks hold it."""
    dataset.prepare(tokenizer, length, **settings)
    return {split: documents_of(dataset.rows(split), tokenizer) for split in ("train", "valid", "test")}


def documents_of(rows, tokenizer):
    if rows is None:
        return []
    examples = rows.take(range(len(rows)))
    stream = np.concatenate([example["tokens"] for example in examples])
    numbers = np.concatenate([example["documents"] for example in examples])
    found = [stream[numbers == number] for number in range(numbers.max() + 1)]
    assert all(ids[-1] == tokenizer.eos_id and tokenizer.eos_id not in ids[:-1] for ids in found)
    return [tokenizer.decode(ids[:-1]) for ids in found]


ODD = {
    "lines": "".join(f"line {number} of the text\n" for number in range(300)),
    "no last line end": "one\ntwo\nthree and four",
    "windows line ends": "one\r\ntwo\r\n\r\nthree\r\n" * 40,
    "one long line": "word " * 3000,
    "no blank at all": "日本語" * 3000,
    "blanks only between": "a" + " " * 5000 + "b" + "\n" * 5000,
    "special tokens spelt": "[EOS] [PAD]\n[MASK][EOS]\n" * 40,
    "short": "ab",
}


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("block", [documents.BLOCK, 64])
def test_splits_of_a_document_are_its_parts_in_order(name, block, text, tokenizers, monkeypatch):
    monkeypatch.setattr(documents, "BLOCK", block)
    found = written(text(ODD[name], valid_fraction=0.2, test_fraction=0.1), tokenizers["byte"])
    assert "".join(found["train"] + found["valid"] + found["test"]) == ODD[name]
    assert all(len(documents) <= 1 for documents in found.values())


def test_a_long_document_is_cut_after_lines(text, tokenizers):
    found = written(text(ODD["lines"], valid_fraction=0.2, test_fraction=0.1), tokenizers["byte"])
    assert all(parts[0].endswith("\n") for parts in found.values())
    shares = [len(found[split][0]) / len(ODD["lines"]) for split in ("train", "valid", "test")]
    assert shares == pytest.approx([0.7, 0.2, 0.1], abs=0.01)


@pytest.mark.parametrize("seed", [0, 1])
def test_many_documents_are_divided_whole_and_by_seed(seed, text, tokenizers):
    lines = [f"document {number}" for number in range(250)]
    dataset = text("\n".join(lines), documents="line", valid_fraction=0.1, test_fraction=0.2, split_seed=seed)
    found = written(dataset, tokenizers["byte"])
    assert [len(found[split]) for split in ("train", "valid", "test")] == [175, 25, 50]
    assert sorted(found["train"] + found["valid"] + found["test"]) == sorted(lines)
    assert found["valid"] != lines[-25:]


def test_documents_of_plain_text_are_files_paragraphs_or_lines(text, tokenizers):
    content = "one\ntwo\n\n\nthree\n"
    settings = {"valid_fraction": 0.0}
    assert written(text(content, **settings), tokenizers["byte"])["train"] == [content]
    assert written(text(content, documents="paragraph", **settings), tokenizers["byte"])["train"] == ["one\ntwo", "three"]
    assert written(text(content, documents="line", **settings), tokenizers["byte"])["train"] == ["one", "two", "three"]


def test_a_folder_holds_documents_of_many_formats_in_sorted_order(text, tokenizers, tmp_path):
    folder = tmp_path / "corpus"
    (folder / "deep").mkdir(parents=True)
    (folder / "a.txt").write_text("plain", encoding="utf-8")
    (folder / "b.csv").write_text('text,n\n"a\nb",1\n,2\nc,3\n', encoding="utf-8")
    (folder / "deep" / "c.jsonl.gz").write_bytes(gzip.compress(json.dumps({"text": "packed"}).encode()))
    (folder / "ignored.png").write_bytes(b"\x89PNG")
    (folder / ".hidden.txt").write_text("hidden", encoding="utf-8")
    dataset = text(folder, valid_fraction=0.0)
    assert written(dataset, tokenizers["byte"])["train"] == ["plain", "a\nb", "c", "packed"]
    assert dataset.notes == ["1 documents without text were dropped"]


def test_splits_of_their_own_files_are_those_files(text, tokenizers, tmp_path):
    (tmp_path / "valid.txt").write_text("to check", encoding="utf-8")
    found = written(text("to train", valid_path=str(tmp_path / "valid.txt"), test_fraction=0.5), tokenizers["byte"])
    assert found == {"train": ["to train"], "valid": ["to check"], "test": []}


@pytest.mark.parametrize("kind", ["bpe", "wordpiece", "unigram", "character", "byte"])
def test_a_text_in_pieces_has_the_ids_of_the_whole(kind, text, tokenizers, monkeypatch):
    chance = random.Random(2)
    letters = ["the", "sun", " ", "  ", "\n", "\n\n", " \n ", ".", "don't", "日本", "\t", "[EOS]", "\r\n", "é"]
    content = "".join(chance.choice(letters) for _ in range(4000))
    monkeypatch.setattr(documents, "BLOCK", 50)
    monkeypatch.setattr(encoding, "JOB", 300)
    dataset = text(content, valid_fraction=0.0)
    dataset.prepare(tokenizers[kind], 32)
    rows = dataset.rows("train")
    stream = np.concatenate([example["tokens"] for example in rows])
    assert stream[:-1].tolist() == tokenizers[kind].backend.encode(content).ids
    assert stream[-1] == tokenizers[kind].eos_id


def test_blocks_follow_one_another_and_know_the_next_token(text, corpus, tokenizers):
    dataset = text(corpus, documents="line", valid_fraction=0.0)
    dataset.prepare(tokenizers["bpe"], 10)
    rows = pickle.loads(pickle.dumps(dataset.rows("train")))
    examples = list(rows)
    assert {len(example["tokens"]) for example in examples[:-1]} == {10}
    assert [example["next"] for example in examples[:-1]] == [example["tokens"][0] for example in examples[1:]]
    assert examples[-1]["next"] == -1
    assert sum(len(example["tokens"]) for example in examples) == dataset.describe()["tokens"]["train"]
    assert [example["row"] for example in examples] == list(range(len(rows)))
    assert rows.longest(3) == [0, 1, 2]
    backwards = rows.take(range(len(rows))[::-1])
    assert all((one["tokens"] == two["tokens"]).all() for one, two in zip(backwards, examples[::-1], strict=True))
    assert all((one["documents"] == two["documents"]).all() for one, two in zip(backwards, examples[::-1], strict=True))


def test_the_cache_is_keyed_by_text_tokenizer_and_settings(text, corpus, tokenizers, choice):
    def folder(content=corpus, tokenizer=tokenizers["bpe"], **settings):
        dataset = text(content, **settings)
        dataset.prepare(tokenizer, 16)
        return dataset.folder

    assert folder() == folder(max_length=8)
    retrained = choice("tokenizer", "bpe", vocab_size=300).train([corpus])
    others = [folder(tokenizer=retrained), folder(corpus + "."), folder(valid_fraction=0.2), folder(documents="line")]
    assert len({folder(), *others}) == 5


def test_the_fingerprint_follows_the_bytes_and_not_the_name(text, corpus, tmp_path):
    first = text(corpus).fingerprint
    (tmp_path / "moved.txt").write_text(corpus, encoding="utf-8")
    assert text(tmp_path / "moved.txt").fingerprint == first
    assert text(corpus + " ").fingerprint != first
    assert text(corpus, split_seed=1).fingerprint != first


def test_a_second_preparation_encodes_nothing(text, corpus, tokenizers):
    reports = []
    text(corpus).prepare(tokenizers["bpe"], 16, report=lambda *told: reports.append(told))
    assert reports[-1] == ("tokenising", len(corpus), len(corpus))
    reports.clear()
    text(corpus).prepare(tokenizers["bpe"], 16, report=lambda *told: reports.append(told))
    assert not reports


@pytest.mark.slow
def test_processes_write_what_one_process_writes(text, corpus, tokenizers, monkeypatch):
    monkeypatch.setattr(documents, "BLOCK", 1000)
    monkeypatch.setattr(encoding, "JOB", 2000)
    alone = text(corpus, documents="line")
    alone.prepare(tokenizers["bpe"], 16)
    monkeypatch.setattr(encoding, "WORTH_WORKERS", 0)
    monkeypatch.setattr(encoding.os, "sched_getaffinity", lambda _: {0, 1})
    monkeypatch.setenv("PTFT_CACHE", str(alone.folder.parent / "another"))
    helped = text(corpus, documents="line")
    helped.prepare(tokenizers["bpe"], 16)
    for name in ("train.ids", "train.ends", "valid.ids", "valid.ends"):
        assert (alone.folder / name).read_bytes() == (helped.folder / name).read_bytes()


@pytest.mark.slow
def test_memory_does_not_grow_with_the_text(text, corpus, tokenizers, tmp_path):
    def peak():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)

    def read(megabytes):
        path = tmp_path / f"{megabytes}.txt"
        with path.open("w", encoding="utf-8") as file:
            for _ in range(megabytes * 10**6 // len(corpus)):
                file.write(corpus)
        dataset = text(path)
        dataset.prepare(tokenizers["byte"], 64)
        rows = dataset.rows("train")
        for start in range(0, len(rows) - 64, 64):
            rows.take(range(start, start + 64))

    read(2)
    before = peak()
    read(40)
    assert peak() - before < 16, "megabytes more for 38 MB more of text"


WRONG = {
    "missing file": ({"path": "corpus.tx"}, DataError, r"dataset\.path=.*corpus\.tx: no such file.*corpus\.txt"),
    "missing valid": ({"valid_path": "nowhere.txt"}, DataError, r"dataset\.valid_path=nowhere\.txt: no such file"),
    "column of plain text": ({"text": "body"}, UserError, r"dataset\.text=body: .* plain text without columns"),
    "documents": ({"documents": "lines"}, UserError, r"dataset\.documents=lines is not known; did you mean 'line'"),
    "fraction": ({"valid_fraction": 1.0}, UserError, r"dataset\.valid_fraction=1\.0: expected a share"),
    "fractions": ({"valid_fraction": 0.6, "test_fraction": 0.4}, UserError, "nothing is left to train on"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_setting_that_cannot_be_is_refused_before_anything_is_read(name, text, choice, tmp_path):
    changes, error, message = WRONG[name]
    text("some words\n" * 50)
    path = str(tmp_path / changes.get("path", "corpus.txt"))
    with pytest.raises(error, match=message):
        choice("dataset", "text", **changes | {"path": path})


def test_the_training_file_cannot_be_the_validation_file(text, tmp_path):
    with pytest.raises(UserError, match=r"dataset\.valid_path=.* is the training file"):
        text("some words", valid_path=str(tmp_path / "corpus.txt"))


@pytest.mark.parametrize("content", ["", "\n \n"])
def test_an_empty_file_is_refused(content, text, tokenizers):
    with pytest.raises(DataError, match=r"corpus\.txt: empty"):
        text(content).prepare(tokenizers["byte"], 16)


def test_bytes_that_are_no_text_are_refused_with_their_line(text, tokenizers, tmp_path):
    (tmp_path / "bad.txt").write_bytes("fine\nstill fine é\n".encode() + b"not \xe9 fine\n")
    with pytest.raises(DataError, match=r"bad\.txt:3: not UTF-8 \(byte 0xe9, column 5\)"):
        text(tmp_path / "bad.txt").prepare(tokenizers["byte"], 16)


def test_a_folder_without_data_is_refused(text, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no data file"):
        text(tmp_path / "empty")


def test_a_text_too_short_for_its_share_says_so(text, tokenizers):
    dataset = text("ab", valid_fraction=0.1)
    dataset.prepare(tokenizers["byte"], 16)
    assert dataset.rows("valid") is None
    assert "too short for dataset.valid_fraction=0.1" in dataset.notes[0]


def test_text_without_labels_cannot_teach_a_class(text, tokenizers):
    with pytest.raises(UserError, match="text without labels, but the task learns a class"):
        text("words").prepare(tokenizers["byte"], 16, target="class")


@pytest.mark.parametrize("name", ["shakespeare", "sentence_polarity_text"])
def test_the_text_that_ships_is_read_whole(name, choice, tokenizers):
    dataset = choice("dataset", name)
    dataset.prepare(tokenizers["byte"], 256)
    assert dataset.describe()["characters"] == {"shakespeare": 1115394, "sentence_polarity_text": 972800}[name]
    assert dataset.rows("valid") is not None
