"""What an objective must be, and what is said of one that is not."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from ptft.errors import UserError
from ptft.loop import evaluate, is_better
from ptft.metrics import regression
from ptft.objective import ContractError, Objective, Output

ONE = torch.ones(())


@pytest.mark.parametrize(
    ("name", "value", "expected", "found"),
    [
        ("needs", "text", "a frozenset of traits", "'text'"),
        ("needs", frozenset({1}), "a frozenset of traits", "a frozenset"),
        ("fields", "tokens", "a tuple of names", "'tokens'"),
        ("lower", "off_by", "a tuple of names", "'off_by'"),
        ("target", ("class",), "text or None", "a tuple"),
        ("score", lambda self, means: {}, "text", "a function"),
        ("added_tokens", "2", "a whole number", "'2'"),
        ("lanes", 1, "True or False", "1"),
    ],
)
def test_a_class_attribute_of_the_wrong_kind_is_refused_where_the_class_is_made(name, value, expected, found):
    with pytest.raises(TypeError, match=rf"Mine\.{name}: expected {expected}.*, found {found}$") as refusal:
        type("Mine", (Objective,), {name: value})
    assert isinstance(refusal.value, UserError) and refusal.value.exit_code == 2


@pytest.mark.parametrize(
    ("name", "hook"),
    [("metric", "metrics"), ("sample", "samples"), ("picture", "pictures"), ("warning", "warnings"), ("foward", "forward")],
)
def test_a_method_that_is_nearly_a_hook_is_told_from_one(name, hook):
    with pytest.raises(ContractError, match=rf"Mine\.{name} would never be called; did you mean '{hook}'\?"):
        type("Mine", (Objective,), {name: lambda self: None})


def test_methods_of_ones_own_may_have_any_other_name():
    names = "_metric", "views", "described", "answered", "logits", "predict", "state_dict", "compare"
    type("Mine", (Objective,), dict.fromkeys(names, lambda self: None))


class Given(Objective):
    """Returns what it is given."""

    def __init__(self, output):
        super().__init__(nn.Linear(1, 1))
        self.output = output

    def forward(self, batch):
        return self.output


class Measured(Given):
    def metrics(self):
        return regression()


def score(objective: Objective):
    settings = SimpleNamespace(seed=0, eval_batches=None, precision="fp32", samples=0)
    return evaluate(objective, SimpleNamespace(epoch=lambda: iter([{}]), rows=[]), settings).scores


@pytest.mark.parametrize(
    ("objective", "said"),
    [
        (Given((ONE, 3)), r"Given.forward: expected Output\(loss, count\), found a tuple"),
        (Given(Output(torch.ones(4), ONE)), r"Given.forward: loss: expected one number, .*, found a tensor of shape \[4\]"),
        (Given(Output(0.5, ONE)), "Given.forward: loss: expected one number, .*, found 0.5"),
        (Given(Output(ONE, None)), "Given.forward: count: expected how many targets the loss sums, found None"),
        (Given(Output(ONE, ONE, means={"q": 0.5})), r"Given.forward: means\['q'\]: expected \(sum, count\), found 0.5"),
        (Measured(Output(ONE, ONE)), r"Measured.forward: metrics\(\) compare prediction with target, and there is no .*"),
    ],
)
def test_what_forward_must_not_return_is_one_line_that_names_the_class(objective, said):
    with pytest.raises(ContractError, match=f"^{said}$"):
        score(objective)


def test_what_forward_should_return_is_scored():
    assert score(Given(Output(ONE, 2, means={"q": (ONE, ONE)}))) == {"loss": 0.5, "q": 1.0}


def test_an_objective_says_which_of_its_scores_are_better_when_lower():
    assert is_better("off_by", 1.0, than=2.0, lower=("off_by",))
    assert not is_better("off_by", 1.0, than=2.0)
    assert is_better("loss", 1.0, than=2.0, lower=("off_by",))


def test_an_objective_that_makes_no_batches_is_named():
    with pytest.raises(ContractError, match=r"^Given sets no self\.collate, which makes a batch: collate\(examples, draw\)$"):
        Given(None).collate([], None)
