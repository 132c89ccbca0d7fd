"""Stochastic depth."""

import pytest
import torch

from ptft.nn.drop_path import DropPath, rising


def test_a_branch_is_left_out_for_whole_examples_and_scaled_for_the_others():
    torch.manual_seed(0)
    found = DropPath(0.25)(torch.ones(4000, 2, 3, 3)).flatten(1)
    assert torch.equal(found, found[:, :1].expand_as(found))
    values = found[:, 0].unique().tolist()
    assert values == pytest.approx([0, 1 / 0.75])
    assert found.mean().item() == pytest.approx(1, abs=3 * (0.25 / 0.75 / 4000) ** 0.5)


def test_evaluation_and_rate_zero_change_nothing():
    branch = torch.randn(5, 3)
    assert DropPath(0.5).eval()(branch) is branch
    assert DropPath(0.0)(branch) is branch


def test_rates_rise_from_zero_to_the_last_branch():
    assert rising(0.3, 4) == pytest.approx([0, 0.1, 0.2, 0.3])
    assert rising(0.3, 1) == [0]


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_a_rate_that_is_no_probability_below_one_is_refused(rate):
    with pytest.raises(ValueError, match="drop_path"):
        DropPath(rate)
