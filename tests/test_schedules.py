"""Schedules against torch's own, the papers' formulas and what they promise at both ends."""

import inspect
import math
import warnings

import numpy as np
import pytest
import torch
from torch.optim import lr_scheduler

from ptft import resolve
from ptft.choices import config_dir, groups
from ptft.locate import read_yaml
from ptft.schedules import (
    Constant,
    Cosine,
    Exponential,
    InverseSqrt,
    Linear,
    OneCycle,
    Plateau,
    Polynomial,
    SlantedTriangular,
    Step,
    WarmupStableDecay,
)
from ptft.training import Progress

STEPS = 200
FILES = groups([config_dir()])["schedule"].values()
NODES = [node for node in map(read_yaml, FILES) if "_target_" in node]
# every class with the settings of its YAML file, so that a new one has these tests
EVERY_KIND = {
    resolve.find("schedule", node): {name: value for name, value in node.items() if name not in ("_target_", "warmup")}
    for node in NODES
}
FALLING = [kind for kind in EVERY_KIND if kind.__module__ == "ptft.schedules.curves"]  # others may rise again


def build(kind, warmup=0, **settings):
    facts = {"progress": Progress()} if "progress" in inspect.signature(kind).parameters else {}
    return kind(steps=STEPS, steps_per_epoch=20, warmup=warmup, **{**EVERY_KIND[kind], **facts, **settings})


def watched(every, scores, **settings):
    """A plateau, and the rates of a base rate of 1 at each step, where each `every` steps a loss is evaluated."""
    progress = Progress()
    schedule, rates = build(Plateau, progress=progress, **settings), []
    for step in range(STEPS):
        if step and step % every == 0:
            score = scores[step // every - 1]
            progress.evaluations.append([step / STEPS, score < min(scores[: step // every - 1], default=math.inf)])
        rates.append(schedule(step / STEPS))
    return schedule, rates


def factors(schedule):
    return [schedule(step / STEPS) for step in range(STEPS + 1)]


def torch_factors(scheduler, **settings):
    """What a torch scheduler makes of a base rate of 1 before each of STEPS + 1 steps."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch dislikes a scheduler whose optimizer never steps
        schedule = scheduler(optimizer, **settings)
        rates = []
        for _ in range(STEPS + 1):
            rates.append(optimizer.param_groups[0]["lr"])
            schedule.step()
    return rates


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (build(Constant), (lr_scheduler.ConstantLR, {"factor": 1.0})),
        (
            build(Linear, final=0.2),
            (lr_scheduler.LinearLR, {"start_factor": 1.0, "end_factor": 0.2, "total_iters": STEPS}),
        ),
        (build(Polynomial, power=3.0), (lr_scheduler.PolynomialLR, {"power": 3.0, "total_iters": STEPS})),
        (build(Cosine, final=0.1), (lr_scheduler.CosineAnnealingLR, {"T_max": STEPS, "eta_min": 0.1})),
        (build(Exponential, final=0.01), (lr_scheduler.ExponentialLR, {"gamma": 0.01 ** (1 / STEPS)})),
        (build(Step, milestones=[0.6, 160]), (lr_scheduler.MultiStepLR, {"milestones": [120, 160], "gamma": 0.1})),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, tuple) else value[0].__name__,
)
def test_a_schedule_equals_the_one_of_torch(ours, theirs):
    assert factors(ours) == pytest.approx(torch_factors(theirs[0], **theirs[1]), abs=1e-9)


def test_one_cycle_equals_the_one_of_torch():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    # torch ends its two phases at pct_start * total_steps - 1 and total_steps - 1, and refuses to step beyond
    schedule = lr_scheduler.OneCycleLR(optimizer, max_lr=1.0, total_steps=STEPS + 1, pct_start=61 / (STEPS + 1))
    rates = [optimizer.param_groups[0]["lr"]]
    for _ in range(STEPS):
        optimizer.step()
        schedule.step()
        rates.append(optimizer.param_groups[0]["lr"])
    assert factors(build(OneCycle, warmup=60)) == pytest.approx(rates, abs=1e-9)


def test_slanted_triangular_has_the_three_rates_of_the_paper():
    schedule = build(SlantedTriangular, warmup=0.1)
    rates = [0.01 * schedule(step / STEPS) for step in (0, 20, STEPS)]
    assert rates == pytest.approx([3.125e-4, 1e-2, 3.125e-4], rel=1e-12)


def test_slanted_triangular_follows_the_paper_at_every_step():
    cut_fraction, ratio, cut = 0.1, 32, math.floor(STEPS * 0.1)

    def paper(step):
        share = step / cut if step < cut else 1 - (step - cut) / (cut * (1 / cut_fraction - 1))
        return (1 + share * (ratio - 1)) / ratio

    expected = [paper(step) for step in range(STEPS + 1)]
    assert factors(build(SlantedTriangular, warmup=cut_fraction)) == pytest.approx(expected, rel=1e-12)


def test_inverse_sqrt_falls_with_the_root_of_the_step():
    schedule = build(InverseSqrt, warmup=25)
    assert [schedule(step / STEPS) for step in (25, 100, 200)] == pytest.approx([1, 0.5, math.sqrt(1 / 8)])


def test_warm_up_stable_decay_is_flat_until_its_straight_end():
    schedule = build(WarmupStableDecay, warmup=20, decay="2 epochs", final=0.5)
    assert [schedule(step / STEPS) for step in (20, 100, 160, 180, 200)] == pytest.approx([1, 1, 1, 0.75, 0.5])


@pytest.mark.parametrize("kind", EVERY_KIND, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize(("warmup", "end"), [(0, 0), (30, 30), (0.15, 30), ("1.5 epochs", 30)])
def test_every_schedule_rises_to_one_where_the_warm_up_ends(kind, warmup, end):
    values = factors(build(kind, warmup))
    assert values[end] == pytest.approx(1.0)
    assert all(low < high for low, high in zip(values[:end], values[1 : end + 1], strict=True))
    assert all(0 <= value <= 1 for value in values)
    assert values[0] > 0


@pytest.mark.parametrize("kind", FALLING, ids=lambda kind: kind.__name__)
def test_no_schedule_of_ours_rises_after_its_warm_up(kind):
    values = factors(build(kind, 30))[30:]
    assert all(high >= low for high, low in zip(values, values[1:], strict=False))


@pytest.mark.parametrize("kind", [kind for kind in FALLING if kind not in (Step, OneCycle)], ids=lambda kind: kind.__name__)
def test_no_schedule_jumps(kind):
    values = factors(build(kind, warmup=30))
    assert max(abs(a - b) for a, b in zip(values, values[1:], strict=False)) < 0.04


@pytest.mark.parametrize(("patience", "factor", "least"), [(1, 0.5, 0.01), (2, 0.1, 0.0), (3, 0.3, 0.2)])
def test_a_plateau_cuts_the_rate_when_the_one_of_torch_does(patience, factor, least):
    losses = np.random.default_rng(0).normal(size=39) - np.linspace(0, 1, 39)
    _, rates = watched(5, losses.tolist(), patience=patience, factor=factor, min_factor=least)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    # torch cuts after more than its patience
    more = {"factor": factor, "patience": patience - 1, "min_lr": least, "threshold": 0.0, "eps": 0.0}
    theirs = lr_scheduler.ReduceLROnPlateau(optimizer, **more)
    expected = []
    for step in range(STEPS):
        if step and step % 5 == 0:
            theirs.step(losses[step // 5 - 1])
        expected.append(optimizer.param_groups[0]["lr"])
    assert len(set(expected)) > 2
    assert rates == pytest.approx(expected, rel=1e-9)


def test_what_is_evaluated_within_the_warm_up_of_a_plateau_cuts_no_rate():
    _, rates = watched(10, [1.0] * 19, warmup=50, patience=3, factor=0.5)
    assert rates[49] < rates[50] == 1.0
    assert [step for step in range(51, STEPS) if rates[step] != rates[step - 1]] == [70, 100, 130, 160, 190]


def test_a_plateau_tells_the_rates_of_the_past_from_its_evaluations():
    schedule, rates = watched(10, [1.0] * 19, patience=4, factor=0.5)
    assert [schedule(step / STEPS) for step in range(STEPS)] == rates


def test_a_schedule_says_its_course_in_words():
    assert build(Constant).course(0.01) == "0.01 all along"
    assert build(Linear, warmup=9, final=0.0).course(0.01) == "0.001 at first, 0.01 at step 9, 5.24e-05 at the end"
    assert build(Cosine, final=0.1).course(0.01) == "0.01 at first, 0.001 at the end"
    told = "0.01 all along, but times 0.1 after each 3 evaluations in a row without a better score"
    assert build(Plateau, patience=3, factor=0.1).course(0.01) == told


def test_a_warm_up_may_be_the_whole_run():
    assert build(Linear, warmup=1.0)(1.0) == 1.0


def test_the_first_step_of_a_warm_up_already_moves():
    assert [build(Constant, warmup=4)(step / STEPS) for step in range(5)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])


@pytest.mark.parametrize(
    ("kind", "settings", "name"),
    [
        (Constant, {"warmup": 201}, "warmup=201"),
        (Constant, {"warmup": 2.5}, "warmup=2.5"),
        (Exponential, {"final": 0.0}, "final=0.0"),
        (Step, {"milestones": [0.5, "late"]}, "milestones=late"),
        (Plateau, {"factor": 1.0}, "factor=1.0"),
        (Plateau, {"patience": 0}, "patience=0"),
        (Plateau, {"min_factor": 2.0}, "min_factor=2.0"),
        (Plateau, {"progress": None}, "patience: no score tells a plateau"),
        (WarmupStableDecay, {"warmup": 0.9, "decay": 0.2}, "decay=0.2"),
    ],
)
def test_a_bad_value_is_refused_by_name(kind, settings, name):
    with pytest.raises(ValueError, match=f"^{name}"):
        build(kind, **settings)
