"""What every objective has in common that compares views of images."""

from __future__ import annotations

import math
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from ptft.data.loader import Loader
from ptft.errors import UserError
from ptft.loop import _look_at_health, evaluate, seed_step
from ptft.objective import heads
from ptft.randomness import Draw
from ptft.training import Training

NAMES = ["contrastive", "supcon", "triplet", "moco", "moco_v3", "byol", "simsiam", "barlow", "vicreg", "dino"]
HEALTH = {"feature_std", "effective_rank", "alignment", "uniformity"}
every = pytest.mark.parametrize("name", NAMES)


def steps(objective, batches, first=0, total=6, optimizer=None):
    """Train as the loop does; returns the losses."""
    parameters = [parameter for parameter in objective.parameters() if parameter.requires_grad]
    optimizer = optimizer or torch.optim.SGD(parameters, 0.05, momentum=0.9)
    objective.train()
    losses = []
    for number, batch in enumerate(batches, first):
        seed_step(0, "step", number)
        output = objective(batch)
        (output.loss / output.count).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        objective.after_step(number / total)
        losses.append((output.loss / output.count).item())
    return losses, optimizer


def batches(objective, examples, learning, count, size=8):
    return [objective.collate(examples[number % 3 * size :][:size], learning(size, number)) for number in range(count)]


def scores(objective, rows, batch_size=8, samples=0):
    loader = Loader(rows, objective.collate, batch_size, 0, shuffle=False)
    return evaluate(objective, loader, SimpleNamespace(seed=0, precision="fp32", eval_batches=None, samples=samples))


@every
def test_the_loss_falls_and_every_weight_of_model_and_heads_gets_a_gradient(name, make_joint, pictured, learning):
    still = {"freeze_prototypes": 0.0, "momentum": 1.0, "centre_momentum": 1.0}  # or DINO's targets would move away
    objective = make_joint(name, **(still if name == "dino" else {}))
    (batch,) = batches(objective, pictured(16), learning, 1, 16)
    objective.train()
    output = objective(batch)
    output.loss.backward()
    missing = [each for each, parameter in objective.named_parameters() if parameter.requires_grad and parameter.grad is None]
    assert missing == []
    assert output.count == 16
    objective.zero_grad(set_to_none=True)
    losses, _ = steps(objective, [batch] * 25, total=25)
    assert min(losses[-5:]) < losses[0]


@every
def test_interrupted_training_goes_on_to_the_bit(name, make_joint, pictured, learning):
    whole = make_joint(name)
    given = batches(whole, pictured(24), learning, 6)
    expected, _ = steps(whole, given)
    first = make_joint(name)
    losses, optimizer = steps(first, given[:3])
    second = make_joint(name, seed=9)
    second.load_state_dict({key: value.clone() for key, value in first.state_dict().items()})
    parameters = [parameter for parameter in second.parameters() if parameter.requires_grad]
    restored = torch.optim.SGD(parameters, 0.05, momentum=0.9)
    restored.load_state_dict(optimizer.state_dict())
    losses += steps(second, given[3:], 3, optimizer=restored)[0]
    assert losses == expected
    own, other = whole.state_dict(), second.state_dict()
    assert [key for key in own if not torch.equal(own[key], other[key])] == []


@every
def test_the_model_is_kept_once_and_alone(name, make_joint):
    objective = make_joint(name)
    kept = {f"model.{key}" for key in objective.model.state_dict()}
    thrown = heads(objective).keys()
    assert objective.state_dict().keys() == kept | thrown
    assert not {key for key in thrown if key.startswith("encoder")}


@every
def test_equal_embeddings_cost_what_the_objective_says(name, make_joint, pictured, make_dataset):
    objective = make_joint(name)
    with torch.no_grad():
        for each, parameter in objective.named_parameters():
            if parameter.requires_grad and not each.startswith("prototypes"):
                parameter.fill_(0.5 if each.endswith("bias") and each.startswith("p") else 0.0)
        objective.teacher.start(objective.student if name == "dino" else objective.encoder) if name in (
            "moco",
            "moco_v3",
            "byol",
            "dino",
        ) else None
        if name == "moco":
            objective.queue.fill_(1.0)
    found = scores(objective, make_dataset().rows("valid"), 7).scores
    if name == "dino":  # the prototypes tell the student something still
        assert found["collapsed_loss"] == pytest.approx(math.log(24))
    elif name == "byol":
        assert "loss_over_collapse" not in found
        assert found["loss"] == pytest.approx(0, abs=1e-5)
    elif name == "simsiam":  # its last norm turns what is equal into 0, which has no direction
        assert found["collapsed_loss"] == -1
    else:
        assert found["loss_over_collapse"] == pytest.approx(1, abs=1e-3)


@every
def test_a_batch_of_one_is_refused_in_training_and_left_out_of_evaluations(name, make_joint, pictured, learning, make_dataset):
    objective = make_joint(name)
    with pytest.raises(UserError, match="trainer.batch_size=1") as refusal:
        objective.collate(pictured(1), learning(1))
    assert "\n" not in str(refusal.value)
    rows = make_dataset().rows("valid")
    whole = scores(objective, type(rows)(rows[:20]), 10).scores
    assert scores(objective, rows, 10).scores == pytest.approx(whole)
    assert all(math.isfinite(value) for value in whole.values())


@every
def test_evaluations_report_health_and_change_nothing(name, make_joint, make_dataset):
    objective = make_joint(name, dataset=make_dataset())
    before = {key: value.clone() for key, value in objective.state_dict().items()}
    found = scores(objective, make_dataset().rows("valid"), 10)
    assert HEALTH | {"loss", "knn_accuracy"} <= found.scores.keys()
    assert scores(objective, make_dataset().rows("valid"), 10).scores == found.scores
    assert [key for key, value in objective.state_dict().items() if not torch.equal(value, before[key])] == []
    assert found.warnings == []  # a fresh network gives no alarm


@every
def test_the_views_are_shown_one_above_the_other_beside_a_map_of_the_features(name, make_joint, make_dataset):
    objective = make_joint(name, dataset=make_dataset())
    shown = scores(objective, make_dataset().rows("valid"), 10, samples=1).pictures
    assert shown.keys() == {"views", "map"}
    assert all(picture.dtype == torch.uint8 and picture.shape[0] == 3 for picture in shown.values())
    blind = make_joint(name, dataset=make_dataset(), probe=None)
    assert scores(blind, make_dataset().rows("valid"), 10, samples=1).pictures.keys() == {"views"}


@every
def test_half_precision_gives_finite_losses_and_gradients(name, make_joint, pictured, learning):
    objective = make_joint(name).train()
    (batch,) = batches(objective, pictured(8), learning, 1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = objective(batch)
    assert output.loss.dtype == torch.float32 and output.loss.isfinite()
    output.loss.backward()
    assert all(parameter.grad.isfinite().all() for parameter in objective.parameters() if parameter.grad is not None)


@every
def test_a_view_is_the_same_in_any_batch_and_another_in_the_next_epoch(name, make_joint, pictured):
    collate = make_joint(name).collate
    examples = pictured(6)
    rows = np.arange(6)
    whole = collate(examples, Draw(3, np.zeros(6, dtype=int), rows, True))["views"]
    part = collate(examples[2:4], Draw(3, np.zeros(2, dtype=int), rows[2:4], True))["views"]
    later = collate(examples, Draw(3, np.ones(6, dtype=int), rows, True))["views"]
    assert all(torch.equal(view[2:4], other) for view, other in zip(whole, part, strict=True))
    assert not any(torch.equal(view, other) for view, other in zip(whole, later, strict=True))
    assert not torch.equal(whole[0], whole[1])


def test_a_transform_of_one_view_is_refused(make_joint, make_views):
    kind = type(make_joint("simsiam"))
    keys = {"stop_gradient": True, "hidden": 8, "width": 8, "pooling": "mean", "probe": None, "probe_rows": 10}
    with pytest.raises(ValueError, match="transform=simclr"):
        kind(make_joint("simsiam").model, make_views("eval"), **keys)


class Noting:
    """A run that keeps what it is told."""

    def __init__(self):
        self.rows, self.notes = [], []

    def log(self, step, split, values):
        self.rows.append({"step": step, "split": split, **values})

    def note(self, text):
        self.notes.append(text)

    def pause(self):
        return nullcontext()


def test_a_look_at_the_health_of_collapsed_embeddings_raises_the_alarm_once(make_joint, make_dataset):
    objective, run = make_joint("contrastive", probe=None), Noting()
    training = Training(objective, torch.optim.SGD(objective.parameters(), 0.1), SimpleNamespace(train_mode=nn.Module.train))
    train = Loader(make_dataset().rows("train"), objective.collate, 8, 0)

    def look(step):
        training.progress.step = step
        objective.steps.fill_(step)
        _look_at_health(training, train, run, SimpleNamespace(precision="fp32"))
        return run.rows[-1]

    before = {key: value.clone() for key, value in objective.state_dict().items()}
    young = look(0)  # as alike as collapsed ones, and not to blame for it
    assert young.keys() == HEALTH | {"step", "split", "loss"} and young["split"] == "health"
    assert look(0) == young  # the same rows, the same views of them, no statistic moved
    assert [key for key, value in objective.state_dict().items() if not torch.equal(value, before[key])] == []
    assert objective.training and run.notes == []
    assert look(100)["feature_std"] < 0.1
    look(200)
    assert [text.partition(" (")[0] for text in run.notes] == ["step 100: the embeddings are collapsing"]


def test_the_alarm_is_on_health_not_on_loss(make_joint):
    objective = make_joint("simsiam")
    dead = {"loss": -0.95, "loss_over_collapse": 0.95, "feature_std": 0.28, "uniformity": -0.07}
    alive = {"loss": -0.99, "loss_over_collapse": 0.995, "feature_std": 0.91, "uniformity": -1.9}
    assert objective.warnings(dead) == []  # not in the first steps
    for _ in range(60):
        objective.after_step(0.0)
    (line,) = objective.warnings(dead)
    assert "collapsing" in line and "feature_std=0.28" in line
    assert objective.warnings(alive) == []


def test_a_contrastive_loss_that_stays_at_its_constant_is_said(make_joint):
    objective = make_joint("contrastive")
    objective.steps.fill_(100)
    alive = {"loss": 4.84, "loss_over_collapse": 0.999, "feature_std": 0.91, "uniformity": -1.9}
    (line,) = objective.warnings(alive)
    assert "not learning" in line
    assert objective.warnings({**alive, "loss_over_collapse": 0.9}) == []


@pytest.mark.parametrize(("probe", "score"), [("knn", "knn_accuracy"), ("linear", "linear_accuracy"), (None, "knn_accuracy")])
def test_where_the_loss_says_nothing_of_features_the_probe_chooses(probe, score, make_joint, make_dataset):
    for name in NAMES:
        objective = make_joint(name, dataset=make_dataset(), probe=probe)
        assert objective.score == (score if name in ("moco", "moco_v3", "byol", "simsiam", "dino") else "loss")


def test_data_without_classes_are_learned_from_without_a_probe(make_joint, make_dataset):
    dataset = make_dataset(labelled=False)
    objective = make_joint("contrastive", dataset=dataset)
    found = scores(objective, dataset.rows("valid"), 10).scores
    assert "knn_accuracy" not in found and math.isfinite(found["loss"])
    assert "objective.probe=knn" in dataset.notes[0]
