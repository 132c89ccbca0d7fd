"""Contrastive losses against the sums they stand for, and what they are for embeddings one can reckon with."""

import math

import pytest
import torch
import torch.nn.functional as F

from ptft.nn.contrast import (
    all_triplets,
    hardest_triplets,
    info_nce,
    info_nce_against,
    nt_xent,
    supervised_contrast,
    triplet,
)


def embeddings(count, width=24, seed=0, dtype=torch.float64):
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def nt_xent_by_hand(first, second, temperature):
    """Equation 1 of the paper, anchor by anchor."""
    views = F.normalize(torch.cat((first, second)).double(), dim=-1)
    size, losses = len(first), []
    for anchor in range(2 * size):
        likeness = [math.exp(float(views[anchor] @ views[other]) / temperature) for other in range(2 * size)]
        positive = (anchor + size) % (2 * size)
        losses.append(-math.log(likeness[positive] / (sum(likeness) - likeness[anchor])))
    return sum(losses) / (2 * size)


@pytest.mark.parametrize("size", [2, 16, 64])
@pytest.mark.parametrize("temperature", [0.07, 0.1, 0.5])
def test_nt_xent_is_the_papers_mean_over_both_views(size, temperature):
    first, second = embeddings(size), embeddings(size, seed=1)
    found = nt_xent(first, first + 0.5 * second, temperature).item()
    assert found == pytest.approx(nt_xent_by_hand(first, first + 0.5 * second, temperature), rel=1e-6, abs=1e-6)


def test_nt_xent_of_equal_embeddings_is_the_log_of_all_others():
    same = torch.ones(64, 8)
    assert nt_xent(same, same, 0.5).item() == pytest.approx(math.log(127), abs=1e-5)
    assert math.log(127) == pytest.approx(4.84419, abs=1e-5)


def test_nt_xent_of_perfect_views_of_orthogonal_images_has_a_closed_form():
    images = torch.eye(16)
    assert nt_xent(images, 3 * images, 0.5).item() == pytest.approx(1.62138, abs=1e-5)


def test_nt_xent_does_not_care_which_view_comes_first_nor_in_what_order():
    first, second = embeddings(12), embeddings(12, seed=1)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    expected = nt_xent(first, second, 0.2)
    torch.testing.assert_close(nt_xent(second, first, 0.2), expected)
    torch.testing.assert_close(nt_xent(first[order], second[order], 0.2), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_stays_finite_at_a_low_temperature(dtype):
    first = embeddings(64, dtype=torch.float32).to(dtype).requires_grad_()
    loss = nt_xent(first, first.detach(), 0.07)
    loss.backward()
    assert loss.isfinite() and first.grad.isfinite().all()


def test_autocast_does_not_round_the_likeness():
    first, second = embeddings(32, dtype=torch.float32), embeddings(32, seed=1, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = nt_xent(first, second, 0.07), info_nce_against(first, second, second, 0.07)
    torch.testing.assert_close(found, (nt_xent(first, second, 0.07), info_nce_against(first, second, second, 0.07)))


def test_info_nce_looks_for_the_other_view_among_the_other_views_only():
    first, second = embeddings(5), embeddings(5, seed=1)
    cosines = F.cosine_similarity(first[:, None], second[None], dim=-1) / 0.3
    rows = sum(math.log(sum(map(math.exp, row))) - row[place] for place, row in enumerate(cosines.tolist()))
    columns = sum(math.log(sum(map(math.exp, row))) - row[place] for place, row in enumerate(cosines.T.tolist()))
    assert info_nce(first, second, 0.3).item() == pytest.approx((rows + columns) / 10, rel=1e-6)


def test_info_nce_against_orthogonal_negatives_has_a_closed_form():
    queries = torch.eye(9)[:1]
    found = info_nce_against(queries, 5 * queries, torch.eye(9)[1:], 0.2)
    assert found.item() == pytest.approx(math.log(1 + 8 * math.exp(-5)), abs=1e-6)


def test_info_nce_of_a_collapsed_queue_is_the_log_of_its_size_and_one():
    same = torch.ones(4, 8)
    assert info_nce_against(same, same, torch.ones(4096, 8), 0.07).item() == pytest.approx(8.31801, abs=1e-4)


def test_supervised_contrast_of_images_all_unlike_is_nt_xent():
    first, second = embeddings(8), embeddings(8, seed=1)
    labels = torch.arange(8).repeat(2)
    found = supervised_contrast(torch.cat((first, second)), labels, 0.1)
    torch.testing.assert_close(found, nt_xent(first, second, 0.1))


def test_supervised_contrast_is_the_papers_mean_over_positives():
    views, labels = F.normalize(embeddings(8), dim=-1), [0, 1, 0, 2, 0, 1, 0, 2]
    total = 0.0
    for anchor in range(8):
        others = [other for other in range(8) if other != anchor]
        whole = sum(math.exp(float(views[anchor] @ views[other]) / 0.1) for other in others)
        positives = [other for other in others if labels[other] == labels[anchor]]
        shares = [math.log(math.exp(float(views[anchor] @ views[other]) / 0.1) / whole) for other in positives]
        total -= sum(shares) / len(positives) / 8
    assert supervised_contrast(views, torch.tensor(labels), 0.1).item() == pytest.approx(total, rel=1e-6)


def test_a_triplet_pays_for_what_the_margin_lacks():
    anchor, near, far = torch.tensor([[1.0, 0.0]]), torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 3.0]])
    assert triplet(anchor, near, far, 0.2).item() == 0
    assert triplet(anchor, far, near, 0.2).item() == pytest.approx(2.2)
    assert triplet(anchor, near, near, 0.2).item() == pytest.approx(0.2)


def test_mined_triplets_are_those_found_one_by_one():
    views, labels = F.normalize(embeddings(10, 3), dim=-1), [0, 0, 1, 1, 2, 0, 1, 2, 3, 0]
    distance = (views[:, None] - views[None]).square().sum(-1).tolist()
    everything, hardest = [], []
    for anchor in range(10):
        same = [distance[anchor][o] for o in range(10) if o != anchor and labels[o] == labels[anchor]]
        other = [distance[anchor][o] for o in range(10) if labels[o] != labels[anchor]]
        everything += [max(0, near - far + 0.3) for near in same for far in other]
        hardest += [max(0, max(same) - min(other) + 0.3)] if same else []
    found = all_triplets(views, torch.tensor(labels), 0.3), hardest_triplets(views, torch.tensor(labels), 0.3)
    for losses, expected in zip(found, (everything, hardest), strict=True):
        torch.testing.assert_close(
            losses.double().sort().values, torch.tensor(expected).double().sort().values, atol=1e-5, rtol=0
        )


def test_one_class_alone_gives_no_triplet():
    assert len(hardest_triplets(embeddings(4), torch.zeros(4), 0.2)) == 0
    assert len(all_triplets(embeddings(4), torch.zeros(4), 0.2)) == 0
