"""Skip-gram and CBOW against their closed forms, in planted corpora, and stopped halfway."""

from __future__ import annotations

import io
import math
import os
import signal
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ptft.data.word_vocabulary import Word
from ptft.errors import DataError, Stopped
from ptft.locate import locate
from ptft.logs import Console
from ptft.models.embedding import Embedding
from ptft.nn.negative_sampling import NegativeLoss
from ptft.nn.neighbours import nearest
from ptft.objective import heads
from ptft.objectives.cbow import CBOW
from ptft.objectives.skipgram import SkipGram
from ptft.optimizers import RowSGD
from ptft.randomness import Draw

SETTINGS = {"window": 5, "negatives": 5, "shared": 32, "power": 0.75, "subsample": None, "rule": "code"}
KINDS = {"skipgram": SkipGram, "cbow": CBOW}


class Table(list):
    """Rows in memory."""

    def take(self, indices):
        return [self[index] for index in indices]


@pytest.fixture
def build():
    """An objective over some texts, with its rows: build("cbow", texts, window=1)."""

    def make(kind: str, texts: list[str], dim: int = 8, **changes):
        tokenizer = Word(None, 1, False, "kept", None).train(texts)
        rows = Table({"tokens": ids, "row": row} for row, ids in enumerate(tokenizer.encode(texts)))
        torch.manual_seed(0)
        model = Embedding(tokenizer.vocab_size, dim, 1000)
        dataset = SimpleNamespace(rows=lambda split: rows)
        return KINDS[kind](model, tokenizer, dataset, **SETTINGS | changes), rows

    return make


def texts(number: int = 12, length: int = 60, words: int = 30) -> list[str]:
    random = np.random.default_rng(0)
    return [" ".join(f"w{word}" for word in random.integers(0, words, length)) for _ in range(number)]


def randomised(objective):
    """Vectors so large that each word's loss is its own."""
    generator = torch.Generator().manual_seed(1)
    for table in (objective.model.token_embedding, objective.context):
        table.weight.data = torch.randn(table.weight.shape, generator=generator)
    return objective


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shared", [32, None])
@pytest.mark.parametrize("negatives", [1, 5])
def test_the_first_loss_is_that_of_a_coin_for_the_pair_and_each_negative(kind, shared, negatives, build, draw):
    objective, rows = build(kind, texts(words=2000), shared=shared, negatives=negatives)
    output = objective(objective.collate(rows, draw(len(rows))))
    assert (output.loss / output.count).item() == pytest.approx((negatives + 1) * math.log(2), rel=5e-3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shared", [8, 32, None])
def test_negatives_cost_on_average_what_their_distribution_says(kind, shared, build, draw):
    """-log sigmoid(o v) - k sum over words n but o of P(n) log sigmoid(-n v), with windows of one word on either side."""
    objective, rows = build(kind, texts(4, 40, 12), window=1, shared=shared)
    randomised(objective)
    share = torch.from_numpy(objective.counts).double() ** 0.75
    share /= share.sum()
    inner, outer = (table.weight.detach().double() for table in (objective.model.token_embedding, objective.context))
    exact, count = 0.0, 0
    for row in rows:
        ids = row["tokens"].tolist()
        for place, word in enumerate(ids):
            around = [ids[other] for other in (place - 1, place + 1) if 0 <= other < len(ids)]
            pairs = [(inner[word], other) for other in around]
            pairs = pairs if kind == "skipgram" else [(inner[around].mean(0), word)]
            for vector, target in pairs:
                costs = F.softplus(outer @ vector) * share
                exact += float(F.softplus(-outer[target] @ vector) + 5 * (costs.sum() - costs[target]))
                count += 1
    found = []
    for seed in range(150):
        with torch.no_grad():
            output = objective(objective.collate(rows, draw(len(rows), seed=seed)))
        assert output.count == count
        found.append(float(output.loss))
    error = np.std(found) / len(found) ** 0.5
    assert abs(np.mean(found) - exact) < 4 * error
    assert error < 0.02 * exact


def test_a_negative_that_equals_the_target_is_skipped(build, draw):
    objective, rows = build("skipgram", ["one two " * 20], window=1, shared=None, negatives=3)
    batch = objective.collate(rows, draw(1))
    target, noise = batch["columns"][:, :1], batch["columns"][:, 1:]
    assert torch.equal(batch["weights"][:, 0, 1:] == 0, noise == target)
    assert 0.3 < (noise == target).float().mean() < 0.7
    shared = build("skipgram", ["one two " * 20], window=1, shared=4, negatives=4)[0].collate(rows, draw(1))
    assert (shared["weights"][:, :, shared["positives"] :] >= -1e-6).all()
    assert shared["weights"][:, :, shared["positives"] :].sum() < 0.7 * 4 * shared["count"]


def test_the_written_out_gradient_is_that_of_the_loss():
    generator = torch.Generator().manual_seed(0)
    inputs, outputs = (torch.randn(2, size, 4, generator=generator).double().requires_grad_() for size in (3, 5))
    weights = torch.rand(2, 3, 5, generator=generator).double()
    assert torch.autograd.gradcheck(lambda one, two: NegativeLoss.apply(one, two, weights, 2), (inputs, outputs))


def test_cbow_gives_each_word_of_a_window_the_undivided_error(build, draw):
    objective, rows = build("cbow", ["a b c"], window=1, shared=None, negatives=1)
    randomised(objective)
    batch = objective.collate(rows, draw(1))
    objective(batch).loss.backward()
    gradient = objective.model.token_embedding.weight.grad.to_dense()
    a, b, c = objective.tokenizer.encode(["a b c"])[0].tolist()
    inner, outer = (table.weight.detach() for table in (objective.model.token_embedding, objective.context))
    means = torch.stack([inner[b], inner[[a, c]].mean(0), inner[b]]).requires_grad_()
    columns = outer[batch["outer"]][batch["columns"]]
    signs = torch.tensor([-1.0, 1.0])
    (F.softplus(signs * (columns @ means[:, :, None]).squeeze(2)) * batch["weights"].squeeze(1)).sum().backward()
    torch.testing.assert_close(gradient[a], means.grad[1])
    torch.testing.assert_close(gradient[c], means.grad[1])
    torch.testing.assert_close(gradient[b], means.grad[0] + means.grad[2])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shared", [32, None])
def test_batches_in_pieces_add_up_to_the_whole(kind, shared, build):
    objective, rows = build(kind, texts(), subsample=0.05, shared=shared)
    randomised(objective)
    numbers = np.arange(len(rows))
    whole = objective(objective.collate(rows, Draw(3, np.zeros_like(numbers), numbers)))
    whole.loss.backward()
    gradient = objective.model.token_embedding.weight.grad.to_dense()
    objective.zero_grad()
    loss = count = 0
    for part in (numbers[:5], numbers[5:6], numbers[6:]):
        output = objective(objective.collate(rows.take(part), Draw(3, np.zeros_like(part), part)))
        output.loss.backward()
        loss, count = loss + output.loss.detach(), count + output.count
    assert count == whole.count
    torch.testing.assert_close(loss, whole.loss.detach(), rtol=1e-5, atol=0)
    torch.testing.assert_close(objective.model.token_embedding.weight.grad.to_dense(), gradient, rtol=1e-4, atol=1e-5)


def test_a_step_touches_only_the_words_it_sees(build, draw):
    objective, rows = build("skipgram", texts(words=500))
    batch = objective.collate(rows[:1], draw(1))
    objective(batch).loss.backward()
    gradient = objective.context.weight.grad
    assert gradient.is_sparse
    assert gradient.coalesce().indices()[0].tolist() == batch["outer"].tolist()


def test_only_the_second_table_is_thrown_away(build):
    objective, _ = build("skipgram", texts())
    assert set(heads(objective)) == {"context.weight"}
    assert not objective.context.weight.any()
    assert list(objective.model.state_dict()) == ["embedding.token.weight"]
    assert objective.model.token_embedding.weight.abs().max() <= 0.5 / 8


def test_a_text_without_two_known_words_is_refused(build):
    with pytest.raises(DataError, match="at least 2 different words"):
        build("skipgram", ["alone alone alone"])


@pytest.mark.parametrize("wrong", [{"window": 0}, {"negatives": 0}, {"shared": 0}])
def test_numbers_out_of_range_are_refused_by_name(wrong, build):
    ((name, value),) = wrong.items()
    with pytest.raises(ValueError, match=f"{name}={value}"):
        build("skipgram", texts(), **wrong)


def planted(groups: int = 8, members: int = 5, sentences: int = 1500) -> list[str]:
    """Words of a group stand between the same words; their numbers say which group they are of."""
    random = np.random.default_rng(0)
    chosen = zip(random.integers(0, groups, sentences), random.integers(0, members, (sentences, 2)), strict=True)
    return [f"a{g} b{g} word{g}_{one} c{g} d{g} word{g}_{two} e{g}" for g, (one, two) in chosen]


def trained(objective, rows, steps: int, lr: float, batch: int):
    optimizer = RowSGD(objective.parameters(), lr, 0.0, clip=20.0)
    random = np.random.default_rng(0)
    for step in range(steps):
        chosen = random.integers(0, len(rows), batch)
        objective(objective.collate(rows.take(chosen), Draw(0, np.full(batch, step), chosen))).loss.backward()
        for parameter in objective.parameters():
            parameter.grad = parameter.grad.coalesce()
        optimizer.step()
        optimizer.zero_grad()
    return objective


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "lr"), [("skipgram", 0.05), ("cbow", 0.1)])
def test_words_that_stand_in_the_same_places_become_neighbours(kind, lr, build):
    objective, rows = build(kind, planted(), dim=16, window=3)
    trained(objective, rows, 150, lr, 100)
    names = [objective.tokenizer.token(index) for index in range(objective.tokenizer.vocab_size)]
    words = [index for index, name in enumerate(names) if name.startswith("word")]
    among = np.isin(np.arange(len(names)), words)
    found = nearest(objective.model.token_embedding.weight, words, 4, among)
    same = [
        names[one].split("_")[0] == names[two].split("_")[0] for one, near in zip(words, found, strict=True) for two in near
    ]
    assert np.mean(same) > 0.95


def test_samples_are_frequent_words_with_their_neighbours(build, draw):
    objective, rows = build("skipgram", texts())
    lines = objective.samples({}, objective(objective.collate(rows, draw(len(rows)))))
    assert len(lines) == 8
    word, _, near = lines[0].partition(": ")
    assert len(near.split()) == 8 and word not in near.split()


class Stopping(Console):
    """A console that sends SIGTERM at a step."""

    def __init__(self, at: int):
        super().__init__(0, stream=io.StringIO())
        self.at = at

    def step(self, step, values):
        super().step(step, values)
        if step == self.at:
            os.kill(os.getpid(), signal.SIGTERM)


RUN = ("trainer.steps=7", "trainer.batch_size=4", "trainer.eval_every=3", "trainer.save_every=null", "trainer.log_every=1")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "workers", "accumulate"),
    [
        ("skipgram", 2, 3),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in (("skipgram", 0, 1), ("cbow", 0, 1), ("glove", 2, 1))),
    ],
)
def test_a_run_stopped_by_a_signal_goes_on_to_the_bit(kind, workers, accumulate, train, data, tmp_path):
    small = ("model.dim=8", "model.max_length=16") + (() if kind == "glove" else ("objective.shared=8",))
    rows = "trainer.batch_size=1" if kind == "glove" else "trainer.batch_size=4"
    words = ("pretrain", f"objective={kind}", *small, "tokenizer.min_count=1", *data.text, *RUN[:1], rows, *RUN[2:])
    words += (f"trainer.accumulate={accumulate}", "device=cpu")
    whole = train(tmp_path / "whole", *words)
    with pytest.raises(Stopped):
        train(tmp_path / "parts", *words, f"trainer.workers={workers}", console=Stopping(4))
    parts = train(tmp_path / "parts", *words, f"trainer.workers={2 - workers}", resume="auto")
    names = ["model.safetensors", "objective.safetensors", "optim.safetensors"]
    one, other = (locate(f"{run}/last") for run in (whole, parts))
    assert [name for name in names if (one / name).exists()]
    for name in names:
        assert (one / name).exists() == (other / name).exists()
        assert not (one / name).exists() or (one / name).read_bytes() == (other / name).read_bytes()
