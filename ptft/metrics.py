"""torchmetrics under the names of the field."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ptft.direction import lower_is_better as lower_is_better
from ptft.lean import import_torchmetrics

if TYPE_CHECKING:
    from torchmetrics import Metric

ECE_BINS = 15
TOP = 5  # classes that are tried at once
RANKED = 100  # classes at most, all of whose probabilities are kept until the end for rank statistics


def classification(num_classes: int) -> dict[str, Metric]:
    """Metrics of single-label classification, updated with probabilities [B, classes] and classes [B].

    Macro averages are over the classes that occur as prediction or target, balanced accuracy over those that occur as
    target, as in scikit-learn. precision, recall and f1 are per class; confusion_matrix has targets as rows. ece: the
    expected calibration error over 15 bins (1706.04599). mcc: Matthews' correlation. auroc: the area under the ROC of
    each class against the rest, averaged over the classes that occur as target; not a number where only one does, and left
    out beyond a hundred classes. top_5_accuracy: of more than five classes only.
    """
    import_torchmetrics()
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
        "mcc": _matthews(num_classes),
        "confusion_matrix": MulticlassConfusionMatrix(**settings),
    }
    if num_classes <= RANKED:
        metrics["auroc"] = _auroc(num_classes)
    if num_classes > TOP:
        metrics[f"top_{TOP}_accuracy"] = MulticlassAccuracy(average="micro", top_k=TOP, **settings)
    families = {"precision": MulticlassPrecision, "recall": MulticlassRecall, "f1": MulticlassF1Score}
    for name, family in families.items():
        metrics[f"{name}_macro"] = family(average="macro", **settings)
        metrics[f"{name}_micro"] = family(average="micro", **settings)
        metrics[f"{name}_weighted"] = family(average="weighted", **settings)
        metrics[name] = family(average=None, **settings)
    return metrics


def _balanced_accuracy(num_classes: int) -> Metric:
    import_torchmetrics()
    from torchmetrics.classification import MulticlassConfusionMatrix

    class BalancedAccuracy(MulticlassConfusionMatrix):
        """The mean recall of the classes that occur; torchmetrics also counts classes that were only predicted."""

        def compute(self) -> Tensor:
            present = self.confmat.sum(1)
            return (self.confmat.diagonal()[present > 0] / present[present > 0]).mean()

    return BalancedAccuracy(num_classes, validate_args=False)


def _matthews(num_classes: int) -> Metric:
    import_torchmetrics()
    from torchmetrics.classification import MulticlassConfusionMatrix

    class Matthews(MulticlassConfusionMatrix):
        """Matthews' correlation of classes (Gorodkin 2004); 0, as in scikit-learn, where one side names one class only."""

        def compute(self) -> Tensor:
            counts = self.confmat.double()
            truth, said, total = counts.sum(1), counts.sum(0), counts.sum()
            together = counts.diagonal().sum() * total - truth @ said
            apart = (total**2 - truth @ truth) * (total**2 - said @ said)
            return (together / apart.sqrt() if apart > 0 else torch.zeros_like(total)).float()

    return Matthews(num_classes, validate_args=False)


def _auroc(num_classes: int) -> Metric:
    import_torchmetrics()
    from torchmetrics.classification import MulticlassAUROC
    from torchmetrics.utilities import dim_zero_cat

    class AUROC(MulticlassAUROC):
        """Skips classes that do not occur, where torchmetrics warns and counts 0."""

        def compute(self) -> Tensor:
            scores, truth = dim_zero_cat(self.preds), dim_zero_cat(self.target)
            areas = _areas(scores, truth[:, None] == torch.arange(num_classes, device=truth.device))
            # of two classes the second, as everywhere: near 1, scores of the first tie where those of the second do not
            return areas[1] if num_classes == 2 else areas.nanmean()

    return AUROC(num_classes, validate_args=False)


def _areas(scores: Tensor, truth: Tensor) -> Tensor:
    """AUROC of each column of scores and of yes or no [B, C], ties half; not a number where all is yes or all is no."""
    areas = []
    for score, yes in zip(scores.T, truth.T, strict=True):
        low, high = score[~yes].sort().values, score[yes]
        won = torch.searchsorted(low, high).sum() + torch.searchsorted(low, high, right=True).sum()
        pairs = 2 * len(low) * len(high)
        areas.append(won.item() / pairs if pairs and not score.isnan().any() else math.nan)
    return torch.tensor(areas, device=scores.device)


def regression() -> dict[str, Metric]:
    """Metrics of one predicted number, updated with predictions [B] and targets [B]. r2: not a number for a single row."""
    import_torchmetrics()
    from torchmetrics import MeanAbsoluteError, MeanSquaredError

    return {
        "mse": MeanSquaredError(),
        "rmse": MeanSquaredError(squared=False),
        "mae": MeanAbsoluteError(),
        "r2": _r2(),
    }


def _r2() -> Metric:
    import_torchmetrics()
    from torchmetrics import R2Score

    class R2(R2Score):
        """The share of the variance that is explained; torchmetrics refuses a single row."""

        def compute(self) -> Tensor:
            return super().compute() if self.total > 1 else self.residual.new_tensor(math.nan)

    return R2()


def likeness() -> dict[str, Metric]:
    """Rank correlation (Spearman's) and linear correlation (Pearson's) of numbers [B] with numbers [B]."""
    import_torchmetrics()
    from torchmetrics import SpearmanCorrCoef

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ranks need all the numbers: that they are kept is no news
        return {"spearman": SpearmanCorrCoef(), "pearson": correlation()}


def correlation() -> Metric:
    """Pearson's correlation of numbers [B] with numbers [B]."""
    import_torchmetrics()
    from torchmetrics import PearsonCorrCoef

    return PearsonCorrCoef()


def multilabel(num_classes: int, threshold: float) -> dict[str, Metric]:
    """Metrics of any number of labels, updated with probabilities and zeros and ones [B, classes].

    map: the average precision of each class, averaged over the classes that occur (tables: average_precision). auroc:
    averaged over the classes that some examples have and some do not. f1: of the labels whose probability reaches the
    threshold. hamming_loss: the share of all yes-or-no answers that are wrong.
    """
    import_torchmetrics()
    from torchmetrics.classification import MultilabelF1Score, MultilabelHammingDistance

    counted = {"num_labels": num_classes, "threshold": threshold, "validate_args": False}
    return {
        **parts(
            _ranking(num_classes),
            map=lambda values: values[0].nanmean(),
            auroc=lambda values: values[1].nanmean(),
            average_precision=lambda values: values[0],
        ),
        "f1_macro": MultilabelF1Score(average="macro", **counted),
        "f1_micro": MultilabelF1Score(average="micro", **counted),
        "f1": MultilabelF1Score(average=None, **counted),
        "hamming_loss": MultilabelHammingDistance(**counted),
    }


def _ranking(num_classes: int) -> Metric:
    import_torchmetrics()
    from torchmetrics.classification import MultilabelAveragePrecision
    from torchmetrics.functional.classification import multilabel_average_precision
    from torchmetrics.utilities import dim_zero_cat

    class Ranking(MultilabelAveragePrecision):
        """Average precision and AUROC [2, classes]; torchmetrics warns of a class that does not occur, and counts 0."""

        def compute(self) -> Tensor:
            scores, truth = dim_zero_cat(self.preds), dim_zero_cat(self.target)
            found = torch.full((num_classes,), math.nan, device=scores.device)
            present = (truth > 0).any(0)
            count = int(present.sum())
            if count:
                pair = scores[:, present], truth[:, present]
                found[present] = multilabel_average_precision(*pair, count, average=None, validate_args=False)
            return torch.stack((found, _areas(scores, truth > 0)))

    return Ranking(num_classes, average=None, validate_args=False)


def segmentation(num_classes: int, ignored: int) -> dict[str, Any]:
    """Metrics of a class for each pixel, updated with found and true classes [H, W] of images of any sizes.

    Pixels whose true class is `ignored` do not count. All come from one confusion matrix over the data. Means are over the
    classes that occur as prediction or target; absent_classes says how many do not. iou and class_accuracy are per class,
    not a number for those that are absent.
    """
    import_torchmetrics()
    from torchmetrics.classification import MulticlassConfusionMatrix

    class PixelMatrix(MulticlassConfusionMatrix):
        """A confusion matrix of the pixels of one image after the other."""

        def update(self, prediction: Sequence[Tensor], target: Sequence[Tensor]) -> None:
            for found, true in zip(prediction, target, strict=True):
                super().update(found[None], true[None])

    return parts(
        PixelMatrix(num_classes, ignore_index=ignored, validate_args=False),
        confusion_matrix=lambda counts: counts,
        miou=lambda counts: _iou(counts).nanmean(),
        fwiou=lambda counts: (_iou(counts).nan_to_num() * counts.sum(1)).sum() / counts.sum(),
        pixel_accuracy=lambda counts: counts.diagonal().sum() / counts.sum(),
        dice=lambda counts: (2 * counts.diagonal() / (counts.sum(0) + counts.sum(1))).nanmean(),
        absent_classes=lambda counts: _iou(counts).isnan().sum(),
        iou=_iou,
        class_accuracy=lambda counts: counts.diagonal() / counts.sum(1),
    )


def _iou(counts: Tensor) -> Tensor:
    """Intersection over union of each class, from a confusion matrix; not a number for classes that do not occur."""
    return counts.diagonal() / (counts.sum(0) + counts.sum(1) - counts.diagonal())


def detection(num_classes: int) -> dict[str, Any]:
    """Metrics of boxes as COCO defines them, updated with lists of {boxes, scores, labels} and {boxes, labels}.

    Of what is found in a true box with iscrowd=1, nothing counts. area: of the things in true boxes, 0 or none: of the boxes.
    map: average precision over IoU .5 to .95; map_50, map_75: at one IoU; mar_1, mar_10, mar_100: recall of
    at most so many boxes an image.
    map_small, map_medium, map_large: of areas up to 32 x 32 pixels, up to 96 x 96, and of others.
    A class that has no true box does not count, and is not a number in the table map_per_class.
    """
    import_torchmetrics()
    from torchmetrics.detection.mean_ap import MeanAveragePrecision

    # pycocotools' own, to the last bit: recalls such as 1/5 otherwise meet other thresholds
    overlaps, recalls = np.linspace(0.5, 0.95, 10).tolist(), np.linspace(0, 1, 101).tolist()
    precision = MeanAveragePrecision(iou_thresholds=overlaps, rec_thresholds=recalls, class_metrics=True)
    precision.warn_on_many_detections = False

    def per_class(found: dict[str, Tensor]) -> Tensor:
        values = torch.full((num_classes,), math.nan)
        values[found["classes"].cpu().long().view(-1)] = _measured(found["map_per_class"]).cpu().view(-1)
        return values

    names = ("map", "map_50", "map_75", "map_small", "map_medium", "map_large", "mar_1", "mar_10", "mar_100")
    scores = {name: lambda found, name=name: _measured(found[name]) for name in names}
    return parts(precision, **scores, map_per_class=per_class)


def _measured(value: Tensor) -> Tensor:
    """COCO's -1, for nothing to measure, as not a number."""
    return torch.where(value < 0, math.nan, value)


class Part:
    """One of several scores that follow from one metric; `leads` is the one that passes updates on."""

    def __init__(self, metric: Metric, read: Callable[[Any], Tensor], leads: bool):
        self.metric, self.read, self.leads = metric, read, leads

    def to(self, device: torch.device) -> Part:
        self.metric.to(device)
        return self

    def update(self, prediction: Any, target: Any) -> None:
        if self.leads:
            self.metric.update(prediction, target)

    def compute(self) -> Tensor:
        return self.read(self.metric.compute())


def parts(metric: Metric, **reads: Callable[[Any], Tensor]) -> dict[str, Part]:
    """Scores by name that share a metric: it sees each batch once and is computed once."""
    return {name: Part(metric, read, leads=index == 0) for index, (name, read) in enumerate(reads.items())}
