"""Barlow Twins: correlations by another hand, and what they do not notice."""

import numpy as np
import pytest
import torch

from ptft.objectives.barlow import redundancy


def pair(count=64, width=6):
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(count, width, generator=generator)
    return first, first + torch.randn(count, width, generator=generator)


def test_the_loss_is_that_of_the_correlation_coefficients():
    first, second = pair()
    correlations = np.corrcoef(first.numpy().T, second.numpy().T)[:6, 6:]
    off = correlations - np.diag(np.diag(correlations))
    expected = ((1 - np.diag(correlations)) ** 2).sum() + 0.005 * (off**2).sum()
    assert redundancy(first, second, 0.005).item() == pytest.approx(expected, rel=1e-4)


def test_features_that_correlate_with_themselves_only_cost_nothing():
    corners = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    assert redundancy(corners, corners, 1.0).item() == pytest.approx(0, abs=1e-6)


def test_scale_and_shift_of_a_feature_do_not_matter():
    first, second = pair()
    scale, shift = torch.tensor([1.0, 5.0, -2.0, 30.0, 4.0, -9.0]), torch.arange(6.0)
    assert redundancy(first * scale + shift, second * scale - shift, 0.1) == pytest.approx(
        redundancy(first, second, 0.1).item(), rel=1e-3
    )


def test_constant_features_cost_as_much_as_there_are():
    assert redundancy(torch.ones(8, 6), torch.ones(8, 6), 0.1).item() == pytest.approx(6)


def test_the_collapsed_loss_is_the_width(make_joint):
    assert make_joint("barlow").collapsed_loss(5) == 16
