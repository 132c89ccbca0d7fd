"""LSTMs token by token against torch's own, and as graphs of any length."""

import pytest
import torch
from torch import nn
from torch.export import Dim
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from ptft.nn.attentional import BiLSTM
from ptft.nn.stepwise import read_stepwise


def make(**settings) -> nn.LSTM:
    torch.manual_seed(0)
    return nn.LSTM(7, 12, batch_first=True, **settings).requires_grad_(False)


@pytest.mark.parametrize("projected", [0, 5])
@pytest.mark.parametrize("continued", [False, True])
@pytest.mark.filterwarnings("ignore:LSTM with projections")
def test_steps_are_what_torch_computes_at_once(projected, continued):
    lstm = make(proj_size=projected)
    x = torch.randn(3, 9, 7)
    state = (torch.randn(3, projected or 12), torch.randn(3, 12)) if continued else None
    read, last = read_stepwise(lstm, x, state)
    expected, states = lstm(x, state and tuple(part[None] for part in state))
    torch.testing.assert_close(read, expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(last, tuple(part[0] for part in states), atol=1e-6, rtol=0)


def test_the_state_of_a_text_stays_where_its_padding_begins():
    lstm, lengths = make(), torch.tensor([9, 4, 1])
    x = torch.randn(3, 9, 7)
    read, last = read_stepwise(lstm, x, mask=torch.arange(9) < lengths[:, None])
    packed, states = lstm(pack_padded_sequence(x, lengths, batch_first=True))
    expected, _ = pad_packed_sequence(packed, batch_first=True)
    for row, length in enumerate(lengths):
        torch.testing.assert_close(read[row, :length], expected[row, :length], atol=1e-6, rtol=0)
    torch.testing.assert_close(last, tuple(part[0] for part in states), atol=1e-6, rtol=0)


def test_the_other_direction_reads_with_its_own_weights():
    lstm, x = make(bidirectional=True), torch.randn(2, 6, 7)
    read, _ = read_stepwise(lstm, x.flip(1), direction="_reverse")
    torch.testing.assert_close(read.flip(1), lstm(x)[0][..., 12:], atol=1e-6, rtol=0)


@pytest.mark.slow
def test_a_graph_takes_texts_of_any_length_and_sees_no_padding():
    torch.manual_seed(0)
    model = BiLSTM(width=6, dim=8, layers=2, dropout=0.0).eval().requires_grad_(False)
    axes = {0: Dim("batch"), 1: Dim("length", max=50)}
    example = torch.randn(3, 8, 6), torch.ones(3, 8, dtype=torch.bool)
    graph = torch.export.export(model, example, dynamic_shapes=(axes, axes)).module()
    x, mask = torch.randn(2, 30, 6), torch.arange(30) < torch.tensor([[30], [11]])
    for one, other in zip(graph(x, mask)[1], model(x, mask)[1], strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=0)
    torch.testing.assert_close(graph(x, mask)[0], model(x, mask)[0], atol=1e-6, rtol=0)
