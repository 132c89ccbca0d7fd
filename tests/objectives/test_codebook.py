"""VQ-VAE: the loss, straight-through gradients, codes that move, restart and resume."""

import copy

import pytest
import torch
import torch.nn.functional as F

from ptft.models.vqvae import VQVAE
from ptft.objective import heads
from ptft.objectives.codebook import Codebook, chart, histogram

IMAGE = [1, 8, 8]
DEFAULTS = {"update": "ema", "commitment": 0.25, "data_variance": 1.0, "decay": 0.9, "eps": 1e-5, "restart_after": 5}


@pytest.fixture
def make_codebook(plain_view):
    def make(codes=16, **changes):
        torch.manual_seed(0)
        model = VQVAE(IMAGE, 8, codes, 16, 8, 1)
        return Codebook(model, **(DEFAULTS | changes), probe=None, probe_rows=0, transform=plain_view())

    return make


@pytest.mark.parametrize("update", ["ema", "loss"])
def test_the_loss_is_that_of_the_paper(update, make_codebook, pictures, draw):
    objective = make_codebook(update=update, data_variance=0.5).eval()
    batch = objective.collate(pictures(6), draw(6))
    values, model = batch["inputs"]["values"], objective.model
    features = model(values)
    chosen, _ = model.quantizer(features)
    distance = F.mse_loss(chosen, features)
    expected = F.mse_loss(model.decode(chosen), values) / 0.5 + (0.25 + (update == "loss")) * distance
    output = objective(batch)
    torch.testing.assert_close(output.loss / output.count, expected)


def gradients(objective, batch, *wanted):
    loss = objective(batch).loss
    return torch.autograd.grad(loss, wanted, allow_unused=True)


def test_the_decoders_gradient_passes_straight_through_the_choice(make_codebook, pictures, draw):
    objective = make_codebook(commitment=0.0).eval()
    batch = objective.collate(pictures(4), draw(4))
    model, values = objective.model, batch["inputs"]["values"]
    seen = {}
    model.encoder.register_forward_hook(lambda module, inputs, output: seen.update(features=output))
    loss = objective(batch).loss
    (straight,) = torch.autograd.grad(loss, seen["features"])
    chosen = model.quantizer(seen["features"])[0].detach().requires_grad_()
    rebuilt = (model.decode(chosen) - values).square().flatten(1).mean(1).sum()
    (direct,) = torch.autograd.grad(rebuilt, chosen)
    torch.testing.assert_close(straight, direct)


def test_commitment_pulls_the_encoder_and_the_codebook_loss_pulls_the_codes(make_codebook, pictures, draw):
    for update, moves in (("ema", False), ("loss", True)):
        objective = make_codebook(update=update).eval()
        batch = objective.collate(pictures(4), draw(4))
        assert objective.model.quantizer.codebook.requires_grad == moves
    features = objective.model(batch["inputs"]["values"])
    chosen, _ = objective.model.quantizer(features)
    (codes,) = gradients(objective, batch, objective.model.quantizer.codebook)
    expected = torch.autograd.grad(
        (chosen - features.detach()).square().flatten(1).mean(1).sum(), objective.model.quantizer.codebook
    )[0]
    torch.testing.assert_close(codes, expected)


def test_codes_start_at_the_first_batch_and_follow_the_encoder_after_each_step(make_codebook, pictures, draw):
    objective = make_codebook().train()
    quantizer = objective.model.quantizer
    batch = objective.collate(pictures(8), draw(8))
    objective(batch)
    points = objective.model(batch["inputs"]["values"]).permute(0, 2, 3, 1).flatten(0, 2)
    assert quantizer.ready
    assert {tuple(code) for code in quantizer.codebook.tolist()} <= {tuple(point) for point in points.tolist()}
    before = quantizer.codebook.detach().clone()
    objective.after_step(0.0)
    assert not torch.equal(before, quantizer.codebook)
    assert objective.counts.sum() == 0


def test_micro_batches_move_the_codes_as_one_large_batch_does(make_codebook, pictures, draw):
    whole, parts = make_codebook(restart_after=None).train(), make_codebook(restart_after=None).train()
    for objective in (whole, parts):
        objective.model.quantizer.ready.fill_(True)
    examples = pictures(8)
    whole(whole.collate(examples, draw(8)))
    for start in (0, 4):
        parts(parts.collate(examples[start : start + 4], draw(4)))
    for objective in (whole, parts):
        objective.after_step(0.0)
    torch.testing.assert_close(whole.model.quantizer.codebook, parts.model.quantizer.codebook)
    assert torch.equal(whole.model.quantizer.used, parts.model.quantizer.used)


def test_a_step_that_is_not_finite_leaves_no_stain(make_codebook, pictures, draw):
    objective = make_codebook().train()
    batch = objective.collate(pictures(8), draw(8))
    objective(batch)
    objective.after_step(0.0)
    broken = copy.deepcopy(batch)
    broken["inputs"]["values"][:] = float("nan")
    objective(broken)  # the loop takes no step with a loss like this
    objective(batch)
    objective.after_step(0.0)
    assert all(value.isfinite().all() for value in objective.state_dict().values())


@pytest.mark.parametrize("update", ["ema", "loss"])
def test_it_goes_on_bit_for_bit_from_its_state(update, make_codebook, pictures, draw):
    batches = [make_codebook().collate(pictures(24)[start : start + 8], draw(8)) for start in (0, 8, 16)]

    def steps(objective, optimizer, first, last):
        for step in range(first, last):
            torch.manual_seed(step)
            loss = objective(batches[step % 3]).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            objective.after_step(0.0)

    def fresh():
        objective = make_codebook(update=update, restart_after=2).train()
        return objective, torch.optim.SGD([p for p in objective.parameters() if p.requires_grad], 1e-2)

    straight, optimizer = fresh()
    steps(straight, optimizer, 0, 8)
    first, optimizer = fresh()
    steps(first, optimizer, 0, 4)
    second, optimizer = fresh()
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    steps(second, optimizer, 4, 8)
    state = second.state_dict()
    assert straight.model.quantizer.restarts > 0
    assert all(torch.equal(value, state[name]) for name, value in straight.state_dict().items())


def test_scores_count_codes_over_the_whole_evaluation(make_codebook):
    metrics = make_codebook().metrics()
    for codes in (torch.tensor([[[0, 1]]]), torch.tensor([[[1, 2]], [[2, 0]]])):
        for metric in metrics.values():
            metric.update(codes, None)
    assert metrics["codebook_perplexity"].compute() == pytest.approx(3)
    assert metrics["codes_used"].compute() == 3
    assert metrics["code_usage"].compute().tolist() == [2, 2, 2] + [0] * 13


def test_batch_perplexity_lies_between_one_and_the_number_of_codes(make_codebook, pictures, draw):
    objective = make_codebook().eval()
    total, count = objective(objective.collate(pictures(6), draw(6))).means["batch_perplexity"]
    assert 1 <= total / count <= 16
    objective.model.quantizer.codebook.data[1:] = 1e6
    total, count = objective(objective.collate(pictures(6), draw(6))).means["batch_perplexity"]
    assert total / count == pytest.approx(1)


def test_a_codebook_of_one_code_in_use_is_reported(make_codebook):
    objective = make_codebook()
    assert "collapsing" in objective.warnings({"codebook_perplexity": 1.2})[0]
    assert objective.warnings({"codebook_perplexity": 9.0}) == []


@pytest.mark.slow
def test_pictures_are_learned_with_many_codes(make_codebook, pictures, draw, fitted):
    objective = make_codebook(codes=32)
    batch = objective.collate(pictures(32), draw(32))
    before = objective.eval()(batch).means["reconstruction"][0]
    after = fitted(objective, batch, 150)(batch)
    assert after.means["reconstruction"][0] < 0.5 * before
    assert len(after.prediction.unique()) > 16


def test_pictures_show_reconstructions_and_how_codes_are_used(make_codebook, pictures, draw):
    objective = make_codebook().eval()
    batch = objective.collate(pictures(5), draw(5))
    found = objective.pictures(batch, objective(batch))
    assert set(found) == {"reconstruction", "codes"}
    assert all(picture.dtype == torch.uint8 and len(picture) == 3 for picture in found.values())


def test_the_chart_says_how_many_codes_are_used(monkeypatch):
    said = []
    monkeypatch.setattr("ptft.objectives.codebook.tile", lambda rows, captions: said.extend(captions[0]))
    chart(torch.tensor([0, 50, 150, 0]))
    assert said == ["2 of 4 codes used, most used first; the highest bar: 75.0% of all"]


def test_bars_are_as_high_as_the_counts_in_order():
    bars = (histogram(torch.tensor([0.0, 50, 100]))[0] == 55).sum(0)
    assert bars.tolist() == [96, 48, 0]


def test_codes_survive_the_stage_and_what_only_counts_steps_does_not(make_codebook):
    objective = make_codebook()
    assert set(heads(objective)) == {"counts", "sums"}
    assert {"quantizer.codebook", "quantizer.used", "quantizer.restarts"} <= objective.model.state_dict().keys()


@pytest.mark.parametrize("wrong", [{"data_variance": 0.0}, {"decay": 1.0}, {"restart_after": 0}])
def test_settings_that_mean_nothing_are_refused(wrong, make_codebook):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        make_codebook(**wrong)
