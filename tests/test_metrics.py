"""Metrics against scikit-learn and hand computation."""

import subprocess
import sys

import numpy as np
import pytest
import sklearn.metrics
import torch

from ptft import metrics


def predicted(classes: int, size: int, present: int | None = None, ties: bool = False):
    """Random probabilities [size, classes] and targets among the first `present` classes."""
    random = np.random.default_rng(classes * size)
    scores = random.integers(0, 3, (size, classes)) if ties else random.normal(size=(size, classes))
    targets = random.integers(0, present or classes, size)
    return torch.softmax(torch.tensor(scores, dtype=torch.float32), -1), torch.tensor(targets)


def computed(probabilities, targets, batch: int = 7) -> dict[str, np.ndarray]:
    """All metrics, updated in batches with a ragged last one."""
    found = metrics.classification(probabilities.shape[1])
    for metric in found.values():
        for part in zip(probabilities.split(batch), targets.split(batch), strict=True):
            metric.update(*part)
    return {name: metric.compute().numpy() for name, metric in found.items()}


def expected_auroc(targets, probabilities) -> float:
    """scikit-learn's; it refuses classes that do not occur, which are then left out of the mean."""
    classes = probabilities.shape[1]
    present = targets.unique().tolist()
    if len(present) < 2:
        return np.nan
    if classes == 2:
        return sklearn.metrics.roc_auc_score(targets, probabilities[:, 1])
    if len(present) == classes:
        return sklearn.metrics.roc_auc_score(targets, probabilities, multi_class="ovr")
    return np.mean([sklearn.metrics.roc_auc_score(targets == label, probabilities[:, label]) for label in present])


def test_scores_of_very_many_classes_are_not_kept_for_a_ranking():
    assert "auroc" in metrics.classification(100) and "auroc" not in metrics.classification(101)


CASES = {
    "two classes": (2, 50, None, False),
    "ties of two classes": (2, 50, None, True),
    "many classes": (7, 200, None, False),
    "classes absent from the targets": (6, 40, 3, False),
    "classes absent from both": (12, 9, 4, False),
    "ties": (4, 60, None, True),
    "one example": (3, 1, None, False),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.filterwarnings("ignore::UserWarning:sklearn.*")
def test_classification_metrics_equal_those_of_scikit_learn(case):
    probabilities, targets = predicted(*CASES[case])
    found = computed(probabilities, targets)
    guesses, classes = probabilities.argmax(-1), range(probabilities.shape[1])
    close = {"rtol": 0, "atol": 1e-6}
    np.testing.assert_allclose(found["accuracy"], sklearn.metrics.accuracy_score(targets, guesses), **close)
    balanced = sklearn.metrics.balanced_accuracy_score(targets, guesses)
    np.testing.assert_allclose(found["balanced_accuracy"], balanced, **close)
    confusion = sklearn.metrics.confusion_matrix(targets, guesses, labels=classes)
    np.testing.assert_array_equal(found["confusion_matrix"], confusion)
    np.testing.assert_allclose(found["auroc"], expected_auroc(targets, probabilities), equal_nan=True, **close)
    np.testing.assert_allclose(found["mcc"], sklearn.metrics.matthews_corrcoef(targets, guesses), **close)
    if len(classes) > 5:
        best = sklearn.metrics.top_k_accuracy_score(targets, probabilities, k=5, labels=classes)
        np.testing.assert_allclose(found["top_5_accuracy"], best, **close)
    for average in ("macro", "micro", "weighted"):
        expected = sklearn.metrics.precision_recall_fscore_support(targets, guesses, average=average, zero_division=0)
        for name, value in zip(("precision", "recall", "f1"), expected, strict=False):
            np.testing.assert_allclose(found[f"{name}_{average}"], value, **close)
    expected = sklearn.metrics.precision_recall_fscore_support(targets, guesses, labels=classes, zero_division=0)
    for name, values in zip(("precision", "recall", "f1"), expected, strict=False):
        np.testing.assert_allclose(found[name], values, **close)


def test_a_model_that_names_one_class_only_correlates_with_nothing():
    assert computed(torch.tensor([[0.9, 0.1]] * 5), torch.tensor([0, 1, 1, 0, 1]))["mcc"] == 0.0


def test_a_surer_second_class_counts_where_the_first_is_one_for_all():
    probabilities = torch.softmax(torch.tensor([[30.0, 0.0], [31.0, 0.0], [29.0, 0.0]]), -1)
    assert probabilities[:, 0].tolist() == [1, 1, 1]
    assert computed(probabilities, torch.tensor([0, 0, 1]))["auroc"] == 1


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("classes", "targets"), [(3, [1, 1, 1]), (2, [0, 0]), (2, [1]), (1, [0, 0])])
def test_one_class_alone_has_no_area_and_no_warning(classes, targets):
    probabilities = torch.full((len(targets), classes), 1 / classes)
    assert np.isnan(computed(probabilities, torch.tensor(targets))["auroc"])


def test_probabilities_that_are_no_numbers_have_no_area():
    assert np.isnan(computed(torch.full((3, 3), torch.nan), torch.tensor([0, 1, 2]))["auroc"])


def test_batches_of_any_size_give_the_same_scores():
    probabilities, targets = predicted(5, 64)
    whole, single = computed(probabilities, targets, 64), computed(probabilities, targets, 1)
    for name, value in whole.items():
        np.testing.assert_allclose(single[name], value, rtol=0, atol=1e-6)


def test_calibration_error_equals_the_mean_gap_of_fifteen_bins():
    probabilities, targets = predicted(4, 500)
    confidence, guesses = probabilities.max(-1)
    right = (guesses == targets).numpy()
    confidence = confidence.numpy()
    gaps = 0.0
    for number in range(15):
        inside = (confidence > number / 15) & (confidence <= (number + 1) / 15)
        if inside.any():
            gaps += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert computed(probabilities, targets)["ece"] == pytest.approx(gaps, abs=1e-6)


def test_a_sure_and_right_model_is_perfectly_calibrated():
    targets = torch.tensor([0, 1, 2])
    assert computed(torch.eye(3), targets)["ece"] == 0


def test_regression_metrics_equal_those_of_scikit_learn():
    random = np.random.default_rng(0)
    targets = random.normal(size=50)
    guesses = targets + random.normal(size=50)
    found = metrics.regression()
    for metric in found.values():
        for part in np.array_split(np.stack((guesses, targets)), 4, axis=1):
            metric.update(*torch.tensor(part, dtype=torch.float64).unbind(0))
    expected = {
        "mse": sklearn.metrics.mean_squared_error(targets, guesses),
        "rmse": sklearn.metrics.root_mean_squared_error(targets, guesses),
        "mae": sklearn.metrics.mean_absolute_error(targets, guesses),
        "r2": sklearn.metrics.r2_score(targets, guesses),
    }
    assert {name: metric.compute().item() for name, metric in found.items()} == pytest.approx(expected, rel=1e-5)


PARTS_OF_LOSSES = [
    "forward_perplexity",
    "uniformity",
    "mlm_loss",
    "nsp_loss",
    "valid/loss_bbox_regression",
    "reconstruction",
    "kl",
    "commitment",
]


@pytest.mark.parametrize(
    "name", ["loss", "perplexity", "bits_per_byte", "mse", "mae", "rmse", "ece", "valid/loss", *PARTS_OF_LOSSES]
)
def test_errors_are_better_when_lower(name):
    assert metrics.lower_is_better(name)


@pytest.mark.parametrize(
    "name", ["accuracy", "auroc", "f1_macro", "r2", "valid/balanced_accuracy", "elbo", "codebook_perplexity"]
)
def test_achievements_are_better_when_higher(name):
    assert not metrics.lower_is_better(name)


def updated(found: dict, *batches: tuple) -> dict[str, np.ndarray]:
    """All metrics after some batches."""
    for metric in found.values():
        for batch in batches:
            metric.update(*batch)
    return {name: np.asarray(metric.compute()) for name, metric in found.items()}


@pytest.mark.filterwarnings("ignore::UserWarning:sklearn.*")
@pytest.mark.parametrize("absent", [0, 2])
def test_multilabel_metrics_equal_those_of_scikit_learn(absent):
    random = np.random.default_rng(0)
    target = (random.random((40, 5)) < 0.3).astype(int)
    target[:, :absent] = 0
    scores = random.integers(0, 9, (40, 5)) / 10 + 0.07
    pairs = zip(torch.tensor(scores).split(7), torch.tensor(target).split(7), strict=True)
    found = updated(metrics.multilabel(5, 0.5), *pairs)
    said = (scores >= 0.5).astype(int)
    precisions = [sklearn.metrics.average_precision_score(target[:, label], scores[:, label]) for label in range(absent, 5)]
    assert found["map"] == pytest.approx(np.mean(precisions))
    areas = [sklearn.metrics.roc_auc_score(target[:, label], scores[:, label]) for label in range(absent, 5)]
    assert found["auroc"] == pytest.approx(np.mean(areas))
    assert found["f1_macro"] == pytest.approx(sklearn.metrics.f1_score(target, said, average="macro", zero_division=0))
    assert found["f1_micro"] == pytest.approx(sklearn.metrics.f1_score(target, said, average="micro"))
    assert found["hamming_loss"] == pytest.approx(sklearn.metrics.hamming_loss(target, said))
    assert metrics.lower_is_better("valid/hamming_loss") and not metrics.lower_is_better("map")


def test_a_label_that_all_have_or_none_has_no_area():
    scores, target = torch.tensor([[0.9, 0.2, 0.4], [0.4, 0.1, 0.6]]), torch.tensor([[1, 0, 1], [1, 0, 0]])
    assert updated(metrics.multilabel(3, 0.5), (scores, target))["auroc"] == 0
    assert np.isnan(updated(metrics.multilabel(2, 0.5), (scores[:, :2], target[:, :2]))["auroc"])


def pixels(*rows: str) -> torch.Tensor:
    """One image of classes, a digit for each pixel; x is ignored."""
    return torch.tensor([[int(digit.replace("x", "255")) for digit in row.split()] for row in rows])[None]


def test_segmentation_is_counted_over_all_pixels_but_ignored_ones():
    truth, guess = pixels("0 0 1 1", "x 0 1 x"), pixels("0 1 1 1", "2 0 0 1")
    found = updated(metrics.segmentation(3, 255), (guess, truth))
    assert found["confusion_matrix"].tolist() == [[2, 1, 0], [1, 2, 0], [0, 0, 0]]
    assert found["iou"][:2].tolist() == [0.5, 0.5] and np.isnan(found["iou"][2])
    assert found["miou"] == 0.5  # the absent class does not count
    assert found["absent_classes"] == 1
    assert found["pixel_accuracy"] == pytest.approx(4 / 6)
    assert found["dice"] == pytest.approx(2 / 3)
    assert found["fwiou"] == 0.5


@pytest.mark.parametrize("batch", [1, 3, 8])
def test_segmentation_equals_the_jaccard_score_of_scikit_learn(batch):
    random = torch.Generator().manual_seed(0)
    scores = torch.randn(8, 4, 5, 6, generator=random)
    truth = torch.randint(0, 4, (8, 5, 6), generator=random)
    truth[:, 0] = 255
    found = updated(metrics.segmentation(4, 255), *zip(scores.split(batch), truth.split(batch), strict=True))
    kept = truth != 255
    pair = truth[kept].numpy(), scores.argmax(1)[kept].numpy()
    assert found["miou"] == pytest.approx(sklearn.metrics.jaccard_score(*pair, average="macro"))
    assert found["pixel_accuracy"] == pytest.approx(sklearn.metrics.accuracy_score(*pair))
    assert found["dice"] == pytest.approx(sklearn.metrics.f1_score(*pair, average="macro"))


def detections(images: int) -> tuple[list[dict], list[dict]]:
    """True boxes, and found ones that are near some of them, at random."""
    random = torch.Generator().manual_seed(0)
    truths, guesses = [], []
    for count in range(images):
        corner = torch.rand(count, 2, generator=random) * 100
        boxes = torch.cat((corner, corner + 5 + torch.rand(count, 2, generator=random) * 120), 1)
        labels = torch.randint(0, 3, (count,), generator=random)
        noise = torch.rand(count, 4, generator=random) * 12
        scores = torch.rand(count, generator=random)
        truths.append({"boxes": boxes, "labels": labels})
        guesses.append({"boxes": boxes[1:] + noise[1:], "labels": labels[1:], "scores": scores[1:]})
    return guesses, truths


def test_detection_metrics_are_those_of_cocos_own_evaluation(capsys):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    guesses, truths = detections(9)
    found = updated(metrics.detection(3), (guesses[:4], truths[:4]), (guesses[4:], truths[4:]))
    rows = {"truth": [], "guess": []}
    for kind, images in (("truth", truths), ("guess", guesses)):
        for number, image in enumerate(images):
            for index, (left, top, right, bottom) in enumerate(image["boxes"].double().tolist()):
                box = {"image_id": number, "bbox": [left, top, right - left, bottom - top], "iscrowd": 0}
                box |= {"category_id": int(image["labels"][index]), "area": (right - left) * (bottom - top)}
                box |= {"id": len(rows[kind]) + 1, "score": float(image.get("scores", torch.ones(99))[index])}
                rows[kind].append(box)
    coco = COCO()
    coco.dataset = {"images": [{"id": number} for number in range(9)], "annotations": rows["truth"]}
    coco.dataset["categories"] = [{"id": label} for label in range(3)]
    coco.createIndex()
    evaluation = COCOeval(coco, coco.loadRes(rows["guess"]), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    for name, place in {"map": 0, "map_50": 1, "map_75": 2, "map_large": 5, "mar_1": 6, "mar_10": 7, "mar_100": 8}.items():
        assert found[name] == pytest.approx(evaluation.stats[place], abs=1e-6), name
    assert 0 < found["map"] < found["map_50"] < 1
    capsys.readouterr()


def test_a_class_without_true_boxes_does_not_count_and_nothing_to_find_is_no_number():
    nothing = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long)}
    found = updated(metrics.detection(3), ([nothing | {"scores": torch.zeros(0)}], [nothing]))
    assert np.isnan(found["map"]) and np.isnan(found["map_50"])


def test_scores_that_share_a_metric_see_each_batch_once():
    one = {"boxes": torch.tensor([[0.0, 0, 10, 10]]), "labels": torch.tensor([1])}
    found = metrics.detection(3)
    for metric in found.values():
        metric.update([one | {"scores": torch.ones(1)}], [one])
    np.testing.assert_equal(found["map_per_class"].compute().numpy(), [np.nan, 1, np.nan])
    assert len({id(metric.metric) for metric in found.values()}) == 1
    assert len(found["map"].metric.groundtruth_box) == 1
    assert found["map"].compute() == 1


def test_thresholds_of_detection_are_those_of_pycocotools_to_the_last_bit():
    from pycocotools.cocoeval import Params

    metric, expected = metrics.detection(3)["map"].metric, Params(iouType="bbox")
    assert metric.iou_thresholds == expected.iouThrs.tolist() and metric.rec_thresholds == expected.recThrs.tolist()


@pytest.mark.slow
def test_metrics_are_imported_without_what_only_others_need():
    """In a process of its own, for other tests import all of it."""
    code = (
        "import sys; from ptft import metrics; metrics.classification(3); metrics.detection(3)\n"
        "print(sorted({'torchmetrics', 'transformers', 'torchvision', 'scipy', 'matplotlib'} & sys.modules.keys()))\n"
        "from torchmetrics.utilities.imports import _TRANSFORMERS_AVAILABLE, _MATPLOTLIB_AVAILABLE\n"
        "print(bool(_TRANSFORMERS_AVAILABLE), bool(_MATPLOTLIB_AVAILABLE))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines() == ["['torchmetrics']", "True True"]
