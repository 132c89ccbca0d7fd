"""BYOL: the range of its loss, and no gradient through its targets."""

import pytest
import torch
from torch import nn


def test_the_loss_is_the_sum_over_both_orders(make_joint, pictured, learning):
    objective = make_joint("byol").eval()
    batch = objective.collate(pictured(5), learning(5))
    total = 0.0
    for view, other in ((0, 1), (1, 0)):
        predicted = objective.predictor(objective.encoder(batch["views"][view]))
        target = objective.teacher(batch["views"][other])
        total += (2 - 2 * torch.nn.functional.cosine_similarity(predicted, target)).sum()
    found = objective(batch).loss
    torch.testing.assert_close(found, total, rtol=1e-4, atol=1e-4)
    assert 0 <= found / 5 <= 8


def test_equal_views_and_networks_cost_nothing_with_an_identity_for_predictor_only(make_joint, pictured, learning):
    objective = make_joint("byol").eval()
    batch = objective.collate(pictured(5), learning(5))
    batch["views"] = [batch["views"][0]] * 2
    assert objective(batch).loss > 0.1
    objective.predictor = nn.Identity()
    assert objective(batch).loss.item() == pytest.approx(0, abs=1e-4)


def test_nothing_of_the_teacher_gets_a_gradient_or_an_optimizer_entry(make_joint, pictured, learning):
    objective = make_joint("byol").train()
    objective(objective.collate(pictured(5), learning(5))).loss.backward()
    followed = [parameter for name, parameter in objective.named_parameters() if name.startswith("teacher.")]
    assert followed and not any(parameter.requires_grad or parameter.grad is not None for parameter in followed)


def test_the_momentum_follows_its_closed_form_over_a_run(make_joint):
    objective = make_joint("byol", momentum=0.99, momentum_end=1.0)
    weight = objective.model.layers[0].weight
    for progress, kept in ((0.0, 0.99), (0.5, 0.995), (1.0, 1.0)):
        before = objective.teacher.network.model.layers[0].weight.clone()
        with torch.no_grad():
            weight.copy_(before + 1)
        objective.after_step(progress)
        moved = objective.teacher.network.model.layers[0].weight - before
        torch.testing.assert_close(moved, torch.full_like(moved, 1 - kept), atol=1e-6, rtol=0)


def test_weights_loaded_after_it_was_built_are_those_of_its_teacher(make_joint, pictured, learning):
    objective, other = make_joint("byol"), make_joint("byol", seed=5)
    objective.model.load_state_dict(other.model.state_dict())
    objective.train()(objective.collate(pictured(4), learning(4)))
    assert torch.equal(objective.teacher.network.model.layers[0].weight, other.model.layers[0].weight)
