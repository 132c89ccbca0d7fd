"""Maps of features: principal components, neighbours, and the picture."""

import itertools

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from ptft.nn.embedding_map import _likeness, neighbourly, principal, scatter


def clusters(each=25, count=4, width=20):
    generator = torch.Generator().manual_seed(0)
    centres = 6 * torch.randn(count, width, generator=generator)
    labels = torch.arange(count).repeat_interleave(each)
    return centres[labels] + torch.randn(each * count, width, generator=generator), labels


def test_principal_components_are_those_of_scikit_learn():
    features, _ = clusters()
    theirs = PCA(2, svd_solver="full").fit_transform(features.double().numpy())
    np.testing.assert_allclose(principal(features).abs().numpy(), np.abs(theirs), atol=1e-6)


def test_every_row_of_the_likeness_has_the_perplexity_asked_for():
    features, _ = clusters()
    joint = _likeness(features.double(), 10.0)
    assert abs(joint.sum().item() - 1) < 1e-9
    assert torch.equal(joint, joint.mT)
    assert joint.diagonal().sum() == 0
    distances = torch.cdist(features, features).double()
    assert torch.corrcoef(torch.stack((distances.flatten(), joint.flatten())))[0, 1] < 0


def divergence(features, points):
    """What t-SNE makes small, of any map [N, 2]."""
    alike = _likeness(features.double(), 30.0)
    near = 1 / (1 + torch.cdist(points, points).square())
    near.fill_diagonal_(0)
    return torch.special.xlogy(alike, alike / (near / near.sum()).clamp(min=1e-30)).sum().item()


def test_the_map_is_as_good_as_that_of_scikit_learn():
    features, labels = clusters()
    points = neighbourly(features)
    settings = {"method": "exact", "init": "pca", "perplexity": 30, "max_iter": 500, "random_state": 0}
    theirs = torch.from_numpy(TSNE(**settings).fit_transform(features.numpy()))
    assert divergence(features, points) < 1.1 * divergence(features, theirs)
    distances = torch.cdist(points, points).fill_diagonal_(torch.inf)
    assert torch.equal(labels[distances.argmin(1)], labels)


def test_a_map_is_the_same_each_time():
    features, _ = clusters(10)
    assert torch.equal(neighbourly(features), neighbourly(features))


def test_a_few_points_and_equal_ones_give_a_map_too():
    for features in (torch.randn(3, 5), torch.ones(6, 4), torch.randn(4, 1)):
        assert neighbourly(features).isfinite().all()


@pytest.mark.parametrize("size", [4, 40])
def test_features_of_a_run_that_diverged_are_drawn_too(size):
    features = torch.randn(size, 5, generator=torch.Generator().manual_seed(0))
    features[1], features[2], features[3] = torch.nan, torch.inf, 1e38
    assert neighbourly(features).isfinite().all()
    assert neighbourly(torch.full((size, 5), torch.nan)).isfinite().all()


def test_the_picture_has_the_colour_of_every_class():
    features, labels = clusters()
    picture = scatter(principal(features), labels, ["ant", "bee", "cat", "狗"])
    assert picture.dtype == torch.uint8 and picture.shape[0] == 3
    assert len(picture.flatten(1).T.unique(dim=0)) >= 5


def test_the_legend_tells_names_apart_that_no_font_has():
    points, labels = torch.randn(4, 2), torch.arange(4)
    picture = scatter(points, labels, ["\U0001fbf0", "\U0001fbf1", "łódź", "żółć"])
    legend = picture[:, :, 572:].amin(0) < 128
    lines = [legend[top : top + 16] for top in (16, 34, 52, 70)]
    assert all(line.any() for line in lines)
    assert all(not torch.equal(one, two) for one, two in itertools.combinations(lines, 2))


@pytest.mark.parametrize("size", [1, 2, 3, 6, 7])
def test_a_few_points_are_drawn_too(size):
    points = neighbourly(torch.randn(size, 5, generator=torch.Generator().manual_seed(0)))
    assert points.shape == (size, 2)
    assert points.isfinite().all()
