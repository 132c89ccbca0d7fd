"""Muon and LARS against their formulas, and the optimizers as the configs name them."""

import importlib
import math
from pathlib import Path

import pytest
import torch
import yaml

from ptft.optimizers import LARS, Muon, orthogonalise

CONFIGS = Path(__file__).parents[1] / "configs"
MUON = {
    "lr": 0.02,
    "weight_decay": 0.1,
    "momentum": 0.95,
    "nesterov": True,
    "newton_schulz_steps": 5,
    "betas": (0.9, 0.99),
    "eps": 1e-8,
}


def quintic_of_singular_values(matrix, steps=5):
    """What Newton-Schulz computes, by its definition: an odd polynomial applied to the singular values."""
    left, values, right = torch.linalg.svd(matrix.double(), full_matrices=False)
    values = values / matrix.double().norm()
    for _ in range(steps):
        values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
    return left @ torch.diag(values) @ right


def gradients(shape, count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(*shape, generator=generator) for _ in range(count)]


@pytest.mark.parametrize("shape", [(16, 16), (8, 40), (40, 8), (12, 20), (1, 7)])
def test_orthogonalising_is_the_quintic_of_the_singular_values(shape):
    (matrix,) = gradients(shape, 1)
    torch.testing.assert_close(orthogonalise(matrix, 5).double(), quintic_of_singular_values(matrix), atol=1e-4, rtol=0)


def test_orthogonalising_brings_singular_values_near_one():
    for shape in [(32, 32), (32, 128), (128, 32)]:
        values = torch.linalg.svdvals(orthogonalise(gradients(shape, 1)[0], 5))
        assert values[: len(values) * 3 // 4].min() > 0.6 and values.max() < 1.3


def test_a_zero_gradient_orthogonalises_to_zero():
    assert not orthogonalise(torch.zeros(4, 12), 5).any()


@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("shape", [(6, 6), (4, 20), (8, 3, 3, 3)])
def test_a_muon_step_is_the_formula_of_the_paper(shape, nesterov):
    weight = torch.nn.Parameter(gradients(shape, 1, seed=1)[0])
    expected, average = weight.detach().double().flatten(1), 0.0
    optimizer = Muon([{"params": [weight], "hidden": True}], **{**MUON, "nesterov": nesterov})
    for gradient in gradients(shape, 4):
        weight.grad = gradient.clone()
        optimizer.step()
        flat = gradient.double().flatten(1)
        average = 0.95 * average + 0.05 * flat
        direction = quintic_of_singular_values(0.05 * flat + 0.95 * average if nesterov else average)
        expected = (1 - 0.02 * 0.1) * expected - 0.02 * 0.2 * math.sqrt(max(flat.shape)) * direction
    torch.testing.assert_close(weight.detach().double().flatten(1), expected, atol=2e-5, rtol=0)


def test_muon_moves_all_other_groups_as_adamw_does():
    ours, theirs = torch.nn.Parameter(torch.ones(5, 3)), torch.nn.Parameter(torch.ones(5, 3))
    muon = Muon([{"params": [ours], "hidden": False}], **MUON)
    adamw = torch.optim.AdamW([theirs], lr=0.02, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.1, fused=False)
    for gradient in gradients((5, 3), 6):
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        muon.step()
        adamw.step()
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("kind", [Muon, LARS])
def test_a_parameter_without_a_gradient_is_left_alone(kind):
    settings = MUON if kind is Muon else {"lr": 0.1, "weight_decay": 0.1, "momentum": 0.9, "trust_coefficient": 1e-3}
    still = [torch.nn.Parameter(torch.ones(3, 3)) for _ in range(2)]
    optimizer = kind([{"params": still[:1], "hidden": True}, {"params": still[1:], "hidden": False}], **settings)
    optimizer.step()
    assert all(torch.equal(weight, torch.ones(3, 3)) for weight in still)
    assert not optimizer.state


@pytest.mark.parametrize("kind", [Muon, LARS])
def test_a_restored_optimizer_continues_to_the_bit(kind):
    settings = MUON if kind is Muon else {"lr": 0.1, "weight_decay": 0.1, "momentum": 0.9, "trust_coefficient": 1e-3}

    def start():
        weights = [torch.nn.Parameter(torch.ones(4, 6)), torch.nn.Parameter(torch.ones(4))]
        groups = [{"params": weights[:1], "hidden": True}, {"params": weights[1:], "hidden": False}]
        return weights, kind(groups, **settings)

    def walk(weights, optimizer, steps):
        for matrix, vector in steps:
            weights[0].grad, weights[1].grad = matrix.clone(), vector.clone()
            optimizer.step()

    steps = list(zip(gradients((4, 6), 6), gradients((4,), 6), strict=True))
    whole, optimizer = start()
    walk(whole, optimizer, steps)
    first, optimizer = start()
    walk(first, optimizer, steps[:3])
    second, restored = start()
    restored.load_state_dict(optimizer.state_dict())
    for weight, saved in zip(second, first, strict=True):
        weight.data.copy_(saved.data)
    walk(second, restored, steps[3:])
    assert all(torch.equal(a, b) for a, b in zip(whole, second, strict=True))


def mae_lars_step(weight, gradient, buffer, lr, weight_decay, momentum, trust):
    """The step of MAE's util/lars.py, written out."""
    update = gradient
    if weight.ndim > 1:
        update = gradient + weight_decay * weight
        weight_norm, update_norm = weight.norm(), update.norm()
        ratio = trust * weight_norm / update_norm if weight_norm > 0 and update_norm > 0 else 1.0
        update = update * ratio
    buffer = momentum * buffer + update
    return weight - lr * buffer, buffer


@pytest.mark.parametrize("weight_decay", [0.0, 0.05])
@pytest.mark.parametrize("shape", [(7, 5), (7,), (4, 3, 2, 2)])
def test_a_lars_step_is_the_step_of_mae(shape, weight_decay):
    weight = torch.nn.Parameter(gradients(shape, 1, seed=2)[0])
    expected, buffer = weight.detach().clone(), torch.zeros(shape)
    optimizer = LARS([weight], lr=0.5, weight_decay=weight_decay, momentum=0.9, trust_coefficient=1e-3)
    for gradient in gradients(shape, 5):
        weight.grad = gradient.clone()
        optimizer.step()
        expected, buffer = mae_lars_step(expected, gradient, buffer, 0.5, weight_decay, 0.9, 1e-3)
    torch.testing.assert_close(weight.detach(), expected, atol=1e-7, rtol=1e-6)


def test_lars_moves_vectors_as_sgd_with_momentum_does():
    ours, theirs = torch.nn.Parameter(torch.ones(6)), torch.nn.Parameter(torch.ones(6))
    lars = LARS([ours], lr=0.1, weight_decay=0.3, momentum=0.9, trust_coefficient=1e-3)
    sgd = torch.optim.SGD([theirs], lr=0.1, momentum=0.9)
    for gradient in gradients((6,), 5):
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        lars.step()
        sgd.step()
    torch.testing.assert_close(ours, theirs, atol=1e-7, rtol=0)


@pytest.mark.parametrize("weight_decay", [0.0, 1e-3])
def test_lars_without_decay_ignores_the_size_of_the_gradient(weight_decay):
    moves = []
    for scale in (1.0, 1000.0):
        weight = torch.nn.Parameter(torch.ones(4, 4))
        weight.grad = gradients((4, 4), 1)[0] * scale
        LARS([weight], lr=1.0, weight_decay=weight_decay, momentum=0.9, trust_coefficient=1e-3).step()
        moves.append(1 - weight.detach())
    assert torch.allclose(*moves, rtol=1e-4) == (weight_decay == 0)
    assert moves[0].norm().item() == pytest.approx(4e-3, rel=1e-5)


@pytest.mark.parametrize(("weight", "gradient"), [(torch.zeros(2, 2), torch.ones(2, 2)), (torch.ones(2, 2), torch.zeros(2, 2))])
def test_lars_trusts_fully_where_a_norm_is_zero(weight, gradient):
    parameter = torch.nn.Parameter(weight.clone())
    parameter.grad = gradient.clone()
    LARS([parameter], lr=0.1, weight_decay=0.0, momentum=0.9, trust_coefficient=1e-3).step()
    assert torch.allclose(parameter.detach(), weight - 0.1 * gradient)


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd", "muon", "lars"])
def test_every_optimizer_config_builds_and_descends(name):
    settings = yaml.safe_load((CONFIGS / "optimizer" / f"{name}.yaml").read_text())
    module, _, kind = settings.pop("_target_").rpartition(".")
    for name in ("base_lr", "scale", "vector_lr", "weight_decay_end"):  # the loop's: what rates and decays follow from
        settings.pop(name, None)
    weight, bias = torch.nn.Parameter(torch.ones(4, 3)), torch.nn.Parameter(torch.ones(4))
    groups = [{"params": [weight], "hidden": True}, {"params": [bias], "hidden": False, "weight_decay": 0.0}]
    optimizer = getattr(importlib.import_module(module), kind)(groups, **settings)
    losses = []
    for _ in range(10):
        loss = weight.square().sum() + bias.square().sum()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < losses[0]
