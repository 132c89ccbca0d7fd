"""Regression on texts, images and tables."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression

from ptft.objective import heads
from ptft.tasks.regress import Regress


@pytest.fixture
def make_regress(make_transformer, tokenizer):
    return lambda mean=0.0, std=1.0: Regress(make_transformer(), mean, std, "mean", 0.0, tokenizer).eval()


def texts(*labels: float) -> list[dict]:
    random = np.random.default_rng(0)
    return [{"tokens": random.integers(6, 300, 4 + 3 * place), "label": label} for place, label in enumerate(labels)]


def test_targets_far_from_zero_are_learnt_in_their_own_units(make_regress, draw):
    labels = [1000.0, 1400.0, 800.0, 1200.0]
    objective = make_regress(float(np.mean(labels)), float(np.std(labels)))
    batch = objective.collate(texts(*labels), draw(4))
    optimizer = torch.optim.Adam(objective.parameters(), 3e-3)
    for _ in range(60):
        output = objective(batch)
        optimizer.zero_grad()
        (output.loss / output.count).backward()
        optimizer.step()
    torch.testing.assert_close(objective(batch).prediction, torch.tensor(labels), rtol=0.05, atol=0)


def test_loss_is_squared_error_in_units_of_the_spread(make_regress, draw):
    objective = make_regress(10.0, 4.0)
    output = objective(objective.collate(texts(8.0, 13.0), draw(2)))
    expected = ((output.prediction - torch.tensor([8.0, 13.0])) / 4.0).square().sum()
    torch.testing.assert_close(output.loss, expected)


def test_mean_and_spread_are_kept_with_the_head(make_regress):
    state = heads(make_regress(10.0, 4.0))
    other = make_regress()
    other.load_state_dict(state, strict=False)
    assert (other.mean, other.std) == (10.0, 4.0)


def test_targets_that_are_all_the_same_divide_by_nothing(make_regress, draw):
    objective = make_regress(5.0, 0.0)
    assert objective(objective.collate(texts(5.0, 5.0), draw(2))).loss.isfinite()


def test_predictions_and_samples_are_numbers_in_the_units_of_the_data(make_regress, draw):
    objective = make_regress(1000.0, 1.0)
    batch = objective.collate(texts(1000.0, 1001.0), draw(2))
    output = objective(batch)
    assert [row["value"] for row in objective.predict(output, batch)] == pytest.approx([1000, 1000], abs=5)
    assert "(true: 1001)" in objective.samples(batch, output)[1]


def test_metrics_take_what_forward_gives(make_regress, draw):
    objective = make_regress()
    output = objective(objective.collate(texts(1.0, 2.0, 4.0), draw(3)))
    metrics = objective.metrics()
    for metric in metrics.values():
        metric.update(output.prediction, output.target)
    assert metrics["mse"].compute().item() == pytest.approx((output.loss / 3).item())
    assert objective.score in metrics


def test_without_labels_there_is_a_prediction_and_no_loss(make_regress, draw):
    objective = make_regress()
    output = objective(objective.collate([{"tokens": np.array([7, 8])}], draw(1)))
    assert output.count == 0 and output.loss == 0 and output.prediction.shape == (1,)


class Columns(torch.nn.Module):
    """A model of tables that changes nothing."""

    traits = frozenset({"table"})
    dim = 10

    def forward(self, values):
        return values


def test_a_linear_model_of_a_table_finds_the_least_squares_of_scikit_learn(draw):
    features, target = load_diabetes(return_X_y=True)
    features /= features.std(0)
    objective = Regress(Columns(), float(target.mean()), float(target.std()), "mean", 0.0).eval()
    rows = [{"features": row.astype(np.float32), "label": label} for row, label in zip(features, target, strict=True)]
    batch = objective.collate(rows, draw(len(rows)))
    optimizer = torch.optim.LBFGS(objective.head.parameters(), max_iter=100, line_search_fn="strong_wolfe")

    def loss():
        optimizer.zero_grad()
        output = objective(batch)
        (output.loss / output.count).backward()
        return output.loss / output.count

    optimizer.step(loss)
    expected = LinearRegression().fit(features, target)
    output = objective(batch)
    torch.testing.assert_close(output.prediction.double(), torch.tensor(expected.predict(features)), atol=0.2, rtol=0)
    metrics = objective.metrics()
    for metric in metrics.values():
        metric.update(output.prediction, output.target)
    assert metrics["r2"].compute().item() == pytest.approx(expected.score(features, target), abs=1e-4)
    assert objective.samples(batch, output)[0].endswith(f"(true: {target[0]:.4g})")
    assert objective.pictures(batch, output) == {}


def test_images_are_learnt_by_heart_and_the_worst_are_shown(make_resnet, views, images, learning):
    objective = Regress(make_resnet(), 5.0, 2.0, "mean", 0.0, transform=views(size=16)).eval()
    batch = objective.collate(images([(16, 16), (20, 16), (16, 24)], label=[3.0, 5.0, 8.0]), learning(3))
    optimizer = torch.optim.Adam(objective.parameters(), 1e-2)
    for _ in range(40):
        output = objective(batch)
        optimizer.zero_grad()
        (output.loss / output.count).backward()
        optimizer.step()
    torch.testing.assert_close(output.prediction, torch.tensor([3.0, 5.0, 8.0]), atol=0.3, rtol=0)
    (picture,) = objective.pictures(batch, output).values()
    assert picture.dtype == torch.uint8 and len(picture) == 3
