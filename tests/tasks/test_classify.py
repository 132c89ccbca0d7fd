"""Classification of texts, images and tables."""

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
        settings = {"label_smoothing": label_smoothing, "mixup": 0.0, "cutmix": 0.0, "mix_epochs": None}
        return Classify(model or make_transformer(), 3, LABELS, pooling, 0.0, **settings, tokenizer=tokenizer).eval()

    return make


@pytest.fixture
def make_image_classify(make_resnet, views):
    """Classification of images, with settings changed by name."""

    def make(**changes):
        settings = {"label_smoothing": 0.0, "mixup": 0.0, "cutmix": 0.0, "mix_epochs": None} | changes
        return Classify(make_resnet(), 3, LABELS, "mean", 0.0, **settings, transform=views(size=16)).eval()

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


def test_images_are_learnt_by_heart(make_image_classify, images, learning):
    objective = make_image_classify()
    batch = objective.collate(images([(16, 16), (20, 16), (16, 24)], label=[2, 0, 1]), learning(3))
    optimizer = torch.optim.Adam(objective.parameters(), 1e-2)
    for _ in range(20):
        output = objective(batch)
        optimizer.zero_grad()
        (output.loss / output.count).backward()
        optimizer.step()
    assert output.prediction.argmax(-1).tolist() == [2, 0, 1]


@pytest.mark.parametrize("size", [3, 4])
@pytest.mark.parametrize("mix", [{"mixup": 1.0}, {"cutmix": 1.0}])
def test_images_are_mixed_where_they_are_learned_from_only(mix, size, make_image_classify, images, learning, draw):
    objective, examples = make_image_classify(**mix), images([(16, 16)] * size, label=[0, 1, 2, 1][:size])
    before = [example["image"].clone() for example in examples]
    mixed, plain = objective.collate(examples, learning(size)), objective.collate(examples, draw(size))
    assert mixed["target"].shape == (size, 3)
    torch.testing.assert_close(mixed["target"].sum(1), torch.ones(size))
    assert plain["target"].tolist() == [0, 1, 2, 1][:size]
    assert torch.equal(plain["inputs"]["values"], objective.transform.plain(before))
    assert all(torch.equal(example["image"], image) for example, image in zip(examples, before, strict=True))


def test_soft_targets_are_learned_in_their_shares_and_smoothed_as_well(make_image_classify, images, learning):
    objective = make_image_classify(mixup=1.0, label_smoothing=0.1).train()
    batch = objective.collate(images([(16, 16)] * 4, label=[0, 1, 2, 1]), learning(4))
    output = objective(batch)
    smoothed = 0.9 * batch["target"] + 0.1 / 3
    torch.testing.assert_close(output.loss, -(smoothed * output.prediction.log()).sum())
    assert output.count == 4


def test_mixing_ends_with_the_epochs_it_is_for(make_image_classify, images, learning):
    objective, examples = make_image_classify(mixup=1.0, mix_epochs=2), images([(16, 16)] * 2, label=[0, 1])
    assert [objective.collate(examples, learning(2, epoch))["target"].ndim for epoch in range(4)] == [2, 2, 1, 1]


def test_the_worst_images_are_shown_first(make_image_classify, images, draw):
    objective = make_image_classify()
    batch = objective.collate(images([(16, 16)] * 5, label=[0, 1, 2, 0, 1]), draw(5))
    output = objective(batch)
    output.prediction = torch.eye(3)[[0, 1, 0, 0, 1]] * 0.9 + 0.03
    (picture,) = objective.pictures(batch, output).values()
    assert picture.dtype == torch.uint8 and len(picture) == 3
    assert objective.samples(batch, output)[2] == "bad (true: so-so)"


class Columns(torch.nn.Module):
    """A model of tables that changes nothing."""

    traits = frozenset({"table"})
    dim = 4

    def forward(self, values):
        return values


def test_rows_of_tables_are_learned_from_and_may_be_mixed(learning, draw):
    settings = {"label_smoothing": 0.0, "cutmix": 0.0, "mix_epochs": None}
    objective = Classify(Columns(), 3, LABELS, "mean", 0.0, **settings, mixup=1.0)
    rows = [{"features": np.eye(3, 4, dtype=np.float32)[label], "label": label} for label in (0, 2, 1)]
    batch = objective.collate(rows, learning(3))
    torch.testing.assert_close(batch["inputs"]["values"][:, :3], batch["target"])
    assert objective.pictures(batch, objective.eval()(objective.collate(rows, draw(3)))) == {}


@pytest.mark.parametrize(("kind", "mix"), [("text", "mixup"), ("text", "cutmix"), ("table", "cutmix")])
def test_mixing_what_cannot_be_mixed_is_refused(kind, mix, make_transformer, tokenizer):
    settings = {"label_smoothing": 0.0, "mixup": 0.0, "cutmix": 0.0, "mix_epochs": None} | {mix: 0.5}
    model = make_transformer() if kind == "text" else Columns()
    with pytest.raises(ValueError, match=f"{mix}=0.5.*only images"):
        Classify(model, 3, LABELS, "mean", 0.0, **settings, tokenizer=tokenizer if kind == "text" else None)
