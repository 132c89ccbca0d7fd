"""Masked autoencoding: what is hidden, what counts, and what predicting nothing costs."""

from __future__ import annotations

import pytest
import torch

from ptft.models.vit import ViT
from ptft.nn.patches import cut
from ptft.objective import heads
from ptft.objectives.mae import MAE

SMALL = {"dim": 16, "layers": 1, "heads": 2, "hidden": 32}
DECODER = {"decoder_dim": 16, "decoder_layers": 1, "decoder_heads": 2}


@pytest.fixture
def make_mae(settings, plain_view):
    """make_mae(shape, patch, mask_ratio=...) in evaluation mode."""

    def make(shape=(1, 8, 8), patch=2, mask_ratio=0.75, norm_pix=True, dataset=None):
        torch.manual_seed(0)
        model = ViT(list(shape), **settings("vit") | SMALL | {"patch": patch})
        transform = plain_view(shape[0], tuple(shape[1:]))
        return MAE(model, transform, dataset, mask_ratio, norm_pix, **DECODER, probe="knn", probe_rows=10).eval()

    return make


def noise(number: int, shape=(1, 8, 8)) -> list[dict]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (number, *shape), generator=generator, dtype=torch.uint8)
    return [{"image": image, "row": row} for row, image in enumerate(images)]


def silent(objective: MAE) -> MAE:
    """Predicts 0 everywhere."""
    for parameter in objective.leave.parameters():
        torch.nn.init.zeros_(parameter)
    return objective


@pytest.mark.parametrize(
    ("shape", "patch", "ratio", "kept"),
    [
        ((1, 8, 8), 2, 0.75, 4),
        ((3, 8, 20), 4, 0.75, 2),
        ((1, 28, 28), 4, 0.75, 12),
        ((1, 6, 9), 3, 0.5, 3),
        ((1, 8, 8), 2, 0.9, 1),
    ],
)
def test_exactly_so_many_patches_are_kept_and_all_others_hidden(make_mae, draw, shape, patch, ratio, kept):
    objective = make_mae(shape, patch, ratio)
    batch = objective.collate(noise(5, shape), draw(5))
    total = (shape[1] // patch) * (shape[2] // patch)
    assert batch["inputs"]["kept"].shape == (5, kept)
    for seen, hidden in zip(batch["inputs"]["kept"], batch["masked"], strict=True):
        assert sorted(seen.tolist() + hidden.tolist()) == list(range(total))
    output = objective(batch)
    assert output.count == 5 * (total - kept)
    assert output.prediction.shape == (5, total - kept, shape[0] * patch**2)


def test_masks_are_each_images_own_and_new_in_each_epoch_but_the_same_in_every_evaluation(make_mae, draw):
    objective = make_mae((1, 16, 16))
    images = noise(6, (1, 16, 16))
    first, again, later = (objective.collate(images, draw(6, epoch))["masked"] for epoch in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, later)
    assert len({tuple(sorted(row.tolist())) for row in first}) == 6
    alone = objective.collate(images[2:3], type(draw(1))(0, draw(6).epoch[2:3], draw(6).row[2:3]))["masked"]
    assert torch.equal(alone[0], first[2])


def test_the_model_sees_kept_patches_and_cls_only(make_mae, draw):
    objective = make_mae()
    batch = objective.collate(noise(2), draw(2))
    assert objective.model(**batch["inputs"]).shape == (2, 1 + 4, 16)
    patches = cut(batch["inputs"]["values"], 2)
    prediction = objective(batch).prediction
    hidden = batch["masked"].unsqueeze(-1).expand(-1, -1, 4)
    changed = patches.scatter(1, hidden, 7.0).view(2, 4, 4, 1, 2, 2).permute(0, 3, 1, 4, 2, 5).reshape(2, 1, 8, 8)
    batch["inputs"]["values"] = changed
    torch.testing.assert_close(objective(batch).prediction, prediction)


@pytest.mark.parametrize("norm_pix", [False, True])
def test_the_loss_is_the_mean_squared_error_of_hidden_patches_alone(make_mae, draw, norm_pix):
    objective = make_mae((3, 8, 12), 4, norm_pix=norm_pix)
    batch = objective.collate(noise(3, (3, 8, 12)), draw(3))
    output = objective(batch)
    total = 0.0
    for image, masked, prediction in zip(batch["inputs"]["values"], batch["masked"], output.prediction, strict=True):
        patches = cut(image[None], 4)[0]
        for place, guess in zip(masked.tolist(), prediction, strict=True):
            target = patches[place]
            if norm_pix:
                target = (target - target.mean()) / (target.var(unbiased=True) + 1e-6).sqrt()
            total += (guess - target).square().mean().item()
    assert output.loss.item() == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize(("shape", "patch"), [((3, 16, 16), 8), ((1, 8, 8), 2), ((3, 32, 32), 16)])
def test_predicting_zero_costs_n_minus_1_of_n_with_norm_pix(make_mae, draw, shape, patch):
    objective, size = silent(make_mae(shape, patch)), shape[0] * patch**2
    output = objective(objective.collate(noise(20, shape), draw(20)))
    loss = (output.loss / output.count).item()
    assert loss == pytest.approx((size - 1) / size, abs=1e-3)
    constant, count = output.means["collapsed_loss"]
    scores = objective.scores({"loss": loss, "collapsed_loss": (constant / count).item()})
    assert scores["loss_over_collapse"] == pytest.approx(1)
    assert objective.warnings(scores)


def test_blank_patches_cost_nothing_so_that_the_line_of_not_learning_is_lower(make_mae, draw):
    objective = silent(make_mae())
    blank = [{"image": torch.full((1, 8, 8), 9, dtype=torch.uint8), "row": 0}]
    examples = [*noise(1), *blank]
    output = objective(objective.collate(examples, draw(2)))
    means = {"loss": (output.loss / output.count).item()}
    means["collapsed_loss"] = (output.means["collapsed_loss"][0] / output.count).item()
    assert means["loss"] == pytest.approx(0.75 / 2, abs=1e-3)
    assert objective.scores(means)["loss_over_collapse"] == pytest.approx(1)


@pytest.mark.parametrize(("ratio", "kept"), [(0.0, 16), (1.0, 0), (0.97, 0), (-0.5, 24)])
def test_a_ratio_that_hides_nothing_or_all_is_refused(make_mae, ratio, kept):
    with pytest.raises(ValueError, match=f"mask_ratio={ratio} keeps {kept} of 16 patches"):
        make_mae(mask_ratio=ratio)


def test_patches_of_one_value_have_no_variance_to_take_off(make_mae):
    with pytest.raises(ValueError, match="norm_pix=true"):
        make_mae(patch=1)
    make_mae(patch=1, norm_pix=False)


def test_it_learns_to_complete_images(make_mae, pictures, learning, fitted):
    objective = make_mae(mask_ratio=0.5)
    batch = objective.collate(pictures(16), learning(16))
    before = objective(batch).loss
    assert fitted(objective, batch, 80)(batch).loss < 0.35 * before


def test_gradients_reach_every_weight(make_mae, draw):
    objective = make_mae().train()
    objective(objective.collate(noise(4), draw(4))).loss.backward()
    silent = [name for name, weight in objective.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert silent == []


@pytest.mark.parametrize("norm_pix", [False, True])
def test_pictures_show_what_was_seen_the_reconstruction_and_the_original(make_mae, draw, monkeypatch, norm_pix):
    shown = {}
    monkeypatch.setattr(
        "ptft.canvas.tile", lambda rows, captions=None, titles=None: shown.update(zip(titles, rows, strict=True))
    )
    objective, examples = make_mae((3, 8, 8), norm_pix=norm_pix), noise(3, (3, 8, 8))
    batch = objective.collate(examples, draw(3))
    output = objective(batch)
    output.prediction = output.target  # a perfect model
    assert list(objective.pictures(batch, output)) == ["reconstruction", "attention"]
    masked, completed, original = shown.values()
    assert ("true mean and contrast" in list(shown)[1]) == norm_pix
    pixels = torch.stack([example["image"] for example in examples]) / 255
    torch.testing.assert_close(original, pixels, atol=1e-5, rtol=0)
    torch.testing.assert_close(completed, pixels, atol=1e-3, rtol=0)
    for row, (seen, hidden) in enumerate(zip(batch["inputs"]["kept"], batch["masked"], strict=True)):
        patches = cut(masked[row][None], 2)[0]
        assert (patches[hidden] == 0.5).all()
        torch.testing.assert_close(patches[seen], cut(pixels[row][None], 2)[0, seen], atol=1e-5, rtol=0)


def test_pictures_are_drawn(make_mae, draw):
    objective = make_mae()
    batch = objective.collate(noise(2), draw(2))
    for picture in objective.pictures(batch, objective(batch)).values():
        assert picture.dtype == torch.uint8
        assert picture.ndim == 3


def test_the_decoder_is_thrown_away(make_mae):
    names = {name.partition(".")[0] for name in heads(make_mae())}
    assert names == {"enter", "mask", "decoder", "leave"}
