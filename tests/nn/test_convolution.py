"""Strided convolutions down and up again."""

import pytest
import torch

from ptft.nn.convolution import Crop, Residual, downsampling, halved, upsampling


@pytest.mark.parametrize("size", [(28, 28), (8, 8), (5, 9), (1, 7), (33, 17)])
def test_the_way_up_leads_to_at_least_the_size_the_way_down_began_with(size):
    values = torch.randn(2, 3, *size)
    small = downsampling(3, [4, 5, 6], "relu")(values)
    assert small.shape == (2, 6, halved(size[0], 3), halved(size[1], 3))
    large = upsampling([4, 5, 6], 3, "relu")(small)
    assert large.shape[2] >= size[0] and large.shape[3] >= size[1]
    assert Crop(*size)(large).shape == values.shape


def test_an_open_end_may_be_negative():
    values = torch.randn(2, 1, 8, 8)
    assert downsampling(1, [4, 4], "relu")(values).min() >= 0
    assert downsampling(1, [4, 4], "relu", open_end=True)(values).min() < 0


def test_a_residual_block_without_weights_changes_nothing():
    block = Residual(4, 2)
    for parameter in block.parameters():
        torch.nn.init.zeros_(parameter)
    values = torch.randn(2, 4, 5, 5)
    assert torch.equal(block(values), values)
