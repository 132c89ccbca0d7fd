"""Linear and logistic regression on real tables, against scikit-learn on the very same rows."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge

from ptft.models.linear import Linear
from ptft.resolve import resolve

CONFIGS = Path(__file__).parents[2] / "configs"
BATCH = 32


@pytest.fixture
def task():
    """A linear model with a task's head, by their YAML files, on a table that ships."""

    def build(name: str, table: str):
        node = yaml.safe_load((CONFIGS / "dataset" / f"{table}.yaml").read_text())
        node.pop("defaults")
        dataset = resolve("dataset", node, {"inputs": None})
        dataset.prepare(target={"classify": "class", "regress": "number"}[name])
        torch.manual_seed(0)
        facts = dataset.facts | {"tokenizer": None, "transform": None, "dataset": dataset}
        model = resolve("model", {"_target_": "ptft.models.linear.Linear"}, facts)
        head = yaml.safe_load((CONFIGS / "task" / f"{name}.yaml").read_text()) | {"dropout": 0.0}
        return resolve("objective", head, facts | {"model": model}), dataset

    return build


def arrays(dataset, split: str):
    rows = dataset.rows(split)
    return rows.features, np.array([row["label"] for row in rows])


def solve(objective, batch, decay: float = 0.0) -> None:
    """The head at the minimum of the summed loss + decay / 2 |weight|^2."""
    objective.train()
    optimizer = torch.optim.LBFGS(objective.parameters(), max_iter=500, tolerance_grad=1e-9, line_search_fn="strong_wolfe")

    def evaluate():
        optimizer.zero_grad()
        loss = objective(batch).loss + decay / 2 * objective.head.linear.weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(evaluate)
    objective.eval()


def whole(objective, dataset, split: str, draw):
    rows = list(dataset.rows(split))
    return objective.collate(rows, draw(len(rows)))


@pytest.mark.parametrize("decay", [0.0, 10.0])
def test_with_a_regression_head_it_is_linear_regression_or_ridge(decay, task, draw):
    objective, dataset = task("regress", "diabetes")
    solve(objective, whole(objective, dataset, "train", draw), decay)
    features, targets = arrays(dataset, "train")
    other = Ridge(decay / 2) if decay else LinearRegression()  # our loss has no half, so its decay counts double
    other.fit(features, targets)
    for split in ("train", "valid", "test"):
        ours = objective(whole(objective, dataset, split, draw)).prediction.numpy()
        np.testing.assert_allclose(ours, other.predict(arrays(dataset, split)[0]), atol=0.2)


def test_with_a_classification_head_it_is_logistic_regression(task, draw):
    objective, dataset = task("classify", "breast_cancer")
    solve(objective, whole(objective, dataset, "train", draw), decay=1.0)
    # two outputs w and -w are a single one of 2w, so their decay counts half
    other = LogisticRegression(C=2.0, max_iter=5000, tol=1e-9).fit(*arrays(dataset, "train"))
    for split in ("train", "test"):
        ours = objective(whole(objective, dataset, split, draw)).prediction.detach().numpy()
        np.testing.assert_allclose(ours, other.predict_proba(arrays(dataset, split)[0]), atol=2e-3)


def test_gradient_steps_on_small_batches_come_to_the_closed_form(task, draw):
    objective, dataset = task("regress", "diabetes")
    train = list(dataset.rows("train"))
    optimizer = torch.optim.Adam(objective.parameters(), 3e-2)
    steps = 30 * len(train) // BATCH
    random = np.random.default_rng(0)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 3e-2 * (1 - step / steps)
        chosen = [train[row] for row in random.integers(len(train), size=BATCH)]
        output = objective(objective.collate(chosen, draw(BATCH)))
        optimizer.zero_grad()
        (output.loss / output.count).backward()
        optimizer.step()
    metric = objective.metrics()["r2"]
    output = objective.eval()(whole(objective, dataset, "test", draw))
    metric.update(output.prediction, output.target)
    closed = LinearRegression().fit(*arrays(dataset, "train")).score(*arrays(dataset, "test"))
    assert metric.compute().item() == pytest.approx(closed, abs=0.02)


def test_features_are_the_values_of_an_image_too():
    values = torch.randn(2, 3, 4, 5)
    assert torch.equal(Linear([3, 4, 5])(values), values.flatten(1))


@pytest.mark.parametrize("name", ["full", "frozen", "gradual"])
def test_every_tuning_that_needs_no_layers_trains_the_head(name, task):
    objective, _ = task("regress", "diabetes")
    node = yaml.safe_load((CONFIGS / "tuning" / f"{name}.yaml").read_text())
    tuning = resolve("tuning", node, {"steps": 10, "steps_per_epoch": 5.0, "seed": 0})
    tuning.apply(objective)
    groups = tuning.groups(objective, 0.1, 0.0)
    assert {member for group in groups for member in group["names"]} == {"head.linear.weight", "head.linear.bias"}
