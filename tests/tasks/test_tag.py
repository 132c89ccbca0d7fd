"""Tagging of words, up to the commands, with seqeval as the judge."""

import itertools
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from seqeval.metrics import classification_report, f1_score, precision_score, recall_score

from ptft.data.loader import Loader
from ptft.data.pieces import WordEncoder
from ptft.loop import evaluate
from ptft.objective import heads
from ptft.records import read_json
from ptft.tasks.tag import Tag

LABELS = ["B-LOC", "B-PER", "I-LOC", "I-PER", "O"]
SENTENCES = [
    ("question arrows outrageous", "B-PER I-PER O"),
    ("to be or not to be", "O O B-LOC I-LOC I-LOC O"),
    ("troubles", "B-LOC"),
    ("the slings and arrows", "O B-PER O B-LOC"),
]


@pytest.fixture
def make_tag(make_transformer, tokenizer):
    return lambda model=None, labels=LABELS: Tag(model or make_transformer(), tokenizer, len(labels), labels, 0.0).eval()


@pytest.fixture
def sentences(tokenizer):
    """Examples of some sentences; each has at most `room` pieces."""

    def make(rows: list[tuple[str, str]] = SENTENCES, room: int = 30, labels: list[str] = LABELS, **fields) -> list[dict]:
        encoder, examples = WordEncoder(tokenizer, room), []
        for number, (text, tags) in enumerate(rows):
            words = text.split()
            encoder.learn([words])
            tokens, places, _ = encoder.pieces(words)
            example = {"tokens": tokens, "places": places, "words": words, "row": number, **fields}
            label = np.array([labels.index(tag) for tag in tags.split()])
            examples.append(example | ({"label": label} if tags else {}))
        return examples

    return make


@pytest.mark.parametrize("kind", ["transformer", "gpt"])
def test_tags_are_learnt_by_heart(kind, make_tag, make_transformer, make_gpt, sentences, draw):
    objective = make_tag(make_transformer() if kind == "transformer" else make_gpt())
    batch = objective.collate(sentences(), draw(4))
    optimizer = torch.optim.Adam(objective.parameters(), 3e-3)
    for _ in range(60):
        output = objective(batch)
        optimizer.zero_grad()
        (output.loss / output.count).backward()
        optimizer.step()
    found = [answer["tags"] for answer in objective.predict(objective(batch), batch)]
    assert found == [tags.split() for _, tags in SENTENCES]


@pytest.mark.parametrize("kind", ["transformer", "gpt"])
def test_a_word_is_read_at_its_first_piece_or_from_left_to_right_at_its_last(
    kind, make_tag, make_transformer, make_gpt, sentences, draw, tokenizer
):
    objective = make_tag(make_transformer() if kind == "transformer" else make_gpt())
    batch = objective.collate(sentences(), draw(4))
    for tokens, places, words in zip(batch["inputs"]["tokens"], batch["places"], batch["words"], strict=True):
        for place, word in zip(places.tolist(), words, strict=False):
            piece = tokenizer.decode([tokens[place]]).strip()
            assert piece and (word.startswith(piece) if kind == "transformer" else word.endswith(piece))


def test_the_loss_is_the_cross_entropy_of_each_word(make_tag, sentences, draw):
    objective = make_tag()
    examples = sentences()
    output = objective(objective.collate(examples, draw(4)))
    expected, count = 0.0, 0
    for example in examples:
        alone = objective.collate([example], draw(1))
        features = objective.model(**alone["inputs"])[0, alone["places"][0]]
        target = torch.from_numpy(example["label"])
        expected, count = expected + F.cross_entropy(objective.linear(features), target, reduction="sum"), count + len(target)
    torch.testing.assert_close(output.loss, expected, atol=1e-4, rtol=1e-5)
    assert output.count == count == 14


def test_other_sentences_in_the_batch_change_no_tag(make_tag, sentences, draw):
    objective = make_tag()
    together = objective(objective.collate(sentences(), draw(4))).prediction
    for example, row in zip(sentences(), together, strict=True):
        alone = objective(objective.collate([example], draw(1))).prediction[0]
        assert row[: len(alone)].tolist() == alone.tolist()
        assert (row[len(alone) :] == -1).all()


def test_words_that_were_cut_off_carry_no_loss_and_count_as_outside(make_tag, sentences, draw):
    objective = make_tag()
    whole, cut = (objective.collate(sentences(room=room), draw(4)) for room in (30, 4))
    lost = int((cut["places"] == -1).sum() - (whole["places"] == -1).sum())
    output = objective(cut)
    assert lost > 0 and output.count == 14 - lost
    assert output.means["accuracy"][1] == 14
    answers = objective.predict(output, cut)
    assert [len(answer["tags"]) for answer in answers] == [3, 6, 1, 4]
    assert answers[1]["tags"][-1] == "O" and output.prediction[1, 5] == -1


def test_predictions_have_words_tags_and_entities(make_tag, sentences, draw):
    objective = make_tag()
    batch = objective.collate(sentences([("New York and 北 京 now", "")]), draw(1))
    output = objective(batch)
    assert output.count == 0 and output.loss == 0
    output.prediction = torch.tensor([[0, 2, 4, 1, 3, 4]])
    (answer,) = objective.predict(output, batch)
    assert answer["tokens"] == ["New", "York", "and", "北", "京", "now"]
    assert answer["tags"] == ["B-LOC", "I-LOC", "O", "B-PER", "I-PER", "O"]
    assert answer["entities"] == [
        {"type": "LOC", "start": 0, "end": 2, "text": "New York"},
        {"type": "PER", "start": 3, "end": 5, "text": "北京"},
    ]


def test_the_text_of_an_entity_is_the_part_of_the_line_it_was_found_in(make_tag, sentences, draw):
    objective = make_tag()
    (example,) = sentences([("New York and 北 京 now", "")])
    batch = objective.collate([example | {"text": "New  York and 北 京now"}], draw(1))
    output = objective(batch)
    output.prediction = torch.tensor([[0, 2, 4, 1, 3, 4]])
    assert [entity["text"] for entity in objective.predict(output, batch)[0]["entities"]] == ["New  York", "北 京"]


def test_parts_of_speech_make_no_entities(make_tag, sentences, draw):
    objective = make_tag(labels=["NOUN", "VERB"])
    batch = objective.collate(sentences([("to be", "")]), draw(1))
    assert objective.predict(objective(batch), batch)[0].keys() == {"tokens", "tags"}


def test_a_marked_word_stands_between_marks_and_all_words_keep_their_pieces(make_tag, sentences, draw, tokenizer):
    objective = make_tag()
    plain = objective.collate(sentences([("the slings and arrows", "")]), draw(1))
    batch = objective.collate(sentences([("the slings and arrows", "")], marked=1), draw(1))
    tokens = batch["inputs"]["tokens"][0]
    shown = tokenizer.decode(tokens[batch["inputs"]["mask"][0]], skip_special=False)
    assert shown == "[CLS] the[SEP] slings[SEP] and arrows[SEP]"
    before = plain["inputs"]["tokens"][0][plain["places"][0]]
    assert tokens[batch["places"][0]].tolist() == before.tolist()
    assert objective.predict(objective(batch), batch)[0]["predicate"] == 1


def test_another_marked_word_gives_other_tags_a_chance(make_tag, sentences, draw):
    objective = make_tag()
    one, two = (objective.collate(sentences([("to be or not to be", "")], marked=place), draw(1)) for place in (1, 5))
    features = [objective.model(**batch["inputs"])[0, batch["places"][0]] for batch in (one, two)]
    assert not torch.allclose(*features)


@pytest.mark.parametrize("batch_size", [1, 3, 4])
def test_scores_of_an_evaluation_are_those_of_seqeval_whatever_the_batches(batch_size, make_tag, sentences, draw):
    torch.manual_seed(1)
    objective = make_tag()
    torch.nn.init.normal_(objective.linear.weight)
    rows = sentences()
    settings = SimpleNamespace(seed=0, precision="fp32", eval_batches=None, samples=4)
    found = evaluate(objective, Loader(rows, objective.collate, batch_size, 0, shuffle=False), settings)
    batch = objective.collate(rows, draw(4))
    guesses = [answer["tags"] for answer in objective.predict(objective(batch), batch)]
    truth = [tags.split() for _, tags in SENTENCES]
    assert found.scores["f1"] == pytest.approx(f1_score(truth, guesses))
    assert found.scores["precision"] == pytest.approx(precision_score(truth, guesses))
    assert found.scores["recall"] == pytest.approx(recall_score(truth, guesses))
    right = sum(one == other for pair in zip(truth, guesses, strict=True) for one, other in zip(*pair, strict=True))
    assert found.scores["accuracy"] == pytest.approx(right / 14)
    kinds = objective.scheme.types
    assert objective.score in found.scores and found.tables["type_f1"].keys() == set(kinds)
    expected = dict(zip(kinds, f1_score(truth, guesses, average=None, zero_division=0), strict=True))
    assert found.tables["type_f1"] == pytest.approx(expected)


@pytest.mark.slow
def test_scores_of_each_type_are_left_by_name_and_a_type_that_is_absent_has_none(cli, tmp_path):
    files = {name: tmp_path / f"{name}.conll" for name in ("train", "valid")}
    files["train"].write_text("the O\nbig O\ncat B-A\n\na B-B\nred I-B\ndog B-C\n\n" * 10)
    files["valid"].write_text("the O\nbig O\ncat B-A\n\na B-B\nred O\n\na B-B\nred I-B\n\n" * 10)
    data = (f"dataset.path={files['train']}", f"dataset.valid_path={files['valid']}", "dataset.test_fraction=0")
    model = ("model=transformer", "model.dim=16", "model.layers=1", "model.heads=2", "model.hidden=32", "tokenizer=byte")
    still = ("trainer.steps=40", "trainer.batch_size=8", "optimizer.lr=0.01", "device=cpu", f"run={tmp_path / 'run'}")
    answer = cli("finetune", "ckpt=null", "task=tag", "dataset=tagged_text", *data, *model, *still)
    assert answer.code == 0, answer.err
    asked = cli("evaluate", f"ckpt={tmp_path / 'run'}", "split=valid", f"run={tmp_path / 'out'}", "device=cpu")
    predicted = cli("predict", f"ckpt={tmp_path / 'run'}", f"input={files['valid']}", "device=cpu")
    assert asked.code == predicted.code == 0, asked.err + predicted.err
    guesses = [json.loads(line)["tags"] for line in predicted.out.splitlines()]
    truth = [["O", "O", "B-A"], ["B-B", "O"], ["B-B", "I-B"]] * 10
    report = classification_report(truth, guesses, output_dict=True, zero_division=0)
    for found in (read_json(tmp_path / place / "scores.json")["valid"]["per_class"] for place in ("run", "out")):
        for name in ("f1", "precision", "recall"):
            said = found[f"type_{name}"]
            assert said.keys() == {"A", "B", "C"} and "nan" in said.values()
            for kind, value in said.items():
                present = kind in report
                assert value == (pytest.approx(report[kind]["f1-score" if name == "f1" else name]) if present else "nan")
        assert read_json(tmp_path / "run" / "tables" / "valid.json").items() >= found.items()


def test_samples_show_predicted_and_true_spans(make_tag, sentences, draw):
    objective = make_tag()
    batch = objective.collate(sentences(), draw(4))
    output = objective(batch)
    output.prediction = output.target.masked_fill(output.target == -100, -1)
    assert objective.samples(batch, output)[0] == "[question arrows]PER outrageous (right)"
    output.prediction = torch.full_like(output.target, 4)
    assert objective.samples(batch, output)[0] == "question arrows outrageous (true: [question arrows]PER outrageous)"


def test_only_the_head_is_thrown_away(make_tag):
    assert set(heads(make_tag())) == {"linear.weight", "linear.bias"}


NAMES = ("Anna", "Boris", "Chloe", "Dmitri")
TOWNS = ("Oslo", "Lagos", "Lima", "Kyiv")


@pytest.fixture(scope="module")
def tagged(tmp_path_factory):
    """Sentences of people and places as columns."""
    folder = tmp_path_factory.mktemp("tagged")
    people = itertools.product(range(6), NAMES, TOWNS)
    rows = [f"{name} B-PER\nsaw O\nnew B-LOC\n{town} I-LOC\n" + "yes O\n" * (turn % 3) for turn, name, town in people]
    (folder / "rows.conll").write_text("\n".join(rows))
    (folder / "test.conll").write_text("\n".join(rows[::5]))
    return folder


@pytest.fixture(scope="module")
def run(cli, tagged, mlm_run):
    """A pretrained model that learned to tag them for a moment."""
    data = ("dataset=tagged_text", f"dataset.path={tagged / 'rows.conll'}", f"dataset.test_path={tagged / 'test.conll'}")
    settings = ("trainer.steps=40", "trainer.batch_size=16", "optimizer.lr=3e-3", "device=cpu")
    found = cli("finetune", f"ckpt={mlm_run}", "task=tag", *data, *settings, f"run={tagged / 'run'}")
    assert found.code == 0, found.err
    return tagged / "run"


@pytest.mark.slow
def test_the_score_of_a_run_is_that_of_seqeval_on_its_predictions(cli, run, tagged):
    found = cli("predict", f"ckpt={run}", f"input={tagged / 'test.conll'}")
    assert found.code == 0, found.err
    answers = [json.loads(line) for line in found.out.splitlines()]
    lines = (tagged / "test.conll").read_text().split("\n\n")
    truth = [[line.split()[1] for line in block.split("\n") if line] for block in lines]
    scores = read_json(run / "scores.json")["test"]
    assert scores["f1"] == pytest.approx(f1_score(truth, [answer["tags"] for answer in answers]))
    assert scores["f1"] > 0.5


@pytest.mark.slow
def test_a_run_is_scored_again_by_the_command(cli, run, tagged):
    found = cli("evaluate", f"ckpt={run}", "split=test", f"run={tagged / 'again'}")
    assert found.code == 0, found.err
    again, before = (read_json(folder / "scores.json")["test"] for folder in (tagged / "again", run))
    assert again["f1"] == pytest.approx(before["f1"])


def test_plain_lines_are_tagged_too(cli, run, tmp_path):
    (tmp_path / "lines.txt").write_text("Anna saw new Oslo\nyes\n")
    found = cli("predict", f"ckpt={run}", f"input={tmp_path / 'lines.txt'}")
    first, second = (json.loads(line) for line in found.out.splitlines())
    assert first["tokens"] == ["Anna", "saw", "new", "Oslo"] and len(first["tags"]) == 4
    assert second["tokens"] == ["yes"]


def test_entities_of_lines_are_quoted_and_those_of_words_joined(cli, run, tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"text": "Anna  Oslo"}\n{"tokens": ["Anna", "Oslo"]}\n')
    found = cli("predict", f"ckpt={run}", f"input={tmp_path / 'rows.jsonl'}")
    assert found.code == 0, found.err
    for blanks, line in zip(("  ", " "), found.out.splitlines(), strict=True):
        answer = json.loads(line)
        assert answer["tokens"] == ["Anna", "Oslo"]
        words = [blanks.join(answer["tokens"][entity["start"] : entity["end"]]) for entity in answer["entities"]]
        assert [entity["text"] for entity in answer["entities"]] == words
        assert words


@pytest.mark.parametrize("batch_size", [1, 32])
def test_rows_without_words_are_answered_and_told_of(batch_size, cli, run, tmp_path):
    rows = [{"tokens": ["Anna", "saw"]}, {"tokens": []}, {"text": " "}, {"text": None}]
    rows = [{"id": name} | row for name, row in zip("abcd", rows, strict=True)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = cli("predict", f"ckpt={run}", f"input={tmp_path / 'rows.jsonl'}", f"batch_size={batch_size}")
    assert found.code == 0, found.err
    first, *others = (json.loads(line) for line in found.out.splitlines())
    assert first["tokens"] == ["Anna", "saw"] and len(first["tags"]) == 2
    assert others == [{"id": name, "tokens": [], "tags": [], "entities": []} for name in "bcd"]
    assert "row b and 2 more without text" in found.err


def test_words_beyond_what_is_read_are_outside_and_told_of(cli, run, tmp_path):
    (tmp_path / "lines.txt").write_text("yes Anna\n" + "yes Anna saw new Oslo " * 40 + "\n")
    found = cli("predict", f"ckpt={run}", f"input={tmp_path / 'lines.txt'}")
    assert found.code == 0, found.err
    assert json.loads(found.out.splitlines()[1])["tags"][-5:] == ["O"] * 5
    assert "row 1 cut to 62 tokens: the rest is not read" in found.err


def test_tags_the_model_does_not_know_are_refused_in_one_line(cli, run, tmp_path):
    (tmp_path / "other.conll").write_text("Anna B-PER\nsaw O\n\n" * 9 + "now B-TIME\n")
    found = cli("evaluate", f"ckpt={run}", f"dataset.path={tmp_path / 'other.conll'}", "dataset.test_path=null", "split=train")
    assert found.code == 3
    assert "tag 'B-TIME' is none of the 4 known ones" in found.complaint
