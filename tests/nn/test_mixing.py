"""Mixup and CutMix."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ptft.nn.mixing import Mixing, paste
from ptft.randomness import Draw


def learning(size: int, epoch: int = 0, first: int = 0) -> Draw:
    return Draw(0, np.full(size, epoch), np.arange(first, first + size), training=True)


def numbered(size: int, side: int = 12) -> torch.Tensor:
    """Images [size, 1, side, side] that are all one number each."""
    return torch.arange(1.0, size + 1).view(-1, 1, 1, 1).expand(-1, 1, side, side).contiguous()


@pytest.mark.parametrize("mixing", [Mixing(1.0, 0.0), Mixing(0.0, 1.0), Mixing(0.8, 1.0)])
@pytest.mark.parametrize("size", [1, 2, 7])
def test_any_batch_is_mixed_with_soft_targets_that_sum_to_one_and_the_givens_stay(mixing, size):
    values, target = numbered(size), torch.arange(size) % 3
    kept = values.clone(), target.clone()
    mixed, soft = mixing(values, target, 3, learning(size))
    assert mixed.shape == values.shape and soft.shape == (size, 3)
    torch.testing.assert_close(soft.sum(1), torch.ones(size))
    assert torch.equal(values, kept[0]) and torch.equal(target, kept[1])


def test_mixup_blends_pixels_and_labels_by_the_same_share():
    values = torch.eye(5).view(5, 5, 1, 1)
    mixed, soft = Mixing(1.0, 0.0)(values, torch.arange(5), 5, learning(5))
    torch.testing.assert_close(mixed.view(5, 5), soft)


@pytest.mark.parametrize("first", range(20))
def test_the_labels_of_cutmix_are_the_shares_of_the_pixels(first):
    values = numbered(5, side=9)
    mixed, soft = Mixing(0.0, 1.0)(values, torch.arange(5), 5, learning(5, first=first))
    shares = torch.stack([(mixed == number).float().mean((1, 2, 3)) for number in range(1, 6)], 1)
    torch.testing.assert_close(soft, shares)


def test_a_box_at_the_border_is_smaller_and_counts_as_such():
    values, partner = numbered(2, side=32), torch.tensor([1, 0])
    random = np.random.default_rng(0)
    kept = [paste(values, partner, 0.5, random)[1] for _ in range(400)]
    assert max(kept) > 0.6 and min(kept) >= 0.5
    assert np.mean(np.array(kept) - 0.5) > 0.05  # what labels would be wrong by without correction


def test_with_both_a_coin_decides_for_each_batch():
    values = numbered(6)
    batches = [Mixing(1.0, 1.0)(values, torch.arange(6), 6, learning(6, first=first))[0] for first in range(200)]
    cut = sum(bool(torch.isin(batch, values.unique()).all()) for batch in batches)
    assert 70 <= cut <= 130


def test_shares_come_from_the_beta_distribution():
    mixing, values = Mixing(0.2, 0.0), torch.eye(2).view(2, 2, 1, 1)
    pairs = (mixing(values, torch.arange(2), 2, learning(2, first=first))[1] for first in range(2000))
    shares = torch.stack([soft[0].max() for soft in pairs])
    # 58 % of the draws lie so near the ends; every other pair is each image with itself
    assert (shares > 0.95).float().mean() == pytest.approx((1 + 0.58) / 2, abs=0.03)


def test_a_share_of_one_is_plain_cross_entropy():
    logits, target = torch.randn(4, 3), torch.tensor([0, 2, 1, 1])
    soft = F.one_hot(target, 3).float()
    torch.testing.assert_close(F.cross_entropy(logits, soft), F.cross_entropy(logits, target))


def test_only_what_is_learned_from_is_mixed_and_only_in_the_first_epochs():
    mixing = Mixing(1.0, 0.0, epochs=2)
    assert [mixing.applies(learning(3, epoch)) for epoch in range(4)] == [True, True, False, False]
    assert not mixing.applies(Draw(0, np.zeros(3, int), np.arange(3)))
    assert not Mixing(0.0, 0.0).applies(learning(3))


def test_the_same_samples_mix_alike_and_others_otherwise():
    values, target = numbered(6), torch.arange(6)
    one, same, other = (Mixing(1.0, 0.0)(values, target, 6, learning(6, epoch))[1] for epoch in (0, 0, 1))
    assert torch.equal(one, same) and not torch.equal(one, other)


def test_an_alpha_below_zero_is_refused():
    with pytest.raises(ValueError, match="cutmix=-1"):
        Mixing(0.0, -1.0)
