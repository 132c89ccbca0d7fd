"""Which scores are better when they are lower; known without torch."""

from __future__ import annotations

from collections.abc import Collection

LOWER_IS_BETTER = {"loss", "perplexity", "bits_per_byte", "mse", "mae", "rmse", "ece", "error", "hamming_loss"}


def lower_is_better(name: str, lower: Collection[str] = ()) -> bool:
    """Whether the best value of score `name`, maybe under a split as in valid/loss, is the lowest. lower: further ones."""
    return name.rpartition("/")[2] in {*LOWER_IS_BETTER, *lower}
