"""LSTMs with a projection against torch's own, and their bounds."""

import pytest
import torch

from ptft.nn.projected_lstm import ProjectedLSTM


def make(hidden=12, dim=5, clip=None) -> ProjectedLSTM:
    torch.manual_seed(0)
    return ProjectedLSTM(7, hidden, dim, clip)


@pytest.mark.parametrize("dim", [5, 12])
@pytest.mark.parametrize("continued", [False, True])
@pytest.mark.filterwarnings("ignore:LSTM with projections")
def test_bounds_that_are_never_reached_leave_what_torch_computes(dim, continued):
    ours = make(dim=dim, clip=1e6)
    theirs = torch.nn.LSTM(7, 12, proj_size=dim % 12, batch_first=True)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(3, 9, 7, requires_grad=True)
    state = (torch.randn(3, dim), torch.randn(3, 12)) if continued else None
    found, (output, cell) = ours(x, state)
    expected, (last_output, last_cell) = theirs(x, state and tuple(part.unsqueeze(0) for part in state))
    for one, other in ((found, expected), (output, last_output[0]), (cell, last_cell[0])):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=0)
    gradients = [torch.autograd.grad(result.square().sum(), x)[0] for result in (found, expected)]
    torch.testing.assert_close(*gradients, atol=1e-5, rtol=0)


@pytest.mark.parametrize("dim", [5, 12])
def test_without_bounds_it_is_torchs_own(dim):
    x = torch.randn(3, 9, 7)
    torch.testing.assert_close(make(dim=dim)(x)[0], make(dim=dim, clip=1e6)(x)[0], atol=1e-6, rtol=0)


def test_cells_and_outputs_stay_within_the_bounds():
    lstm = make(clip=0.01)
    read, (output, cell) = lstm(10 * torch.randn(4, 20, 7))
    assert read.abs().max() <= 0.01 and cell.abs().max() <= 0.01
    assert read.abs().max().item() == pytest.approx(0.01)
    assert torch.equal(read[:, -1], output)


def test_reading_in_parts_equals_reading_at_once():
    for lstm in (make(), make(dim=12), make(clip=3.0)):
        x = torch.randn(2, 10, 7)
        first, state = lstm(x[:, :6])
        second, _ = lstm(x[:, 6:], state)
        torch.testing.assert_close(torch.cat((first, second), dim=1), lstm(x)[0], atol=1e-6, rtol=0)


def test_forget_gates_start_open():
    lstm = make()
    assert (lstm.bias_ih_l0 + lstm.bias_hh_l0).detach().tolist() == [0] * 12 + [1] * 12 + [0] * 24


def test_fewer_cells_than_outputs_are_refused():
    with pytest.raises(ValueError, match="hidden=4"):
        make(hidden=4)
