"""`ptft evaluate protocol=choice` and protocol=similarity, from the command line."""

import json

import pytest

ROWS = [("the cat sat on the", ["mat", "moon"], "mat"), ("who sat on the mat? the", ["dog", "cat"], "1")]


@pytest.fixture
def questions(tmp_path):
    path = tmp_path / "questions.jsonl"
    path.write_text("".join(json.dumps({"text": t, "choices": c, "label": a}) + "\n" for t, c, a in ROWS))
    return path


@pytest.mark.slow
def test_a_language_model_chooses_and_chance_is_told(cli, clm_run, questions, tmp_path):
    run = tmp_path / "scores"
    answer = cli("evaluate", f"ckpt={clm_run}", "protocol=choice", "dataset=choices", f"dataset.path={questions}", f"run={run}")
    assert answer.code == 0, answer.err
    scores = json.loads((run / "scores.json").read_text())["test"]
    assert scores["chance"] == 0.5
    assert {scores["accuracy"], scores["accuracy_per_byte"]} <= {0.0, 0.5, 1.0}


def test_solved_examples_stand_before_each_question(questions):
    from ptft.data.choices import Choices

    path = str(questions)
    found = Choices(path, "text", "choices", "label", "Q: {text}", shots=1, shots_path=path).rows("test")
    assert found[1]["prompt"] == "Q: the cat sat on the mat\n\nQ: who sat on the mat? the"
    assert (found[1]["options"], found[1]["answer"]) == (["dog", "cat"], 1)


def test_without_options_of_their_own_rows_share_all_answers(tmp_path):
    from ptft.data.choices import Choices

    (tmp_path / "rows.csv").write_text("text,label\ngood film,pos\nbad film,neg\n")
    found = Choices(str(tmp_path / "rows.csv"), "text", None, "label", "{text} is", 0, None).rows("test")
    assert [(row["options"], row["answer"]) for row in found] == [(["neg", "pos"], 1), (["neg", "pos"], 0)]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("dataset.choices=option",), "dataset.choices"),
        (("dataset.shots=2",), "shots=2 and shots_path=None go together"),
        (("dataset.template=no",), "expected {text} in it"),
    ],
)
def test_what_is_wrong_with_questions_is_said_in_one_line(words, told, cli, clm_run, questions):
    answer = cli("evaluate", f"ckpt={clm_run}", "protocol=choice", "dataset=choices", f"dataset.path={questions}", *words)
    assert answer.code in (2, 3)
    assert told in answer.complaint


def test_an_answer_that_is_no_option_is_found_by_its_row(cli, clm_run, questions):
    questions.write_text(json.dumps({"text": "a", "choices": ["b", "c"], "label": "d"}) + "\n")
    answer = cli("evaluate", f"ckpt={clm_run}", "protocol=choice", "dataset=choices", f"dataset.path={questions}")
    assert answer.code == 3
    assert "the answer 'd' is none of the 2 options" in answer.complaint


@pytest.mark.parametrize(
    ("rows", "right"),
    [
        ([(["1", "2", "3"], 1)], [1]),  # a whole number beside texts is the number of one
        ([(["1", "2", "3"], "1"), (["a", "b"], 0)], [1, 0]),  # what is no text of an option tells of the others
        ([(["1", "2", "3"], "2"), (["a", "b"], "b")], [1, 1]),
        ([([1, 2, 3], 1), ([5, 6], 6)], [0, 1]),
        ([(["1", "2", "3"], "C"), (["a", "b"], "a")], [2, 0]),
        ([(["0", "1"], "1")], [1]),
    ],
)
def test_all_answers_are_meant_in_one_way(rows, right, tmp_path):
    from ptft.data.choices import Choices

    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"text": "q", "choices": known, "label": answer}) + "\n" for known, answer in rows))
    found = Choices(str(path), "text", "choices", "label", "{text}", 0, None).rows("test")
    assert [row["answer"] for row in found] == right


def test_an_answer_that_may_be_two_options_is_refused_with_its_row(cli, clm_run, tmp_path):
    (tmp_path / "rows.csv").write_text("text,choices,label\nhow many,1|2|3,1\n")
    path = f"dataset.path={tmp_path / 'rows.csv'}"
    answer = cli("evaluate", f"ckpt={clm_run}", "protocol=choice", "dataset=choices", path)
    assert answer.code == 3
    assert "rows.csv:2: the answer '1' is an option and also the number of another" in answer.complaint


def test_questions_are_for_language_models_that_choose(cli, clm_run, questions, data, tmp_path):
    path = f"dataset.path={questions}"
    for words in (["dataset=choices", path], ["protocol=choice", *data.text]):
        answer = cli("evaluate", f"ckpt={clm_run}", *words)
        assert answer.code == 2
        assert "protocol=choice" in answer.complaint
    answer = cli("pretrain", f"ckpt={clm_run}", "objective=clm", "dataset=choices", path, f"run={tmp_path / 'run'}")
    assert answer.code == 2
    assert "no rows to train on" in answer.complaint


def test_a_model_that_predicts_nothing_cannot_choose(cli, mlm_run, questions):
    answer = cli("evaluate", f"ckpt={mlm_run}", "protocol=choice", "dataset=choices", f"dataset.path={questions}")
    assert answer.code == 2
    assert "a causal language model chooses" in answer.complaint


def test_embeddings_of_texts_are_scored_as_they_are(cli, mlm_run, tmp_path):
    rows = "".join(f"the cat sat {n},the cat {'sat' if n % 2 else 'ran'} {n},{n % 2}\n" for n in range(40))
    (tmp_path / "pairs.csv").write_text(f"one,two,score\n{rows}")
    columns = "dataset.text=one", "dataset.text_pair=two", "dataset.label=score"
    words = "protocol=similarity", "dataset=labelled_text", f"dataset.path={tmp_path / 'pairs.csv'}", *columns
    answer = cli("evaluate", f"ckpt={mlm_run}", *words, f"run={tmp_path / 'run'}")
    assert answer.code == 0, answer.err
    assert -1 <= json.loads((tmp_path / "run" / "scores.json").read_text())["test"]["spearman"] <= 1
