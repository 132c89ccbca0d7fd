"""Analogy questions in a file."""

from __future__ import annotations

import pytest

from ptft.errors import DataError, UserError

QUESTIONS = ": capitals of the north\nthe sun rises over\n\nsun the over hills\n: others\nthe sun zebra over\n"


@pytest.fixture
def questions(choice, tmp_path, tokenizers):
    """The questions of a file, prepared."""

    def prepared(content: str):
        (tmp_path / "questions.txt").write_text(content, encoding="utf-8")
        dataset = choice("dataset", "analogies", path=str(tmp_path / "questions.txt"))
        dataset.prepare(tokenizers["word"], 10, "analogy")
        return dataset

    return prepared


def test_questions_are_four_known_words_each_in_a_section(questions, tokenizers):
    dataset = questions(QUESTIONS)
    first, second, third = dataset.rows("test").take(range(3))
    assert [tokenizers["word"].token(index) for index in first["tokens"]] == ["the", "sun", "rises", "over"]
    assert [example["section"] for example in (first, second, third)] == ["capitals-of-the-north"] * 2 + ["others"]
    assert third["tokens"].tolist().count(-1) == 1
    assert dataset.rows("train") is None and dataset.rows("valid") is None


def test_lines_of_other_than_four_words_are_refused_with_their_place(questions):
    with pytest.raises(DataError, match=r"questions\.txt:3: expected four words, or ': section', found 3"):
        questions(": a\nthe sun rises over\nthe sun rises\n")
    with pytest.raises(DataError, match="no question"):
        questions(": a\n")


def test_what_is_in_the_file_is_the_fingerprint(questions):
    assert questions(QUESTIONS).fingerprint != questions(QUESTIONS + "the sun the sun\n").fingerprint


def test_a_file_that_is_not_there_is_refused(choice):
    with pytest.raises(UserError, match=r"dataset\.path"):
        choice("dataset", "analogies", path="/nowhere/questions.txt")
