"""All weights, at one rate or at rates that fall with depth."""

from __future__ import annotations

from ptft.tuning.tuning import Tuning


class Full(Tuning):
    """All weights train.

    layer_decay: each level trains at this share of the rate of the one above it, heads at the full rate (Clark et al.
    2020, ELECTRA; .65 with 12 layers leaves .0037 for the embeddings). None: one rate. Raises ValueError.
    """

    def __init__(self, layer_decay: float | None):
        if layer_decay is not None and not 0 < layer_decay <= 1:
            raise ValueError(f"layer_decay={layer_decay}: give a share in (0, 1], such as 0.65, or null for one rate")
        self.layer_decay = layer_decay

    def rate(self, below: int) -> float:
        return 1.0 if self.layer_decay is None else self.layer_decay**below
