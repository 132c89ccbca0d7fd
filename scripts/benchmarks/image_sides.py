"""Peers of ptft on images: lightly's SimCLR, and torchvision's reference recipe, on the same network and the same images."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from benchmarks.turns import Turns
from ptft.machine import autocast


class Pictures(Dataset):
    """Rows of ptft's as PIL images through a transform, with their class, as those libraries read data sets."""

    def __init__(self, rows: Any, transform: Callable):
        self.images = [Image.fromarray(rows[row]["image"].permute(1, 2, 0).numpy()) for row in range(len(rows))]
        self.labels = [int(rows[row].get("label", 0)) for row in range(len(rows))]
        self.transform = transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.transform(self.images[index]), self.labels[index]


def lightly(turns: Turns, training: Any, train: Any, settings: Any) -> None:
    """SimCLR as in lightly's tutorial, on the network of ptft's objective."""
    from lightly.loss import NTXentLoss
    from lightly.models.modules import SimCLRProjectionHead
    from lightly.transforms import SimCLRTransform

    objective = training.objective
    head = SimCLRProjectionHead(objective.model.dim, *(layer.out_features for layer in objective.projection if wide(layer)))
    network = nn.Sequential(copy.deepcopy(objective.model), Pool(), head)
    criterion = NTXentLoss(temperature=objective.temperature)
    side = train.assembly.source[0]["image"].shape[-1]
    transform = SimCLRTransform(input_size=side, cj_strength=0.5, gaussian_blur=0.0)  # as its benchmark of CIFAR has it

    def loss(batch: Any) -> Tensor:
        first, second = batch[0]
        return criterion(network(first), network(second))

    steps(turns, network, Pictures(train.assembly.source, transform), settings, loss)


def torchvision(turns: Turns, training: Any, train: Any, settings: Any) -> None:
    """Supervised training with torchvision's transforms in a bare loop, on the network of ptft's objective."""
    from torchvision import transforms as tv

    objective = training.objective
    network = nn.Sequential(copy.deepcopy(objective.model), Pool(), nn.Linear(objective.model.dim, len(objective.labels)))
    side = train.assembly.source[0]["image"].shape[-1]
    size = tv.RandomResizedCrop(side, (0.08, 1))
    transform = tv.Compose([size, tv.RandomHorizontalFlip(), tv.ToTensor(), tv.Normalize([0.5] * 3, [0.25] * 3)])

    def loss(batch: Any) -> Tensor:
        values, labels = batch
        return F.cross_entropy(network(values), labels)

    steps(turns, network, Pictures(train.assembly.source, transform), settings, loss)


def wide(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Linear)


class Pool(nn.Module):
    """The mean over positions: [B, dim, h, w] -> [B, dim]."""

    def forward(self, features: Tensor) -> Tensor:
        return features.mean((2, 3))


def steps(turns: Turns, network: nn.Module, pictures: Pictures, settings: Any, loss: Callable[[Any], Tensor]) -> None:
    """A bare loop over batches in ptft's precision, ticking before each."""
    loader = DataLoader(pictures, batch_size=settings.batch_size, shuffle=True, drop_last=True)
    optimizer = torch.optim.SGD(network.train().parameters(), lr=0.05, momentum=0.9)
    batches = endless(loader)
    while True:
        turns.tick()
        batch = next(batches)
        with autocast(torch.device("cpu"), settings.precision):
            found = loss(batch)
        turns.losses.append(found.detach())
        found.backward()
        optimizer.step()
        optimizer.zero_grad()


def endless(loader: DataLoader) -> Iterator[Any]:
    while True:
        yield from loader
