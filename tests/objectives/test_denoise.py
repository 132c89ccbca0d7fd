"""Denoising: what is corrupted, how much, and that the target stays clean."""

import numpy as np
import pytest
import torch
from scipy import stats

from ptft.models.autoencoder import Autoencoder
from ptft.objectives.denoise import Denoise
from ptft.objectives.reconstruct import Reconstruct

IMAGE = [3, 8, 8]


@pytest.fixture
def make_denoise(plain_view):
    def make(mask_prob=0.0, sigma=0.0, salt_pepper_prob=0.0, table=False):
        torch.manual_seed(0)
        model = Autoencoder([4] if table else IMAGE, [16, 8], "relu")
        transform = None if table else plain_view(3)
        return Denoise(model, mask_prob, sigma, salt_pepper_prob, None, 0, transform)

    return make


def seen_and_clean(objective, examples, draw):
    batch = objective.collate(examples, draw(len(examples)))
    return batch["inputs"]["values"], batch["clean"]


def test_without_noise_it_is_reconstruction(make_denoise, pictures, plain_view, learning):
    denoise = make_denoise()
    reconstruct = Reconstruct(denoise.model, None, 0, plain_view(3))
    ours, theirs = (each(each.collate(pictures(6, 3), learning(6))) for each in (denoise, reconstruct))
    assert torch.equal(ours.loss, theirs.loss)
    ours.loss.backward()
    gradients = [parameter.grad.clone() for parameter in denoise.parameters()]
    denoise.zero_grad()
    theirs.loss.backward()
    assert all(map(torch.equal, gradients, (parameter.grad for parameter in denoise.parameters())))


def test_the_target_is_the_clean_picture(make_denoise, pictures, plain_view, draw):
    objective = make_denoise(mask_prob=0.5, sigma=0.3, salt_pepper_prob=0.1).eval()
    examples = pictures(6, 3)
    batch = objective.collate(examples, draw(6))
    clean = plain_view(3).plain([example["image"] for example in examples])
    assert torch.equal(batch["clean"], clean)
    rebuilt = objective.model.decode(objective.model(batch["inputs"]["values"]))
    torch.testing.assert_close(objective(batch).loss, (rebuilt - clean).square().flatten(1).mean(1).sum())


def test_erased_pixels_lose_all_channels_and_the_others_keep_theirs(make_denoise, pictures, learning):
    seen, clean = seen_and_clean(make_denoise(mask_prob=0.3), pictures(200, 3), learning)
    erased = (seen == 0).all(1)
    assert torch.equal(seen == 0, erased[:, None].expand_as(seen))
    assert torch.equal(seen[~erased[:, None].expand_as(seen)], clean[~erased[:, None].expand_as(seen)])
    found = stats.binomtest(int(erased.sum()), erased.numel(), 0.3)
    assert found.pvalue > 0.001


def test_gaussian_noise_is_gaussian(make_denoise, pictures, learning):
    seen, clean = seen_and_clean(make_denoise(sigma=0.1), pictures(100, 3), learning)
    noise = ((seen - clean) / 0.1).flatten().numpy()
    assert stats.kstest(noise, "norm").pvalue > 0.001
    halves = noise.reshape(2, -1)
    assert abs(np.corrcoef(halves)[0, 1]) < 0.03


def test_salt_and_pepper_are_white_and_black_in_equal_shares(make_denoise, pictures, plain_view, learning):
    seen, clean = seen_and_clean(make_denoise(salt_pepper_prob=0.2), pictures(200, 3), learning)
    pixels = plain_view(3).restore(seen)
    white, black = ((pixels == end).all(1) for end in (1, 0))
    assert (pixels - 1).abs().min() < 1e-6
    changed = (seen != clean).any(1)
    assert torch.equal(changed, white | black)
    assert stats.binomtest(int(changed.sum()), changed.numel(), 0.2).pvalue > 0.001
    assert stats.binomtest(int(white.sum()), int(changed.sum()), 0.5).pvalue > 0.001


def test_noise_belongs_to_the_row_and_the_epoch_not_to_the_batch(make_denoise, pictures, learning):
    objective = make_denoise(mask_prob=0.3, sigma=0.1, salt_pepper_prob=0.1)
    examples = pictures(6, 3)
    together = objective.collate(examples, learning(6))["inputs"]["values"]
    again = objective.collate(examples[:2], learning(2))["inputs"]["values"]
    assert torch.equal(together[:2], again)
    assert not torch.equal(together, objective.collate(examples, learning(6, epoch=1))["inputs"]["values"])


def test_cells_of_a_table_are_corrupted_one_by_one(make_denoise, rows, learning):
    seen, clean = seen_and_clean(make_denoise(mask_prob=0.5, table=True), rows(400), learning)
    assert stats.binomtest(int((seen == 0).sum()), seen.numel(), 0.5).pvalue > 0.001
    assert torch.equal(seen[seen != 0], clean[seen != 0])
    salted, _ = seen_and_clean(make_denoise(salt_pepper_prob=0.9, table=True), rows(50), learning)
    assert {2.0, -2.0} <= set(salted.flatten().tolist())


@pytest.mark.slow
def test_it_learns_to_fill_gaps_better_than_leaving_them(make_denoise, pictures, learning, fitted):
    objective = make_denoise(mask_prob=0.3)
    batch = objective.collate(pictures(32, 3), learning(32))
    output = fitted(objective, batch, 300)(batch)
    untouched = (batch["inputs"]["values"] - batch["clean"]).square().flatten(1).mean(1).sum()
    assert output.loss < 0.5 * untouched


def test_pictures_show_what_was_seen_between_original_and_reconstruction(make_denoise, pictures, draw):
    objective = make_denoise(mask_prob=0.3).eval()
    batch = objective.collate(pictures(5, 3), draw(5))
    (picture,) = objective.pictures(batch, objective(batch)).values()
    assert picture.dtype == torch.uint8 and len(picture) == 3


@pytest.mark.parametrize("wrong", [{"mask_prob": 1.0}, {"salt_pepper_prob": -0.1}, {"sigma": -1.0}])
def test_noise_that_is_none_is_refused(wrong, make_denoise):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        make_denoise(**wrong)
