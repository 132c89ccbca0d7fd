"""The variational bound: rebuild the input from a random code that stays near a standard normal (1312.6114, eq. 10)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ptft.lean import import_torchmetrics
from ptft.metrics import parts
from ptft.nn.probe import Protocol
from ptft.nn.reconstruction import SHOWN_IMAGES, Reconstruction, pixel_means
from ptft.objective import Batch, Output

if TYPE_CHECKING:
    from torchmetrics import Metric

ACTIVE = 0.01  # least variance of a unit's mean over the data (Burda et al., 1509.00519, 4)


def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, exp(log_variance)) || N(0, 1)) of each number, in nats: the shape that came in."""
    return -0.5 * (1 + log_variance - mean.square() - log_variance.exp())


def negative_log_likelihood(reconstruction: Tensor, values: Tensor) -> Tensor:
    """-log N(values; reconstruction, 1) of each example, summed over its values, in nats: [B]."""
    squares = (reconstruction.float() - values).square().flatten(1)
    return 0.5 * squares.sum(1) + 0.5 * math.log(2 * math.pi) * squares.shape[1]


class VariationalAutoencoder(Reconstruction):
    """-E log p(x|z) + beta * KL, summed over values and latent numbers; the count is the number of examples.

    p(x|z) is normal with variance 1 around the decoded values, in standardised space, so the loss with beta=1 is the
    negative bound in nats for each example. Training draws z, evaluation takes its mean. Scores: elbo (beta left out),
    reconstruction and kl in nats, active_units: latent numbers whose mean varies over the data. probe: see
    `Reconstruction`. Raises ValueError.
    """

    needs = frozenset({"variational", "decodes"})

    def __init__(
        self,
        model: nn.Module,
        beta: float,
        probe: Protocol | None,
        probe_rows: int,
        transform: Any = None,
        dataset: Any = None,
    ):
        super().__init__(model, probe, probe_rows, transform, dataset)
        if beta < 0:
            raise ValueError(f"beta={beta}: expected 0 or more")
        self.beta = beta

    def forward(self, batch: Batch) -> Output:
        values = batch["inputs"]["values"]
        mean, log_variance = (part.float() for part in self.model.encode(values))
        noise = torch.randn_like(mean) if self.training else torch.zeros_like(mean)
        reconstruction = self.model.decode(mean + (0.5 * log_variance).exp() * noise).float()
        rebuilt = negative_log_likelihood(reconstruction, values).sum()
        divergence = kl_divergence(mean, log_variance).sum()
        count = values.new_tensor(len(values))
        output = Output(rebuilt + self.beta * divergence, count)
        output.means = {"reconstruction": (rebuilt, count), "kl": (divergence, count)}
        if not self.training:
            output.prediction, output.target = torch.stack([mean, log_variance], dim=1), reconstruction
            output.means |= pixel_means(self.transform, reconstruction, values)
        return output

    def metrics(self) -> dict[str, Metric]:
        return parts(
            _latents(self.model.dim),
            active_units=lambda found: (found[0] > ACTIVE).sum(),
            kl_of_units=lambda found: found[1],
        )

    def scores(self, means: dict[str, float]) -> dict[str, float]:
        return {"elbo": -means["reconstruction"] - means["kl"], **super().scores(means)}

    def warnings(self, scores: dict[str, float]) -> list[str]:
        if scores["active_units"] > 0:
            return []
        return ["posterior collapse: no latent number says anything about the input; lower objective.beta or train longer"]

    def pictures(self, batch: Batch, output: Output) -> dict[str, Tensor]:
        """Examples, their reconstructions, and what the decoder makes of codes from the prior, always the same ones."""
        codes = torch.randn(SHOWN_IMAGES, self.model.dim, generator=torch.Generator().manual_seed(0))
        drawn = self.model.decode(codes.to(output.target.device))
        return self.shown({"original": batch["inputs"]["values"], "reconstruction": output.target, "prior": drawn})


def _latents(dim: int) -> Metric:
    """Of each latent number [dim]: the variance of its mean over the data, and its mean divergence in nats."""
    import_torchmetrics()
    from torchmetrics import Metric

    class Latents(Metric):
        """Updated with means and logarithms of variances [B, 2, dim]."""

        def __init__(self):
            super().__init__()
            self.add_state("count", torch.zeros(()), "sum")
            for name in ("total", "squares", "divergence"):
                self.add_state(name, torch.zeros(dim), "sum")

        def update(self, prediction: Tensor, target: Tensor) -> None:
            mean, log_variance = prediction.unbind(1)
            self.count += len(mean)
            self.total += mean.sum(0)
            self.squares += mean.square().sum(0)
            self.divergence += kl_divergence(mean, log_variance).sum(0)

        def compute(self) -> tuple[Tensor, Tensor]:
            return self.squares / self.count - (self.total / self.count).square(), self.divergence / self.count

    return Latents()
