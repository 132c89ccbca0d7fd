"""Triplets: mined among classes, or named by the examples."""

import dataclasses
from types import SimpleNamespace

import pytest
import torch

from ptft.nn.contrast import hardest_triplets


def embeddings(objective, batch):
    return [objective.projection(objective.model(view).mean((2, 3))) for view in batch["views"]]


def test_triplets_are_mined_among_both_views(make_joint, pictured, learning):
    objective = make_joint("triplet", margin=0.4).eval()
    batch = objective.collate(pictured(8), learning(8))
    losses = hardest_triplets(torch.cat(embeddings(objective, batch)), batch["target"].repeat(2), 0.4)
    torch.testing.assert_close(objective(batch).loss, 8 * losses.mean(), rtol=1e-4, atol=1e-4)


def test_triplets_that_examples_name_are_taken_as_they_are(make_joint, pictured, learning):
    objective = make_joint("triplet", margin=0.4).eval()
    images = [example["image"] for example in pictured(12)]
    named = [{"image": images[n], "positive": images[n + 4], "negative": images[n + 1]} for n in range(4)]
    batch = objective.collate(named, learning(4))
    anchor, positive, negative = (torch.nn.functional.normalize(each, dim=-1) for each in embeddings(objective, batch))
    distances = [(anchor - other).square().sum(1) for other in (positive, negative)]
    expected = (distances[0] - distances[1] + 0.4).clamp(min=0).sum()
    torch.testing.assert_close(objective(batch).loss, expected, rtol=1e-4, atol=1e-4)


def test_an_evaluation_says_how_many_named_triplets_are_in_order(make_joint, pictured, learning):
    objective = make_joint("triplet").eval()
    images = [example["image"] for example in pictured(12)]
    right = [{"image": image, "positive": image, "negative": images[n + 4]} for n, image in enumerate(images[:3])]
    wrong = [{"image": images[0], "positive": images[8], "negative": images[0]}]
    still = dataclasses.replace(learning(4), training=False)
    found, count = objective(objective.collate(right + wrong, still)).means["triplet_accuracy"]
    assert (found, count) == (3, 4)


def test_a_named_triplet_has_its_loss_alone(make_joint, pictured, learning):
    objective = make_joint("triplet", dataset=SimpleNamespace(targets=("triplet",), rows=lambda split: None, notes=[])).eval()
    first, second, third = (example["image"] for example in pictured(3))
    named = [{"image": first, "positive": second, "negative": third}]
    output = objective(objective.collate(named, dataclasses.replace(learning(1), training=False)))
    assert output.count == 1
    assert output.loss > 0 and output.means["collapsed_loss"][0] == pytest.approx(0.2)


def test_anchor_and_positive_are_not_augmented_alike(make_joint, pictured, learning):
    image = pictured(1)[0]["image"]
    batch = make_joint("triplet").collate([{"image": image, "positive": image, "negative": image}] * 2, learning(2))
    assert not torch.equal(batch["views"][0], batch["views"][1])
    assert not torch.equal(batch["views"][1], batch["views"][2])


@pytest.mark.parametrize("mining", ["hardest", "all"])
def test_one_class_alone_costs_nothing(mining, make_joint, pictured, learning):
    objective = make_joint("triplet", mining=mining).train()
    alone = [{**example, "label": 0} for example in pictured(4)]
    output = objective(objective.collate(alone, learning(4)))
    output.loss.backward()
    assert output.loss == 0
