"""Classification of texts."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ptft.objective import heads
from ptft.tasks.classify import Classify

LABELS = ["bad", "good", "so-so"]


@pytest.fixture
def make_classify(make_transformer, tokenizer):
    def make(model=None, pooling="mean", label_smoothing=0.0):
        return Classify(model or make_transformer(), tokenizer, 3, LABELS, pooling, 0.0, label_smoothing).eval()

    return make


def texts(*labels: int) -> list[dict]:
    random = np.random.default_rng(0)
    return [{"tokens": random.integers(6, 300, 4 + 3 * place), "label": label} for place, label in enumerate(labels)]


@pytest.mark.parametrize("kind", ["transformer", "gpt"])
@pytest.mark.parametrize("pooling", ["mean", "max", "last", "concat"])
def test_labels_are_learnt_by_heart(kind, pooling, make_classify, make_transformer, make_gpt, draw):
    objective = make_classify(make_transformer() if kind == "transformer" else make_gpt(), pooling)
    batch = objective.collate(texts(0, 1, 2, 1, 0, 2), draw(6))
    optimizer = torch.optim.Adam(objective.parameters(), 3e-3)
    for _ in range(40):
        output = objective(batch)
        optimizer.zero_grad()
        (output.loss / output.count).backward()
        optimizer.step()
    assert objective(batch).prediction.argmax(-1).tolist() == [0, 1, 2, 1, 0, 2]


def test_the_loss_is_cross_entropy_smoothed_in_training_only(make_classify, draw):
    objective = make_classify(label_smoothing=0.1)
    batch = objective.collate(texts(0, 1, 2), draw(3))
    log_probabilities = objective(batch).prediction.log()
    plain = -log_probabilities[range(3), [0, 1, 2]]
    torch.testing.assert_close(objective(batch).loss, plain.sum())
    smoothed = 0.9 * plain - 0.1 * log_probabilities.mean(-1)
    torch.testing.assert_close(objective.train()(batch).loss, smoothed.sum())


def test_other_texts_in_the_batch_change_no_probability(make_classify, draw):
    objective = make_classify()
    examples = texts(0, 1, 2)
    together = objective(objective.collate(examples, draw(3))).prediction
    for example, expected in zip(examples, together, strict=True):
        alone = objective(objective.collate([example], draw(1))).prediction[0]
        torch.testing.assert_close(alone, expected, atol=1e-6, rtol=0)


def test_predictions_name_the_label_and_the_probability_of_each(make_classify, draw):
    objective = make_classify()
    unlabelled = [{"tokens": example["tokens"]} for example in texts(0, 1)]
    batch = objective.collate(unlabelled, draw(2))
    output = objective(batch)
    assert output.count == 0 and output.loss == 0
    for row, found in zip(output.prediction, objective.predict(output, batch), strict=True):
        assert found["label"] == LABELS[row.argmax()]
        assert list(found["probabilities"]) == LABELS
        assert sum(found["probabilities"].values()) == pytest.approx(1)


def test_metrics_take_what_forward_gives(make_classify, draw):
    objective = make_classify()
    output = objective(objective.collate(texts(0, 1, 1), draw(3)))
    metrics = objective.metrics()
    for metric in metrics.values():
        metric.update(output.prediction, output.target)
    guesses = output.prediction.argmax(-1)
    assert metrics["accuracy"].compute() == (guesses == output.target).float().mean()
    assert objective.score in metrics


def test_samples_show_guess_truth_and_text(make_classify, draw, tokenizer):
    objective = make_classify()
    batch = objective.collate([{"tokens": tokenizer.encode(["to be, or not"])[0], "label": 1}], draw(1))
    (line,) = objective.samples(batch, objective(batch))
    assert line.endswith("(true: good): to be, or not")


def test_only_the_head_is_thrown_away(make_classify):
    assert set(heads(make_classify())) == {"head.linear.weight", "head.linear.bias"}


def test_smoothing_that_is_no_share_is_refused(make_classify):
    with pytest.raises(ValueError, match="label_smoothing=1.0"):
        make_classify(label_smoothing=1.0)


def test_labels_equal_smoothed_cross_entropy_of_torch(make_classify, draw):
    objective = make_classify(label_smoothing=0.2).train()
    batch = objective.collate(texts(2, 0), draw(2))
    logits = objective.head(objective.model(**batch["inputs"]), batch["inputs"]["mask"])
    expected = F.cross_entropy(logits, batch["target"], label_smoothing=0.2, reduction="sum")
    torch.testing.assert_close(objective(batch).loss, expected)
