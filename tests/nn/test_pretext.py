"""What objectives share that predict something an image tells of itself."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from ptft.nn.pretext import Pretext


class Pixels:
    """A transform that hands images on."""

    def one(self, images, draw):
        return torch.stack(images)


class Split(list):
    """Rows in memory."""

    def take(self, indices):
        return [self[index] for index in indices]


class Data:
    """Images of one bright pixel; its place is the class."""

    def __init__(self, labelled: bool):
        self.notes, self.facts = [], {"labels": ["a", "b", "c", "d"]} if labelled else {}
        places = np.arange(40) % 4
        images = torch.eye(4)[torch.from_numpy(places)].view(-1, 1, 2, 2)
        self.split = Split(
            {"image": image} | ({"label": int(place)} if labelled else {}) for image, place in zip(images, places, strict=True)
        )

    def rows(self, split):
        return self.split


class Flat(nn.Module):
    """Features are the pixels."""

    traits = frozenset({"image"})
    dim = 4

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, values):
        return self.scale * values.flatten(1)


def pretext(dataset=None, probe="knn"):
    return Pretext(Flat(), Pixels(), dataset, probe, 100)


@pytest.mark.parametrize(("loss", "warns"), [(1.385, True), (1.399, True), (1.36, False), (1.41, False), (0.2, False)])
def test_a_loss_within_a_hundredth_of_the_constant_is_not_learning(loss, warns):
    objective = pretext()
    scores = objective.scores({"loss": loss, "collapsed_loss": math.log(4)})
    assert scores["loss_over_collapse"] == pytest.approx(loss / math.log(4))
    assert [text.startswith("not learning") for text in objective.warnings(scores)] == [True] * warns


def test_without_a_constant_there_is_no_share_and_no_warning():
    objective = pretext()
    scores = objective.scores({"loss": 0.0, "collapsed_loss": 0.0})
    assert math.isnan(scores["loss_over_collapse"])
    assert objective.warnings(scores) == []


@pytest.mark.parametrize("probe", ["knn", "linear"])
def test_features_are_probed_where_the_data_has_classes(probe):
    scores = pretext(Data(labelled=True), probe).scores({"loss": 1.0, "collapsed_loss": 2.0})
    assert scores == {"loss_over_collapse": 0.5, f"{probe}_accuracy": 1.0}


def test_data_without_classes_and_no_probe_give_no_such_score():
    unlabelled = Data(labelled=False)
    for objective in (pretext(unlabelled), pretext(Data(labelled=True), None)):
        assert set(objective.scores({"loss": 1.0, "collapsed_loss": 2.0})) == {"loss_over_collapse"}
    assert unlabelled.notes
