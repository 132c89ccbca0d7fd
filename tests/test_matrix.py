"""Every objective and task with every dataset and kind of model: it trains, or is refused by name before anything runs.

The YAML files in configs/ are the list: a new one joins by itself.
"""

from __future__ import annotations

import itertools
import math

import pytest

from ptft import resolve
from ptft.choices import config_dir, groups
from ptft.errors import DataError, UserError
from ptft.locate import read_yaml
from ptft.records import metrics, read_json

OPTIONS = groups([config_dir()])
SMALL = {"dim": 16, "layers": 2, "heads": 2, "hidden": 32, "max_length": 512}


def node(group: str, name: str) -> dict:
    """The settings of an option, with those of the options it builds upon."""
    found = read_yaml(OPTIONS[group][name])
    parents = [entry for entry in found.pop("defaults", []) if isinstance(entry, str) and entry != "_self_"]
    return {key: value for parent in parents for key, value in node(group, parent).items()} | found


def families() -> dict[str, str]:
    """One option for each class of model."""
    return {node("model", name)["_target_"]: name for name in sorted(OPTIONS["model"], reverse=True)}


AIMS = [*(("objective", name) for name in OPTIONS["objective"]), *(("task", name) for name in OPTIONS["task"])]
GRID = list(itertools.product(AIMS, OPTIONS["dataset"], families().values()))


@pytest.fixture
def launch(train, tmp_path):
    """Train two steps with some parts replaced; returns the run's folder."""

    def run(**parts):
        model = {key: SMALL.get(key, value) for key, value in parts.pop("model", node("model", "transformer")).items()}
        words = "tokenizer=byte", "preset=smoke", "trainer.steps=2", "device=cpu"
        return train(tmp_path / "run", "pretrain", *words, model=model, **parts)

    return run


def filled(name: str, target: str | None, data) -> dict:
    """A dataset's settings, with small files of the user's where it asks for some."""
    settings = node("dataset", name)
    if settings["path"] != "???":  # a shipped sample, of which little is held out: all of that is scored at the end
        little = {"valid_path": None, "test_path": None, "valid_fraction": 0.01, "test_fraction": 0.0}
        return settings | {key: value for key, value in little.items() if key in settings}
    pairs = data.folder / "pairs.csv"
    pairs.write_text("source,target\n" + "".join(f"who sat on mat {number}?,cat {number}\n" for number in range(40)))
    by_target = {"class": data.classes, "number": data.numbers, "text": data.pairs, None: data.classes}
    paths = {"text": data.text[1], "labelled_text": by_target[target][1], "parallel_text": f"={pairs}"}
    return {**settings, "path": paths[name].partition("=")[2]}


@pytest.mark.parametrize(("aim", "dataset", "model"), GRID, ids=lambda value: value if isinstance(value, str) else value[1])
def test_whatever_fits_trains_and_whatever_does_not_is_refused_by_name(aim, dataset, model, launch, data, tmp_path):
    parts = {"objective": node(*aim), "model": node("model", model)}
    objective = resolve.find("objective", parts["objective"])
    parts["dataset"] = filled(dataset, objective.target, data)
    kind, holds = resolve.find("model", parts["model"]), resolve.find("dataset", parts["dataset"])
    fits = objective.needs <= kind.traits and holds.modality in kind.traits and objective.target in holds.targets
    if not fits:
        with pytest.raises(UserError, match=rf"{objective.__name__}|{holds.__name__}") as refusal:
            launch(**parts)
        assert refusal.value.exit_code == 2
        assert not (tmp_path / "run").exists()
        return
    try:
        run = launch(**parts)
    except DataError as error:  # the labels of a shipped set are what they are
        assert dataset not in ("labelled_text", "parallel_text", "text")
        assert "expected a finite number" in str(error)
        return
    losses = [row["loss"] for row in metrics(run) if row["split"] == "train"]
    assert len(losses) == 2
    assert all(map(math.isfinite, losses))
    assert math.isfinite(read_json(run / "scores.json")["valid"]["loss"])


@pytest.mark.parametrize("aim", AIMS, ids=lambda aim: aim[1])
def test_every_objective_and_task_has_a_dataset_and_a_model_that_fit(aim):
    objective = resolve.find("objective", node(*aim))
    models = [resolve.find("model", node("model", name)) for name in families().values()]
    datasets = [resolve.find("dataset", node("dataset", name)) for name in OPTIONS["dataset"]]
    assert any(objective.needs <= model.traits for model in models)
    assert any(objective.target in dataset.targets for dataset in datasets)


PARTS = [(group, name) for group in ("schedule", "optimizer", "tuning", "tokenizer") for name in OPTIONS[group]]


@pytest.mark.parametrize(("group", "name"), PARTS)
def test_every_schedule_optimizer_tuning_and_tokenizer_trains(group, name, launch, data):
    dataset = {**node("dataset", "text"), "path": data.text[1].partition("=")[2], "max_length": 32}
    run = launch(dataset=dataset, **{group: node(group, name)})
    losses = [row["loss"] for row in metrics(run) if row["split"] == "train"]
    assert len(losses) == 2
    assert all(map(math.isfinite, losses))
