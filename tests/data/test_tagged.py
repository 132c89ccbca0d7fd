"""Tagged text: splits, tags, what is cut, and sentences to predict on."""

import io
import json
import sys

import pytest

from ptft.data.tagged import TaggedText
from ptft.errors import DataError
from ptft.nn.spans import Scheme

SPLITS = ("train", "valid", "test")
PLACES = ["Paris", "Rome", "Oslo", "Kyiv"]
ROWS = [
    ([f"word{number}", "went", "to", PLACES[number % 4], "City", "."], ["O", "O", "O", "B-LOC", "I-LOC", "O"])
    for number in range(60)
]
NONE_HELD_OUT = {"valid_fraction": 0.0, "test_fraction": 0.0}


@pytest.fixture
def tagged(choice, tmp_path):
    """dataset=tagged_text on a file of columns with the given sentences."""

    def build(rows: list[tuple] = ROWS, name: str = "rows.conll", **changes):
        blocks = ["".join(f"{word}\t{tag}\n" for word, tag in zip(*row, strict=True)) for row in rows]
        (tmp_path / name).write_text("\n".join(blocks), encoding="utf-8")
        return choice("dataset", "tagged_text", path=str(tmp_path / name), **changes)

    return build


def examples(dataset, tokenizer, length=64, **settings):
    dataset.prepare(tokenizer, length, "tags", **settings)
    return {split: list(dataset.rows(split) or []) for split in SPLITS}


def test_an_example_holds_pieces_words_places_and_tags(tagged, tokenizers):
    dataset = tagged(ROWS, **NONE_HELD_OUT)
    example = examples(dataset, tokenizers["byte"])["train"][0]
    assert example["words"] == ["word0", "went", "to", "Paris", "City", "."]
    assert dataset.facts == {"num_classes": 3, "labels": ["B-LOC", "I-LOC", "O"]}
    assert example["label"].tolist() == [2, 2, 2, 0, 1, 2]
    assert tokenizers["byte"].decode(example["tokens"]) == " word0 went to Paris City ."
    first, last = example["places"][3]
    assert tokenizers["byte"].decode(example["tokens"][first : last + 1]) == "Paris"
    assert example["row"] == 0


def test_sentences_are_held_out_by_their_text_whatever_their_order(tagged, tokenizers):
    one, two = (examples(tagged(rows), tokenizers["byte"]) for rows in (ROWS, ROWS[::-1]))
    assert [len(one[split]) for split in SPLITS] == [48, 6, 6]
    for split in SPLITS:
        assert {row["words"][0] for row in one[split]} == {row["words"][0] for row in two[split]}
    assert sorted(row["words"][0] for rows in one.values() for row in rows) == sorted(row[0][0] for row in ROWS)


def test_equal_sentences_stay_together(tagged, tokenizers):
    found = examples(tagged(ROWS[:10] * 4), tokenizers["byte"])
    texts = [{row["words"][0] for row in found[split]} for split in SPLITS]
    assert texts[1] and not texts[0] & texts[1] and not texts[0] & texts[2] and not texts[1] & texts[2]


def test_files_of_their_own_are_the_splits(tagged, tokenizers, tmp_path):
    tagged(ROWS[:7], name="valid.conll")
    found = examples(tagged(valid_path=str(tmp_path / "valid.conll")), tokenizers["byte"])
    assert [len(found[split]) for split in SPLITS] == [60, 7, 0]


def test_tables_and_columns_give_the_same_examples(tagged, choice, tokenizers, tmp_path):
    lines = "".join(json.dumps({"tokens": words, "tags": tags}) + "\n" for words, tags in ROWS)
    (tmp_path / "rows.jsonl").write_text(lines)
    of_lists = choice("dataset", "tagged_text", path=str(tmp_path / "rows.jsonl"))
    one, two = (examples(dataset, tokenizers["bpe"]) for dataset in (tagged(), of_lists))
    for split in SPLITS:
        assert [(row["words"], row["label"].tolist()) for row in one[split]] == [
            (row["words"], row["label"].tolist()) for row in two[split]
        ]


def test_tags_that_break_their_scheme_are_counted_with_the_first_place(tagged, tokenizers):
    broken = (["a", "b", "c"], ["O", "I-LOC", "I-LOC"])
    dataset = tagged([*ROWS, broken, broken], **NONE_HELD_OUT)
    examples(dataset, tokenizers["byte"])
    place = f"{dataset.files['train'][0]}:421"
    assert dataset.notes == [f"train: 2 tags cannot follow the one before in BIO, first at {place}"]
    assert dataset.describe()["scheme"] == "bio"


def test_a_stray_tag_among_those_of_spans_is_outside_of_them_and_named(tagged, tokenizers):
    rows = [*ROWS, (["A", "1984", "novel"], ["O", "X", "O"])]
    dataset = tagged(rows, **NONE_HELD_OUT)
    examples(dataset, tokenizers["byte"])
    assert dataset.notes == ["tags that are of no span count as outside of them: X"]
    assert dataset.describe()["scheme"] == "bio"


def test_tags_without_names_are_noted_and_hold_no_entities(choice, tokenizers, tmp_path):
    rows = [{"tokens": ["in", f"Town{number}", "City"], "ner_tags": [0, 5, 10]} for number in range(40)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    dataset = choice("dataset", "tagged_text", path=str(tmp_path / "rows.jsonl"))
    found = examples(dataset, tokenizers["byte"])
    assert [dataset.facts["labels"][tag] for tag in found["train"][0]["label"]] == ["0", "5", "10"]
    assert any("the tags are numbers and not names such as B-PER" in note for note in dataset.notes)
    assert not Scheme(dataset.facts["labels"]).marks_spans


def test_iob1_is_read_as_bio(tagged, tokenizers):
    rows = [(["a", "b", "c", "d"], ["I-LOC", "I-LOC", "B-LOC", "O"])] * 3
    dataset = tagged(rows, **NONE_HELD_OUT)
    found = examples(dataset, tokenizers["byte"])["train"][0]
    assert [dataset.labels[tag] for tag in found["label"]] == ["B-LOC", "I-LOC", "B-LOC", "O"]
    assert dataset.notes == ["the tags are IOB1 and are read as BIO, where each span begins with B"]


def test_tags_that_training_lacks_are_noted_and_can_be_scored(tagged, tokenizers, tmp_path):
    tagged([(["x"], ["B-PER"])], name="test.conll")
    dataset = tagged(test_path=str(tmp_path / "test.conll"))
    found = examples(dataset, tokenizers["byte"])
    assert dataset.labels[found["test"][0]["label"][0]] == "B-PER"
    assert "1 tags do not occur in training: B-PER" in dataset.notes


def test_tags_of_a_trained_model_keep_their_numbers_and_others_are_refused(tagged, tokenizers):
    known = ["O", "I-LOC", "B-LOC", "B-PER"]
    found = examples(tagged(**NONE_HELD_OUT), tokenizers["byte"], labels=known)
    assert found["train"][0]["label"].tolist() == [0, 0, 0, 2, 1, 0]
    with pytest.raises(DataError, match=r"rows\.conll:1: tag 'B-LOC' is none of the 2 known ones: O, I-LOC"):
        tagged().prepare(tokenizers["byte"], 64, "tags", labels=["O", "I-LOC"])


def test_words_of_one_tag_only_are_refused(tagged, tokenizers):
    with pytest.raises(DataError, match="all training words have tag 'O'; expected two tags or more"):
        tagged([(["a", "b"], ["O", "O"])] * 9).prepare(tokenizers["byte"], 64, "tags")


def test_long_sentences_are_cut_between_words_and_counted(tagged, tokenizers):
    long = (["aaaa"] * 10, ["O"] * 9 + ["B-LOC"])
    dataset = tagged([*ROWS, long], **NONE_HELD_OUT)
    found = examples(dataset, tokenizers["byte"], length=40)["train"][-1]
    assert len(found["tokens"]) == 40
    assert found["places"][:, 0].tolist() == [*range(1, 40, 5), -1, -1]
    assert len(found["label"]) == len(found["words"]) == 10
    told = "train: 1 of 61 sentences (1.6%) cut to 40 tokens: 2 of 370 words count as O; the longest has 50 tokens"
    assert dataset.notes == [told]
    with pytest.raises(DataError, match="more than half lose words: raise model.max_length, or dataset.max_length"):
        tagged().prepare(tokenizers["byte"], 12, "tags")


def test_without_a_target_sentences_are_texts_to_pretrain_on(tagged, tokenizers):
    dataset = tagged(**NONE_HELD_OUT)
    dataset.prepare(tokenizers["byte"], 64, None)
    assert "label" not in dataset.rows("train")[0]
    assert next(dataset.texts()) == "word0 went to Paris City ."


def test_a_second_preparation_reads_the_cache_and_says_the_same(tagged, tokenizers):
    first, second = tagged(), tagged()
    one, two = (examples(dataset, tokenizers["byte"]) for dataset in (first, second))
    assert first.folder == second.folder and first.notes == second.notes
    assert [row["words"] for row in one["train"]] == [row["words"] for row in two["train"]]


def test_the_longest_rows_are_those_with_the_most_pieces(tagged, tokenizers):
    dataset = tagged([*ROWS, (["a"] * 20, ["O"] * 20)], **NONE_HELD_OUT)
    examples(dataset, tokenizers["byte"])
    assert dataset.rows("train").longest(1) == [60]


def test_other_columns_are_other_data(tagged):
    assert tagged(columns=[0, 1]).fingerprint != tagged(columns=[1, 0]).fingerprint


EU_AND_OSLO = [["EU", "rejects"], ["Oslo"]]
CONLLU = "{}\t{}" + "\t_" * 8 + "\n"
INPUTS = {
    "columns.conll": ("EU\tB-ORG\nrejects\tO\n\nOslo\tO\n", [["EU", "rejects"], ["Oslo"]]),
    "words.conll": ("EU\nrejects\n\nOslo\n", [["EU", "rejects"], ["Oslo"]]),
    "tagged.txt": ("EU B-ORG\nrejects O\n\nOslo O\n", [["EU", "rejects"], ["Oslo"]]),
    "parts of speech.tsv": ("EU\tPROPN\nrejects\tVERB\n\nOslo\tPROPN\n", [["EU", "rejects"], ["Oslo"]]),
    "parts of speech.txt": ("EU PROPN\nrejects VERB\n\nOslo PROPN\n", [["EU", "rejects"], ["Oslo"]]),
    "words.txt": ("EU\nrejects\n\nOslo\n", [["EU", "rejects"], ["Oslo"]]),
    "numbered.conllu": (CONLLU.format(1, "EU") + CONLLU.format(2, "rejects") + "\n" + CONLLU.format(1, "Oslo"), EU_AND_OSLO),
    "lists.jsonl": ('{"tokens": ["EU", "New York"]}\n{"tokens": ["Oslo"]}\n', [["EU", "New York"], ["Oslo"]]),
    "texts.jsonl": ('{"text": "EU rejects"}\n{"text": "我在"}\n', [["EU", "rejects"], ["我", "在"]]),
    "plain.txt": ("EU rejects it\n\nOslo 我在\n", [["EU", "rejects", "it"], [], ["Oslo", "我", "在"]]),
    "table.csv": ("id,text\n0,EU rejects\n1,Oslo\n", [["EU", "rejects"], ["Oslo"]]),
}


@pytest.mark.parametrize("name", INPUTS)
def test_sentences_to_predict_on_come_in_many_forms(name, tagged, tokenizers, tmp_path):
    content, expected = INPUTS[name]
    (tmp_path / name).write_text(content, encoding="utf-8")
    reader = TaggedText.reader({}, tagged().columns, None)
    found = list(reader.read(str(tmp_path / name), tokenizers["byte"], 64))
    assert [example["words"] for _, example in found] == expected
    assert [int(name) for name, _ in found] == list(range(len(expected)))
    assert all(len(example["places"]) == len(example["words"]) for _, example in found)


@pytest.mark.parametrize("name", [name for name in INPUTS if not name.startswith("numbered")])  # that goes by its name
def test_what_is_piped_is_read_as_the_same_file_is(name, tagged, tokenizers, monkeypatch):
    content, expected = INPUTS[name]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content.encode())))
    found = list(TaggedText.reader({}, tagged().columns, None).read("-", tokenizers["byte"], 64))
    assert [example["words"] for _, example in found] == expected


def test_words_to_predict_on_are_read_from_the_column_of_the_training_file(tagged, tokenizers, tmp_path):
    (tmp_path / "new.conll").write_text("1\tEU\tO\n2\trejects\tO\n")
    found = list(TaggedText.reader({}, {"text": 1, "label": 2}, None).read(str(tmp_path / "new.conll"), tokenizers["byte"], 64))
    assert found[0][1]["words"] == ["EU", "rejects"]


@pytest.mark.parametrize("line", ["{word}\t{tag}\n", "{number}\t{word}\n", "{number}\t{word}\t{word}\n"])
def test_words_of_a_narrower_file_are_not_its_tags(line, choice, tokenizers, tmp_path):
    words = {"EU": "PROPN", "rejects": "VERB"}
    (tmp_path / "rows.conllu").write_text("1\tEU\teu\tPROPN" + "\t_" * 6 + "\n")
    trained = choice("dataset", "tagged_text", path=str(tmp_path / "rows.conllu"))
    rows = [line.format(number=number, word=word, tag=tag) for number, (word, tag) in enumerate(words.items(), 1)]
    (tmp_path / "new.conll").write_text("".join(rows))
    found = TaggedText.reader({}, trained.columns, None).read(str(tmp_path / "new.conll"), tokenizers["byte"], 64)
    assert [example["words"] for _, example in found] == [list(words)]


def test_lines_of_standard_input_are_texts_or_json(tagged, tokenizers, monkeypatch):
    lines = 'EU rejects\n{"id": "b", "tokens": ["Oslo"]}\n'
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines.encode())))
    found = list(TaggedText.reader({}, tagged().columns, None).read("-", tokenizers["byte"], 64))
    assert [(name, example["words"]) for name, example in found] == [(0, ["EU", "rejects"]), ("b", ["Oslo"])]


@pytest.mark.slow
def test_the_tweets_that_ship_are_whole(choice, tokenizers):
    dataset = choice("dataset", "broad_twitter")
    dataset.prepare(tokenizers["byte"], 1000, "tags")
    assert dataset.describe()["rows"] == {"train": 5400, "valid": 700, "test": 2000}
    assert dataset.labels == ["B-LOC", "B-ORG", "B-PER", "I-LOC", "I-ORG", "I-PER", "O"]
    assert not [note for note in dataset.notes if "cut" in note]
