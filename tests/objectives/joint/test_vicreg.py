"""VICReg: its terms by another hand, and its value where everything is zero."""

import numpy as np
import pytest
import torch


def official(first, second, variance_weight=0.5):
    """The loss as the official code writes it, in numpy."""
    size, width = first.shape
    invariance = ((first - second) ** 2).mean()
    spread, repeated = 0.0, 0.0
    for view in (first, second):
        centred = view - view.mean(0)
        spread += variance_weight * np.maximum(0, 1 - np.sqrt(view.var(0, ddof=1) + 1e-4)).mean()
        covariance = centred.T @ centred / (size - 1)
        repeated += (covariance**2).sum() / width - (np.diag(covariance) ** 2).sum() / width
    return 25 * invariance + 25 * spread + repeated


@pytest.mark.parametrize(("reduction", "weight"), [("mean", 0.5), ("sum", 1.0)])
def test_the_loss_is_the_official_one_or_the_papers(reduction, weight, make_joint):
    generator = torch.Generator().manual_seed(0)
    first, second = (0.6 * torch.randn(32, 10, generator=generator) for _ in range(2))
    found = make_joint("vicreg", variance_reduction=reduction).loss(first, second)
    assert found.item() == pytest.approx(official(first.double().numpy(), second.double().numpy(), weight), rel=1e-5)


@pytest.mark.parametrize(("reduction", "expected"), [("mean", 24.75), ("sum", 49.5)])
def test_embeddings_that_are_all_zero_cost_the_missing_variance(reduction, expected, make_joint):
    objective = make_joint("vicreg", variance_reduction=reduction)
    zeros = torch.zeros(8, 16)
    assert objective.loss(zeros, zeros).item() == pytest.approx(expected, rel=1e-6)
    assert objective.collapsed_loss(8) == pytest.approx(expected, rel=1e-6)
