"""Reconstruction: rebuild the input from a short code (Hinton & Salakhutdinov 2006)."""

from __future__ import annotations

from torch import Tensor

from ptft.nn.reconstruction import PlainReconstruction
from ptft.objective import Batch, Output


class Reconstruct(PlainReconstruction):
    """The mean squared error between an example and what the model decodes from its features, summed over examples."""

    def forward(self, batch: Batch) -> Output:
        values = batch["inputs"]["values"]
        return self.compared(self.model.decode(self.model(values)), values)

    def pictures(self, batch: Batch, output: Output) -> dict[str, Tensor]:
        """Examples above what the model makes of them."""
        return self.shown({"original": output.target, "reconstruction": output.prediction})
