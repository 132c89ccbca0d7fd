"""Any number of labels for each example."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ptft.objective import heads
from ptft.tasks.multilabel import Multilabel

LABELS = ["red", "green", "blue"]


@pytest.fixture
def make_multilabel(make_resnet, views):
    return lambda threshold=0.5: Multilabel(make_resnet(), 3, LABELS, "mean", 0.0, threshold, transform=views(size=16)).eval()


@pytest.fixture
def coloured(images):
    """Images with some channels bright, labelled by which."""

    def make(*labels: tuple[int, int, int]):
        examples = images([(16, 16)] * len(labels), label=[np.array(label, dtype=np.uint8) for label in labels])
        for example in examples:
            example["image"] = (example["image"] // 8) + torch.tensor(example["label"]).view(3, 1, 1) * 180
        return examples

    return make


EVERY = [(red, green, blue) for red in (0, 1) for green in (0, 1) for blue in (0, 1)]


@pytest.mark.slow
def test_labels_are_learnt_by_heart(make_multilabel, coloured, learning):
    objective = make_multilabel()
    batch = objective.collate(coloured(*EVERY), learning(8))
    optimizer = torch.optim.Adam(objective.parameters(), 1e-2)
    for _ in range(100):
        output = objective(batch)
        optimizer.zero_grad()
        (output.loss / output.count).backward()
        optimizer.step()
    metrics = objective.metrics()
    for metric in metrics.values():
        metric.update(output.prediction, output.target)
    assert metrics["map"].compute() > 0.99 and metrics["hamming_loss"].compute() < 0.05
    assert objective.score in metrics


def test_the_loss_is_binary_cross_entropy_counted_by_example_and_class(make_multilabel, coloured, draw):
    objective = make_multilabel()
    output = objective(objective.collate(coloured(*EVERY), draw(8)))
    expected = F.binary_cross_entropy(output.prediction, output.target.float(), reduction="sum")
    torch.testing.assert_close(output.loss, expected)
    assert output.count == 24


@pytest.mark.parametrize("threshold", [0.1, 0.5, 0.9])
def test_predictions_are_the_labels_that_reach_the_threshold(threshold, make_multilabel, coloured, draw):
    objective = make_multilabel(threshold)
    unlabelled = [{"image": example["image"]} for example in coloured(*EVERY)]
    batch = objective.collate(unlabelled, draw(8))
    output = objective(batch)
    assert output.count == 0 and output.loss == 0
    for row, found in zip(output.prediction.tolist(), objective.predict(output, batch), strict=True):
        assert list(found["probabilities"]) == LABELS
        assert found["labels"] == [name for name, share in zip(LABELS, row, strict=True) if share >= threshold]


def test_samples_and_pictures_show_true_and_given_labels(make_multilabel, coloured, draw):
    objective = make_multilabel(threshold=0.001)
    batch = objective.collate(coloured((0, 0, 0), (1, 0, 1)), draw(2))
    output = objective(batch)
    assert objective.samples(batch, output) == ["red, green, blue (true: none)", "red, green, blue (true: red, blue)"]
    (picture,) = objective.pictures(batch, output).values()
    assert picture.dtype == torch.uint8 and len(picture) == 3


def test_only_the_head_is_thrown_away(make_multilabel):
    assert set(heads(make_multilabel())) == {"head.linear.weight", "head.linear.bias"}


def test_a_threshold_that_is_no_probability_is_refused(make_multilabel):
    with pytest.raises(ValueError, match="threshold=1"):
        make_multilabel(threshold=1.0)
