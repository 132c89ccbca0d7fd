"""torchmetrics under the names of the field, and which scores are better when they are lower."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from torchmetrics import Metric

LOWER_IS_BETTER = {"loss", "perplexity", "bits_per_byte", "mse", "mae", "rmse", "ece", "error"}
ECE_BINS = 15


def lower_is_better(name: str) -> bool:
    """Whether the best value of score `name`, maybe under a split as in valid/loss, is the lowest one."""
    return name.rpartition("/")[2] in LOWER_IS_BETTER


def classification(num_classes: int) -> dict[str, Metric]:
    """Metrics of single-label classification, updated with probabilities [B, classes] and classes [B].

    Macro averages are over the classes that occur as prediction or target, balanced accuracy over those that occur as
    target, as in scikit-learn. precision, recall and f1 are per class; confusion_matrix has targets as rows. ece: the
    expected calibration error over 15 bins (1706.04599).
    """
    from torchmetrics.classification import (
        MulticlassAccuracy,
        MulticlassCalibrationError,
        MulticlassConfusionMatrix,
        MulticlassF1Score,
        MulticlassPrecision,
        MulticlassRecall,
    )

    settings = {"num_classes": num_classes, "validate_args": False}
    metrics = {
        "accuracy": MulticlassAccuracy(average="micro", **settings),
        "balanced_accuracy": _balanced_accuracy(num_classes),
        "ece": MulticlassCalibrationError(n_bins=ECE_BINS, norm="l1", **settings),
        "confusion_matrix": MulticlassConfusionMatrix(**settings),
    }
    families = {"precision": MulticlassPrecision, "recall": MulticlassRecall, "f1": MulticlassF1Score}
    for name, family in families.items():
        metrics[f"{name}_macro"] = family(average="macro", **settings)
        metrics[f"{name}_micro"] = family(average="micro", **settings)
        metrics[name] = family(average=None, **settings)
    return metrics


def _balanced_accuracy(num_classes: int) -> Metric:
    from torchmetrics.classification import MulticlassConfusionMatrix

    class BalancedAccuracy(MulticlassConfusionMatrix):
        """The mean recall of the classes that occur; torchmetrics also counts classes that were only predicted."""

        def compute(self) -> Tensor:
            present = self.confmat.sum(1)
            return (self.confmat.diagonal()[present > 0] / present[present > 0]).mean()

    return BalancedAccuracy(num_classes, validate_args=False)


def regression() -> dict[str, Metric]:
    """Metrics of one predicted number, updated with predictions [B] and targets [B]. r2: not a number for a single row."""
    from torchmetrics import MeanAbsoluteError, MeanSquaredError

    return {
        "mse": MeanSquaredError(),
        "rmse": MeanSquaredError(squared=False),
        "mae": MeanAbsoluteError(),
        "r2": _r2(),
    }


def _r2() -> Metric:
    from torchmetrics import R2Score

    class R2(R2Score):
        """The share of the variance that is explained; torchmetrics refuses a single row."""

        def compute(self) -> Tensor:
            return super().compute() if self.total > 1 else self.residual.new_tensor(math.nan)

    return R2()
