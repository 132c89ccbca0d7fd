"""Projectors: where their norms are, and directions of length one."""

import torch
from torch import nn

from ptft.nn.projection import Encoder, Prototypes, mlp


def kinds(network):
    return [type(part).__name__ for part in network]


def test_a_plain_projection_has_an_activation_between_its_maps():
    assert kinds(mlp([8, 16, 4])) == ["Linear", "ReLU", "Linear"]
    assert kinds(mlp([8, 8, 8, 4], activation=nn.GELU)) == ["Linear", "GELU", "Linear", "GELU", "Linear"]


def test_norms_follow_maps_without_bias():
    network = mlp([8, 16, 16, 4], norm=True, last_norm=True, affine=False)
    assert kinds(network) == ["Linear", "BatchNorm1d", "ReLU"] * 2 + ["Linear", "BatchNorm1d"]
    assert [part.bias is None for part in network if isinstance(part, nn.Linear)] == [True] * 3
    assert [part.affine for part in network if isinstance(part, nn.BatchNorm1d)] == [True, True, False]
    assert mlp([8, 4], norm=True)[0].bias is not None
    assert mlp([8, 4], norm=True, bias=False)[0].bias is None


def test_prototypes_measure_cosines_whatever_the_lengths():
    prototypes = Prototypes(6, 3)
    values = torch.randn(5, 6)
    expected = torch.nn.functional.cosine_similarity(values[:, None], prototypes.weight[None], dim=-1)
    torch.testing.assert_close(prototypes(7 * values), expected)
    assert prototypes(values).requires_grad
    assert not prototypes(values, still=True).requires_grad


def test_an_encoder_pools_maps_and_tokens():
    for shape, expected in (((2, 4), (2, 3)), ((2, 4, 5, 5), (2, 3)), ((2, 7, 4), (2, 3))):
        encoder = Encoder(nn.Identity(), nn.Linear(4, 3), "mean")
        assert encoder(torch.randn(shape)).shape == expected
