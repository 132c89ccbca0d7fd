"""GloVe against its formulas, and on counts it can fit exactly."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ptft.data.word_vocabulary import Word
from ptft.errors import DataError
from ptft.models.embedding import Embedding
from ptft.nn.cooccurrence import TRIPLE
from ptft.objective import heads
from ptft.objectives.glove import GloVe, weighting
from ptft.optimizers import RowAdagrad

TEXT = "the cat sat on the mat while the other cat sat on the rug and the dog lay beside the mat"


class Table(list):
    """Rows in memory."""

    def take(self, indices):
        return [self[index] for index in indices]


@pytest.fixture
def build(tmp_path):
    """GloVe over a text, with its rows: build(text, window=2)."""

    def make(text: str, min_count: int = 1, dim: int = 4, **changes):
        tokenizer = Word(None, min_count, False, "kept", None).train([text])
        rows = Table([{"tokens": tokenizer.encode([text])[0], "row": 0}])
        rows.lengths = lambda: np.array([len(rows[0]["tokens"])])

        def derived(name, make):
            folder = tmp_path / name
            folder.mkdir(exist_ok=True)
            return folder, make(folder)

        torch.manual_seed(0)
        dataset = SimpleNamespace(rows=lambda split: rows, derived=derived)
        settings = {"window": 5, "x_max": 10.0, "alpha": 0.75} | changes
        return GloVe(Embedding(tokenizer.vocab_size, dim, 1000), tokenizer, dataset, **settings), rows

    return make


def batch_of(objective, triples: list[tuple[int, int, float]], draw) -> dict:
    table = np.array(triples, dtype=TRIPLE)
    return objective.collate([{name: table[name] for name in TRIPLE.names}], draw(1))


def fit(objective, batch, steps: int, lr: float) -> float:
    optimizer = RowAdagrad(objective.parameters(), lr, 0.0, 0.1, 1e-10)
    for _ in range(steps):
        output = objective(batch)
        optimizer.zero_grad()
        output.loss.backward()
        for parameter in objective.parameters():
            parameter.grad = parameter.grad.coalesce()
        optimizer.step()
    return objective(batch).loss.item()


def test_rare_pairs_weigh_less_and_frequent_ones_all_the_same():
    found = weighting(torch.tensor([1.0, 10.0, 100.0, 1e6]), 100.0, 0.75)
    assert found.tolist() == pytest.approx([0.031623, 0.177828, 1.0, 1.0], abs=1e-6)


def test_the_loss_is_that_of_the_papers_two_tables(build, draw):
    objective, _ = build(TEXT)
    triples = [(6, 7, 3.0), (7, 6, 3.0), (8, 8, 50.0)]
    total, other = objective.model.token_embedding.weight, objective.difference.weight
    words, contexts = (total + other) / 2, (total - other) / 2
    bias = objective.biases.weight
    fits = [(words[a] @ contexts[b] + bias[a, 0] + bias[b, 1], x) for a, b, x in triples]
    expected = sum(0.5 * min(1, x / 10) ** 0.75 * (fit - np.log(x)) ** 2 for fit, x in fits)
    output = objective(batch_of(objective, triples, draw))
    torch.testing.assert_close(output.loss, expected)
    assert output.count == 3
    torch.testing.assert_close(words + contexts, total)


@pytest.mark.slow
def test_counts_whose_logarithms_have_rank_one_are_fitted_to_nothing(build, draw):
    objective, _ = build(" ".join(f"w{number}" for number in range(8)))
    scale = np.random.default_rng(0).normal(size=(2, 8))
    triples = [(6 + a, 6 + b, float(np.exp(scale[0, a] * scale[1, b]))) for a in range(8) for b in range(8)]
    batch = batch_of(objective, triples, draw)
    first = objective(batch).loss.item()
    assert fit(objective, batch, 700, 0.2) < 1e-3 * first


def test_biases_move_at_the_rate_of_the_vectors(build, draw):
    objective, _ = build(TEXT, dim=1)
    for table in (objective.model.token_embedding, objective.difference):
        table.weight.data.fill_(2.0)  # words are 2 and contexts 0: what moves a context is twice what moves its bias
    objective.biases.weight.data.zero_()
    batch = batch_of(objective, [(6, 7, 5.0)], draw)
    objective(batch).loss.backward()
    context = objective.model.token_embedding.weight.grad.to_dense()[7, 0]
    bias = objective.biases.weight.grad.to_dense()[7, 1]
    torch.testing.assert_close(context, bias)  # half of twice as much: the sum of both vectors moves by half of each
    optimizer = RowAdagrad(objective.parameters(), 0.05, 0.0, 1.0, 0.0)
    for parameter in objective.parameters():
        parameter.grad = parameter.grad.coalesce()
    optimizer.step()
    step = 0.05 * bias / (1 + bias**2).sqrt()
    torch.testing.assert_close(objective.biases.weight[7, 1], -step)
    torch.testing.assert_close(objective.model.token_embedding.weight[7, 0], 2 - step)


def test_a_corpus_of_a_hundred_words_gives_numbers(build, draw):
    objective, rows = build(" ".join([TEXT] * 7)[:700])
    view = objective.view(rows)
    batch = objective.collate(view.take(range(len(view))), draw(len(view)))
    assert np.isfinite(fit(objective, batch, 100, 0.05))
    assert objective.model.token_embedding.weight.isfinite().all()


def test_what_occurs_together_is_counted_with_both_orders_of_a_pair(build):
    objective, rows = build("a b a", window=2)
    a, b = objective.tokenizer.encode(["a b"])[0].tolist()
    view = objective.view(rows)
    batch = objective.collate(view.take(range(len(view))), None)
    first, second = (batch["words"][batch[name]].tolist() for name in ("first", "second"))
    found = dict(zip(zip(first, second, strict=True), batch["count"].tolist(), strict=True))
    assert found == {(a, b): 2.0, (b, a): 2.0, (a, a): 1.0}


def test_words_the_tokenizer_does_not_know_take_no_place(build):
    objective, rows = build("a b x b a a b y a b", min_count=4, window=1)
    view = objective.view(rows)
    counts = objective.collate(view.take(range(len(view))), None)["count"]
    assert sorted(counts.tolist()) == [2.0, 2.0, 5.0, 5.0]


@pytest.mark.parametrize(("text", "told"), [("alone alone", "at least 2 different words")])
def test_a_text_without_two_words_is_refused(text, told, build):
    with pytest.raises(DataError, match=told):
        build(text)


def test_the_sum_survives_and_difference_and_biases_do_not(build):
    objective, _ = build(TEXT)
    assert set(heads(objective)) == {"difference.weight", "biases.weight"}
