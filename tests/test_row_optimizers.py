"""Optimizers of large tables against torch's, with gradients of all rows and of some."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from ptft.loop import changeable
from ptft.optimizers import RowAdagrad, RowSGD

KINDS = {
    "sgd": (lambda p: RowSGD(p, 0.1, 0.0, None), lambda p: torch.optim.SGD(p, 0.1)),
    "adagrad": (
        lambda p: RowAdagrad(p, 0.1, 0.0, 0.5, 1e-8),
        lambda p: torch.optim.Adagrad(p, 0.1, initial_accumulator_value=0.5, eps=1e-8),
    ),
}
ROWS = torch.tensor([1, 4, 7])


def pair() -> tuple[torch.nn.Parameter, torch.nn.Parameter]:
    torch.manual_seed(0)
    table = torch.randn(9, 3)
    return torch.nn.Parameter(table.clone()), torch.nn.Parameter(table.clone())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sparse", [True, False])
def test_rows_move_as_torch_moves_the_whole_table(kind, sparse):
    one, other = pair()
    ours, theirs = KINDS[kind][0]([one]), KINDS[kind][1]([other])
    for _ in range(3):
        gradient = torch.randn(3, 3)
        found = torch.sparse_coo_tensor(ROWS[None], gradient, one.shape, is_coalesced=True, check_invariants=False)
        other.grad = found.to_dense()
        one.grad = found if sparse else other.grad.clone()
        ours.step()
        theirs.step()
    torch.testing.assert_close(one, other)


def test_no_row_moves_further_than_the_clip_allows():
    one, other = pair()
    before = one.detach().clone()
    one.grad = torch.zeros_like(one)
    one.grad[2], one.grad[3] = 100.0, 0.1
    RowSGD([one], 0.5, 0.0, clip=2.0).step()
    assert (before - one)[2].norm().item() == pytest.approx(0.5 * 2.0)
    torch.testing.assert_close((before - one)[3], torch.full((3,), 0.05))
    torch.testing.assert_close(one[4], other[4])


def test_a_vector_is_one_row():
    vector = torch.nn.Parameter(torch.zeros(4))
    vector.grad = torch.full((4,), 3.0)
    RowSGD([vector], 1.0, 0.0, clip=3.0).step()
    torch.testing.assert_close(vector, torch.full((4,), -1.5))


@pytest.mark.parametrize("kind", ["sgd", "adagrad"])
def test_rows_that_are_not_seen_cannot_decay(kind):
    with pytest.raises(ValueError, match="weight_decay=0.1"):
        (RowSGD([torch.nn.Parameter(torch.zeros(2))], 0.1, 0.1, None) if kind == "sgd" else RowAdagrad([], 0.1, 0.1, 0.0, 0.0))


@pytest.mark.parametrize("sparse", [True, False])
def test_sparse_gradients_of_several_batches_are_added_up_once(sparse):
    values = torch.ones(4, 3)
    found = torch.sparse_coo_tensor(torch.tensor([[1, 4, 1, 2]]), values, (9, 3), check_invariants=False)
    parameter = SimpleNamespace(grad=found)
    numbers = changeable(parameter, sparse)
    numbers.mul_(0.5)
    assert parameter.grad.is_sparse == sparse
    dense = parameter.grad.to_dense() if sparse else parameter.grad
    assert dense.sum(1).tolist() == [0, 3, 1.5, 0, 1.5, 0, 0, 0, 0]
