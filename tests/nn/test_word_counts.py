"""Which words are left out, and which are drawn as noise, against word2vec's formulas."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chisquare

from ptft.nn.word_counts import Noise, keep_probabilities


@pytest.mark.parametrize(("rule", "expected"), [("code", 0.416), ("paper", 0.316)])
def test_a_word_in_a_hundred_is_kept_as_its_rule_says(rule, expected):
    counts = np.array([0, 10_000, 990_000])
    kept = keep_probabilities(counts, 1e-3, rule)
    assert kept[1] == pytest.approx(expected, abs=5e-4)
    assert kept[0] == 0


def test_the_code_keeps_all_of_what_is_rarer_than_the_threshold_times_the_golden_ratio_squared():
    counts = np.array([2617, 2620, 1_000_000 - 5237])
    kept = keep_probabilities(counts, 1e-3, "code")
    assert kept[0] == 1
    assert 0.99 < kept[1] < 1


def test_without_a_threshold_every_word_that_occurs_stays():
    assert keep_probabilities(np.array([0, 5, 10**9]), None, "code").tolist() == [0, 1, 1]


def test_noise_is_drawn_by_counts_to_the_power_of_three_quarters(draw):
    counts = np.array([0, 1, 2, 10, 50, 400, 3, 10_000, 0, 77])
    found = Noise.of(counts, 0.75).draw(draw(50), "noise", (2000,))
    expected = np.where(counts > 0, counts.astype(float) ** 0.75, 0.0)
    seen = np.bincount(found.ravel(), minlength=len(counts))
    assert seen[expected == 0].sum() == 0
    occurs = expected > 0
    assert chisquare(seen[occurs], expected[occurs] / expected.sum() * seen.sum()).pvalue > 0.01
