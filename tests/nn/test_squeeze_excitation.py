"""Channels that weigh each other."""

import torch
from torchvision.ops import SqueezeExcitation as Reference

from ptft.nn.squeeze_excitation import SqueezeExcitation


def test_it_equals_torchvisions_given_its_weights():
    ours, theirs = SqueezeExcitation(32), Reference(32, 4)
    for number, layer in ((0, theirs.fc1), (2, theirs.fc2)):
        ours.gate[number].weight.data, ours.gate[number].bias.data = layer.weight.data.flatten(1), layer.bias.data
    x = torch.randn(3, 32, 5, 7)
    torch.testing.assert_close(ours(x), theirs(x))


def test_narrow_layers_keep_some_units_between():
    assert SqueezeExcitation(16).gate[0].out_features == 4
    assert SqueezeExcitation(128).gate[0].out_features == 8
