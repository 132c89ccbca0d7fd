"""Spans of words against seqeval, and worked cases."""

import random

import pytest
import torch
from seqeval.metrics import f1_score, precision_score, recall_score
from seqeval.metrics.sequence_labeling import get_entities
from seqeval.scheme import IOB2, IOBES

from ptft.nn.spans import NONE, PADDING, Scheme, chunked, span_scores

BIO = ["B-LOC", "B-creative-work", "I-LOC", "I-creative-work", "O"]
BIOES = ["B-LOC", "B-PER", "E-LOC", "E-PER", "I-LOC", "I-PER", "O", "S-LOC", "S-PER"]
BARE = ["B", "I", "O"]
SCHEMES = [(BIO, IOB2), (BIOES, IOBES), (BARE, IOB2)]


def rows(tags: list[list[str]], labels: list[str], fill: int) -> torch.Tensor:
    """Tags by name as numbers [B, W]."""
    width = max(map(len, tags))
    return torch.tensor([[labels.index(tag) for tag in row] + [fill] * (width - len(row)) for row in tags])


def any_tags(chance: random.Random, labels: list[str]) -> tuple[list[list[str]], list[list[str]]]:
    """Random predictions of a few sentences, valid or not, and targets that agree with half of them."""
    guesses = [[chance.choice(labels) for _ in range(chance.randrange(1, 9))] for _ in range(chance.randrange(1, 30))]
    return guesses, [[guess if chance.random() < 0.5 else chance.choice(labels) for guess in row] for row in guesses]


def scores(labels: list[str], *batches) -> dict:
    """The scores of batches of predicted and true tags by name."""
    metrics = span_scores(Scheme(labels))
    for guesses, truth in batches:
        for metric in metrics.values():
            metric.update(rows(guesses, labels, NONE), rows(truth, labels, PADDING))
    return {name: metric.compute() for name, metric in metrics.items()}


@pytest.mark.parametrize(("labels", "scheme"), SCHEMES, ids=["bio", "bioes", "bare"])
@pytest.mark.parametrize("seed", range(6))
def test_spans_and_scores_are_those_of_seqeval_for_any_tags(labels, scheme, seed):
    guesses, truth = any_tags(random.Random(seed), labels)
    found = Scheme(labels).named(rows(guesses, labels, NONE))
    assert [[(kind, start, end - 1) for kind, start, end in row] for row in found] == [get_entities(row) for row in guesses]
    truth[0][0] = labels[0]  # so that there is something to find: seqeval warns otherwise
    guesses[0][0] = labels[0]
    found = scores(labels, (guesses, truth))
    assert found["f1"].item() == pytest.approx(f1_score(truth, guesses))
    assert found["f1_macro"].item() == pytest.approx(f1_score(truth, guesses, average="macro", zero_division=0))
    assert found["precision"].item() == pytest.approx(precision_score(truth, guesses))
    assert found["recall"].item() == pytest.approx(recall_score(truth, guesses))
    strict = {"mode": "strict", "scheme": scheme, "zero_division": 0}
    assert found["f1_strict"].item() == pytest.approx(f1_score(truth, guesses, **strict))


@pytest.mark.parametrize("labels", [BIO, BIOES])
def test_scores_of_each_type_are_those_of_seqeval(labels):
    chance = random.Random(1)
    guesses, truth = (sum(parts, []) for parts in zip(*(any_tags(chance, labels) for _ in range(20)), strict=True))
    found = scores(labels, (guesses, truth))
    assert found["type_f1"].tolist() == pytest.approx(f1_score(truth, guesses, average=None).tolist())
    assert found["type_recall"].tolist() == pytest.approx(recall_score(truth, guesses, average=None).tolist())
    assert found["type_precision"].tolist() == pytest.approx(precision_score(truth, guesses, average=None).tolist())


def test_scores_are_of_the_whole_data_whatever_the_batches():
    chance = random.Random(2)
    batches = [any_tags(chance, BIO) for _ in range(12)]
    whole = tuple(sum(parts, []) for parts in zip(*batches, strict=True))
    one, many = scores(BIO, whole), scores(BIO, *batches)
    for name in one:
        assert torch.equal(one[name].nan_to_num(-1), many[name].nan_to_num(-1))


WORKED = {
    "all right": (["B-LOC", "I-LOC", "O"], ["B-LOC", "I-LOC", "O"], (1, 1, 1)),
    "half a span is wrong": (["B-LOC", "O", "O"], ["B-LOC", "I-LOC", "O"], (0, 0, 0)),
    "another type is wrong": (["B-creative-work", "O", "O"], ["B-LOC", "O", "O"], (0, 0, 0)),
    "one of two": (["B-LOC", "O", "O"], ["B-LOC", "O", "B-LOC"], (1, 1 / 2, 2 / 3)),
    "nothing said": (["O", "O", "O"], ["B-LOC", "O", "O"], (0, 0, 0)),
    "nothing to say": (["O", "O", "O"], ["O", "O", "O"], (0, 0, 0)),
    "begun inside": (["O", "I-LOC", "I-LOC"], ["O", "B-LOC", "I-LOC"], (1, 1, 1)),
}


@pytest.mark.parametrize("name", WORKED)
def test_spans_are_scored_as_in_worked_cases(name):
    guess, truth, expected = WORKED[name]
    found = scores(BIO, ([guess], [truth]))
    assert [found[score].item() for score in ("precision", "recall", "f1")] == pytest.approx(expected)


def test_strict_scores_know_no_span_that_is_begun_inside_or_left_open():
    assert scores(BIO, ([["O", "I-LOC"]], [["O", "B-LOC"]]))["f1_strict"] == 0
    assert scores(BIOES, ([["B-LOC", "O"]], [["S-LOC", "O"]]))["f1_strict"] == 0


def test_words_without_a_prediction_are_outside_and_their_spans_are_missed():
    scheme = Scheme(BIO)
    truth = rows([["B-LOC", "O", "B-LOC"]], BIO, PADDING)
    right, guessed, true = scheme.counts(torch.tensor([[0, 4, NONE]]), truth)[0].sum(1).tolist()
    assert (right, guessed, true) == (1, 1, 2)


def test_middle_last_and_unit_are_other_names_of_inside_end_and_single():
    ours = Scheme(["B-X", "M-X", "E-X", "S-X", "O"]), Scheme(["B-X", "I-X", "L-X", "U-X", "O"])
    tags = torch.tensor([[0, 1, 2, 3, 4, 1, 1, 0]])
    assert ours[0].named(tags) == ours[1].named(tags) == [[("X", 0, 3), ("X", 3, 4), ("X", 5, 7), ("X", 7, 8)]]


def test_other_tags_make_each_word_a_span_but_those_outside():
    roles = Scheme(["ARG0", "ARGM-TMP", "O"])
    assert roles.types == ["ARG0", "ARGM-TMP"]
    assert roles.named(torch.tensor([[0, 0, 2, 1]])) == [[("ARG0", 0, 1), ("ARG0", 1, 2), ("ARGM-TMP", 3, 4)]]
    parts = [["NOUN", "VERB", "NOUN"]], [["NOUN", "NOUN", "VERB"]]
    found = scores(["NOUN", "VERB"], parts)
    assert found["f1"].item() == pytest.approx(1 / 3)  # the share of words that are right
    assert "f1_strict" not in found


def test_tags_of_spans_are_told_from_others():
    assert chunked(["B-PER", "I-PER", "O"]) and chunked(["B", "I", "O"]) and chunked(["S_LOC", "O"])
    assert not chunked(["NOUN", "VERB"]) and not chunked(["O"]) and not chunked(["B", "X"])
    stray = Scheme(["B-PER", "I-PER", "O", "X"])
    assert stray.types == ["PER"] and stray.named(torch.tensor([[0, 1, 3, 0]])) == [[("PER", 0, 2), ("PER", 3, 4)]]
