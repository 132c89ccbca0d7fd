"""VQ-VAE: rebuild the input from a map of discrete codes (van den Oord et al. 2017, 1711.00937, eq. 3)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from ptft.canvas import tile
from ptft.lean import import_torchmetrics
from ptft.metrics import parts
from ptft.nn.probe import Protocol
from ptft.nn.quantizer import perplexity, vectors
from ptft.nn.reconstruction import Reconstruction, pixel_means, squared_error
from ptft.objective import Batch, Output

if TYPE_CHECKING:
    from torchmetrics import Metric

COLLAPSED = 2.0  # a perplexity below this: one code does nearly all the work
BARS, BROAD = 96, 360  # pixels: how high the histogram is, and how broad at least


class Codebook(Reconstruction):
    """Squared error / data_variance + commitment * |z - sg(e)|^2, and |sg(z) - e|^2 where codes learn by gradient.

    Each is a mean over the values of an example; the count is the number of examples. The decoder's gradient passes
    straight through the choice of codes. update: `ema`, they follow the mean of the vectors that choose them, over all
    micro-batches of a step (`decay`; `eps`: Laplace smoothing), or `loss`. They start as vectors of the first batch, and
    one that nobody chooses for `restart_after` steps (None: never mind) is put on a vector of the batch. data_variance:
    of the values, which is 1 for standardised ones. Codes and what is known of their use belong to the model.

    Scores: codebook_perplexity and codes_used over the evaluation; batch_perplexity, which depends on the batch size;
    restarts so far. probe: see `Reconstruction`. Raises ValueError.
    """

    needs = frozenset({"codebook", "decodes"})
    counts: Tensor  # [codes]: vectors of this step that chose each code
    sums: Tensor  # [codes, dim]: their sum

    def __init__(
        self,
        model: nn.Module,
        update: Literal["ema", "loss"],
        commitment: float,
        data_variance: float,
        decay: float,
        eps: float,
        restart_after: int | None,
        probe: Protocol | None,
        probe_rows: int,
        transform: Any = None,
        dataset: Any = None,
    ):
        super().__init__(model, probe, probe_rows, transform, dataset)
        _check(data_variance, decay, restart_after)
        self.update, self.commitment, self.data_variance = update, commitment, data_variance
        self.decay, self.eps, self.restart_after = decay, eps, restart_after
        codebook = model.quantizer.codebook.requires_grad_(update == "loss")
        self.register_buffer("counts", torch.zeros(len(codebook)))
        self.register_buffer("sums", torch.zeros(codebook.shape))
        self.recent: Tensor | None = None  # vectors of the last micro-batch, between forward and after_step

    def forward(self, batch: Batch) -> Output:
        values = batch["inputs"]["values"]
        features = self.model(values).float()
        self._watch_before(features)
        chosen, indices = self.model.quantizer(features)
        reconstruction = self.model.decode(features + (chosen - features).detach())
        rebuilt, commitment = squared_error(reconstruction, values), squared_error(features, chosen.detach())
        loss = rebuilt / self.data_variance + self.commitment * commitment
        if self.update == "loss":
            loss = loss + squared_error(chosen, features.detach())
        output = Output(loss.sum(), values.new_tensor(len(values)))
        output.means = {"reconstruction": (rebuilt.sum(), output.count), "commitment": (commitment.sum(), output.count)}
        if self.training:
            self._watch_after(indices)
            return output
        output.prediction, output.target = indices, reconstruction.float()
        used = perplexity(torch.bincount(indices.flatten(), minlength=len(self.counts)))
        output.means["batch_perplexity"] = used * output.count, output.count
        output.means |= pixel_means(self.transform, output.target, values)
        return output

    def _watch_before(self, features: Tensor) -> None:
        """Keep the vectors that codes may be put on; the first ones become the codes."""
        if not self.training:
            return
        self.recent = vectors(features.detach())
        if not self.model.quantizer.ready:
            self.model.quantizer.start(self.recent)

    def _watch_after(self, indices: Tensor) -> None:
        """Add up which vectors chose which code, micro-batch by micro-batch; a step that is not finite must not stain it."""
        finite = self.recent.isfinite().all(1)
        indices, points = indices.flatten()[finite], self.recent[finite]
        self.counts.index_add_(0, indices, torch.ones_like(indices, dtype=self.counts.dtype))
        self.sums.index_add_(0, indices, points.to(self.sums.dtype))

    def after_step(self, progress: float) -> None:
        """Move the codes, and restart those that nobody chooses."""
        quantizer = self.model.quantizer
        quantizer.follow(self.counts, self.sums, self.decay)
        if self.update == "ema":
            quantizer.move(self.eps)
        if self.restart_after:
            quantizer.restart(self.counts, self.recent, self.restart_after)
        self.counts.zero_()
        self.sums.zero_()
        self.recent = None

    def metrics(self) -> dict[str, Metric]:
        return parts(
            _usage(len(self.counts)),
            codebook_perplexity=perplexity,
            codes_used=lambda counts: (counts > 0).sum(),
            code_usage=lambda counts: counts,
        )

    def scores(self, means: dict[str, float]) -> dict[str, float]:
        return {"restarts": float(self.model.quantizer.restarts), **super().scores(means)}

    def warnings(self, scores: dict[str, float]) -> list[str]:
        found = scores["codebook_perplexity"]
        if found >= COLLAPSED:
            return []
        return [
            f"the codebook is collapsing: perplexity {found:.2f} of {len(self.counts)} codes; lower objective.restart_after"
        ]

    def pictures(self, batch: Batch, output: Output) -> dict[str, Tensor]:
        """Examples above their reconstructions, and how often they use each code."""
        rows = {"original": batch["inputs"]["values"], "reconstruction": output.target}
        return self.shown(rows) | {"codes": chart(torch.bincount(output.prediction.flatten(), minlength=len(self.counts)))}


def _check(data_variance: float, decay: float, restart_after: int | None) -> None:
    if data_variance <= 0:
        raise ValueError(f"data_variance={data_variance}: expected more than 0")
    if not 0 <= decay < 1:
        raise ValueError(f"decay={decay} is no share below 1")
    if restart_after is not None and restart_after < 1:
        raise ValueError(f"restart_after={restart_after}: give at least one step, or null to leave unused codes alone")


def chart(counts: Tensor) -> Tensor:
    """How often each code [N] is chosen, as bars with what they mean below: uint8 [3, H, W]."""
    codes, used, share = len(counts), int((counts > 0).sum()), counts.max().item() / max(counts.sum().item(), 1)
    bars = histogram(counts).repeat_interleave(math.ceil(BROAD / codes), 2)
    return tile([bars[None]], [[f"{used:,} of {codes:,} codes used, most used first; the highest bar: {share:.1%} of all"]])


def histogram(counts: Tensor) -> Tensor:
    """Bars for counts [N], the highest first: dark on white, uint8 [3, BARS, N]."""
    heights = (counts.float() / counts.max().clamp(min=1e-12)).sort(descending=True).values.cpu() * BARS
    below = torch.arange(BARS, 0, -1).unsqueeze(1) <= heights.ceil()
    return (~below).to(torch.uint8).mul(200).add(55).expand(3, -1, -1).contiguous()


def _usage(codes: int) -> Metric:
    import_torchmetrics()
    from torchmetrics import Metric

    class Usage(Metric):
        """How often each code was chosen; updated with numbers of codes [B, h, w]."""

        def __init__(self):
            super().__init__()
            self.add_state("counts", torch.zeros(codes), "sum")

        def update(self, prediction: Tensor, target: Tensor) -> None:
            self.counts += torch.bincount(prediction.flatten(), minlength=codes)

        def compute(self) -> Tensor:
            return self.counts

    return Usage()
