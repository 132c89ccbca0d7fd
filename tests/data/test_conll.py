"""Sentences from columns and from tables."""

import gzip
import json

import pytest

from ptft.data.conll import choose_columns, sentences
from ptft.errors import DataError, UserError

TABS = "EU\tB-ORG\nrejects\tO\nGerman\tB-MISC\n\nPeter\tB-PER\nBlackburn\tI-PER\n"
EXPECTED = [(["EU", "rejects", "German"], ["B-ORG", "O", "B-MISC"]), (["Peter", "Blackburn"], ["B-PER", "I-PER"])]
CONLLU = """# newdoc id = 1
# sent_id = first
# text = vámonos al mar
1-2\tvámonos\t_\t_\t_\t_\t_\t_\t_\t_
1\tvamos\tir\tVERB\t_\t_\t0\troot\t_\t_
2\tnos\tnosotros\tPRON\t_\t_\t1\tobj\t_\t_
2.1\tempty\t_\tX\t_\t_\t_\t_\t_\t_
3\tal mar\tmar\tNOUN\t_\t_\t1\tobl\t_\t_

"""


@pytest.fixture
def read(tmp_path):
    """The words and tags of a file of the given content."""

    def found(content: str, columns: list | None = None, name: str = "a.conll") -> list[tuple]:
        path = tmp_path / name
        path.write_bytes(gzip.compress(content.encode()) if name.endswith(".gz") else content.encode())
        return [(sentence.words, sentence.tags) for sentence in sentences(path, choose_columns(path, columns))]

    return found


COLUMNS = {
    "tabs": (TABS, None),
    "one blank": (TABS.replace("\t", " "), None),
    "many blanks": (TABS.replace("\t", "    "), None),
    "windows": (TABS.replace("\n", "\r\n"), None),
    "blank lines with blanks": (TABS.replace("\n\n", "\n \t \n\n"), None),
    "document starts": ("-DOCSTART- -X- O O\n\n" + TABS.replace("\t", " NNP I-NP "), None),
    "bare document starts": ("-DOCSTART-\n\n" + TABS, None),
    "bare document starts before blanks": ("-DOCSTART-\n\n" + TABS.replace("\t", " "), None),
    "blanks beside tabs": (TABS.replace("\t", " \t "), None),
    "comments as wide as other lines": ("# id = 1\n" + TABS.replace("\t", " X X ").replace("\n\n", "\n\n# id = 2\n"), None),
    "paragraphs as wide as other lines": ("# newpar\n" + TABS.replace("\t", " "), None),
    "by number": (TABS.replace("\t", "\tNNP\tI-NP\t"), [0, 3]),
    "from the end": (TABS.replace("\t", "\tNNP\tI-NP\t"), [-4, -1]),
    "numbers as text": (TABS.replace("\t", "\tNNP\tI-NP\t"), ["0", "-1"]),
    "all names": (TABS.replace("\t", "\tNNP\tI-NP\t"), ["token", "pos", "chunk", "tag"]),
    "other names": ("\n".join(f"x\t{line}" if line else "" for line in TABS.split("\n")), ["id", "word", "ner"]),
    "comments": ("# a comment of words\n" + TABS.replace("\n\n", "\n\n# id = 2\n"), None),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_columns_are_read_however_they_are_written(name, read):
    content, columns = COLUMNS[name]
    assert read(content, columns) == EXPECTED


def test_compressed_columns_are_read(read):
    assert read(TABS, name="a.conll.gz") == EXPECTED


def test_words_that_begin_with_a_hash_are_no_comments(read):
    assert read("#MH17\tB-LOC\n#\tO\nnow\tO\n") == [(["#MH17", "#", "now"], ["B-LOC", "O", "O"])]


def test_words_may_hold_blanks_of_any_kind_between_tabs(read):
    assert read("New York\tB-LOC\n\u00a0\tO\n1\u00a0000\tO\n") == [(["New York", "\u00a0", "1\u00a0000"], ["B-LOC", "O", "O"])]


def test_conllu_has_names_and_its_ranges_and_empty_nodes_are_no_words(read):
    words = ["vamos", "nos", "al mar"]
    assert read(CONLLU, name="a.conllu") == [(words, ["VERB", "PRON", "NOUN"])]
    assert read(CONLLU, ["form", "deprel"], name="a.conllu") == [(words, ["root", "obj", "obl"])]
    assert read(CONLLU, [1, 2], name="a.conllu") == [(words, ["ir", "nosotros", "mar"])]


def test_columns_that_a_file_names_itself_are_known(read):
    named = "# global.columns = FORM UPOS PARSEME:NE\n" + TABS.replace("\t", "\tX\t")
    assert read(named, ["form", "ne"], name="a.conllup") == EXPECTED


def test_the_id_of_a_sentence_is_kept(tmp_path):
    (tmp_path / "a.conllu").write_text(CONLLU)
    assert [found.name for found in sentences(tmp_path / "a.conllu", (1, 3))] == ["first"]


TABLES = {
    "usual names": ([{"tokens": words, "tags": tags} for words, tags in EXPECTED], None),
    "others beside": ([{"id": 3, "text": "x", "tokens": words, "ner_tags": tags} for words, tags in EXPECTED], None),
    "chosen": ([{"a": words, "b": tags, "c": 1} for words, tags in EXPECTED], ["a", "b"]),
    "as text": ([{"words": " ".join(words), "labels": " ".join(tags)} for words, tags in EXPECTED], None),
}


@pytest.mark.parametrize("name", TABLES)
def test_tables_hold_lists_of_words_and_tags(name, read):
    rows, columns = TABLES[name]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    assert read(lines, columns, "a.jsonl") == EXPECTED
    assert read(json.dumps(rows), columns, "a.json") == EXPECTED


def test_tags_that_are_numbers_go_by_their_digits(read):
    assert read('{"tokens": ["EU", "rejects"], "ner_tags": [3, 0]}\n', name="a.jsonl") == [(["EU", "rejects"], ["3", "0"])]


def test_a_csv_file_holds_words_and_tags_between_blanks(read):
    assert read("tokens,tags\nEU rejects German,B-ORG O B-MISC\nPeter Blackburn,B-PER I-PER\n", name="a.csv") == EXPECTED


MISTAKES = {
    "tabs": ("a O\nb\tO\n", None, r"a\.conll:2: columns divided by tabs, not by blanks as in the first line"),
    "blanks": ("a\tO\nb O\n", None, r"a\.conll:2: columns divided by blanks, not by tabs as in the first line"),
    "ragged": ("a\tO\nb\n", None, r"a\.conll:2: 1 columns, expected 2 as in the first line"),
    "no such number": (TABS, [0, 2], r"dataset\.columns=\[0,2\]: .*a\.conll has columns 0 to 1"),
    "no such name": (TABS, ["form", "ner", "x"], r"has 2 columns without names; give the numbers of two, or name all"),
    "empty": ("\n\n", None, r"a\.conll: empty"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_columns_that_cannot_be_read_are_refused_with_their_line(name, read):
    content, columns, message = MISTAKES[name]
    with pytest.raises(DataError, match=message):
        read(content, columns)


def test_one_column_is_not_enough(read):
    with pytest.raises(UserError, match=r"dataset\.columns=\[0\]: expected two"):
        read(TABS, [0])


ROWS = {
    "lengths": ({"tokens": ["a", "b"], "tags": ["O"]}, r"a\.jsonl:1: 2 words and 1 tags"),
    "numbers for words": ({"tokens": [3], "tags": ["O"]}, r"column 'tokens' lists a number, expected only strings"),
    "fractions": ({"tokens": ["a"], "tags": [0.5]}, r"column 'tags' lists a number, expected only strings"),
    "truths": ({"tokens": ["a"], "tags": [True]}, r"column 'tags' lists true or false, expected only strings"),
    "no list": ({"tokens": {"a": 1}, "tags": []}, r"column 'tokens' holds an object, expected a list"),
    "open": ({"a": ["x"], "b": ["O"]}, r"dataset\.columns is not set and .*; choose two of: a, b"),
}


@pytest.mark.parametrize("name", ROWS)
def test_rows_that_are_no_sentences_are_refused(name, read):
    row, message = ROWS[name]
    with pytest.raises(DataError, match=message):
        read(json.dumps(row) + "\n", name="a.jsonl")


def test_a_field_that_is_not_there_is_refused_with_the_nearest(read):
    with pytest.raises(DataError, match=r"no such column; did you mean 'tokens'\?"):
        read('{"tokens": ["a"], "tags": ["O"]}\n', ["tokenz", "tags"], "a.jsonl")
