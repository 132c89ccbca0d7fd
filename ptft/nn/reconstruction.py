"""What objectives that rebuild their input share: the batch, the error, also in units of pixels, pictures, a probe."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ptft.canvas import tile
from ptft.lean import import_torchmetrics
from ptft.nn.inputs import input_reader
from ptft.nn.probe import Protocol, online
from ptft.objective import Batch, Example, Objective, Output
from ptft.randomness import Draw

if TYPE_CHECKING:
    from torchmetrics import Metric

SHOWN_IMAGES = 8
LITTLE = 0.01


@dataclass
class ReconstructionCollate:
    """What the model reads, which is also what it has to rebuild."""

    read: Callable[[list[Example], Draw], dict[str, Tensor]]

    def __call__(self, examples: list[Example], draw: Draw) -> Batch:
        return {"inputs": self.read(examples, draw)}


class Reconstruction(Objective):
    """Rebuilds examples, images or rows of a table, from the features of a model that can decode them.

    Values are standardised, so a mean squared error of 1 is about that of the mean image or row. transform: of images, None
    for tables. probe: knn or linear, how well features tell classes at each evaluation, with at most probe_rows rows of
    train as the bank and as many of what is evaluated. Scores of images: mse and psnr of pixels from 0 to 1.
    """

    needs = frozenset({"decodes"})

    def __init__(self, model: nn.Module, probe: Protocol | None, probe_rows: int, transform: Any = None, dataset: Any = None):
        super().__init__(model)
        self.transform = transform
        self.read = input_reader(model, transform=transform)
        self.probe = online(probe, probe_rows, dataset, self.read, "mean")
        self.collate = ReconstructionCollate(self.read)

    def scores(self, means: dict[str, float]) -> dict[str, float]:
        found = peak_signal_to_noise(means["mse"]) if "mse" in means else {}
        return found | (self.probe.scores(self.model, self.evaluated) if self.probe else {})

    def shown(self, rows: dict[str, Tensor]) -> dict[str, Tensor]:
        """A picture with a line of images for each of rows, normalised [B, C, H, W], under its title; none of tables."""
        if self.transform is None:
            return {}
        images = [self.transform.restore(values[:SHOWN_IMAGES].float()).cpu() for values in rows.values()]
        return {"reconstruction": tile(images, titles=list(rows))}


class PlainReconstruction(Reconstruction):
    """Its loss is the mean squared error of each example. r2: the share of the variance that is rebuilt."""

    def compared(self, reconstruction: Tensor, values: Tensor) -> Output:
        """The loss of a batch, and in evaluation what metrics and pictures need."""
        output = Output(squared_error(reconstruction, values).sum(), values.new_tensor(len(values)))
        if not self.training:
            output.prediction, output.target = reconstruction.float(), values
            output.means = pixel_means(self.transform, output.prediction, values)
        return output

    def metrics(self) -> dict[str, Metric]:
        return {"r2": explained()}

    def warnings(self, scores: dict[str, float]) -> list[str]:
        if not scores["r2"] < LITTLE:
            return []
        return [f"not learning: r2 is {scores['r2']:.3f}, and the mean of the data, whatever the input, has 0"]


def squared_error(reconstruction: Tensor, values: Tensor) -> Tensor:
    """The mean squared error of each example, [B]."""
    return (reconstruction.float() - values).square().flatten(1).mean(1)


def pixel_means(transform: Any, reconstruction: Tensor, values: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """The squared error as a streaming mean `mse`, of pixels from 0 to 1; nothing for data that are no images."""
    if transform is None:
        return {}
    error = squared_error(transform.restore(reconstruction), transform.restore(values))
    return {"mse": (error.sum(), torch.tensor(len(error)))}


def peak_signal_to_noise(error: float) -> dict[str, float]:
    """The score `psnr` in decibels of a mean squared error of pixels from 0 to 1."""
    return {"psnr": -10 * math.log10(error) if error > 0 else math.inf}


def explained() -> Metric:
    """The share of the variance that is rebuilt, updated with examples of any shape; 0 is as good as their mean."""
    import_torchmetrics()
    from torchmetrics import R2Score

    class Explained(R2Score):
        """R2 over all elements, each counted by its variance; torchmetrics refuses a single row."""

        def update(self, preds: Tensor, target: Tensor) -> None:
            super().update(preds.flatten(1), target.flatten(1))

        def compute(self) -> Tensor:
            return super().compute() if self.total > 1 else torch.tensor(math.nan)

    return Explained(multioutput="variance_weighted")
