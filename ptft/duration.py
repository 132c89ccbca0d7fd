"""A length of training, however the user says it: in steps, as a fraction of the run, or in epochs."""

from __future__ import annotations

import math
import re
from typing import Any

TEXT = re.compile(r"(\d+(?:\.\d+)?)\s*(steps?|epochs?|ep|%)")


def duration(value: int | float | str, steps: int, steps_per_epoch: float, setting: str = "duration", up: bool = False) -> int:
    """`value` in whole steps, rounded down, or up; 0 means none.

    value: an int counts steps, a float in (0, 1] is a fraction of all `steps` (so 1 is one step and 1.0 the whole run),
    text names its unit: "2 epochs", "100 steps", "10 %". setting: the name an error shows. Raises ValueError.
    """
    count = exactly(value, steps, steps_per_epoch, setting)
    return math.ceil(count - 1e-9) if up else math.floor(count + 1e-9)  # 0.29 * 100 is 28.999999999999996


def duration_fault(setting: str, value: Any) -> list[str]:
    """What is wrong with a duration, whatever the length of the run; null is one."""
    try:
        if value is not None:
            exactly(value, 100, 10, setting)
    except ValueError as error:
        return [str(error)]
    return []


def exactly(value: int | float | str, steps: int, steps_per_epoch: float, setting: str = "duration") -> float:
    """`value` in steps, not rounded; as `duration` reads it. Raises ValueError."""
    count = _steps(value, steps, steps_per_epoch)
    if count is None:
        raise ValueError(
            f'{setting}={value}: give steps (an integer >= 0), a fraction of the run (0.1, at most 1.0) or "2 epochs"'
        )
    return count


def _steps(value: int | float | str, steps: int, steps_per_epoch: float) -> float | None:
    """`value` in steps, not yet whole; None where it says no duration."""
    if isinstance(value, str):
        text = TEXT.fullmatch(value.strip().lower())
        if not text:
            return None
        unit = {"s": 1, "e": steps_per_epoch, "%": steps / 100}[text[2][0]]
        return float(text[1]) * unit
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    if isinstance(value, int):
        return value if value >= 0 else None
    return value * steps if 0 <= value <= 1 else None
