"""Rotations and sinusoids against their formulas."""

import math

import pytest
import torch

from ptft.nn.positions import rotate, rotations, sinusoids, toward


def test_rotation_turns_each_pair_as_a_complex_number():
    x = torch.randn(5, 8, dtype=torch.float64)
    positions = torch.tensor([0, 1, 5, 17, 100])
    turned = rotate(x, rotations(positions, 8))
    for row, position in enumerate(positions.tolist()):
        for pair in range(4):
            number = complex(x[row, pair], x[row, pair + 4])
            angle = position * 10000 ** (-2 * pair / 8)
            expected = number * complex(math.cos(angle), math.sin(angle))
            found = complex(turned[row, pair], turned[row, pair + 4])
            assert abs(found - expected) < 1e-5


def test_rotated_scores_depend_on_the_distance_only():
    q, k = torch.randn(16), torch.randn(16)

    def score(here, there):
        turned = [rotate(x, rotations(torch.tensor(place), 16)) for x, place in ((q, here), (k, there))]
        return (turned[0] * turned[1]).sum()

    torch.testing.assert_close(score(3, 10), score(43, 50), atol=1e-4, rtol=0)


def test_sinusoids_follow_the_formula_of_the_paper():
    table = sinusoids(50, 12)
    for position in (0, 1, 49):
        for i in range(6):
            angle = position / 10000 ** (2 * i / 12)
            assert abs(table[position, 2 * i] - math.sin(angle)) < 1e-5
            assert abs(table[position, 2 * i + 1] - math.cos(angle)) < 1e-5


@pytest.mark.parametrize("size", [8, 32, 64])
@pytest.mark.parametrize("offset", [-2, -1, 1, 2])
def test_a_query_turned_toward_an_offset_scores_the_token_there_highest(offset, size):
    query, key = toward(offset, size)
    turned = rotate(torch.stack((query.expand(40, -1), key.expand(40, -1))), rotations(torch.arange(40), size))
    scores = turned[0] @ turned[1].T
    inner = range(2, 38)
    assert [int(scores[place].argmax()) for place in inner] == [place + offset for place in inner]
    waves = [10000 ** (-2 * index / size) for index in range(min(6, size // 2))]
    expected = 7.84 * sum(math.cos(wave * (3 - offset)) for wave in waves)
    assert float(scores[10, 13]) == pytest.approx(expected, rel=1e-4)
