"""SimSiam: the stopped gradient, and what happens without it."""

import pytest
import torch


def target_gradient(objective):
    embeddings, targets = (torch.randn(6, 16, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    targets.requires_grad_()
    (objective.likeness(embeddings, targets) + 0 * targets.sum()).backward()
    return targets.grad


def test_no_gradient_goes_through_the_target(make_joint):
    assert not target_gradient(make_joint("simsiam")).any()
    assert target_gradient(make_joint("simsiam", stop_gradient=False)).any()


def test_the_loss_is_half_of_both_orders_of_the_negative_cosine(make_joint, pictured, learning):
    objective = make_joint("simsiam").eval()
    batch = objective.collate(pictured(5), learning(5))
    first, second = (objective.encoder(view) for view in batch["views"])
    cosine = torch.nn.functional.cosine_similarity
    expected = -(cosine(objective.predictor(first), second) + cosine(objective.predictor(second), first)).sum() / 2
    found = objective(batch).loss
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert -5 <= found <= 5


def test_the_rate_of_the_predictor_and_of_nothing_else_follows_no_schedule(make_joint):
    objective = make_joint("simsiam")
    steady = {name for name, _ in objective.named_parameters() if name.startswith(objective.steady)}
    assert steady == {f"predictor.{name}" for name, _ in objective.predictor.named_parameters()} != set()


def test_the_projection_ends_in_a_norm_without_scale(make_joint):
    objective = make_joint("simsiam")
    assert objective.projection[-1].weight is None
    assert objective.collapsed_loss(3) == pytest.approx(-1)
