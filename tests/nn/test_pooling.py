"""Poolings do not see padding."""

import pytest
import torch

from ptft.nn.pooling import POOLINGS, PooledHead


@pytest.mark.parametrize("name", POOLINGS)
def test_pooling_a_padded_text_equals_pooling_it_alone(name):
    features = torch.randn(3, 9, 4) - 5  # all negative: padding of zeros would win the maximum
    lengths = torch.tensor([9, 4, 1])
    mask = torch.arange(9) < lengths[:, None]
    features[~mask] = 1e4
    pooled = POOLINGS[name](features, mask)
    alone = torch.cat([POOLINGS[name](row[None, :length], None) for row, length in zip(features, lengths, strict=True)])
    torch.testing.assert_close(pooled, alone)


def test_concat_is_last_then_maximum_then_mean():
    features = torch.tensor([[[1.0], [5.0], [3.0]]])
    assert POOLINGS["concat"](features, None).tolist() == [[3.0, 5.0, 3.0]]


@pytest.mark.parametrize("name", ["tanh", "relu"])
def test_a_dense_layer_and_its_activation_stand_before_the_map(name, make_transformer):
    head = PooledHead(make_transformer(dim=32), "cls", 2, 0.1, name).eval()
    features = torch.randn(3, 5, 32)
    first = features[:, 0] @ head.hidden.weight.T + head.hidden.bias
    first = first.tanh() if name == "tanh" else first.clamp(min=0)
    torch.testing.assert_close(head(features, None), first @ head.linear.weight.T + head.linear.bias)
    assert PooledHead(make_transformer(dim=32), "cls", 2, 0.1).hidden is None


def test_the_first_token_of_a_causal_model_is_refused_as_a_summary(make_gpt):
    with pytest.raises(ValueError, match="pooling=cls"):
        PooledHead(make_gpt(), "cls", 2, 0.1)
