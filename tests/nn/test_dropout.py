"""Dropout against its definition."""

import pytest
import torch

from ptft.nn.dropout import Dropout, dropout


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_the_share_that_is_dropped_is_the_rate(rate):
    torch.manual_seed(0)
    size = 200_003  # no multiple of the lanes
    out = dropout(torch.ones(size), rate)
    sigma = (rate * (1 - rate) / size) ** 0.5
    assert abs((out == 0).float().mean().item() - rate) < 4 * sigma + 1e-5
    kept = out[out != 0]
    torch.testing.assert_close(kept, torch.full_like(kept, 1 / (1 - rate)), rtol=1e-3, atol=0)


def test_neighbours_are_dropped_independently():
    torch.manual_seed(0)
    gone = (dropout(torch.ones(400_000), 0.5) == 0).float()
    for lag in (1, 2, 3, 4, 8):
        assert abs(((gone[:-lag] - 0.5) * (gone[lag:] - 0.5)).mean().item()) < 4 * 0.25 / 400_000**0.5


def test_the_gradient_is_that_of_what_was_kept():
    x = torch.randn(3, 7, requires_grad=True)
    out = dropout(x, 0.4)
    out.sum().backward()
    torch.testing.assert_close(x.grad * x.detach(), out.detach())


def test_the_same_seed_drops_the_same():
    x = torch.randn(50, 50)
    drawn = []
    for _ in range(2):
        torch.manual_seed(7)
        drawn.append(dropout(x, 0.1))
    assert torch.equal(*drawn)


def test_it_keeps_the_number_format():
    assert dropout(torch.ones(10, dtype=torch.bfloat16), 0.5).dtype == torch.bfloat16


def test_evaluation_changes_nothing():
    x = torch.randn(5, 5)
    assert Dropout(0.5).eval()(x) is x
    assert Dropout(0.0)(x) is x


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_a_rate_that_is_no_probability_is_refused(rate):
    with pytest.raises(ValueError, match=f"dropout={rate}"):
        Dropout(rate)
