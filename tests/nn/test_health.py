"""Health of embeddings: closed forms for embeddings whose shape is known, and the alarm."""

import math

import pytest
import torch
import torch.nn.functional as F

from ptft.nn.health import KEPT, MEASURES, alarms, health


def measured(*batches):
    found = {}
    for name, metric in health().items():
        for first, second in batches:
            metric.update(first, second)
        found[name] = metric.compute().item()
    return found


def gaussian(count, width, seed=0):
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def test_embeddings_all_over_the_sphere_are_healthy():
    found = measured((gaussian(1000, 16), gaussian(1000, 16, seed=1)))
    assert found["feature_std"] == pytest.approx(1, abs=0.02)
    assert 14 < found["effective_rank"] <= 16
    assert found["alignment"] == pytest.approx(2, abs=0.1)
    assert not alarms({"loss": 1.0, **found})


def test_equal_embeddings_are_dead_whatever_their_length():
    same = torch.ones(50, 8)
    found = measured((same, 3 * same))
    assert found["feature_std"] == pytest.approx(0, abs=1e-6)
    assert found["effective_rank"] == pytest.approx(1, abs=1e-3)
    assert found["alignment"] == pytest.approx(0, abs=1e-6)
    assert found["uniformity"] == pytest.approx(0, abs=1e-6)
    (line,) = alarms({"loss": -0.95, **found})
    assert "feature_std=0.00" in line and "-0.95" in line and "\n" not in line


def test_the_rank_counts_directions_of_equal_strength():
    corners = torch.eye(12)[:6].repeat(4, 1)
    assert measured((corners, corners))["effective_rank"] == pytest.approx(6, rel=1e-4)


def test_alignment_and_uniformity_are_those_of_their_definitions():
    first, second = gaussian(9, 5), gaussian(9, 5, seed=1)
    found = measured((first, second))
    units, others = F.normalize(first, dim=-1), F.normalize(second, dim=-1)
    aligned = sum(float((a - b).square().sum()) for a, b in zip(units, others, strict=True)) / 9
    pairs = [float((units[i] - units[j]).square().sum()) for i in range(9) for j in range(i)]
    assert found["alignment"] == pytest.approx(aligned, rel=1e-5)
    assert found["uniformity"] == pytest.approx(math.log(sum(math.exp(-2 * d) for d in pairs) / len(pairs)), rel=1e-5)


def test_batches_of_any_size_give_the_same_numbers():
    first, second = gaussian(100, 8), gaussian(100, 8, seed=1)
    whole = measured((first, second))
    parts = measured(*zip(first.split(33), second.split(33), strict=True), (torch.zeros(0), torch.zeros(0)))
    assert parts == pytest.approx(whole, rel=1e-5)


def test_only_the_first_embeddings_are_looked_at():
    first, second = gaussian(KEPT + 500, 4), gaussian(KEPT + 500, 4, seed=1)
    cut = measured((first[:KEPT], second[:KEPT]))
    assert measured(*zip(first.split(300), second.split(300), strict=True)) == pytest.approx(cut, rel=1e-5)


def test_less_than_two_embeddings_have_no_health():
    assert all(math.isnan(value) for value in measured((torch.zeros(0), torch.zeros(0))).values())
    assert set(MEASURES) == {"feature_std", "effective_rank", "alignment", "uniformity"}


def test_embeddings_that_are_not_finite_have_no_health_and_raise_nothing():
    first, second = gaussian(8, 4), gaussian(8, 4, seed=1)
    first[2, 1] = torch.nan
    assert all(math.isnan(value) for value in measured((first, second)).values())


def test_features_that_all_differ_a_little_give_no_alarm_and_a_few_outliers_among_equal_ones_do():
    young = 3 + gaussian(300, 32)  # all in one cone, each somewhere else
    dead = torch.cat((3 + 0.01 * gaussian(270, 32), gaussian(30, 32)))
    assert measured((young, young))["feature_std"] < 0.5
    assert not alarms({"loss": 1.0, **measured((young, young))})
    assert alarms({"loss": 1.0, **measured((dead, dead))})
