"""Metrics against scikit-learn and hand computation."""

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


CASES = {
    "two classes": (2, 50, None, False),
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
    for average in ("macro", "micro"):
        expected = sklearn.metrics.precision_recall_fscore_support(targets, guesses, average=average, zero_division=0)
        for name, value in zip(("precision", "recall", "f1"), expected, strict=False):
            np.testing.assert_allclose(found[f"{name}_{average}"], value, **close)
    expected = sklearn.metrics.precision_recall_fscore_support(targets, guesses, labels=classes, zero_division=0)
    for name, values in zip(("precision", "recall", "f1"), expected, strict=False):
        np.testing.assert_allclose(found[name], values, **close)


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


@pytest.mark.parametrize("name", ["loss", "perplexity", "bits_per_byte", "mse", "mae", "rmse", "ece", "valid/loss"])
def test_errors_are_better_when_lower(name):
    assert metrics.lower_is_better(name)


@pytest.mark.parametrize("name", ["accuracy", "f1_macro", "r2", "valid/balanced_accuracy"])
def test_achievements_are_better_when_higher(name):
    assert not metrics.lower_is_better(name)
