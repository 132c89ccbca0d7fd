"""Objectives that compare views, each as its YAML file has it, around a small network."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor, nn

from ptft.data.transforms import Views
from ptft.loop import seed_step
from ptft.randomness import Draw

BROUGHT = ("dataset", "model", "optimizer", "trainer")  # parts that an objective's file brings along

CONFIGS = Path(__file__).parents[3] / "configs"
SIDE = 16
FACTS = {"channels": 1, "image_size": [SIDE, SIDE], "pixel_mean": [0.4], "pixel_std": [0.3]}


class Network(nn.Module):
    """Two convolutions: [B, 1, h, w] -> [B, 8, h / 4, w / 4]."""

    traits = frozenset({"image", "pyramid"})
    dim = 8

    def __init__(self):
        super().__init__()
        layers = [(nn.Conv2d(inner, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU()) for inner in (1, 8)]
        self.layers = nn.Sequential(*(part for layer in layers for part in layer))

    def forward(self, values: Tensor) -> Tensor:
        return self.layers(values)


def settings(group: str, name: str) -> dict:
    """What a YAML file sets, with those it builds upon; and which transform it brings."""
    found = yaml.safe_load((CONFIGS / group / f"{name}.yaml").read_text())
    entries = found.pop("defaults", [])
    parents = [entry for entry in entries if isinstance(entry, str) and entry != "_self_"]
    overrides = {key: value for entry in entries if isinstance(entry, dict) for key, value in entry.items()}
    brought = {key.partition("@")[0].removeprefix("override /"): value for key, value in overrides.items()}
    return {key: value for parent in parents for key, value in settings(group, parent).items()} | brought | found


@pytest.fixture(scope="session")
def make_views():
    """A transform of small grey images by name."""

    def make(name: str = "simclr", **changes) -> Views:
        return Views(
            **FACTS, **{key: value for key, value in (settings("transform", name) | changes).items() if key != "_target_"}
        )

    return make


@pytest.fixture(scope="session")
def make_joint(make_views):
    """An objective by name with the transform that its file brings, and keys changed by name."""

    def make(name: str, seed: int = 0, dataset=None, **changes):
        given = {key: value for key, value in settings("objective", name).items() if key not in BROUGHT}
        module, _, kind = given.pop("_target_").rpartition(".")
        transform = make_views(given.pop("transform"))
        seed_step(seed, "model")
        model = Network()
        small = {"hidden": 32, "width": 16, "queue": 40, "prototypes": 24}
        shrunk = {key: small[key] for key in small.keys() & given.keys()}
        seed_step(seed, "heads")
        keys = given | shrunk | changes
        return getattr(importlib.import_module(module), kind)(model, transform, dataset=dataset, **keys)

    return make


@pytest.fixture(scope="session")
def pictured():
    """Examples of a few kinds: bright spots whose place says the class, over noise."""

    def make(count: int, classes: int = 4, seed: int = 0) -> list[dict]:
        generator = torch.Generator().manual_seed(seed)
        images = torch.randint(0, 60, (count, 1, SIDE, SIDE), generator=generator, dtype=torch.uint8)
        for number, image in enumerate(images):
            row, column = divmod(number % classes, 2)
            image[0, 3 + 6 * row : 8 + 6 * row, 3 + 6 * column : 8 + 6 * column] += 150
        return [{"image": image, "label": number % classes, "row": number} for number, image in enumerate(images)]

    return make


class Rows(list):
    """Examples of a split."""

    def take(self, places: list[int]) -> list[dict]:
        return [self[place] for place in places]


@pytest.fixture(scope="session")
def make_dataset(pictured):
    """A dataset of two splits, with or without classes."""

    class Dataset:
        def __init__(self, labelled: bool):
            self.facts = {"labels": ["ant", "bee", "cat", "dog"]} if labelled else {}
            self.notes: list[str] = []
            keep = ("image", "label", "row") if labelled else ("image", "row")
            few = {"train": pictured(60), "valid": pictured(21, seed=1)}
            self.splits = {name: Rows({key: each[key] for key in keep} for each in found) for name, found in few.items()}

        def rows(self, split: str) -> Rows | None:
            return self.splits.get(split)

    return lambda labelled=True: Dataset(labelled)


@pytest.fixture(scope="session")
def learning():
    """A Draw of samples to learn from."""
    return lambda size, epoch=0: Draw(0, np.full(size, epoch), np.arange(size), training=True)
