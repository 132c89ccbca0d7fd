"""Values against annotations, and how a misfit is said."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pytest

from ptft.annotations import fault, fit, fits

FITTING = [
    (1, int),
    (1, float),
    (1.5, float),
    (True, bool),
    ("a", str),
    (None, int | None),
    ("a", Path),
    ("pre", Literal["pre", "post"]),
    ([1, 2], list[int]),
    ([1, 2], Sequence[float]),
    ([0.9, 0.99], tuple[float, float]),
    ([1, 2, 3], tuple[int, ...]),
    ({"a": 1.0}, dict[str, float]),
    ("2 epochs", int | float | str),
    ({"any": [1]}, Any),
]
MISFITS = [
    ("high", float, "expected a number, found 'high'"),
    (True, int, "expected a whole number, found true"),
    (1.5, int, "expected a whole number, found 1.5"),
    (None, float, "expected a number, found null"),
    (1, bool, "expected true or false, found 1"),
    ("x", int | None, "expected a whole number or null, found 'x'"),
    ("mid", Literal["pre", "post"], "expected one of pre, post, found 'mid'"),
    ("abc", list[str], "expected a list, found 'abc'"),
    ([1, "a"], list[int], "expected a list, found [1, 'a']"),
    ([0.9], tuple[float, float], "expected a list of 2: [a number, a number], found [0.9]"),
    ([1], dict[str, int], "expected a mapping, found [1]"),
]


@pytest.mark.parametrize(("value", "annotation"), FITTING, ids=str)
def test_a_plain_value_fits_what_it_is_meant_for(value, annotation):
    assert fault(value, annotation) is None


@pytest.mark.parametrize(("value", "annotation", "line"), MISFITS, ids=str)
def test_a_misfit_is_said_in_words(value, annotation, line):
    assert fault(value, annotation) == line


def test_a_number_becomes_text_where_only_text_will_do():
    assert fit(2024, str | None) == "2024"
    assert fit(2024, int | str) == 2024
    assert fit(True, str) is True
    assert not fits(True, str)
