"""Relative attention against its definition, one query and one key at a time."""

import pytest
import torch

from ptft.nn.positions import sinusoids
from ptft.nn.relative import RelativeAttention, Sight, distances, in_order, picked, shifted


@pytest.mark.parametrize(("memory", "length"), [(0, 1), (0, 5), (3, 4), (7, 2)])
def test_scores_by_distance_land_at_their_keys(memory, length):
    keys = memory + length
    distance = torch.arange(keys, -length, -1.0).expand(2, 3, length, -1)  # each score is its distance
    back = torch.arange(memory, keys)[:, None] - torch.arange(keys)
    assert torch.equal(shifted(distance), back.float().expand(2, 3, -1, -1))
    places = torch.randint(length, (2, 6))
    wanted = torch.stack([back[row] for row in places]).float().unsqueeze(1).expand(-1, 3, -1, -1)
    assert torch.equal(picked(distance[:, :, :1].expand(-1, -1, 6, -1), places, length), wanted)


def test_distances_are_sines_then_cosines_and_distance_zero_is_where_a_query_meets_itself():
    waves = distances(2, 3, 8, torch.zeros(()))
    table = sinusoids(6, 8)
    assert waves.shape == (8, 8)
    torch.testing.assert_close(waves[:6].flip(0)[:, :4], table[:, ::2])
    torch.testing.assert_close(waves[:6].flip(0)[:, 4:], table[:, 1::2])
    assert torch.equal(waves[5], torch.tensor([0.0] * 4 + [1.0] * 4))


def test_attention_is_the_sum_of_content_distance_and_segment_scores():
    torch.manual_seed(0)
    batch, memory, length, dim, heads = 2, 3, 4, 8, 2
    size, keys = dim // heads, memory + length
    attention = RelativeAttention(dim, heads, 0.0, segments=True)
    for parameter in attention.parameters():
        torch.nn.init.normal_(parameter)
    x, context = torch.randn(batch, length, dim), torch.randn(batch, keys, dim)
    waves = distances(memory, length, dim, x)
    visible = torch.rand(batch, length, keys) < 0.6
    visible[0, 1] = False
    other = torch.rand(batch, length, keys) < 0.5
    found = attention(x, attention.seen(context, waves), Sight.of(visible, other))
    expected = torch.zeros(batch, length, heads, size)
    for row, query, head in torch.cartesian_prod(torch.arange(batch), torch.arange(length), torch.arange(heads)):
        part = slice(head * size, (head + 1) * size)
        q = attention.query(x)[row, query, part]
        scores = torch.full((keys,), -torch.inf)
        for key in range(keys):
            wave = waves[keys - (memory + query - key)]
            segment = attention.segment[head, int(other[row, query, key])]
            score = (q + attention.content_bias[head, 0]) @ attention.key(context)[row, key, part]
            score = score + (q + attention.distance_bias[head, 0]) @ attention.distance(wave)[part]
            score = score + (q + attention.segment_bias[head, 0]) @ segment
            scores[key] = score / size**0.5 if visible[row, query, key] else -torch.inf
        if visible[row, query].any():
            expected[row, query, head] = scores.softmax(0) @ attention.value(context)[row, :, part]
    torch.testing.assert_close(found, attention.out(expected.flatten(2)), atol=1e-5, rtol=0)


def test_who_sees_whom_follows_from_the_order():
    order, mask = torch.tensor([[-1, 2, 0, -1, 1]]), torch.tensor([[True, True, True, True, False]])
    looks = in_order(order, order, False, None, None)[0].int().tolist()
    assert looks == [[1, 0, 0, 1, 0], [1, 1, 1, 1, 1], [1, 0, 1, 1, 0], [1, 0, 0, 1, 0], [1, 0, 1, 1, 1]]
    asked = torch.tensor([[2, 0]])
    remembered = torch.tensor([[False, True]])
    asks = in_order(order, asked, True, mask, remembered)[0].int().tolist()
    assert asks == [[0, 1, 1, 0, 1, 1, 0], [0, 1, 1, 0, 0, 1, 0]]


def test_a_dim_that_heads_cannot_share_is_refused():
    with pytest.raises(ValueError, match="dim=10 .* heads=4"):
        RelativeAttention(10, 4, 0.0, segments=False)
