"""Which scores are better when they are lower; known without torch."""

from __future__ import annotations

from collections.abc import Collection

LOWER_IS_BETTER = {"perplexity", "forward_perplexity", "backward_perplexity", "bits_per_byte"}
LOWER_IS_BETTER |= {"mse", "mae", "rmse", "ece", "error"}
LOWER_IS_BETTER |= {"reconstruction", "kl", "commitment", "alignment", "uniformity"}


def lower_is_better(name: str, lower: Collection[str] = ()) -> bool:
    """Whether the best value of score `name`, maybe under a split as in valid/loss, is the lowest. lower: further ones.

    What is called a loss, as in nsp_loss and loss_boxes, always is.
    """
    name = name.rpartition("/")[2]
    return name in LOWER_IS_BETTER or name in lower or "loss" in name.split("_")
