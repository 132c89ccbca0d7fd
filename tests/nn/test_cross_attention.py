"""What a decoder sees of its source."""

from functools import partial

import pytest
import torch

from ptft.nn.attention import attend, visibility
from ptft.nn.cross_attention import CrossAttention


@pytest.mark.parametrize("length", [8, 200])  # short ones go through matmuls, long ones through a flash kernel
def test_rows_of_attention_sum_to_one_and_are_zero_on_padding(length):
    torch.manual_seed(0)
    mask = torch.arange(length) < torch.tensor([[length], [5]])
    queries, keys = torch.randn(2, 3, 4, 8), torch.randn(2, 3, length, 8)
    visible = visibility(keys[:, 0], 3, 0.0, False, mask, None)
    values = torch.eye(length).expand(2, 3, -1, -1)  # so that what comes out are the weights
    weights = attend(queries, keys, values, visible, 0.0)
    assert weights.shape == (2, 3, 4, length)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3, 4))
    assert (weights[1, :, :, 5:] == 0).all() and (weights[0] > 0).all()
    expected = (queries @ keys.transpose(2, 3) / 8**0.5).masked_fill(~mask[:, None, None], -torch.inf).softmax(-1)
    torch.testing.assert_close(weights, expected, atol=1e-6, rtol=1e-4)


def test_every_query_looks_at_the_source_alone():
    torch.manual_seed(0)
    cross = CrossAttention(12, 3, 0.0, True).eval()
    source, x = torch.randn(2, 7, 12), torch.randn(2, 4, 12)
    remembered = cross.remember(source)
    visible = visibility(remembered[0][:, 0], 3, 0.0, False, None, None)
    found = cross(x, remembered, visible)
    alone = cross(x[:, 2:3], remembered, visible)
    torch.testing.assert_close(found[:, 2:3], alone)


def test_with_normalised_queries_and_keys_the_scale_of_the_source_does_not_sharpen_attention():
    torch.manual_seed(0)
    cross = CrossAttention(12, 3, 0.0, False, qk_norm=True).eval()
    source, x = torch.randn(2, 7, 12), torch.randn(2, 4, 12)
    keys, values = cross.remember(source)
    close = partial(torch.testing.assert_close, rtol=1e-4, atol=1e-4)  # where numbers are small, the norm's epsilon counts
    close(keys.square().mean(-1), torch.ones(2, 3, 7))
    visible = visibility(keys[:, 0], 3, 0.0, False, None, None)
    found = cross(x, (keys, values), visible)
    larger = cross(100 * x, (cross.remember(100 * source)[0], values), visible)
    close(larger, found)
