"""MoCo v3: its loss reckoned image by image, the factor of the temperature, its teacher, frozen patches."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ptft.errors import UserError
from ptft.models.vit import ViT


@pytest.fixture
def vision_transformer(make_joint, make_views):
    """The objective around a small vision transformer."""

    def make(frozen_patches: bool):
        model = ViT([1, 16, 16], 4, 8, 1, 2, 16, "sincos", 0.0, 0.0)
        keys = {"temperature": 0.2, "momentum": 0.9, "momentum_end": 1.0, "teacher_buffers": "own", "hidden": 8, "width": 8}
        keys |= {"pooling": "cls", "probe": None, "probe_rows": 10, "frozen_patches": frozen_patches}
        return type(make_joint("moco_v3"))(model, make_views("byol"), **keys)

    return make


@torch.no_grad()
def by_hand(objective, views):
    """The sum over both orders of 2 temperature times the mean of -log of the share of an image's own key."""
    total = 0.0
    for view, other in ((0, 1), (1, 0)):
        queries = F.normalize(objective.predictor(objective.encoder(views[view])), dim=1).double()
        keys = F.normalize(objective.teacher(views[other]), dim=1).double()
        for image, query in enumerate(queries):
            likeness = [math.exp(float(query @ key) / objective.temperature) for key in keys]
            total += 2 * objective.temperature * -math.log(likeness[image] / sum(likeness)) / len(queries)
    return total


@pytest.mark.parametrize("temperature", [0.1, 0.2, 1.0])
def test_the_loss_is_the_sum_over_both_orders_image_by_image(temperature, make_joint, pictured, learning):
    objective = make_joint("moco_v3", temperature=temperature).eval()
    batch = objective.collate(pictured(5), learning(5))
    assert objective(batch).loss.item() / 5 == pytest.approx(by_hand(objective, batch["views"]), rel=1e-5)


def test_where_all_keys_are_as_likely_the_gradient_does_not_depend_on_the_temperature(make_joint):
    query, keys = torch.zeros(4, 16, dtype=torch.float64), torch.eye(16, dtype=torch.float64)[:4]
    query[:, 10] = 1.0  # at a right angle to all keys
    gradients = []
    for temperature in (0.05, 0.2, 1.0):
        given = query.clone().requires_grad_()
        make_joint("moco_v3", temperature=temperature).distance(given, keys).backward()
        gradients.append(given.grad)
    expected = 2 * (keys.mean(0) - keys) / 4  # of each of four queries, in a mean over them
    for gradient in gradients:
        torch.testing.assert_close(gradient, expected)


def test_the_collapsed_loss_is_that_of_equal_embeddings(make_joint):
    same = torch.ones(6, 16)
    objective = make_joint("moco_v3")
    assert 2 * objective.distance(same, same).item() == pytest.approx(objective.collapsed_loss(6), rel=1e-6)
    assert objective.collapsed_loss(6) == pytest.approx(0.8 * math.log(6))


def test_the_teachers_momentum_rises_along_half_a_cosine(make_joint):
    objective = make_joint("moco_v3")
    weight, taught = objective.model.layers[0].weight, objective.teacher.network.model.layers[0].weight
    for progress, kept in ((0.0, 0.99), (0.5, 0.995), (1 / 3, 0.9925), (1.0, 1.0)):
        before = taught.clone()
        with torch.no_grad():
            weight.copy_(before + 1)
        objective.after_step(progress)
        torch.testing.assert_close(taught - before, torch.full_like(before, 1 - kept), atol=1e-6, rtol=0)


def test_the_teacher_has_a_projection_and_no_predictor_and_gets_no_gradient(make_joint, pictured, learning):
    objective = make_joint("moco_v3").train()
    objective(objective.collate(pictured(5), learning(5))).loss.backward()
    names = {name.split(".")[2] for name in objective.state_dict() if name.startswith("teacher.network.")}
    assert names == {"model", "projection"}
    assert all(parameter.grad is None for parameter in objective.teacher.parameters())
    assert all(parameter.grad is not None for parameter in objective.predictor.parameters())


def test_the_last_norms_neither_scale_nor_shift(make_joint):
    objective = make_joint("moco_v3")
    for head in (objective.projection, objective.predictor):
        assert isinstance(head[-1], nn.BatchNorm1d) and not head[-1].affine
        assert all(layer.bias is None for layer in head if isinstance(layer, nn.Linear))


@pytest.mark.parametrize("frozen", [True, False])
def test_frozen_patches_stay_as_they_were_drawn_while_the_rest_learns(frozen, vision_transformer, pictured, learning):
    objective = vision_transformer(frozen).train()
    patches, rest = objective.model.embedding.project.weight, objective.model.stack.layers[0].attention
    before = patches.clone(), [parameter.clone() for parameter in rest.parameters()]
    trained = [parameter for parameter in objective.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, 0.1)
    objective(objective.collate(pictured(6), learning(6))).loss.backward()
    optimizer.step()
    objective.after_step(0.0)
    assert torch.equal(patches, before[0]) == frozen
    assert torch.equal(objective.teacher.network.model.embedding.project.weight, before[0]) == frozen
    assert not all(map(torch.equal, rest.parameters(), before[1]))


def test_frozen_patches_are_refused_where_there_are_none(make_joint):
    with pytest.raises(UserError, match="objective.frozen_patches=true.*model=vit"):
        make_joint("moco_v3", frozen_patches=True)
