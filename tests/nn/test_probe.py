"""Probes against independent implementations, and what must not change when they run."""

import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

from ptft.nn import probe
from ptft.nn.inputs import TableInputs
from ptft.nn.probe import Probe, choose, choose_decay, fit, has_class, knn, linear, online


def clouds(count, classes=3, width=8, seed=0, spread=1.0):
    """Points around one centre for each class."""
    generator = torch.Generator().manual_seed(seed)
    centres = 2 * torch.randn(classes, width, generator=torch.Generator().manual_seed(42))
    labels = torch.randint(classes, (count,), generator=generator)
    return centres[labels] + spread * torch.randn(count, width, generator=generator), labels


def knn_by_hand(bank, labels, query, neighbours, temperature):
    cosines = torch.nn.functional.cosine_similarity(bank, query[None], dim=-1).tolist()
    nearest = sorted(range(len(bank)), key=lambda place: -cosines[place])[:neighbours]
    votes = {}
    for place in nearest:
        votes[int(labels[place])] = votes.get(int(labels[place]), 0.0) + np.exp(cosines[place] / temperature)
    return max(votes, key=votes.get)


def test_neighbours_vote_with_the_weight_of_their_likeness():
    bank, labels = clouds(80, spread=3.0)
    queries, _ = clouds(40, seed=1, spread=3.0)
    for neighbours, temperature in ((1, 0.07), (5, 0.07), (20, 0.07), (20, 1.0)):
        expected = [knn_by_hand(bank, labels, query, neighbours, temperature) for query in queries]
        assert knn(bank, labels, queries, neighbours, temperature).tolist() == expected


def test_near_neighbours_outvote_many_far_ones():
    bank = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
    assert knn(bank, torch.tensor([4, 9, 9, 9]), torch.tensor([[1.0, 0.2]])).tolist() == [4]
    assert knn(bank, torch.tensor([4, 9, 9, 9]), torch.tensor([[1.0, 0.2]]), temperature=100.0).tolist() == [9]


def test_twenty_neighbours_vote_at_the_temperature_of_dino_where_nothing_else_is_said():
    likeness = 0.8
    far, query = [likeness, (1 - likeness**2) ** 0.5], torch.tensor([[1.0, 0.0]])
    tipping = math.exp((1 - likeness) / 0.07)  # 17.4 far neighbours weigh as much as the near one
    for count in (17, 18, 30):
        bank, labels = torch.tensor([[1.0, 0.0], *[far] * count]), torch.tensor([1, *[2] * count])
        assert knn(bank, labels, query).tolist() == [1 if count < tipping else 2]
    scattered = [[likeness - 1e-4 * n, (1 - (likeness - 1e-4 * n) ** 2) ** 0.5] for n in range(40)]  # no ties: 20 vote
    bank, labels = torch.tensor([[1.0, 0.0], [1.0, 0.0], *scattered]), torch.tensor([1, 1, *[2] * 40])
    assert knn(bank, labels, query).tolist() == [1]
    assert knn(bank, labels, query, neighbours=42).tolist() == [2]


def test_a_bank_smaller_than_the_neighbourhood_and_one_query_will_do():
    assert knn(torch.eye(2), torch.tensor([1, 0]), torch.tensor([[0.1, 0.9]])).tolist() == [0]


def test_the_order_of_the_bank_does_not_matter_even_where_it_repeats_itself():
    bank, labels = clouds(60, spread=3.0)
    bank, labels = bank.repeat(2, 1), torch.cat((labels, labels.flip(0)))  # each point twice, with two classes
    queries, _ = clouds(50, seed=1, spread=3.0)
    order = torch.randperm(120, generator=torch.Generator().manual_seed(0))
    assert torch.equal(knn(bank[order], labels[order], queries, 5), knn(bank, labels, queries, 5))


def test_classes_come_from_the_bank():
    found = knn(torch.eye(3), torch.tensor([7, 30, 7]), torch.eye(3))
    assert found.tolist() == [7, 30, 7]
    assert linear(*clouds(30)[:1], clouds(30)[1] + 5, clouds(9, seed=1)[0]).min() >= 5


def test_chunks_change_nothing(monkeypatch):
    bank, labels = clouds(50, spread=3.0)
    queries, _ = clouds(31, seed=1, spread=3.0)
    whole = knn(bank, labels, queries)
    monkeypatch.setattr(probe, "SIMILARITIES", 60)
    assert torch.equal(knn(bank, labels, queries), whole)


@pytest.mark.parametrize("decay", [1.0, 1e-2, 1e-3])
@pytest.mark.parametrize("classes", [2, 4])
def test_the_linear_probe_is_logistic_regression_to_the_end(decay, classes):
    features, labels = clouds(120, classes, spread=2.0)
    found = fit(features.double(), labels, classes, decay)
    theirs = LogisticRegression(C=1 / (decay * 120), tol=1e-10, max_iter=10_000).fit(features.double().numpy(), labels.numpy())
    queries = clouds(50, classes, seed=1)[0].double()
    ours = (queries @ found[:-1] + found[-1]).softmax(-1)
    if classes == 2:  # theirs regularises one vector of weights, ours two that are its halves
        theirs = LogisticRegression(C=2 / (decay * 120), tol=1e-10, max_iter=10_000).fit(
            features.double().numpy(), labels.numpy()
        )
    torch.testing.assert_close(ours, torch.from_numpy(theirs.predict_proba(queries.numpy())), atol=1e-4, rtol=0)


def test_the_linear_probe_gives_the_same_bits_each_time_without_autograd():
    bank, labels = clouds(60)
    with torch.no_grad():
        features = bank.double()
        first, second = (fit(features, labels, 3, 1e-2) for _ in range(2))
        assert torch.equal(first, second)
        assert not first.requires_grad
        assert (linear(bank, labels, bank) == labels).float().mean() > 0.9


def test_noise_asks_for_more_decay_than_what_is_plain_to_see():
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(100, 40, generator=generator).double()
    labels = torch.randint(2, (100,), generator=generator)
    plain, classes = clouds(100, 2, spread=0.2)
    assert choose_decay(noise, labels, 2) > choose_decay(plain.double(), classes, 2)


def test_scale_and_shift_of_a_feature_do_not_matter_to_the_linear_probe():
    bank, labels = clouds(80, spread=2.0)
    queries, _ = clouds(80, seed=1, spread=2.0)
    scale, shift = torch.logspace(-3, 3, 8), torch.linspace(-50, 50, 8)
    found = linear(bank * scale + shift, labels, queries * scale + shift)
    assert (found == linear(bank, labels, queries)).float().mean() >= 0.98


def test_a_feature_that_never_varies_does_no_harm():
    bank, labels = clouds(40)
    bank[:, 0] = 3.0
    assert (linear(bank, labels, bank) == labels).float().mean() > 0.9


class Rows(list):
    def take(self, places):
        return [self[place] for place in places]


class Table:
    """A dataset of two splits."""

    facts = {"labels": ["ant", "bee", "cat"]}

    def __init__(self, labelled=True):
        self.notes = []
        self.splits = {"train": self.split(150, 0, labelled), "valid": self.split(70, 1, labelled)}

    def split(self, count, seed, labelled):
        features, labels = clouds(count, spread=1.5, seed=seed)
        pairs = zip(features.numpy(), labels.tolist(), strict=True)
        return Rows({"features": each, **({"label": label} if labelled else {})} for each, label in pairs)

    def rows(self, split):
        return self.splits.get(split)


class Network(nn.Module):
    """Something with batch norm and dropout, to be left as it is."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Dropout(0.5), nn.ReLU())

    def forward(self, values):
        return self.layers(values)


@pytest.mark.parametrize("protocol", ["knn", "linear"])
def test_a_probe_leaves_the_model_as_it_is(protocol):
    model = Network().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = online(protocol, 50, Table(), TableInputs(), "mean").scores(model)
    assert found[f"{protocol}_accuracy"] > 0.6
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("protocol", ["knn", "linear"])
def test_a_probe_says_the_same_twice_and_whatever_came_before(protocol):
    first = online(protocol, None, Table(), TableInputs(), "mean").scores(Network().train())
    torch.manual_seed(99)
    assert online(protocol, None, Table(), TableInputs(), "mean").scores(Network().eval()) == first


def test_what_is_looked_at_is_chosen_once_and_in_file_order():
    chosen = choose(1000, 100)
    assert len(set(chosen.tolist())) == 100 and (np.diff(chosen) > 0).all()
    assert (chosen == choose(1000, 100)).all()
    assert (choose(100, 1000) == np.arange(100)).all() and (choose(100, None) == np.arange(100)).all()


def test_data_without_classes_are_not_probed_and_that_is_said():
    table = Table(labelled=False)
    assert online("knn", 10, table, TableInputs(), "mean") is None
    assert "objective.probe=knn" in table.notes[0]
    assert online(None, 10, Table(), TableInputs(), "mean") is None
    assert online("knn", 10, None, TableInputs(), "mean") is None


def test_a_class_is_a_whole_number_on_its_own():
    assert has_class({"label": 3}) and has_class({"label": np.int64(3)})
    for label in (0.5, np.array([1, 0], dtype=np.uint8), np.float32(1.0)):
        assert not has_class({"label": label})
    assert not has_class({})


def test_probing_goes_batch_by_batch_without_a_trace(monkeypatch):
    whole = Probe("knn", Table().rows("train"), Table().rows("valid"), TableInputs(), "mean")
    expected = whole.features(Network(), whole.bank, None)
    monkeypatch.setattr(probe, "BATCH", 7)
    found = whole.features(Network(), whole.bank, None)
    torch.testing.assert_close(found, expected)
