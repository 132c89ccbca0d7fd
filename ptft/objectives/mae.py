"""Masked autoencoding: rebuild the hidden patches of an image from the few that are seen (MAE, 2111.06377)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ptft.nn.gaze import gaze
from ptft.nn.patches import CLS, cut, glorot, join, pick, sincos
from ptft.nn.pretext import Pretext
from ptft.nn.probe import Protocol
from ptft.nn.transformer import Stack
from ptft.objective import Batch, Example, Output
from ptft.randomness import Draw

EPS = 1e-6  # of the decoder's norms, and beside the variance of a patch
SHOWN = 8
GREY = 0.5


@dataclass
class Collate:
    """Shows the model a random choice of int(patches * (1 - mask_ratio)) patches of each image.

    Adds indices of patches: inputs.kept [B, K] and masked [B, T - K].
    """

    transform: Any
    patches: int
    kept: int

    def __call__(self, examples: list[Example], draw: Draw) -> Batch:
        values = self.transform.one([example["image"] for example in examples], draw)
        order = torch.from_numpy(draw.uniform("mae.mask", (self.patches,)).argsort(axis=1))
        return {"inputs": {"values": values, "kept": order[:, : self.kept]}, "masked": order[:, self.kept :]}


class MAE(Pretext):
    """Squared error of the hidden patches, by a small decoder that is thrown away afterwards.

    mask_ratio: share of the patches hidden. norm_pix: the target of each patch has its own mean and variance taken off.
    decoder_dim, decoder_layers, decoder_heads: of the decoder's transformer. probe: see `Pretext`. Raises ValueError.
    """

    needs = frozenset({"image", "patches"})

    def __init__(
        self,
        model: nn.Module,
        transform: Any,
        dataset: Any,
        mask_ratio: float,
        norm_pix: bool,
        decoder_dim: int,
        decoder_layers: int,
        decoder_heads: int,
        probe: Protocol | None,
        probe_rows: int,
    ):
        super().__init__(model, transform, dataset, probe, probe_rows)
        total, size = math.prod(model.grid), model.channels * model.patch**2
        kept = int(total * (1 - mask_ratio))
        if norm_pix and size == 1:
            raise ValueError("norm_pix=true: patches of a single value have no variance; raise model.patch")
        if not 0 < kept < total:
            raise ValueError(f"mask_ratio={mask_ratio} keeps {kept} of {total} patches, expected at least 1 and not all")
        self.norm_pix = norm_pix
        self.enter = nn.Linear(model.dim, decoder_dim)
        self.mask = nn.Parameter(torch.empty(decoder_dim))
        self.register_buffer("position", sincos(model.grid, decoder_dim), persistent=False)
        kind = "learned", "pre", "gelu"  # positions, added here; norm; activation
        self.decoder = Stack(decoder_dim, decoder_layers, decoder_heads, 4 * decoder_dim, *kind, 0.0, bias=True, eps=EPS)
        self.leave = nn.Linear(decoder_dim, size)
        for part in (self.enter, self.decoder, self.leave):
            glorot(part)
        nn.init.normal_(self.mask, std=0.02)
        self.collate = Collate(transform, total, kept)

    def forward(self, batch: Batch) -> Output:
        target = self.targets(pick(cut(batch["inputs"]["values"], self.model.patch), batch["masked"]))
        prediction = self.decode(self.model(**batch["inputs"]), batch["inputs"]["kept"], batch["masked"]).float()
        loss = (prediction - target).square().mean(-1).sum()
        count = target.new_tensor(batch["masked"].numel())
        # predicting 0 costs (n - 1) / n with norm_pix, n values in a patch, and nothing where a patch is blank
        collapsed = target.square().mean(-1).sum()
        return Output(loss, count, prediction.detach(), target, {"collapsed_loss": (collapsed, count)})

    def decode(self, features: Tensor, kept: Tensor, masked: Tensor) -> Tensor:
        """The patches at `masked` [B, M, n], from features of CLS and the patches at `kept`."""
        seen = self.enter(features)
        tokens = self.mask.to(seen.dtype).expand(len(kept), len(self.position), -1)
        index = kept.unsqueeze(-1).expand(-1, -1, tokens.shape[-1])
        tokens = tokens.scatter(1, index, seen[:, CLS:]) + self.position.to(seen.dtype)
        decoded = self.decoder(torch.cat((seen[:, :CLS], tokens), dim=1), causal=False)
        return self.leave(pick(decoded[:, CLS:], masked))

    def targets(self, patches: Tensor) -> Tensor:
        """What is to be predicted of patches [B, M, n]."""
        if not self.norm_pix:
            return patches
        mean, deviation = statistics(patches)
        return (patches - mean) / deviation

    def pictures(self, batch: Batch, output: Output) -> dict[str, Tensor]:
        """What was seen, what it was completed to, and the original."""
        from ptft.canvas import tile

        values, masked = batch["inputs"]["values"][:SHOWN], batch["masked"][:SHOWN]
        patches, guesses = cut(values, self.model.patch), output.prediction[: len(values)]
        if self.norm_pix:
            mean, deviation = statistics(pick(patches, masked))
            guesses = guesses * deviation + mean
        index = masked.unsqueeze(-1).expand_as(guesses)
        hidden = torch.zeros_like(patches).scatter(1, index, 1.0)
        original, completed, hidden = (
            join(each, self.model.grid, self.model.channels) for each in (patches, patches.scatter(1, index, guesses), hidden)
        )
        original, completed = self.transform.restore(original), self.transform.restore(completed)
        rows = [torch.where(hidden > 0, GREY, original), completed, original]
        borrowed = ", with the true mean and contrast of each patch" if self.norm_pix else ""
        titles = ["masked", f"reconstruction{borrowed}", "original"]
        found = {"reconstruction": tile([row.cpu() for row in rows], titles=titles)}
        return found | gaze(self.model, values, self.transform)


def statistics(patches: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each patch [B, M, n], as MAE's own code has them: unbiased variance, plus 1e-6."""
    variance, mean = torch.var_mean(patches, dim=-1, keepdim=True)
    return mean, (variance + EPS).sqrt()
