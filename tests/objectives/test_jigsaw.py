"""Jigsaw: permutations far from each other, tiles that give nothing away, and which permutation it is."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from ptft.models.resnet import ResNet
from ptft.models.vgg import VGG
from ptft.objective import heads
from ptft.objectives.jigsaw import Jigsaw, far_permutations, gray, least_distance, normalised, put_back


@pytest.fixture
def make_jigsaw(settings, plain_view):
    def make(channels=1, size=(12, 12), grid=2, gap=1, permutations=24, gray_prob=0.0):
        torch.manual_seed(0)
        model = ResNet([channels, *size], **settings("resnet_small"))
        view = plain_view(channels, size)
        return Jigsaw(model, view, None, grid, gap, permutations, gray_prob, 32, "knn", 10).eval()

    return make


def noise(number: int, channels=1, size=(12, 12)) -> list[dict]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (number, channels, *size), generator=generator, dtype=torch.uint8)
    return [{"image": image, "row": row} for row, image in enumerate(images)]


def distances(orders: np.ndarray) -> list[int]:
    return [int((first != second).sum()) for first, second in itertools.combinations(orders, 2)]


# four permutations of four tiles and nine of nine can differ everywhere: a Latin square
@pytest.mark.slow
@pytest.mark.parametrize(("tiles", "count", "least"), [(4, 4, 4), (4, 12, 3), (4, 24, 2), (9, 9, 9), (9, 24, 7), (9, 100, 6)])
def test_permutations_are_distinct_and_as_far_apart_as_stated(tiles, count, least):
    orders = far_permutations(tiles, count)
    assert orders.shape == (count, tiles)
    assert (np.sort(orders, axis=1) == np.arange(tiles)).all()
    assert min(distances(orders)) == least_distance(orders) >= least


def test_each_permutation_is_one_of_the_farthest_from_those_before_it():
    orders = far_permutations(4, 10)
    every = np.array(list(itertools.permutations(range(4))))
    for count in range(1, 10):
        nearest = (every[:, None] != orders[None, :count]).sum(-1).min(1)
        assert (orders[count] != orders[:count]).sum(1).min() == nearest.max()


@pytest.mark.parametrize(("grid", "size"), [(2, (12, 12)), (3, (28, 28)), (3, (12, 17)), (2, (9, 6))])
def test_undoing_the_permutation_gives_the_tiles_in_their_places(make_jigsaw, draw, grid, size):
    objective = make_jigsaw(size=size, grid=grid, gap=0)
    batch = objective.collate(noise(6, size=size), draw(6))
    tiles = batch["inputs"]["values"].unflatten(0, (6, grid**2))
    back = put_back(tiles, objective.orders[batch["target"]])
    high, wide = (side // grid for side in size)
    for example, found in zip(noise(6, size=size), back, strict=True):
        for number in range(grid**2):
            top, left = high * (number // grid), wide * (number % grid)
            cell = example["image"][:, top : top + high, left : left + wide] / 255
            torch.testing.assert_close(found[number], normalised(cell), atol=1e-4, rtol=0)


def test_tiles_lie_at_random_inside_their_cells(make_jigsaw, draw):
    objective = make_jigsaw(size=(12, 12), gap=2)
    column, row = torch.meshgrid(torch.arange(12), torch.arange(12), indexing="xy")
    examples = [{"image": (15 * row + column).byte()[None], "row": place} for place in range(300)]
    corners = objective.collate.tiles(torch.stack([example["image"] for example in examples]).float(), draw(300))[..., 0, 0]
    rows, columns = (corners[:, :, 0] / 15).floor(), corners[:, :, 0] % 15
    for number in range(4):
        top, left = 6 * (number // 2), 6 * (number % 2)
        assert set(rows[:, number].tolist()) == {top, top + 1, top + 2}
        assert set(columns[:, number].tolist()) == {left, left + 1, left + 2}


def test_each_channel_of_each_tile_is_normalised_by_itself_and_a_blank_one_is_zero():
    tiles = torch.rand(2, 4, 3, 6, 5) * 7 + torch.randn(2, 4, 3, 1, 1)
    tiles[0, 1, 2] = 0.3
    found = normalised(tiles)
    assert found[0, 1, 2].abs().max() < 1e-3
    found[0, 1, 2], tiles[0, 1, 2] = found[0, 0, 0], tiles[0, 0, 0]
    torch.testing.assert_close(found.mean((-2, -1)), torch.zeros(2, 4, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(found.std((-2, -1)), torch.ones(2, 4, 3))
    torch.testing.assert_close(normalised(3 * tiles + 2), found, atol=1e-4, rtol=0)


def test_colours_are_taken_from_the_asked_share_of_training_images_and_from_no_others(make_jigsaw, learning, draw):
    objective = make_jigsaw(channels=3, gray_prob=0.3)

    def grays(drawn):
        values = objective.collate(noise(400, 3), drawn)["inputs"]["values"].unflatten(0, (400, 4))
        return torch.isclose(values[:, :, :1], values, atol=1e-4).flatten(1).all(1).float().mean().item()

    assert grays(learning(400)) == pytest.approx(0.3, abs=3 * (0.3 * 0.7 / 400) ** 0.5)
    assert grays(draw(400)) == 0


def test_gray_is_the_luma_of_the_chosen():
    pixels = torch.rand(2, 3, 4, 4)
    found = gray(pixels, torch.tensor([True, False]))
    assert torch.equal(found[1], pixels[1])
    expected = 0.299 * pixels[0, 0] + 0.587 * pixels[0, 1] + 0.114 * pixels[0, 2]
    torch.testing.assert_close(found[0], expected.expand(3, -1, -1))


def test_a_head_that_knows_nothing_costs_the_logarithm_of_the_permutations(make_jigsaw, draw):
    objective = make_jigsaw(permutations=10)
    for parameter in objective.head[2].parameters():
        torch.nn.init.zeros_(parameter)
    output = objective(objective.collate(noise(6), draw(6)))
    assert output.count == 6
    assert (output.loss / 6).item() == pytest.approx(math.log(10))
    assert output.means["collapsed_loss"][0].item() / 6 == pytest.approx(math.log(10))


@pytest.mark.slow
def test_orders_are_learnt_by_heart(make_jigsaw, learning, fitted):
    objective = make_jigsaw(permutations=4)
    batch = objective.collate(noise(12), learning(12))
    output = fitted(objective, batch, 40)(batch)
    assert (output.prediction == output.target).float().mean() >= 0.9


def test_evaluations_always_ask_the_same(make_jigsaw, draw):
    objective = make_jigsaw()
    first, again, other = (objective.collate(noise(8), draw(8, epoch)) for epoch in (0, 0, 1))
    assert torch.equal(first["inputs"]["values"], again["inputs"]["values"])
    assert not torch.equal(first["target"], other["target"])


@pytest.mark.parametrize("permutations", [1, 25])
def test_more_permutations_than_there_are_and_fewer_than_two_are_refused(make_jigsaw, permutations):
    with pytest.raises(ValueError, match=f"permutations={permutations}: expected 2 to 24"):
        make_jigsaw(permutations=permutations)


@pytest.mark.parametrize("gap", [6, -1])
def test_a_gap_that_leaves_nothing_is_refused(make_jigsaw, gap):
    with pytest.raises(ValueError, match=f"gap={gap}"):
        make_jigsaw(gap=gap)


def test_a_share_of_gray_images_that_is_none_is_refused(make_jigsaw):
    with pytest.raises(ValueError, match="gray_prob=1.5"):
        make_jigsaw(gray_prob=1.5)


def test_tiles_too_small_for_the_model_are_refused(settings, plain_view):
    with torch.device("meta"):
        model = VGG([1, 32, 32], **settings("vgg11"))
    with pytest.raises(ValueError, match="tiles of 14 pixels, expected at least 32"):
        Jigsaw(model, plain_view(1, (32, 32)), None, 2, 2, 24, 0.0, 32, None, 10)


def test_samples_say_how_far_the_permutations_are_apart(make_jigsaw, draw):
    objective = make_jigsaw(permutations=12)
    batch = objective.collate(noise(2), draw(2))
    (line,) = objective.samples(batch, objective(batch))
    assert line == "12 permutations of 4 tiles, each at least 3 places from every other"


def test_the_picture_puts_tiles_back_by_the_guess_and_by_the_truth(make_jigsaw, draw, monkeypatch):
    shown = {}
    monkeypatch.setattr("ptft.canvas.tile", lambda rows, captions, titles: shown.update(rows=rows, captions=captions))
    objective = make_jigsaw()
    batch = objective.collate(noise(2), draw(2))
    output = objective(batch)
    output.prediction = torch.stack([batch["target"][0], (batch["target"][1] + 1) % 24])
    assert list(objective.pictures(batch, output)) == ["tiles"]
    _, guessed, true = shown["rows"]
    assert shown["captions"][1] == ["right", "wrong"]
    assert torch.equal(guessed[0], true[0])
    assert not torch.equal(guessed[1], true[1])


def test_the_head_is_thrown_away_and_keeps_its_permutations(make_jigsaw):
    assert {name.partition(".")[0] for name in heads(make_jigsaw())} == {"head", "orders"}
