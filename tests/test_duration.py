"""Durations in steps, fractions and epochs."""

import pytest

from ptft.duration import duration


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, 0),
        (1, 1),
        (100, 100),
        (1.0, 1000),
        (0.29, 290),
        (0.0, 0),
        ("2 epochs", 80),
        ("1 epoch", 40),
        ("0.5ep", 20),
        ("100 steps", 100),
        ("1 step", 1),
        ("10%", 100),
        ("2.5 %", 25),
        ("3 Epochs", 120),
    ],
)
def test_a_duration_is_steps_a_fraction_or_epochs(value, expected):
    assert duration(value, steps=1000, steps_per_epoch=40) == expected


def test_part_of_a_step_is_none():
    assert duration(0.1, steps=5, steps_per_epoch=1) == 0


@pytest.mark.parametrize(("share", "expected"), [(0.2, 62), (0.29, 89), (1.0, 306), (0.0, 0)])
def test_rounded_up_a_fraction_divides_a_run_into_parts_of_which_none_is_left_over(share, expected):
    assert duration(share, steps=306, steps_per_epoch=1, up=True) == expected


@pytest.mark.parametrize("value", [-1, -0.1, 1.5, 100.0, "soon", "2", "-1 epochs", "2 weeks", True, None, float("nan")])
def test_anything_else_is_refused_by_the_name_of_its_setting(value):
    with pytest.raises(ValueError, match=r"^warmup=.*steps.*fraction.*epochs"):
        duration(value, steps=100, steps_per_epoch=10, setting="warmup")
