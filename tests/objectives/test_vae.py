"""The variational bound against closed forms and torch's own distributions."""

import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from ptft.models.vae import VAE
from ptft.objectives import vae
from ptft.objectives.vae import VariationalAutoencoder

IMAGE = [1, 8, 8]


@pytest.fixture
def make_vae(plain_view):
    def make(beta=1.0, shape=IMAGE, encoder="dense", dim=4):
        torch.manual_seed(0)
        model = VAE(shape, encoder, [32], dim, "relu")
        return VariationalAutoencoder(model, beta, None, 0, plain_view() if len(shape) == 3 else None)

    return make


def test_the_divergence_has_its_closed_forms():
    zero = torch.zeros(())
    assert vae.kl_divergence(zero, zero) == 0
    assert vae.kl_divergence(zero + 1, zero) == 0.5
    mean, log_variance = torch.randn(5, 3), torch.randn(5, 3)
    expected = kl_divergence(Normal(mean, (0.5 * log_variance).exp()), Normal(0.0, 1.0))
    torch.testing.assert_close(vae.kl_divergence(mean, log_variance), expected)


@pytest.mark.parametrize("beta", [1.0, 4.0])
def test_the_loss_is_the_negative_bound_in_nats_summed_over_values_latents_and_images(beta, make_vae, pictures, draw):
    objective = make_vae(beta).eval()
    batch = objective.collate(pictures(6), draw(6))
    values = batch["inputs"]["values"]
    mean, log_variance = objective.model.encode(values)
    likelihood = Normal(objective.model.decode(mean), 1.0).log_prob(values).sum()
    divergence = kl_divergence(Normal(mean, (0.5 * log_variance).exp()), Normal(0.0, 1.0)).sum()
    output = objective(batch)
    torch.testing.assert_close(output.loss, -likelihood + beta * divergence)
    assert output.count == 6
    torch.testing.assert_close(output.means["kl"][0], divergence)
    assert objective.scores({"reconstruction": 7.0, "kl": 2.0})["elbo"] == -9.0


def test_evaluation_takes_the_mean_and_training_draws(make_vae, pictures, draw):
    objective = make_vae()
    batch = objective.collate(pictures(4), draw(4))
    assert objective.eval()(batch).loss == objective(batch).loss
    assert objective.train()(batch).loss != objective(batch).loss


def test_training_draws_from_the_posterior(make_vae, pictures, draw):
    objective = make_vae(beta=0.0).train()
    batch = objective.collate(pictures(1), draw(1))
    seen = []
    objective.model.decoder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach()))
    with torch.no_grad():
        objective.model.latents.log_variance.bias.fill_(math.log(0.25))
        objective.model.latents.log_variance.weight.zero_()
        for _ in range(400):
            objective(batch)
    codes = torch.cat(seen)
    mean = objective.model(batch["inputs"]["values"])[0]
    torch.testing.assert_close(codes.mean(0), mean.detach(), atol=0.1, rtol=0)
    torch.testing.assert_close(codes.std(0), torch.full((4,), 0.5), atol=0.06, rtol=0)


def measured(objective, mean: torch.Tensor, log_variance: torch.Tensor) -> dict[str, torch.Tensor]:
    metrics = objective.metrics()
    for chunk in torch.stack([mean, log_variance], 1).split(30):
        for metric in metrics.values():
            metric.update(chunk, None)
    return {name: metric.compute() for name, metric in metrics.items()}


def test_units_are_active_where_their_mean_varies_over_the_data(make_vae):
    mean = torch.randn(200, 4) * torch.tensor([1.0, 0.11, 0.05, 0.0]) + 3
    found = measured(make_vae(), mean, torch.zeros(200, 4))
    assert found["active_units"] == (mean.var(0, correction=0) > 0.01).sum() == 2
    torch.testing.assert_close(found["kl_of_units"], (mean.square() / 2).mean(0))


def test_a_collapsed_posterior_is_reported(make_vae, pictures, draw, fitted):
    objective = make_vae(beta=1000.0)
    batch = objective.collate(pictures(32), draw(32))
    output = fitted(objective, batch, 200)(batch)
    found = measured(objective, *output.prediction.detach().unbind(1))
    (said,) = objective.warnings({"active_units": float(found["active_units"])})
    assert "posterior collapse" in said
    assert objective.warnings({"active_units": 1.0}) == []


@pytest.mark.slow
@pytest.mark.parametrize("encoder", ["dense", "convolutional"])
def test_it_learns_pictures_with_active_units(encoder, make_vae, pictures, draw, fitted):
    objective = make_vae(encoder=encoder)
    batch = objective.collate(pictures(32), draw(32))
    before = objective.eval()(batch)
    after = fitted(objective, batch, 200)(batch)
    assert after.loss < before.loss
    assert measured(objective, *after.prediction.detach().unbind(1))["active_units"] >= 2


def test_tables_are_learned_too(make_vae, rows, draw, fitted):
    objective = make_vae(shape=[4], dim=2)
    batch = objective.collate(rows(64), draw(64))
    before = objective.eval()(batch)
    after = fitted(objective, batch, 200)(batch)
    assert after.loss < before.loss
    assert "mse" not in after.means and objective.pictures(batch, after) == {}


def test_samples_of_the_prior_are_the_same_at_every_look(make_vae, pictures, draw):
    objective = make_vae().eval()
    batch = objective.collate(pictures(5), draw(5))
    first, second = (objective.pictures(batch, objective(batch))["reconstruction"] for _ in range(2))
    assert torch.equal(first, second)


def test_a_negative_weight_is_refused(make_vae):
    with pytest.raises(ValueError, match="beta=-1"):
        make_vae(beta=-1.0)
