"""Rotation: every image in four turns, and which turn it is."""

from __future__ import annotations

import math

import pytest
import torch

from ptft.models.resnet import ResNet
from ptft.objective import heads
from ptft.objectives.rotation import Rotation


@pytest.fixture
def make_rotation(settings, plain_view):
    def make(channels=1, size=(8, 8)):
        torch.manual_seed(0)
        model = ResNet([channels, *size], **settings("resnet_small"))
        return Rotation(model, plain_view(channels, size), None, 16, "knn", 10).eval()

    return make


def test_each_image_comes_in_four_turns_and_turning_back_gives_it_again(make_rotation, pictures, draw):
    objective = make_rotation(3)
    batch = objective.collate(pictures(5, 3), draw(5))
    values, target = batch["inputs"]["values"], batch["target"]
    assert values.shape == (20, 3, 8, 8)
    assert target.bincount().tolist() == [5, 5, 5, 5]
    originals = values[target == 0]
    for turns in range(4):
        turned = values[target == turns]
        assert torch.equal(turned.rot90(-turns, (2, 3)), originals)
        assert turns == 0 or not torch.equal(turned, originals)


def test_a_head_that_knows_nothing_costs_the_logarithm_of_four_and_is_warned_of(make_rotation, pictures, draw):
    objective = make_rotation()
    torch.nn.init.zeros_(objective.head[-1].weight)
    torch.nn.init.zeros_(objective.head[-1].bias)
    output = objective(objective.collate(pictures(3), draw(3)))
    assert output.count == 12
    assert (output.loss / output.count).item() == pytest.approx(math.log(4))
    means = {"loss": (output.loss / output.count).item(), "collapsed_loss": output.means["collapsed_loss"][0].item() / 12}
    assert objective.scores(means)["loss_over_collapse"] == pytest.approx(1)
    assert objective.warnings(objective.scores(means))


def test_turns_are_learnt_by_heart(make_rotation, pictures, learning, fitted):
    objective = make_rotation()
    batch = objective.collate(pictures(4), learning(4))
    output = fitted(objective, batch, 30)(batch)
    correct, count = output.means["accuracy"]
    assert count == 16
    assert correct / count >= 0.9


def test_images_that_are_not_square_are_refused(make_rotation):
    with pytest.raises(ValueError, match=r"8x12 change shape when turned; give transform.size=8"):
        make_rotation(size=(8, 12))


def test_the_picture_shows_each_turn_with_the_guess(make_rotation, pictures, draw, monkeypatch):
    shown = {}
    monkeypatch.setattr("ptft.canvas.tile", lambda rows, captions, titles: shown.update(rows=rows, captions=captions))
    objective = make_rotation()
    batch = objective.collate(pictures(3), draw(3))
    output = objective(batch)
    output.prediction = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 2, 3, 3, 3])
    assert list(objective.pictures(batch, output)) == ["turns"]
    original = torch.stack([example["image"] for example in pictures(3)]) / 255
    for turns, row in enumerate(shown["rows"]):
        torch.testing.assert_close(row, original.rot90(turns, (2, 3)), atol=1e-5, rtol=0)
    assert shown["captions"][1] == ["90°", "90°", "180° (wrong)"]
    assert shown["captions"][3] == ["270°"] * 3


def test_only_the_head_is_thrown_away(make_rotation):
    assert {name.partition(".")[0] for name in heads(make_rotation())} == {"head"}
