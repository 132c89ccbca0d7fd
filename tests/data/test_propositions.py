"""Propositions: an example for each predicate."""

import io
import json
import sys

import pytest

from ptft.data.propositions import Propositions
from ptft.errors import DataError

HEAD = "\t_\t_\t_\t_\t_\t_\t_\t_\t"
SENTENCE = f"""# sent_id = s-1
# text = Bush nominated two to replace them
1\tBush{HEAD}_\tARG0\t_
2\tnominated{HEAD}nominate.01\tV\t_
3\ttwo{HEAD}_\tARG1\tARG0
3.1\tempty{HEAD}_\t_\t_
4\tto{HEAD}_\t_\t_
5\treplace{HEAD}replace.01\tARG2\tV
6\tthem{HEAD}_\t_\tARG1

# sent_id = s-2
1\tHello{HEAD}_\t

"""
WORDS = ["Bush", "nominated", "two", "to", "replace", "them"]


@pytest.fixture
def srl(choice, tmp_path):
    """dataset=srl on CoNLL-U of the given content, none held out."""

    def build(content: str = SENTENCE):
        (tmp_path / "rows.conllu").write_text(content)
        return choice("dataset", "srl", path=str(tmp_path / "rows.conllu"), valid_fraction=0.0, test_fraction=0.0)

    return build


def test_each_predicate_is_an_example_with_the_roles_of_the_others(srl, tokenizers):
    dataset = srl()
    dataset.prepare(tokenizers["byte"], 64, "tags")
    found = list(dataset.rows("train"))
    assert [(row["words"], row["marked"]) for row in found] == [(WORDS, 1), (WORDS, 4)]
    tags = [[dataset.labels[tag] for tag in row["label"]] for row in found]
    assert tags == [["ARG0", "O", "ARG1", "O", "ARG2", "O"], ["O", "O", "ARG0", "O", "O", "ARG1"]]
    assert dataset.describe()["scheme"] == "words"


def test_the_predicate_is_no_argument_however_its_tag_is_spelt(srl, tokenizers):
    dataset = srl(SENTENCE.replace("\tV\t", "\tB-V\t"))
    dataset.prepare(tokenizers["byte"], 64, "tags")
    assert [row["marked"] for row in dataset.rows("train")] == [1, 4]
    assert not {"V", "B-V"} & set(dataset.labels)


def test_a_column_without_its_verb_belongs_to_the_predicate_of_its_number(srl, tokenizers):
    dataset = srl(SENTENCE.replace("\tV\t", "\t_\t"))
    dataset.prepare(tokenizers["byte"], 64, "tags")
    assert [row["marked"] for row in dataset.rows("train")] == [1, 4]


def test_there_is_room_for_the_marks_around_the_predicate(srl, tokenizers):
    dataset = srl()
    text = len(" Bush nominated two to replace them")
    dataset.prepare(tokenizers["byte"], text + 2, "tags")
    assert not dataset.notes
    dataset = srl()
    with pytest.raises(DataError, match=f"2 of 2 sentences .* cut to {text - 1} tokens"):
        dataset.prepare(tokenizers["byte"], text + 1, "tags")


def test_predicates_of_one_sentence_are_held_out_together(choice, tokenizers, tmp_path):
    (tmp_path / "many.conllu").write_text("".join(SENTENCE.replace("Bush", f"Bush{number}") for number in range(20)))
    dataset = choice("dataset", "srl", path=str(tmp_path / "many.conllu"))
    dataset.prepare(tokenizers["byte"], 64, "tags")
    found = [[row["words"][0] for row in dataset.rows(split)] for split in ("train", "valid", "test")]
    assert [len(names) for names in found] == [32, 4, 4]
    assert all(names.count(name) == 2 for names in found for name in names)


def test_a_file_without_predicates_is_refused_at_once(srl):
    with pytest.raises(DataError, match=r"rows\.conllu: no predicate; expected CoNLL-U with predicates in column 11"):
        srl(f"1\tHello{HEAD}_\n")


def test_predicates_to_predict_for_come_from_conllu_or_by_number(srl, tokenizers, tmp_path, monkeypatch):
    bare = "\n".join("\t".join(line.split("\t")[:11]) for line in SENTENCE.split("\n"))
    (tmp_path / "new.conllu").write_text(bare)
    (tmp_path / "new.jsonl").write_text(json.dumps({"tokens": WORDS, "predicate": [1, 4]}) + "\n")
    reader = Propositions.reader({}, srl().columns, None)
    for name, ids in (("new.conllu", ["s-1", "s-1"]), ("new.jsonl", [0, 1])):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO((tmp_path / name).read_bytes())))
        for source in (str(tmp_path / name), "-"):
            found = list(reader.read(source, tokenizers["byte"], 64))
            assert [(key, row["words"], row["marked"]) for key, row in found] == [(ids[0], WORDS, 1), (ids[1], WORDS, 4)]


def test_predicates_to_predict_for_may_be_marked_in_columns_of_roles_alone(srl, tokenizers, tmp_path):
    lines = [line.split("\t") for line in SENTENCE.split("\n")]
    unmarked = ["\t".join([*cells[:10], "_", *cells[11:]]) if len(cells) > 10 else "\t".join(cells) for cells in lines]
    (tmp_path / "new.conllu").write_text("\n".join(unmarked))
    found = Propositions.reader({}, srl().columns, None).read(str(tmp_path / "new.conllu"), tokenizers["byte"], 64)
    assert [row["marked"] for _, row in found] == [1, 4]


def test_a_file_without_predicates_to_predict_for_is_refused(tokenizers, tmp_path):
    (tmp_path / "new.txt").write_text("the man gave her a book\n")
    with pytest.raises(DataError, match=r"new\.txt: no predicate; expected CoNLL-U with predicates in column 11"):
        list(Propositions.reader({}, {}, None).read(str(tmp_path / "new.txt"), tokenizers["byte"], 64))


def test_a_predicate_that_is_no_word_is_refused(srl, tokenizers, tmp_path):
    (tmp_path / "new.jsonl").write_text(json.dumps({"tokens": WORDS, "predicate": 6}) + "\n")
    with pytest.raises(DataError, match=r"new\.jsonl:1: predicate 6; expected the number of one of the 6 words, from 0"):
        list(Propositions.reader({}, {}, None).read(str(tmp_path / "new.jsonl"), tokenizers["byte"], 64))
